r"""`Ramped`: an optimizer that updates some elements of some weights less often, and then by more (the update of Q-Ramping).

Every element has a period. Its gradients are added up; when `period` of them are there, the rule sees their mean and the element moves by as many
times its update; its moments stay in between. Weight decay acts at every step. With n the gradients added so far, this one included::

    acc' = acc + g;   n' = n + 1;   due = n' >= period
    u, s' = rule without decay(p, acc' / n', s)
    delta = -((fl32(lr wd) * p) + where(due, n' * (-u), 0));        p' = p + delta
    s     <- where(due, s', s);   acc, n <- where(due, 0, acc'), where(due, 0, n')

A period of 1 is the plain rule, bit for bit where it is AdamW with `wd_order: before`. The rule's step number t counts every update, as in
the source.
Only rules with decoupled decay and state in float32 can be ramped; the gradients that are added are those after clipping.
Source: arXiv 2502.20853; thu-ml/TetraJet-MXFP4Training quantization/Qoptimizers/adamw_bs_ramping.py, `_single_tensor_adamwNew` (read).
Pitfalls: there an element is due when n' is a multiple of its period, so one whose period shrinks may wait for longer; here it is due at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lpref.ref.errors import SpecError
from lpref.ref.optim.context import OptimContext
from lpref.ref.optim.optimizer import Optimizer
from lpref.ref.optim.rules.adamw import AdamW

Array = Any
KEPT = ("ramp_sum", "ramp_count")


@dataclass(frozen=True)
class Ramped:
    """`inner`, with `periods`: parameter -> float32 array of its shape."""

    inner: Optimizer
    periods: Mapping[str, Array]

    def __post_init__(self) -> None:
        rule = self.inner.rule
        if not isinstance(rule, AdamW) or rule.wd_order != "before":
            raise SpecError(["optimizer.kind: Q-Ramping accumulates in front of AdamW with wd_order before"], remedy="use optimizer.kind=adamw")
        if self.inner.storages or set(self.inner.weights) & set(self.periods):
            raise SpecError(["optimizer.storage_of: Q-Ramping needs weights and moments in float32"])

    @property
    def rule(self) -> Any:
        """The inner optimizer's rule."""
        return self.inner.rule

    def update(
        self, params: Mapping[str, Array], grads: Mapping[str, Array], state: Mapping[str, Array], ctx: OptimContext, backend: Any = None
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """(new params, new state): the inner optimizer's for what has no period."""
        if backend is None:
            raise SpecError(["backend: Q-Ramping computes through a backend's operations"], where="Ramped.update")
        plain = {name: p for name, p in params.items() if name not in self.periods}
        own = {key: value for key, value in state.items() if key.rpartition("/")[2] not in KEPT}
        moved, kept = self.inner.update(plain, {name: grads[name] for name in plain}, own, ctx, backend)
        for name in (n for n in params if n in self.periods):
            moved[name], arrays = self._one(name, params[name], grads[name], state, ctx, backend)
            kept |= arrays
        return {name: moved[name] for name in params}, kept

    def _one(self, name: str, p: Array, g: Array, state: Mapping[str, Array], ctx: OptimContext, ops: Any) -> tuple[Array, dict[str, Array]]:
        kind, rule = p.dtype.type, self.inner.rule
        lr = rule.lr if ctx.lr is None else ctx.lr
        first = f"{name}/{KEPT[0]}" not in state
        total = g if first else ops.add(state[f"{name}/{KEPT[0]}"], g)
        one = ops.div(self.periods[name], self.periods[name])
        count = one if first else ops.add(state[f"{name}/{KEPT[1]}"], kind(1))
        due = ops.greater_equal(count, self.periods[name])
        moments = {s.name: state[f"{name}/{s.name}"] for s in rule.states()}
        flat = [x.reshape(-1) for x in (p, ops.div(total, count), *moments.values())]
        u, new = rule.update(flat[0], flat[1], dict(zip(moments, flat[2:], strict=True)), t=ctx.update + 1, lr=lr, decay=False, ops=ops)
        decay = kind(lr * rule.weight_decay) if self.inner.decays(name) else kind(0)
        step = ops.where(due, ops.mul(ops.neg(u.reshape(p.shape)), count), kind(0))
        moved = ops.add(ops.neg(ops.add(ops.mul(p, decay), step)), p)
        arrays = {f"{name}/{s}": ops.where(due, new[s].reshape(p.shape), moments[s]) for s in moments}
        arrays |= {f"{name}/{k}": ops.where(due, kind(0), x) for k, x in zip(KEPT, (total, count), strict=True)}
        return moved, arrays
