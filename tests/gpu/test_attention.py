"""Fused attention on the GPU: its proved bounds at sizes of training, forward, and backward from logarithms; equal bits every time."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_attention import CASES, dense_heads, packed_heads
from kernel_check import Place, check_cases, cuda_place
from kernel_draw import Draw
from kernel_sixteen import Rounded, compare, dense_and_packed, narrow

import lpref
from lpref.accel.cuda import device, flash
from lpref.ref.attention.dense import log_sums

FAST = lpref.backend("cuda", "fast")
PLACE = cuda_place()
DENSE = [
    (2, 2, 1, 300, 300, 64, 64), (1, 2, 2, 513, 700, 128, 128), (1, 1, 1, 129, 257, 96, 80), (2, 2, 2, 128, 128, 32, 32), (1, 2, 1, 1, 300, 64, 64),
]  # fmt: skip
PACKED = [(2, 4, 2, 256, 64), (1, 2, 2, 300, 128), (3, 4, 4, 128, 32), (1, 1, 1, 70, 48)]


@pytest.mark.parametrize("op", CASES)
def test_small_heads(op: str) -> None:
    check_cases(FAST.kernels[op], PLACE, CASES[op](Draw(7)))


@pytest.mark.parametrize("backward", [False, True])
def test_heads_of_training(backward: bool) -> None:
    suffix = "_backward" if backward else ""
    check_cases(FAST.kernels["attention" + suffix], PLACE, dense_heads(Draw(8), backward, DENSE))
    check_cases(FAST.kernels["attention_packed" + suffix], PLACE, packed_heads(Draw(9), backward, PACKED))


TILES = [flash.Tile(1, 8, 64, 1, 1), flash.Tile(1, 4, 64, 3, 1), flash.Tile(1, 4, 64, 2, 2)]


def planned(monkeypatch: pytest.MonkeyPatch, tile: flash.Tile) -> None:
    """`tile` for every kernel that the matrix units of warpgroups serve, if it fits; a block that holds all rows of a head has a tile of its own."""
    if device.architecture() != "sm_90":
        pytest.skip("needs the matrix units of sm_90")
    taken = flash.plan

    def plan(entry: str, wide: int, of: flash.Numbers, group: bool) -> flash.Tile:
        fits = flash.shared(entry, wide, of, tile) + 24 * tile.other <= device.shared_memory()
        once = entry == "whole" or of.turned == 2
        return tile if group and fits and not once else taken(entry, wide, of, once and group)

    monkeypatch.setattr(flash, "plan", plan)


@pytest.mark.parametrize(("tile", "place"), [*((tile, narrow(PLACE)) for tile in TILES), *((tile, PLACE) for tile in TILES[:2])])
def test_tiles_of_warpgroups(monkeypatch: pytest.MonkeyPatch, tile: flash.Tile, place: Place) -> None:
    """Every kernel by wgmma, also those that no plan takes; of float32 and of bfloat16 arrays."""
    planned(monkeypatch, tile)
    shapes, draw = [(2, 2, 1, 300, 300, 64, 64), (1, 4, 2, 200, 300, 128, 128), (2, 2, 2, 128, 128, 32, 32)], Rounded(12)
    for backward in (False, True):
        check_cases(FAST.kernels["attention_backward" if backward else "attention"], place, dense_heads(draw, backward, shapes))
    check_cases(FAST.kernels["attention_packed_backward"], place, packed_heads(draw, True, [(2, 4, 2, 256, 64)]))


@pytest.mark.parametrize("backward", [False, True])
def test_bfloat16_arrays_keep_the_bounds(backward: bool) -> None:
    suffix, place = "_backward" if backward else "", narrow(PLACE)
    check_cases(FAST.kernels["attention" + suffix], place, dense_heads(Rounded(8), backward, DENSE))
    check_cases(FAST.kernels["attention_packed" + suffix], place, packed_heads(Rounded(9), backward, PACKED))


@pytest.mark.parametrize(("tile", "D"), [*zip(TILES, (32, 128, 64), strict=True), (None, 16), (None, 64), (None, 5)])
def test_bfloat16_arrays_give_the_bits_of_their_values(monkeypatch: pytest.MonkeyPatch, tile: flash.Tile | None, D: int) -> None:
    if tile is not None:
        planned(monkeypatch, tile)
    else:
        taken = flash.plan
        monkeypatch.setattr(flash, "plan", lambda entry, wide, of, _: taken(entry, wide, of, False))
    compare(FAST.kernels, PLACE, dense_and_packed(Draw(4), 200, D), "float32")


@pytest.mark.parametrize("operands", ["float32", "bfloat16"])
def test_equal_bits_every_time(operands: str) -> None:
    draw = Draw(10)
    q, k, v, do = (PLACE.put(draw(4, 6, 500, 64)) for _ in range(4))
    runs = []
    for _ in range(3):
        o, saved = FAST.attention(q, k, v, True, None, operands)
        runs.append([x.get() for x in (o, saved, *FAST.attention_backward(do, q, k, v, o, saved, True, None, operands))])
    for again in runs[1:]:
        for first, other in zip(runs[0], again, strict=True):
            np.testing.assert_array_equal(first, other)


def test_what_is_saved() -> None:
    draw = Draw(11)
    q, k, v = draw(1, 2, 40, 16), draw(1, 1, 50, 16), draw(1, 1, 50, 16)
    there = [PLACE.put(x) for x in (q, k, v)]
    assert np.abs(FAST.attention(*there)[1].get() - log_sums(q, k)).max() < 1e-4
    assert FAST.attention(*there, keep="probabilities")[1].shape == (1, 2, 40, 50)
