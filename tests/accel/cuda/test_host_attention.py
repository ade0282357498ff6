"""The fused attention kernels without a GPU (host_gpu): forward, and backward from logarithms, within their proved bounds."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import host_gpu
import numpy as np
import pytest
from kernel_attention import CASES, DEFINITIONS, dense_heads, packed_heads
from kernel_check import Place, check_cases
from kernel_draw import Draw
from kernel_sixteen import Rounded, compare, dense_and_packed, narrow, rounded

from lpref.accel.cuda import device, flash, flash_tiles
from lpref.accel.cuda.backend import ARRAYS, FUSED
from lpref.ref.attention.dense import log_sums
from lpref.ref.backend import Kernel
from lpref.ref.errors import ShapeError, UnknownNameError
from lpref.ref.nn.rope import rope_tables

KERNELS = {op: Kernel(op, function, DEFINITIONS[op], contract) for op, (function, contract) in FUSED.items()}


@pytest.fixture(scope="module", autouse=True)
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with host_gpu.in_place(tmp_path_factory.mktemp("host")):
        yield Place(host_gpu.put, host_gpu.get)


@pytest.mark.parametrize("op", CASES)
def test_fused_kernels_keep_their_bounds(place: Place, op: str) -> None:
    check_cases(KERNELS[op], place, CASES[op](Draw(7)))


@pytest.mark.parametrize("tile", [flash.Tile(2, 1, 16, 1), flash.Tile(2, 2, 64, 1), flash.Tile(1, 4, 32, 1, 1), flash.Tile(1, 8, 64, 1, 1),
                                  flash.Tile(1, 4, 32, 1, 2)])  # fmt: skip
@pytest.mark.parametrize("backward", [False, True])
def test_every_tile(place: Place, monkeypatch: pytest.MonkeyPatch, tile: flash.Tile, backward: bool) -> None:
    """Rows of more than one tile, tiles of both sides that end beyond the rows, more keys than queries, a group of query heads; wgmma's order too."""
    monkeypatch.setattr(flash, "plan", lambda *_: tile)
    cases = list(dense_heads(Draw(3), backward, [(1, 2, 1, 70, 150, 32, 32), (1, 1, 1, 130, 130, 64, 64)]))[:6:2]
    check_cases(KERNELS["attention_backward" if backward else "attention"], place, cases)


@pytest.mark.parametrize(("tile", "D"), [(None, 16), (None, 5), (flash.Tile(1, 4, 32, 1, 1), 32), (flash.Tile(1, 4, 64, 1, 2), 32)])
def test_bfloat16_arrays_give_the_bits_of_their_values(place: Place, monkeypatch: pytest.MonkeyPatch, tile: flash.Tile | None, D: int) -> None:
    """Their products of lower halves are zeros; in pieces of 16 bytes and of one number, turned and not."""
    if tile is not None:
        monkeypatch.setattr(flash, "plan", lambda *_: tile)
    compare(KERNELS, place, dense_and_packed(Draw(4), 40, D), "float32")


@pytest.mark.parametrize("backward", [False, True])
def test_heads_that_a_block_holds(place: Place, monkeypatch: pytest.MonkeyPatch, backward: bool) -> None:
    """Rotated on the way, and all gradients made by one kernel."""
    monkeypatch.setattr(device, "architecture", lambda: "sm_90")
    taken, ran = flash.plan, []
    monkeypatch.setattr(flash, "plan", lambda entry, wide, of, group: (ran.append((entry, of.turned)), taken(entry, wide, of, group))[1])
    cases = packed_heads(Rounded(9), backward, [(1, 2, 2, 128, 32), (1, 1, 1, 70, 64)])
    check_cases(KERNELS["attention_packed_backward" if backward else "attention_packed"], narrow(place), cases)
    assert set(ran) == {("whole" if backward else "forward", turned) for turned in (0, 2)}


def test_rotated_planes_are_kept(place: Place) -> None:
    """The backward reads those of the forward: the bits that it makes of the logarithms alone."""
    q, do, options = rounded(Draw(4)(40, 6 * 32)), rounded(Draw(5)(40, 2 * 32)), (1, 2, 2, rope_tables(40, 32), True, None, "float32")
    there = [place.put(do), place.put(q)], place.there(options)
    o, saved = KERNELS["attention_packed"].function(there[0][1], *there[1])
    backward = KERNELS["attention_packed_backward"].function
    made = [backward(*there[0], o, logs, *there[1]) for logs in (saved, saved.logs, place.put(ARRAYS.host(saved)))]
    assert isinstance(saved, flash.Kept)
    for other in made[1:]:
        np.testing.assert_array_equal(place.get(made[0]), place.get(other))


def test_the_plan_fits_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles of every kernel, width and device fit its shared memory; warpgroups multiply where there are such units."""
    for memory in (99 << 10, 163 << 10, 227 << 10):
        monkeypatch.setattr(device, "shared_memory", lambda memory=memory: memory)
        for (entry, terms), turned, sixteen, do in product(flash_tiles.BEST, (0, 1), (0, 1), (0, 1)):
            of = flash.Numbers(terms, turned, sixteen, 0, do)
            for wide in range(16, flash.WIDEST + 1, 16):
                assert flash.shared(entry, wide, of, flash.plan(entry, wide, of, False)) <= memory
    assert flash.plan("forward", 64, flash.Numbers(3), True).group


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
