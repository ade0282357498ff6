"""check_grads: derivatives against central differences, in float64, with a bound that is derived.

For each coordinate, φ(t) = ⟨u, f(x + t e)⟩ with fixed weights u, and the central difference
D(h) = (φ(h) − φ(−h)) / 2h. Two errors separate D(h) from φ'(0):

- truncation, h²/6 φ''' + O(h⁴). D(2h) has four times as much, so |D(2h) − D(h)| is three times the error of D(h) to
  leading order: it bounds it, with the factor of three left for the next order;
- noise: if every value of φ is off by at most η, D(h) is off by at most η/h. η is measured, not assumed: the k-th
  differences of φ over a few points next to x kill the smooth part and amplify noise by a known factor (Moré and Wild,
  Estimating computational noise, SIAM J. Sci. Comput. 33(3), 2011, algorithm ECnoise), never below one rounding of
  Σ |u f|. Four standard deviations are allowed.

So |g − D(h)| ≤ |D(2h) − D(h)| + 4η/h must hold. h is a power of two near (10⁻¹³)^⅓, the accuracy of the elementary
functions, times the size of the coordinate, so that x ± h is (almost) exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from lpref.autodiff import functional as F
from lpref.autodiff.primitives import space
from lpref.autodiff.tensor import Tensor, no_grad, recording
from lpref.autodiff.transforms import grad, requiring
from lpref.ref.errors import DTypeError, LprefError

STEP = 2.0**-15  # ≈ (1e-13) ** (1/3)
NOISE_STEP = 2.0**-30  # spacing of the points for the noise: φ is a cubic there to below rounding
GOLDEN = 0.6180339887498949


class GradientError(LprefError, AssertionError):
    """A derivative outside its bound; `argument`, `place`, `analytic`, `numeric`, `bound` hold the values."""

    def __init__(self, name: str, argument: int, place: Any, analytic: float, numeric: float, bound: float) -> None:
        self.argument, self.place = argument, place
        self.analytic, self.numeric, self.bound = analytic, numeric, bound
        super().__init__(
            f"argument {argument} at {place}: the rule gives {analytic!r}, differences {numeric!r}, "
            f"{math.fabs(analytic - numeric):.3g} apart; the bound is {bound:.3g}",
            where=name,
        )


def check_grads(fn: Callable[..., Tensor], args: Sequence[Tensor], order: int = 1, *, coordinates: int = 48) -> float:
    """Check the gradients of fn at float64 `args` against differences; order 2 checks those of the gradient as well.

    At most `coordinates` elements of each argument are tried, evenly spread. Returns the largest error divided by its
    bound (≤ 1). Raises GradientError with argument, place and both values; DTypeError unless args are float64.
    """
    args = [Tensor(t.data, t.backend, True) for t in args]
    for i, t in enumerate(args):
        if t.dtype.itemsize != 8:
            raise DTypeError(f"argument {i} is {t.dtype}, not float64", where="check_grads")
    worst = check_once(fn, args, coordinates, f"check_grads, order {1 if order == 1 else 'k of ' + str(order)}")
    if order > 1:

        def derivative(*ts: Tensor) -> Tensor:
            """All gradients of ⟨u, fn⟩, weighted and added: a scalar function whose gradient is a Hessian product."""
            with recording(True):
                ts = requiring(ts)
                y = fn(*ts)
                gs = grad(y, ts, create_graph=True, seed=weights(y))
                return F.stack([F.sum(g * weights(g, 1 + i)) for i, g in enumerate(gs)])

        worst = max(worst, check_grads(derivative, args, order - 1, coordinates=coordinates))
    return worst


def weights(t: Tensor, shift: int = 0) -> Tensor:
    """Fixed weights in [½, 3/2) of t's shape: ½ + frac(i · golden ratio), so that nothing cancels by symmetry."""
    xp = space(t.data)
    u = xp.arange(1 + 7 * shift, 1 + 7 * shift + t.size, dtype=t.dtype) * GOLDEN
    return Tensor((u - xp.floor(u) + 0.5).reshape(t.shape), t.backend)


def check_once(fn: Callable[..., Tensor], args: list[Tensor], coordinates: int, name: str) -> float:
    """First order: every chosen coordinate of every argument; the largest error over bound."""
    y = fn(*args)
    u = weights(y)
    analytic = grad(y, args, seed=u, retain_graph=False)
    worst = 0.0
    for i, t in enumerate(args):
        flat = analytic[i].data.reshape(-1)
        stride = -(-t.size // coordinates)
        for j in range(0, t.size, stride):
            phi = along(fn, args, i, j, u)
            numeric, bound = difference(phi, abs(float(t.data.reshape(-1)[j])))
            error = abs(float(flat[j]) - numeric)
            if not error <= bound:
                place = tuple(int(k) for k in space(t.data).unravel_index(j, t.shape))
                raise GradientError(name, i, place, float(flat[j]), numeric, bound)
            worst = max(worst, error / bound if bound else 0.0)
    return worst


def along(fn: Callable[..., Tensor], args: list[Tensor], i: int, j: int, u: Tensor) -> Callable[[float], tuple]:
    """t -> (Σ u f, Σ |u f|) with element j of argument i moved by t."""

    def phi(t: float) -> tuple[float, float]:
        data = args[i].data.copy()
        data.reshape(-1)[j] += t
        moved = [Tensor(data, a.backend) if k == i else a.detach() for k, a in enumerate(args)]
        with no_grad():
            terms = (fn(*moved) * u).data.reshape(-1)
        values = [float(v) for v in terms]
        return math.fsum(values), math.fsum(map(abs, values))

    return phi


def difference(phi: Callable[[float], tuple[float, float]], size: float) -> tuple[float, float]:
    """(D(h), bound on its error), see above."""
    scale = 2.0 ** math.frexp(max(1.0, size))[1]
    h = STEP * scale
    near = [(phi(k * h)[0] - phi(-k * h)[0]) / (2 * k * h) for k in (1, 2)]
    return near[0], abs(near[1] - near[0]) + 4 * noise(phi, NOISE_STEP * scale) / h


def noise(phi: Callable[[float], tuple[float, float]], h: float, points: int = 7) -> float:
    """Standard deviation of the rounding noise of φ: the largest ECnoise level of differences of order 2 to 5."""
    values = [phi((k - points // 2) * h) for k in range(points)]
    differences = [v for v, _ in values]
    level = 2.0**-53 * max(size for _, size in values)
    gamma = 1.0
    for k in range(1, 6):
        differences = [b - a for a, b in pairwise(differences)]
        gamma *= k / (2.0 * (2 * k - 1))  # (k!)² / (2k)!
        if k > 1:
            level = max(level, math.sqrt(gamma * math.fsum(d * d for d in differences) / len(differences)))
    return level
