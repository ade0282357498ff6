"""Compiled kernels are kept by the state of all sources, and a folder that cannot be written is passed over."""

from __future__ import annotations

from pathlib import Path

import numba
import pytest

from lpref.accel.cpu import cache


@pytest.fixture(autouse=True)
def _restore(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setattr(numba.config, "CACHE_DIR", numba.config.CACHE_DIR)


def test_one_folder_for_each_state_of_the_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LPREF_CACHE_DIR", str(tmp_path))
    first = cache.use()
    assert first is not None
    assert first.parent == tmp_path
    assert str(first) == numba.config.CACHE_DIR
    monkeypatch.setattr(cache, "sources_hash", lambda: "another")
    assert cache.use() not in (None, first)


def test_old_folders_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LPREF_CACHE_DIR", str(tmp_path))
    for i in range(cache.KEEP + 3):
        monkeypatch.setattr(cache, "sources_hash", lambda i=i: f"state{i}")
        cache.use()
    assert len(list(tmp_path.iterdir())) == cache.KEEP + 1


def test_numbas_own_variable_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    assert cache.use() is None


def test_a_file_in_the_way_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(cache, "candidates", lambda: [tmp_path / "file", tmp_path / "good"])
    folder = cache.use()
    assert folder is not None
    assert folder.parent == tmp_path / "good"
