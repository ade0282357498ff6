"""Mistakes of matrix products: order, contraction into FMA, precision of product and sum, promotion, alignment, truncation."""

from __future__ import annotations

import numpy as np
import pytest
from planted_mistakes import accepted, caught, pairs

F32 = np.float32


def sequential(a: np.ndarray, b: np.ndarray, flaw: str = "") -> np.ndarray:
    """c <- fl(c + fl(a_k b_k)), k ascending, float32."""
    depth = a.shape[1]
    order = range(depth - 1, -1, -1) if flaw == "adds from the end" else range(depth)
    c = np.zeros((a.shape[0], b.shape[0]), F32)
    even, odd = c.copy(), c.copy()
    for k in order:
        if flaw == "contracts into FMA":
            c = (c.astype(np.longdouble) + a[:, k, None].astype(np.longdouble) * b[None, :, k]).astype(F32)
            continue
        p = a[:, k, None] * b[None, :, k]
        if flaw == "flushes subnormal products":
            p = np.where(np.abs(p) < np.finfo(F32).tiny, F32(0), p)
        if flaw == "two accumulators":
            even, odd = (even + p, odd) if k % 2 == 0 else (even, odd + p)
            continue
        c = c + p
        if flaw == "accumulates in bfloat16":
            c = ((c.view(np.uint32) + 0x7FFF + (c.view(np.uint32) >> 16 & 1)) & np.uint32(0xFFFF0000)).view(F32)
    if flaw == "accumulates in float64":
        return (a.astype(np.float64) @ b.astype(np.float64).T).astype(F32)
    if flaw == "leaves out the last k":
        return c - a[:, -1:] * b[None, :, -1] if depth % 2 else c
    return even + odd if flaw == "two accumulators" else c


def hopper(a: np.ndarray, b: np.ndarray, flaw: str = "", *, products: int = 32, fraction: int = 13, kept: int = 13, chunk: int = 128) -> np.ndarray:
    """FP8 on sm_90 with promotion: terms of 32 products and c aligned to the largest exponent, cut to 13 bits, added; float32 every 128."""
    out = np.zeros((a.shape[0], b.shape[0]), F32)
    chunk = a.shape[1] if flaw == "never promotes" else chunk
    products = {"half the products": 16, "all products of a chunk at once": 128}.get(flaw, products)
    fraction += {"one bit more": 1, "one bit fewer": -1}.get(flaw, 0)
    for start in range(0, a.shape[1], chunk):
        c = np.zeros(out.shape)
        stop = min(start + chunk, a.shape[1])
        for low in range(start, stop, products):
            high = min(low + products, stop)
            terms = a[:, None, low:high].astype(np.float64) * b[None, :, low:high]
            tops = np.where(terms != 0, exponent(a)[:, None, low:high] + exponent(b)[None, :, low:high], -(10**6))
            if flaw == "aligns to the exponent of the product":
                tops = np.where(terms != 0, np.frexp(terms)[1] - 1, -(10**6))
            top = np.maximum(tops.max(-1), np.where(c != 0, np.frexp(c)[1] - 1, -(10**6)) if flaw != "aligns without c" else -(10**6))
            top = np.maximum(top, -132)
            unit = np.ldexp(1.0, top - fraction)
            cut = np.rint if flaw == "rounds to nearest" else np.floor if flaw == "floors" else np.trunc
            total = cut(terms / unit[..., None]).sum(-1) + (c / unit if flaw == "adds c exactly" else cut(c / unit))
            c = shortened(total * unit, kept if flaw != "keeps all bits" else 52)
        out = (out + c.astype(F32)).astype(F32)
    return out


def exponent(x: np.ndarray) -> np.ndarray:
    """floor(log2 |x|), subnormals of E4M3 at -6."""
    return np.maximum(np.frexp(x)[1] - 1, -6)


def shortened(x: np.ndarray, bits: int) -> np.ndarray:
    """x with `bits` fraction bits, toward zero."""
    unit = np.ldexp(1.0, np.frexp(x)[1] - 1 - bits)
    return np.trunc(x / unit) * unit


SUBJECTS = {
    "sequential": (sequential, {"accumulate": "sequential", "format": "float32"}, (
        "adds from the end", "contracts into FMA", "two accumulators", "accumulates in bfloat16", "accumulates in float64",
        "leaves out the last k",
    )),
    "hopper_fp8_promote128": (hopper, {"accumulate": "hopper_fp8_promote128", "format": "e4m3"}, (
        "never promotes", "half the products", "all products of a chunk at once", "one bit more", "one bit fewer", "aligns without c",
        "aligns to the exponent of the product", "rounds to nearest", "floors", "adds c exactly",
    )),
}  # fmt: skip


@pytest.mark.parametrize("subject", SUBJECTS)
def test_the_right_implementation_passes(subject: str) -> None:
    product, against, _ = SUBJECTS[subject]
    accepted(product, **against)


@pytest.mark.parametrize(("subject", "flaw"), pairs(SUBJECTS))
def test_the_mistake_is_caught(subject: str, flaw: str) -> None:
    product, against, _ = SUBJECTS[subject]
    caught(lambda a, b: product(a, b, flaw), "the definition gives", **against)
