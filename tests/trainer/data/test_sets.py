"""Data sets: what they hold, and what every unusable file gets."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from lpref.ref.errors import DataError, LprefError, UnknownNameError
from lpref.trainer.data import load_data
from lpref.trainer.data.text import is_held_out, load_stdlib, stdlib_files


def idx_bytes(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + b"".join(int(n).to_bytes(4, "big") for n in array.shape)
    return header + array.astype(np.uint8).tobytes()


def write_idx(folder: Path, *, gz: bool = False) -> Path:
    rng = np.random.default_rng(0)
    for stem, count in (("train", 12), ("t10k", 5)):
        parts = {
            f"{stem}-images-idx3-ubyte": rng.integers(0, 256, (count, 8, 8)),
            f"{stem}-labels-idx1-ubyte": np.arange(count) % 10,
        }
        for name, array in parts.items():
            raw = idx_bytes(array)
            (folder / (name + (".gz" if gz else ""))).write_bytes(gzip.compress(raw) if gz else raw)
    return folder


def test_digits_is_the_uci_set() -> None:
    data = load_data("digits")
    assert data.train.shape == (1437, 1, 8, 8)
    assert data.valid.shape == (360, 1, 8, 8)
    everything = np.concatenate([data.train, data.valid])
    assert set(np.unique((everything + 1) * 8)) <= set(range(17))
    counts = np.bincount(np.concatenate([data.train_labels, data.valid_labels]))
    assert counts.tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]  # the data set's own class counts
    assert data.sha256.startswith("09f66e6d")


def test_stdlib_split_is_by_path_and_complete(tmp_path: Path) -> None:
    names = [f"m{i}.py" for i in range(60)] + ["pkg/a.py"]
    for excluded in ("test/x.py", "pkg/tests/y.py", "site-packages/z.py", "idlelib/idle_test/w.py", "__pycache__/v.py"):
        (tmp_path / excluded).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / excluded).write_text("never")
    (tmp_path / "pkg").mkdir(exist_ok=True)
    for name in names:
        (tmp_path / name).write_text(f"# {name}\n")
    (tmp_path / "latin.py").write_bytes(b"# \xe9\n")  # not UTF-8: left out
    assert [name for name, _ in stdlib_files(tmp_path)] == sorted([*names, "latin.py"])
    data = load_stdlib(tmp_path)
    held = [n for n in sorted(names) if is_held_out(n)]
    assert held
    assert data.valid.tobytes().decode() == "".join(f"# {n}\n" for n in held)
    assert data.train.tobytes().decode() == "".join(f"# {n}\n" for n in sorted(names) if not is_held_out(n))
    (tmp_path / "m0.py").write_text("# changed\n")
    assert load_stdlib(tmp_path).sha256 != data.sha256


def test_stdlib_is_there_and_large() -> None:
    data = load_data("stdlib")
    assert data.train.size > 4_000_000
    assert 0.01 < data.valid.size / data.train.size < 0.15
    assert data.vocab == 256


def test_text_bin_idx_round_trip(tmp_path: Path) -> None:
    text = ("größer " * 100).encode()
    (tmp_path / "t.txt").write_bytes(text)
    data = load_data(f"text:{tmp_path / 't.txt'}")
    assert data.train.tobytes() + data.valid.tobytes() == text
    assert data.valid.size == len(text) // 10

    ids = np.arange(1000, dtype="<u2")
    ids.tofile(tmp_path / "s.bin")
    shard = load_data(f"bin:{tmp_path / 's.bin'}")
    assert np.array_equal(np.concatenate([shard.train, shard.valid]), ids)
    assert (shard.vocab, shard.byte_level) == (1000, False)
    header = np.zeros(256, "<i4")
    header[:3] = 20240520, 1, 1000
    (tmp_path / "train.bin").write_bytes(header.tobytes() + ids.tobytes())
    ids[:50].tofile(tmp_path / "val.bin")
    both = load_data(f"bin:{tmp_path}")
    assert (both.train.size, both.valid.size) == (1000, 50)

    for gz in (False, True):
        folder = tmp_path / f"idx{gz}"
        folder.mkdir()
        images = load_data(f"idx:{write_idx(folder, gz=gz)}")
        assert images.train.shape == (12, 1, 8, 8)
        assert images.classes == 10
        assert float(images.train.min()) >= -1
        assert float(images.train.max()) <= 1


def test_known_corpus_is_named_by_its_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lpref.trainer.data import known

    (tmp_path / "a.txt").write_text("hello " * 50)
    plain = load_data(f"text:{tmp_path / 'a.txt'}")
    assert plain.title == "a.txt"
    monkeypatch.setitem(known.KNOWN, plain.sha256, known.KnownCorpus("greetings", "Greetings", 300))
    assert load_data(f"text:{tmp_path / 'a.txt'}").title == "Greetings"


def _bad(folder: Path) -> dict[str, tuple[str, str]]:
    """name of the data set -> (error, what its message must contain)."""
    (folder / "empty.txt").write_bytes(b"")
    (folder / "latin.txt").write_bytes(b"abc\xff\xfe")
    (folder / "odd.bin").write_bytes(b"\0\0\0")
    header = np.zeros(256, "<i4")
    header[:3] = 20240520, 1, 7
    (folder / "cut.bin").write_bytes(header.tobytes() + b"\0\0")
    (folder / "broken.txt.gz").write_bytes(gzip.compress(b"x" * 1000)[:-9])
    (folder / "half").mkdir()
    write_idx(folder / "half")
    cut = folder / "half" / "train-images-idx3-ubyte"
    cut.write_bytes(cut.read_bytes()[:-5])
    (folder / "foreign").mkdir()
    write_idx(folder / "foreign")
    (folder / "foreign" / "train-labels-idx1-ubyte").write_bytes(b"PNG....")
    (folder / "unequal").mkdir()
    write_idx(folder / "unequal")
    (folder / "unequal" / "train-labels-idx1-ubyte").write_bytes(idx_bytes(np.arange(3)))
    (folder / "few").mkdir()
    return {
        f"text:{folder}/none.txt": ("DataError", "does not exist"),
        f"text:{folder}": ("DataError", "is a folder"),
        f"text:{folder}/empty.txt": ("DataError", "empty"),
        f"text:{folder}/latin.txt": ("DataError", "0xff at offset 3"),
        f"text:{folder}/broken.txt.gz": ("DataError", "not a complete gzip"),
        f"bin:{folder}/odd.bin": ("DataError", "no whole number of uint16"),
        f"bin:{folder}/cut.bin": ("DataError", "header says 7 tokens, the file holds 1"),
        f"bin:{folder}": ("DataError", "train.bin"),
        f"idx:{folder}/nowhere": ("DataError", "does not exist"),
        f"idx:{folder}/empty.txt": ("DataError", "not a folder"),
        f"idx:{folder}/few": ("DataError", "train-images-idx3-ubyte"),
        f"idx:{folder}/half": ("DataError", "truncated"),
        f"idx:{folder}/foreign": ("DataError", "not an idx file"),
        f"idx:{folder}/unequal": ("DataError", "12 images but 3 labels"),
        "text:": ("DataError", "no path"),
        "stdlibb": ("UnknownNameError", "did you mean 'stdlib'"),
        "hub:x": ("UnknownNameError", "unknown data set"),
    }


def test_bad_data_is_a_typed_error_with_place_and_remedy(tmp_path: Path) -> None:
    for name, (kind, words) in _bad(tmp_path).items():
        with pytest.raises(LprefError) as caught:
            load_data(name)
        assert type(caught.value) is {"DataError": DataError, "UnknownNameError": UnknownNameError}[kind], name
        assert words in str(caught.value), (name, str(caught.value))
        assert caught.value.remedy, name
