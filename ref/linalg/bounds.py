r"""The forward bounds of grade fast and of the accumulation models.

`accumulation_bound` bounds |gemm(a, b, model) - sum_k a_k b_k| for every model, from S = sum_k |a_k| |b_k|. A piece of n products has an inner
error of at most rho S + alpha; with u the unit roundoff of the inner format and eta half its smallest subnormal,

    exact         rho = u32                                                     one rounding
    sequential    (1 + gamma_n(u)) (1 + u32) - 1,        alpha = n eta          n additions of rounded products (Higham 2002, (3.5))
    pairwise      the same with gamma of ceil(log2 n) + 1 (Higham 2002, (4.6))
    kahan         (6 u + 12 n u^2) (1 + u32) + u32, for n u <= 1/16
    integer       u32, while S stays inside the accumulator
    tensor_core   T [(n + 1) 2^-F (max(S, P) + 2^clamp) + 2^-kept S + 2^(smallest - kept)],   P = max 2^(e(a_k) + e(b_k))

Kahan: with e_k = fl(s + y) - (s + y), |e_k| <= u M, M >= |s_k| + |y_k|, the corrected sum A_k = s_k - r_k obeys
A_k = A_(k-1) + x_k + (rounding of y) - (rounding of t - s) - (rounding of r), each at most u (|x_k| + |r_(k-1)|), u (|y_k| + |e_k|), u |e_k|, and
|r_k| <= 3.1 u M; summed, |A_n - sum x| <= 2 u (1 + u) S + 8.5 n u^2 M, and s_n = A_n + r_n adds 3.1 u M, with M <= 1.1 S.
Matrix units: a step cuts each of its n products and c by less than q = 2^(E - F), and its sum by less than 2^-kept of itself (or the
subnormal unit); nothing that is cut toward zero grows, so |c| <= S, and 2^E <= max(P, |c|, 2^clamp). The T steps' errors add, because c enters
the next step exactly. A late c and a binary16 accumulator round to nearest instead: u |c| a step.
Scales and pieces: (1 + rho) (1 + gamma_6(u32)) (1 + gamma_p(u_outer)) - 1 for p pieces; alpha is scaled with its piece.

Where a sum may leave the range of its format, nothing is promised: the bound is infinite.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lpref.ref import formats
from lpref.ref.contracts import Bound, Contract
from lpref.ref.linalg.accumulate import Accumulate
from lpref.ref.linalg.accumulators import accumulator
from lpref.ref.linalg.gemm import Factors, cuts, entered, exactly_summable, factors, holds_codes, plain
from lpref.ref.linalg.tensor_core import NONE

U32 = 2.0**-24
"""Unit roundoff of float32."""


def gamma(n: int, u: float = U32) -> float:
    """gamma_n = n u / (1 - n u): the relative bound of a product of n factors (1 + delta), |delta| <= u. Needs n u < 1."""
    return n * u / (1.0 - n * u)


def magnitude(a: Any, b: Any) -> NDArray[np.float64]:
    """S[i, j] = sum_k |a[i, k]| |b[j, k]| in float64, not below its true value."""
    x, y = (np.abs(v.dequantize(np.float64) if v.k_axis % 2 else v.dequantize(np.float64).T) for v in (a, b))
    s = x @ y.T  # exact: a bound, made larger by its own rounding error below
    return s * (1.0 + 4.0 * gamma(x.shape[1] + 4, 2.0**-53))


def fast_bound(a: Any, b: Any) -> NDArray[np.float64]:
    """|gemm fast - gemm exact| <= (gamma_n + gamma_m) S, for both grades under the default `Accumulate`.

    fast: each folded operand carries at most 2 roundings, the product and the sum in any order K, the tensor scales 2:
    n = K + 6. exact: the inner product at most K (sequential), the block scale 2, the outer sum at most K pieces, row and
    tensor scales 4: m = 2 K + 6. Higham, "Accuracy and Stability of Numerical Algorithms", 2nd ed. 2002, section 3.1,
    lemma 3.1. Assumes no underflow or overflow in an intermediate.
    """
    depth = factors(a).elements.shape[1]
    return (gamma(depth + 6) + gamma(2 * depth + 6)) * magnitude(a, b)


SPLITS = 64
"""Sums that a library may cut K into and add up in float32."""


def native_bound(a: Any, b: Any) -> NDArray[np.float64]:
    """|gemm fast - gemm exact| where a matrix unit may read FP8 codes: `fast_bound`, or for two operands of E4M3 or E5M2 codes, if more,

    accumulation_bound(hopper_fp8_promote128) + gamma_64 S + accumulation_bound(auto).

    Cutting K into at most 64 sums, at multiples of the unit's 32 products, leaves the number of its steps as it is, and no piece has a larger S or P
    (above) than all of K; it adds at most 64 roundings of what the pieces add up to.
    """
    bound = fast_bound(a, b)
    if not all(holds_codes(x) and x.quantizer.format in ("e4m3", "e5m2") for x in (a, b)):
        return bound
    unit = accumulation_bound(a, b, "hopper_fp8_promote128") + gamma(SPLITS) * magnitude(a, b)
    return np.maximum(bound, unit + accumulation_bound(a, b))


def in_output(bound: Any) -> Any:
    """The bound of gemm(a, b, accumulate, output, bias) in both grades, from `bound(a, b)` of the accumulators y and m: |y - m| <= B.

    |r(y) - r(m)| <= B + u (|y| + |m|) + q, with u the unit roundoff of the output format and q its smallest subnormal number, of which rounding loses
    at most u |.| or q / 2 each; |y| <= (|r(y)| + q) / (1 - u), |m| <= |y| + B. Infinite where |y| + B reaches the format's largest number.
    A bias is the same in both; adding it rounds each sum to float32, u32 of it.
    """

    def bound_of(expected: Any, a: Any, b: Any, accumulate: Any = None, output: str = "float32", bias: Any = None) -> Any:
        within = bound(a, b)
        if bias is not None:
            within = within + 2.0 * U32 * (1.0 + 2.0**-6) * (np.abs(np.asarray(expected, np.float64)) + within + 2.0**-120)
        return rounded_bound(expected, within, output)

    return bound_of


def rounded_bound(expected: Any, within: Any, output: str) -> Any:
    """The bound of two numbers that are rounded to a format, from that of the numbers (`in_output`); expected: the one of the definition, rounded."""
    if output == "float32":
        return within
    form = formats.format(output)
    u, q, largest = 2.0 ** -(form.precision or 0), form.min_subnormal, form.max
    reach = (np.abs(np.asarray(expected, np.float64)) + q) / (1.0 - u) + within
    return np.where(reach < largest, within + 2.0 * u * reach + q, np.inf)


def in_store(contract: Contract) -> Contract:
    """The contract of an op with one result and the option `store` (`lpref.accel.reference.STORED`), from that of the op."""
    if not isinstance(contract, Bound):
        return contract
    bound = contract.bound

    def bound_of(expected: Any, *args: Any, store: str = "float32", **options: Any) -> Any:
        return rounded_bound(expected, bound(expected, *args, **options), store)

    return replace(contract, bound=bound_of)


def of_each(bound: Any) -> Any:
    """The bounds of gemms(products), from that of gemm."""
    return lambda expected, products: [bound(one, *product) for one, product in zip(expected, products, strict=True)]


def matmul_bound(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    """|x - y| <= 2 gamma_K |a| |b| + K 2^-148 for two `matmul` of [..., M, K] and [..., K, N] in float32, in any two orders.

    Each is within gamma_K |a| |b| of the exact product (Higham 2002, section 3.5), and each product that underflows adds 2^-150 more.
    """
    depth = a.shape[-1]
    s = np.abs(a.astype(np.float64)) @ np.abs(b.astype(np.float64))  # exact: a bound, made larger by its own rounding error below
    return 2.0 * gamma(depth) * s * (1.0 + 4.0 * gamma(depth + 4, 2.0**-53)) + depth * 2.0**-148


def accumulation_bound(a: Any, b: Any, accumulate: Accumulate | str = "auto") -> NDArray[np.float64]:
    """|gemm(a, b, accumulate) - sum_k a_k b_k| <= this, [M, N], for the dequantized a and b; infinite where a range may be left."""
    model = accumulator(accumulate)
    if model.inner == "auto":
        exact = exactly_summable(a) and exactly_summable(b)
        model = replace(model, inner="exact" if exact else "sequential")
        a, b = (a, b) if exact else (plain(a), plain(b))
    fa, fb = (factors(x, np.float64) for x in (a, b))
    if model.core is not None:
        fa, fb = entered(fa, model), entered(fb, model)
    bounds = list(itertools.pairwise(cuts(fa, fb, model.chunk)))
    pieces = 1.0 + gamma(len(bounds), _format(model.outer)[0])
    total, reach = np.zeros((fa.elements.shape[0], fb.elements.shape[0])), np.zeros((fa.elements.shape[0], fb.elements.shape[0]))
    for start, stop in bounds:
        x, y = _part(fa, start, stop), _part(fb, start, stop)
        s = np.abs(x.elements) @ np.abs(y.elements).T  # exact: a bound, made larger by its own rounding error below
        inner = _inner_error(x, y, s, model)
        scale = _block(fa, start)[:, None] * _block(fb, start)[None, :]
        total += ((s + inner) * (1.0 + gamma(6)) * pieces - s) * scale + 2.0**-148
        reach += (s + inner) * scale
    total *= _whole(fa)[:, None] * _whole(fb)[None, :]
    top = _format(model.outer)[2]
    with np.errstate(invalid="ignore", over="ignore"):
        total = np.where(reach * pieces * 1.01 >= top, np.inf, total)
    return total * (1.0 + 1e-9) + 2.0**-147  # the roundings of this computation itself


def _inner_error(x: Factors, y: Factors, s: NDArray[np.float64], model: Accumulate) -> NDArray[np.float64]:
    """rho S + alpha of one piece."""
    n = x.elements.shape[1]
    if model.core is not None:
        return _unit_error(x, y, s, model.core)
    if model.inner in ("exact", "integer"):
        inside = np.inf if model.inner == "exact" else 2.0 ** (model.bits - 1 + sum(0 if v.grid is None else v.grid[0] for v in (x, y)))
        return np.where(s * (1 + 1e-9) < inside, U32 * s + 2.0**-150, np.inf)
    u, eta, top = _format(model.format)
    product = U32 if model.product == "float32" else 0.0
    steps = max(n - 1, 0).bit_length() + 1 if model.inner == "pairwise" else n
    if steps * u >= 1.0 or (model.inner == "kahan" and n * u > 1 / 16):
        return np.full_like(s, np.inf)
    rho = 6 * u + 12 * n * u * u if model.inner == "kahan" else gamma(steps, u)
    error = ((1.0 + rho) * (1.0 + product) - 1.0) * s + 8.0 * n * (eta + 2.0**-150)
    return np.where((s + error) * 1.01 < top, error, np.inf)


def _unit_error(x: Factors, y: Factors, s: NDArray[np.float64], core: Any) -> NDArray[np.float64]:
    """The T steps of a matrix unit."""
    assert x.exponents is not None
    assert y.exponents is not None
    n = x.elements.shape[1]
    top = np.full(s.shape, core.clamp)
    for k in range(n):
        top = np.maximum(top, x.exponents[:, k, None] + y.exponents[None, :, k])
    largest = np.ldexp(1.0, np.maximum(top, NONE // 1024))
    steps = -(-n // core.products)
    u = 2.0**-11 if core.accumulator == "binary16" else U32
    grown = s * (1.0 + gamma(steps, u)) * (1.0 + 2.0**-40)
    cut = (core.products // core.group + 1) * 2.0**-core.fraction * (np.maximum(grown, largest) + 2.0**core.clamp)
    kept = 2.0**-core.kept * grown + 2.0 ** (core.smallest - core.kept)
    if core.late or core.accumulator == "binary16":
        kept = kept + u * grown + 2.0 ** (core.smallest - 11)
    return np.where(grown < (65504.0 if core.accumulator == "binary16" else 2.0**127), steps * (cut + kept), np.inf)


def _format(name: str) -> tuple[float, float, float]:
    """(unit roundoff, half the smallest subnormal, largest value)."""
    f = formats.format(name)
    assert f.precision is not None
    return 2.0**-f.precision, f.min_subnormal / 2, f.max


def _part(x: Factors, start: int, stop: int) -> Factors:
    return replace(x, elements=x.elements[:, start:stop], exponents=None if x.exponents is None else x.exponents[:, start:stop])


def _block(x: Factors, k: int) -> NDArray[np.float64]:
    """|block scale| of element k, [other]."""
    if x.block is None or x.k_block is None:
        return np.ones(x.elements.shape[0])
    return np.abs(x.block[:, k // x.k_block].astype(np.float64))


def _whole(x: Factors) -> NDArray[np.float64]:
    """|row * tensor|, [other]: the scales of the epilogue."""
    row = np.ones(x.elements.shape[0]) if x.row is None else np.abs(x.row.astype(np.float64))
    return row if x.tensor is None else row * abs(float(x.tensor))
