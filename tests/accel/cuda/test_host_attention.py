"""The fused attention kernels without a GPU (host_gpu): forward, and backward from logarithms, within their proved bounds."""

from __future__ import annotations

from collections.abc import Iterator

import host_gpu
import numpy as np
import pytest
from kernel_attention import CASES, DEFINITIONS
from kernel_check import Place, check_cases
from kernel_draw import Draw

from lpref.accel.cuda import flash
from lpref.accel.cuda.backend import FUSED
from lpref.ref.attention.dense import log_sums
from lpref.ref.backend import Kernel
from lpref.ref.errors import ShapeError, UnknownNameError

KERNELS = {op: Kernel(op, function, DEFINITIONS[op], contract) for op, (function, contract) in FUSED.items()}


@pytest.fixture(scope="module", autouse=True)
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with host_gpu.in_place(tmp_path_factory.mktemp("host")):
        yield Place(host_gpu.put, host_gpu.get)


@pytest.mark.parametrize("op", CASES)
def test_fused_kernels_keep_their_bounds(place: Place, op: str) -> None:
    check_cases(KERNELS[op], place, CASES[op](Draw(7)))


@pytest.mark.parametrize("tile", [flash.Tile(2, 1, 16, 1), flash.Tile(1, 2, 32, 1), flash.Tile(2, 2, 64, 1)])
def test_every_tile(place: Place, monkeypatch: pytest.MonkeyPatch, tile: flash.Tile) -> None:
    """Rows of more than one tile, tiles of both sides that end beyond the rows, more and fewer rows than the other side has."""
    monkeypatch.setattr(flash, "plan", lambda *_: tile)
    cases = [case for op in ("attention", "attention_backward") for case in [CASES[op](Draw(3))]]
    for op, made in zip(("attention", "attention_backward"), cases, strict=True):
        check_cases(KERNELS[op], place, [case for case in made if case[0].shape[2] in (33, 130)][:2])


def test_saved_are_the_logarithms(place: Place) -> None:
    draw = Draw(5)
    q, k, v = draw(1, 2, 20, 16), draw(1, 1, 30, 16), draw(1, 1, 30, 16)
    _, saved = KERNELS["attention"].function(*(place.put(x) for x in (q, k, v)))
    assert saved.shape == (1, 2, 20)
    assert np.abs(place.get(saved) - log_sums(q, k)).max() < 1e-4
    wide = (place.put(draw(1, 1, 3, 130)) for _ in range(3))
    assert KERNELS["attention"].function(*wide)[1].shape == (1, 1, 3, 3), "heads too wide for the fused kernels keep probabilities"


def test_what_is_refused(place: Place) -> None:
    q, run = place.put(np.ones((1, 1, 3, 4), np.float32)), KERNELS["attention_backward"].function
    saved = place.put(np.ones((1, 1, 3), np.float32))
    with pytest.raises(ShapeError, match=r"saved \(1, 1, 3, 1\)"):
        run(q, q, q, q, q, saved[..., None])
    with pytest.raises(UnknownNameError, match="bfloat17"):
        run(q, q, q, q, q, saved, operands="bfloat17")
    with pytest.raises(ShapeError, match="o is"):
        run(q, q, q, q, q[:, :, :2], saved)
