r"""`Weights`: how the weights of a recipe are kept between steps and updated, where that is not float32 and the plain optimizer.

One update of a weight p [N, K] (others as one row) with gradient g, in this order; what a field leaves out does not happen::

    g      <- gradient(g)                                     update: rule
    d, s   <- rule(p, g, s)                                   the run's optimizer, with its decay
    d      <- -unit codes(gradient(f g))                      update: codes; the optimizer, its decay and its state play no part
    p      <- p 2^(steps of the logarithm)                    update: multiply (`lpref.ref.optim.multiply`); likewise
    p      <- clamp(p + d, +-clip)
    p      <- stored(p)                                       with the range that `grid` names
    s      <- state(s)                                        signed state (momenta); second moments would vanish on such grids
    mean   <- the running mean of p                           `average`

f is the learning rate over its peak, so a schedule moves the size of an integer update as it moves every other. `gradient` measures its
amax on g, not on f g: codes are the gradient divided by a power of two of its own size, n = round(f t g / Shift(max|g|)), t the scale's
`target`: WAGE's update with `pow2: nearest` and t its learning rate, NITI's with `pow2: up` and t = 2^mu. Magnitude is thrown away.

`stored` alone makes weights without a master copy: what the step leaves is on its grid, and nothing finer is kept anywhere.

    grid current    the scale of the new p, as for any tensor
         previous   amax is that of p before the update: DQT as published
         first      amax is that of the first weights, kept as ``p/grid``: the grid never moves

First weights: as the model made them (`start` unit: normal with standard deviation 1, whatever the model's configuration says), times alpha(K)
where `start` is fan_in (`lpref.ref.scaling.fan_in`), then clip, then stored. State on a grid is kept as values
on that grid in float32 arrays, as stored parameters are.

Random words: ``p/param``, ``p/gradient``, ``p/STATE`` at the step; first weights ``p/start`` at step 0. Element index row-major in p.
Special values: a zero gradient has codes 0. Gradients are finite here (the guarded step).
Source: gupta (arXiv 1502.02551), SWALP (stevenygd/SWALP utils.py train_batch), WAGE (boluoweifenda/WAGE Top.py, Quantize.py), NITI
(wangmaolin/niti ti_torch.py weight_update), DQT (KYuuto1006/DQT custom_optimizer.py). Source level: read, but for gupta.
Pitfalls: rounding to nearest loses every update below half a step; a clip before the update and one after it differ by the last update;
a grid that follows the largest weight drifts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from lpref.ref import elementary, reduce
from lpref.ref.formats import format as format_named
from lpref.ref.optim.averaging import Averaging, averaged
from lpref.ref.optim.context import OptimContext
from lpref.ref.optim.multiply import Madam
from lpref.ref.quantize import Quantizer, quantize
from lpref.ref.random import WordAddress
from lpref.ref.rounding import is_stochastic
from lpref.ref.scaling.fan_in import alpha

Array = Any
MADAM = Madam()


@dataclass(frozen=True)
class Weights:
    """How weights are kept and updated (the module's page). The default is float32, updated by the run's optimizer.

    unit      update codes: what one code is worth; null: the step of the stored grid
    of        linear: the weights of the layers that the recipe quantizes; all: every parameter but learned quantizer steps
    """

    stored: Quantizer | None = None
    gradient: Quantizer | None = None
    state: Quantizer | None = None
    update: Literal["rule", "codes", "multiply"] = "rule"
    unit: float | None = None
    clip: float | None = None
    grid: Literal["current", "previous", "first"] = "current"
    start: Literal["as_made", "fan_in", "unit"] = "as_made"
    of: Literal["linear", "all"] = "linear"
    average: Averaging | None = None
    madam: Madam = MADAM

    @property
    def plain(self) -> bool:
        """Whether weights are plain float32 under the plain optimizer."""
        return self == Weights(of=self.of)

    def problems(self) -> list[str]:
        """What is contradictory, each with the path of its field."""
        return [*_quantizers(self), *_codes(self), *_grid(self)]

    def draws(self, states: Iterable[str]) -> list[str]:
        """The purposes for which random words are drawn."""
        own = {"param": self.stored, "gradient": self.gradient, **dict.fromkeys([] if self.update != "rule" else states, self.state)}
        found = [name for name, q in own.items() if q is not None and is_stochastic(q.rounding)]
        return [*found, "start"] if "param" in found else found

    def nbytes(self, shape: tuple[int, ...]) -> int:
        """Bytes of a stored weight of this shape."""
        rows, columns = _matrix_shape(shape)
        if self.stored is None:
            return 4 * rows * columns
        blocks = self.stored.blocks.grid((rows, columns), 1)
        bits = 0 if self.stored.scale.rule in ("none", "constant") else format_named(self.stored.scale.format).bits * blocks[0] * blocks[1]
        return -(-rows * columns * format_named(self.stored.format).bits // 8) + -(-bits // 8)

    def first(self, name: str, p: Array, seed: int, ops: Any) -> tuple[Array, dict[str, Array]]:
        """(first weight, arrays to keep) of a weight as the model made it."""
        if self.start == "fan_in":
            p = ops.mul(p, p.dtype.type(alpha(_matrix_shape(p.shape)[1])))
        p = self._clipped(p, ops)
        kept = {f"{name}/grid": ops.amax(p).reshape(1)} if self.grid == "first" else {}
        p = _on_grid(p, self.stored, WordAddress(seed, 0, f"{name}/start"), ops, kept.get(f"{name}/grid"))
        kept |= self.madam.first(name, p, ops) if self.update == "multiply" else {}
        return p, kept | ({f"{name}/average": p} if self.average is not None else {})

    def before(self, name: str, p: Array, g: Array, kept: Mapping[str, Array], ctx: OptimContext, ops: Any) -> Array:
        """The gradient of `p` that the rule sees; the codes times `unit` where they are the update."""
        words = WordAddress(ctx.seed, ctx.step, f"{name}/gradient")
        if self.update != "codes" or self.gradient is None:
            return _on_grid(g, self.gradient, words, ops)
        shown = _matrix(g)
        factor = 1.0 if ctx.lr is None or not ctx.peak else ctx.lr / ctx.peak
        scaled = shown if factor == 1.0 else ops.mul(shown, g.dtype.type(factor))
        t = ops.quantize(scaled, self.gradient, words=words, amax=ops.amax(shown))
        codes = ops.div(t.dequantize(np.float32), t.scale_values())
        return ops.mul(codes, self._step(name, p, kept, ops)).reshape(g.shape)

    def multiplied(self, name: str, p: Array, g: Array, kept: Mapping[str, Array], ctx: OptimContext, ops: Any) -> tuple[Array, dict[str, Array]]:
        """(weight before it is stored, arrays to keep) of an update of logarithms."""
        factor = 1.0 if ctx.lr is None or not ctx.peak else ctx.lr / ctx.peak
        return self.madam.updated(name, p, g, kept, ctx.update + 1, factor, ops)

    def after(self, name: str, old: Array, new: Array, kept: Mapping[str, Array], ctx: OptimContext, ops: Any) -> tuple[Array, dict[str, Array]]:
        """(weight to keep, arrays to keep) from the weight before and after the rule."""
        words = WordAddress(ctx.seed, ctx.step, f"{name}/param")
        p = _on_grid(self._clipped(new, ops), self.stored, words, ops, **self._given(name, old, kept, ops))
        arrays = {f"{name}/grid": kept[f"{name}/grid"]} if self.grid == "first" else {}
        if self.average is not None:
            n = self.average.number(ctx.update + 1, ctx.total or 0)
            mean = kept[f"{name}/average"]
            arrays[f"{name}/average"] = averaged(mean, p, n, ops.add, ops.mul) if n else mean
        return p, arrays

    def moment(self, name: str, role: str, value: Array, ctx: OptimContext, ops: Any) -> Array:
        """A state tensor as it is kept."""
        return _on_grid(value, self.state, WordAddress(ctx.seed, ctx.step, f"{name}/{role}"), ops)

    def _step(self, name: str, p: Array, kept: Mapping[str, Array], ops: Any) -> Any:
        """What one code is worth, an array of one element or a number."""
        if self.unit is not None or self.stored is None:
            return p.dtype.type(self.unit or 0)
        words = WordAddress(0, 0, f"{name}/param") if is_stochastic(self.stored.rounding) else None  # a scale depends on no word
        return ops.quantize(_matrix(p), self.stored, words=words, **self._given(name, p, kept, ops)).scale_values()

    def _given(self, name: str, old: Array, kept: Mapping[str, Array], ops: Any) -> dict[str, Any]:
        """The amax that spans the grid, where it is not that of what is stored."""
        if self.grid == "current":
            return {}
        return {"amax": kept[f"{name}/grid"] if self.grid == "first" else ops.amax(old)}

    def _clipped(self, p: Array, ops: Any) -> Array:
        if self.clip is None:
            return p
        limit = p.dtype.type(self.clip)
        return ops.minimum(ops.maximum(p, -limit), limit)


class DefinedOps:
    """The operations of `Weights` in NumPy, for callers without a backend."""

    add, sub, mul, div, minimum, maximum = np.add, np.subtract, np.multiply, np.divide, np.minimum, np.maximum
    sqrt, rint, where, greater, neg = np.sqrt, np.rint, np.where, np.greater, np.negative
    quantize, amax, tree_sum, exp2 = staticmethod(quantize), staticmethod(reduce.amax), staticmethod(reduce.tree_sum), staticmethod(elementary.exp2)


def _matrix_shape(shape: tuple[int, ...]) -> tuple[int, int]:
    """Matrices keep their rows, tensors their first axis; a vector is one row."""
    size = 1
    for n in shape:
        size *= n
    return (shape[0], size // max(shape[0], 1)) if len(shape) > 1 else (1, size)


def _matrix(x: Array) -> Array:
    return x.reshape(_matrix_shape(x.shape))


def _on_grid(x: Array, q: Quantizer | None, words: WordAddress, ops: Any, amax: Any = None) -> Array:
    """x quantized and decoded, of x's shape and dtype."""
    if q is None:
        return x
    given = {} if amax is None else {"amax": amax}
    drawn = words if is_stochastic(q.rounding) else None
    return ops.quantize(_matrix(x), q, words=drawn, **given).dequantize(x.dtype).reshape(x.shape)


def _quantizers(w: Weights) -> list[str]:
    found = []
    for name in ("stored", "gradient", "state"):
        q = getattr(w, name)
        if q is None:
            continue
        if not format_named(q.format).signed and q.scale.rule not in ("affine", "minmax"):
            found.append(f"weights.{name}.format: {q.format} has no sign, and {'weights have' if name == 'stored' else 'it has'} negative values")
        if q.scale.history != "current" or q.scale.learned:
            found.append(f"weights.{name}.scale: its scale needs a state, which what is stored does not have; use history current")
        if q.tail == "error" and q.blocks.k is not None:
            found.append(f"weights.{name}.tail: 'error', but parameters have any length; use partial")
    return found


def _codes(w: Weights) -> list[str]:
    if w.update != "codes":
        return [] if w.unit is None else ["weights.unit: only update codes reads it"]
    found = []
    if w.unit is None and (w.stored is None or w.stored.blocks.other is not None or w.stored.blocks.k is not None or w.stored.scale.rule == "none"):
        found.append("weights.unit: null is the step of the stored grid, which needs a stored format with one scale per tensor")
    if w.unit is not None and not (np.isfinite(w.unit) and w.unit > 0):
        found.append(f"weights.unit: {w.unit!r} is not a positive number; it is what one code is worth")
    q = w.gradient
    if q is None or q.scale.rule != "amax" or q.blocks.other is not None or q.blocks.k is not None or not q.format.startswith("int"):
        found.append("weights.gradient: an update of codes needs integers under one scale per tensor from amax")
    if w.state is not None:
        found.append("weights.state: an update of codes has no state")
    return found


def _grid(w: Weights) -> list[str]:
    found = []
    if w.clip is not None and not (np.isfinite(w.clip) and w.clip > 0):
        found.append(f"weights.clip: {w.clip!r} is not a positive number")
    if w.grid != "current":
        q = w.stored
        if q is None or q.scale.rule != "amax" or q.blocks.other is not None or q.blocks.k is not None:
            found.append(f"weights.grid: {w.grid!r} fixes amax, which a stored format with one scale per tensor from amax has")
    return found
