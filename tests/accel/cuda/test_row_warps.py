"""Rows by warps (kernels/row_warps.cu): which rows take the kernel, and its bits without a GPU (host_gpu)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import host_gpu
import ml_dtypes
import numpy as np
import pytest
from device_cases import hard, same

from lpref.accel.cuda import device, row_warps
from lpref.accel.cuda.quantize import quantize
from lpref.ref import quantize as ref
from lpref.ref.quantize import lookup
from lpref.ref.random import WordAddress

WORDS = WordAddress(2**40 + 5, 9, "h.0.mlp.up/dgrad/a/round", start=64)


@pytest.fixture(scope="module", autouse=True)
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with host_gpu.in_place(tmp_path_factory.mktemp("host"), processors=1) as patch:
        patch.setattr(device, "architecture", lambda: "sm_90")
        yield


@pytest.mark.parametrize("columns", [48, 400, 1152, 4096 + 32])
@pytest.mark.parametrize("kind", [ml_dtypes.bfloat16, np.float32])
@pytest.mark.parametrize("name", ["int8_row", "fp8_row"])
@pytest.mark.parametrize("warps", [1, 2, 4])
def test_bits(name: str, kind: Any, columns: int, warps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of all lengths, those that end beyond the row, warps without one."""
    q, x = lookup(name + ":rounding=stochastic"), hard(14, columns, kind)
    monkeypatch.setattr(row_warps, "SHARE", columns * x.itemsize // warps)
    monkeypatch.setattr(row_warps, "REGISTERS", {n: 512 for n in row_warps.REGISTERS})  # blocks with several rows each
    fit = row_warps.plan(14, columns * x.itemsize, device.source_kind(x, "test"))
    assert fit is not None
    assert fit.threads == 32 * warps
    assert fit.blocks < 14
    same(quantize(host_gpu.put(x), q, words=WORDS).host(), ref.quantize(x, q, words=WORDS))


def test_plans(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks fit into a multiprocessor and give its quarters the same number of warps; short rows and few rows; where the copies are missing."""
    monkeypatch.setattr(device, "processors", lambda: 132)
    for columns in (16, 768, 1024, 8192, 16384, 32768):
        for kind, size in ((0, 4), (1, 2)):
            fit = row_warps.plan(1 << 17, columns * size, kind)
            assert fit is not None
            held, warps = fit.blocks // 132, fit.threads // 32
            assert held * (fit.shared + row_warps.OWN) <= 228 << 10
            assert held * warps % row_warps.QUARTERS == 0 or held == 1
            assert fit.shared >= columns * size
    assert row_warps.plan(132 * row_warps.ROWS - 1, 16384, 1) is None
    monkeypatch.setattr(device, "shared_memory", lambda: 99 << 10)
    assert row_warps.plan(1 << 17, 4 * 32768, 0) is None
    monkeypatch.setattr(device, "architecture", lambda: "sm_86")
    assert row_warps.plan(1 << 17, 16384, 1) is None
