"""The end of a training step without the host: `lpref.ref.optim.guarded_step`, decided on the device, parameters and moments in place.

`judge` decides: gradients and losses finite, nothing refused, the norm, the clipping factor, and whether a queued step before this one was skipped.
`update` is one launch over all parameters, and writes nothing where the verdict forbids it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lpref.accel.cuda import arrays, device, feed, optim
from lpref.ref.optim import SGD, AdamW, AdamWCoefficients, Lion, Optimizer, Rule, adamw_coefficients

CHUNKS = {1 << 23: 1024, 1 << 62: 4096}
"""Elements in all -> elements that a block updates."""
WORDS = 16
"""Of a decay group's coefficients."""
TOLD = 6
"""Words of a verdict; the losses follow."""
RULES: dict[type[Rule], int] = {AdamW: 0, SGD: 1, Lion: 2}


def covers(optimizer: Optimizer) -> bool:
    """Whether `update` serves: a rule that it knows, all states float32."""
    return type(optimizer.rule) in RULES and not optimizer.weights and not any(s.signed or s.unsigned for s in optimizer.storages.values())


def coefficients(rule: Rule, t: int, lr: float) -> np.ndarray:
    """uint32 [2, WORDS]: what the kernel reads for parameters without and with decay, in update number t."""
    made = np.zeros((2, WORDS), np.uint32)
    for row, decay in zip(made, (0.0, rule.weight_decay), strict=True):
        floats, integers = _coefficients(rule, t, lr, decay)
        row[: len(floats)] = np.array(floats, np.float32).view(np.uint32)
        row[len(floats) : len(floats) + len(integers)] = integers
    return made


def _coefficients(rule: Rule, t: int, lr: float, wd: float) -> tuple[tuple[float, ...] | AdamWCoefficients, tuple[int, ...]]:
    if isinstance(rule, AdamW):
        return adamw_coefficients(t, lr, *rule.betas, rule.eps, wd, rule.wd_order, rule.eps_mode), ()
    if isinstance(rule, SGD):
        return (lr, rule.momentum, 1.0 - rule.dampening, wd), (int(wd != 0), int(rule.nesterov), 0 if not rule.momentum else 1 if t == 1 else 2)
    assert isinstance(rule, Lion)
    (b1, b2) = rule.betas
    return (lr, b1, 1.0 - b1, b2, 1.0 - b2, wd), ()


def judge(grads: Sequence[Any], losses: Sequence[Any], words: Any, fed: Any, by: Any, clip: float | None, halt: Any, told: Any) -> Any:
    """The verdict, on the device. words: {doubt, 0}; fed: {epoch, slot}; by: 1 / loss scale; halt: {halted, epoch}; told [slots, TOLD + losses]."""
    sums = optim.sums_of_squares(grads, by, words[1:])
    verdict = device.cupy().empty(TOLD, np.uint32)
    table = feed.upload(feed.same, np.array([loss.data.ptr for loss in losses], np.uint64))
    limit = np.float32(-1 if clip is None else clip)
    args = (sums, len(grads), table, np.int32(len(losses)), words, fed, limit, halt, verdict, told, np.int32(told.shape[1]))
    device.function("update", "judge", _defines(0))((1,), (1024,), args)
    return verdict


def update(
    optimizer: Optimizer, params: Mapping[str, Any], grads: Mapping[str, Any], state: Mapping[str, Any], rules: Any, by: Any, verdict: Any,
    copies: Mapping[int, Any],
) -> None:  # fmt: skip
    """params, state and the copies of params by their address, in place. rules: `coefficients` on the device."""
    size = sum(p.size for p in params.values())
    chunk = next(each for most, each in CHUNKS.items() if size <= most)
    owners: list[int] = []
    table, roles = [], [s.name for s in optimizer.rule.states()]
    for number, (name, p) in enumerate(params.items()):
        moments = [state[f"{name}/{role}"].data.ptr for role in roles]
        copy = copies[p.data.ptr].data.ptr if p.data.ptr in copies else 0
        table.append((p.data.ptr, grads[name].data.ptr, *moments, *[0] * (2 - len(moments)), p.size, int(optimizer.decays(name)), len(owners), copy))
        owners += [number] * -(-p.size // chunk)
    order = optim.ORDERS.get(getattr(optimizer.rule, "wd_order", ""), 2)
    defines = (*_defines(RULES[type(optimizer.rule)], order), *((("LP_COPIES", 1),) if copies else ()))
    run = device.function("update", "update", defines)
    held, whose = (feed.upload(feed.same, np.array(rows, kind)) for rows, kind in ((table, np.uint64), (owners, np.uint32)))
    if owners:
        run((len(owners),), (device.THREADS,), (held, whose, chunk, rules, by, verdict))


def _defines(rule: int, order: int = 0) -> tuple[tuple[str, int], ...]:
    return (("LP_RULE", rule), ("LP_ORDER", order))


def contiguous(grads: Mapping[str, Any]) -> dict[str, Any]:
    """The gradients as the kernels read them."""
    return dict(zip(grads, arrays.floats("update", *grads.values()), strict=True))
