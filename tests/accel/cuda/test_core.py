"""accel/cuda/core compiled by g++ without contraction, against the definitions, bit for bit: casts, words, scales, elements, packing.

The kernels include these files; what only a GPU can show is in tests/gpu.
"""

from __future__ import annotations

import ctypes
from dataclasses import replace

import numpy as np
import pytest
from device_cases import inputs, patterns, special

from lpref.accel.cast_plan import VARIANTS, plan
from lpref.accel.cuda import plans
from lpref.accel.cuda.cast import as_cells
from lpref.ref.formats import FORMATS, IntFormat, format
from lpref.ref.quantize import Quantizer, lookup
from lpref.ref.quantize.elements import element_range
from lpref.ref.quantize.packing import pack, row_bytes
from lpref.ref.random import bits as random_bits
from lpref.ref.rounding import OVERFLOW, ROUNDINGS, overflow, rounding
from lpref.ref.scaling import Blocks, Scale, amax_scales, mx_scales, nvfp4_scales, te_scales, torchao_scales

NAMES = [n for n in FORMATS if n != "float64"]
DETERMINISTIC = [n for n, r in ROUNDINGS.items() if not r.stochastic]
U32 = np.uint32


def at(a: np.ndarray) -> ctypes.c_void_p:
    assert a.flags.c_contiguous
    return ctypes.c_void_p(a.ctypes.data)


def same(got: np.ndarray, want: np.ndarray, x: np.ndarray) -> None:
    wrong = np.flatnonzero(got != want)
    assert wrong.size == 0, [(float(x[i]).hex(), got[i], want[i]) for i in wrong[:5]]


def with_specials(name: str) -> np.ndarray:
    x = inputs(name)
    return np.concatenate([x, special()]) if format(name).has_nan else x


@pytest.mark.parametrize("rule", DETERMINISTIC)
def test_casts_of_every_format(core: ctypes.CDLL, rule: str) -> None:
    for name in NAMES:
        f, x = format(name), with_specials(name)
        p, out = plan(f, rounding(rule), overflow("saturate")), np.empty(x.size, U32)
        if p.cells is not None:
            first, entries = as_cells(p.cells)
            core.encode_cells(at(x), x.size, at(first), at(entries), at(out))
        else:
            core.encode(at(x), x.size, at(p.scalars), at(out))
        same(out, f.encode(x, rule), x)


@pytest.mark.parametrize("name", ["e4m3", "e5m2", "e4m3fnuz", "e2m1", "ue4m3", "int8", "uint8", "bfloat16"])
def test_every_policy(core: ctypes.CDLL, name: str) -> None:
    f, x = format(name), with_specials(name)
    for policy in OVERFLOW:
        p, out = plan(f, rounding("nearest_even"), overflow(policy)), np.empty(x.size, U32)
        if p.kind in ("shift", "clamp", "any") and p.raises_above >= 0x7F800000:
            core.encode(at(x), x.size, at(p.scalars), at(out))
            same(out, f.encode(x, "nearest_even", policy), x)


@pytest.mark.parametrize("rule", list(VARIANTS))
def test_stochastic_casts(core: ctypes.CDLL, rule: str) -> None:
    rng = np.random.default_rng(2)
    for name in NAMES:
        f, x = format(name), inputs(name)
        p, out, variant = plan(f, rounding(rule), overflow("saturate")), np.empty(x.size, U32), VARIANTS[rule]
        for r in (1, 8, 16, 31, 32):
            words = rng.integers(0, 2**32, x.shape, dtype=U32)
            words[::7], words[::11] = 2**32 - 1, 0
            if p.neighbours is not None and r <= p.neighbours.word_bits:
                t = p.neighbours.table
                core.encode_neighbours(at(x), x.size, *(at(a) for a in t), t[2].size // 2, at(words), r, variant, at(out))
            elif p.neighbours is None and p.kind != "definition":
                core.encode_words(at(x), x.size, at(p.scalars), at(words), r, variant, at(out))
            else:
                continue
            same(out, f.encode(x, rule, words=words, word_bits=r), x)


@pytest.mark.parametrize("r", [8, 16, 32])
def test_words(core: ctypes.CDLL, r: int) -> None:
    for seed, stream, step, start in ((0, 0, 0, 0), (2**40 + 5, 77, 9, 3), (2**64 - 1, 2**32 - 1, 2**32 - 1, 2**40 + 7)):
        out = np.empty(100, U32)
        core.words(ctypes.c_uint64(start), 100, r, ctypes.c_uint32(step), ctypes.c_uint32(stream), ctypes.c_uint64(seed), at(out))
        assert np.array_equal(out, random_bits(seed, stream, step, start, 100, r))


def magnitudes() -> np.ndarray:
    rng = np.random.default_rng(4)
    edges = np.outer([1, 1.5, 1.75, 1.25, 1.875, 1.9375, 6, 448, 57344, 127, 7.5, 28], np.exp2(np.arange(-60.0, 60, 7))).ravel().astype(np.float32)
    near = (edges.view(U32)[:, None] + np.arange(-2, 3)).ravel().astype(U32)
    random = rng.integers(0, 0x7F800000, 4000, dtype=U32)
    ends = np.array([0, 1, 2, 0x007FFFFF, 0x00800000, 0x7F7FFFFF, 0x7F7FFFFE, 0x7F800000, 0x7FC00000], U32)
    return np.concatenate([near, random, patterns().view(U32) & U32(0x7FFFFFFF), ends])


def check_scales(core: ctypes.CDLL, q: Quantizer, want_of, tensor_amax: float = 1.0) -> None:
    amax = magnitudes()
    codes, values, factors, tensor = np.empty(amax.size, U32), *(np.empty(amax.size, np.float32) for _ in range(2)), np.empty(1, np.float32)
    rule = plans.rule_of(q)
    assert rule.dtype.itemsize == 4 * 13
    core.scales(at(amax), amax.size, at(rule), ctypes.c_float(tensor_amax), at(codes), at(values), at(factors), at(tensor))
    want = want_of(amax.view(np.float32))
    same(codes, want.codes, amax.view(np.float32)) if q.scale.format != "float32" else None
    assert np.array_equal(values, want.values, equal_nan=True)
    alive = ~np.isnan(want.values)
    assert np.array_equal(values.view(U32)[alive], np.broadcast_to(want.values, amax.shape).view(U32)[alive])
    assert np.array_equal(factors[alive], np.broadcast_to(want.factor, amax.shape)[alive])
    if q.scale.rule == "nvfp4":
        assert np.array_equal(tensor[0], want.tensor_scale, equal_nan=True)


@pytest.mark.parametrize("mode", ["floor", "ceil", "rceil", "even", "midmax", "tetrajet"])
@pytest.mark.parametrize("name", ["e4m3", "e5m2", "e2m3", "e3m2", "e2m1", "int8"])
def test_mx_scales(core: ctypes.CDLL, name: str, mode: str) -> None:
    f = format(name)
    for nonfinite in ("propagate", "saturate"):
        q = Quantizer(name, Blocks(1, 32), Scale("mx", format="e8m0", mode=mode, nonfinite=nonfinite))
        check_scales(core, q, lambda a, q=q: mx_scales(a, f.max, (f.precision or 1) - 1, q.scale))


@pytest.mark.parametrize("amax", [0.0, 1.0, 3.7, 2688.0, 1e-38, 1e-45, 3e38, np.inf, np.nan])
def test_nvfp4_scales(core: ctypes.CDLL, amax: float) -> None:
    check_scales(core, lookup("nvfp4"), lambda a: nvfp4_scales(a, np.float32(amax), 6.0), amax)
    if np.isfinite(amax):
        check_scales(core, lookup("nvfp4_torchao"), lambda a: torchao_scales(a, np.float32(amax), 6.0), amax)


@pytest.mark.parametrize("pow2", ["none", "up", "down", "nearest"])
def test_amax_and_te_scales(core: ctypes.CDLL, pow2: str) -> None:
    for eps in (0.0, 1e-4):
        for apply in ("divide", "mul_inverse"):
            formats = ("float32", "e8m0") if pow2 != "none" else ("float32", "e4m3")
            for stored in formats:
                q = Quantizer("e4m3", Blocks(1, 128), Scale("amax", format=stored, pow2=pow2, eps=eps, apply=apply))
                check_scales(core, q, lambda a, q=q: amax_scales(a, 448.0, q.scale))
        for margin in (0, 2):
            q = Quantizer("e4m3", Blocks(), Scale("te", apply="mul_inverse", pow2=pow2, eps=eps, margin=margin))
            check_scales(core, q, lambda a, q=q: te_scales(a, 448.0, q.scale))


@pytest.mark.parametrize("name", ["e4m3", "e5m2", "e2m1", "e2m3", "e3m2", "e3m4", "int8", "int4"])
def test_elements(core: ctypes.CDLL, name: str) -> None:
    f, x = format(name), inputs(name)
    q = Quantizer(name, Blocks(1, 32), Scale())
    low, high = element_range(q, f)
    integer = isinstance(f, IntFormat)
    x = np.clip(x, low, high) if integer else x
    trailing, emin = (0, 0) if integer else (f.trailing_bits, f.emin)
    out, rng = np.empty(x.size, U32), np.random.default_rng(6)

    def run(kind: int, words: np.ndarray, r: int) -> np.ndarray:
        args = (kind, trailing, emin, ctypes.c_float(low), ctypes.c_float(high), f.bits, at(words), r, at(out))
        core.elements(at(x), x.size, *args)
        return out

    none = np.zeros(x.size, U32)
    want = f.encode(x)
    same(run(2 if integer else 0, none, 0), want, x)
    if name == "e2m1":
        same(run(4, none, 0), want, x)
    for r in (8, 16):
        words = rng.integers(0, 2**32, x.shape, dtype=U32)
        words[::5], words[::7] = 2**32 - 1, 0
        want = f.encode(x, "stochastic", words=words, word_bits=r)
        same(run(3 if integer else 1, words, r), want, x)
        if name == "e2m1" and r == 8:
            same(run(5, words, r), want, x)
            same(run(6, words, r), want, x)


def test_quotients(core: ctypes.CDLL) -> None:
    """x / s through the reciprocal: at random, next to whole and half numbers, and where x / s nearly meets the middle of two float32 numbers."""
    rng = np.random.default_rng(8)
    s = np.exp2(rng.uniform(-64, 64, 400_000)).astype(np.float32)
    near = s * (rng.integers(0, 255, s.size) / 2)  # float64
    middle = s * np.float64(1) * (rng.integers(2**24, 2**25, s.size) * 2 + 1) * 2.0 ** rng.integers(-45, -17, s.size)
    x = np.concatenate([s * rng.uniform(0, 128, s.size), near, middle]).astype(np.float32)
    coarse = (x.view(U32) + U32(0x8000) & U32(0xFFFF0000)).view(np.float32)
    x = np.concatenate([x, np.nextafter(x, np.float32(0)), coarse, -coarse, np.array([0.0, -0.0], np.float32)])
    s = np.append(np.tile(s, 12), np.float32([3, 3]))
    out = np.empty(x.size, np.float32)
    core.quotients(at(x), at(s), x.size, at(out))
    with np.errstate(under="ignore"):
        want = x / s
    small = np.abs(want) <= np.float32(2.0**-38)
    assert small.mean() < 0.1
    assert (np.abs(out[small]) <= np.float32(2.0**-37)).all()
    assert np.array_equal(np.signbit(out), np.signbit(want))
    assert np.array_equal(out[~small].view(U32), want[~small].view(U32))


@pytest.mark.parametrize("bits", [1, 2, 4, 6])
@pytest.mark.parametrize("columns", [1, 2, 3, 5, 8, 31, 64])
def test_packing(core: ctypes.CDLL, bits: int, columns: int) -> None:
    codes = np.random.default_rng(5).integers(0, 2**bits, (3, columns), dtype=np.uint8)
    out = np.empty((3, row_bytes(columns, bits)), np.uint8)
    core.pack(at(codes), 3, columns, bits, out.shape[1], at(out))
    assert np.array_equal(out, pack(codes, bits))


def test_tail_of_the_registry_is_refused_by_name() -> None:
    from lpref.ref.errors import BackendError

    with pytest.raises(BackendError, match=r"scale rule double has no kernel; on the device: every rule but twn"):
        plans.rule_of(lookup("nf4_double"))
    with pytest.raises(BackendError, match="nonfinite ignore"):
        plans.rule_of(replace(lookup("int8_row"), scale=Scale(nonfinite="ignore")))
