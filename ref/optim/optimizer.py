"""The driver: decodes stored state, calls the rule, and owns every rounding to a stored format.

For parameter p with gradient g and stored state Q::

    s32 = decode(Q);   delta, s32' = rule(p, g, s32);   p' = store(p + delta);   Q' = encode(s32')

The update uses the unquantized new moments; only what is kept is rounded (bitsandbytes, torchao, COAT and FP8-LM do the same).
Parameters that a recipe keeps without a master copy have `weights` of their own (`lpref.ref.optim.weights`), whatever the storages say.
`AdamW` is thus written once; 8-bit AdamW, or bfloat16 weights with stochastic rounding, is AdamW with a storage table.
Random words of tensor `param/role` come from the site of that name, so they do not depend on the order of the parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from numbers import Real
from typing import Any

import numpy as np

from lpref.ref.arrays import namespace
from lpref.ref.errors import ShapeError, SpecError, UnknownNameError
from lpref.ref.optim.context import OptimContext
from lpref.ref.optim.rules import RULES, Rule, StateSpec
from lpref.ref.optim.slab import pack, unpack
from lpref.ref.optim.storage import Sign, Storage, storage
from lpref.ref.optim.weights import DefinedOps, Weights
from lpref.ref.random import WordAddress
from lpref.ref.rounding import is_stochastic

Array = np.ndarray
NO_DECAY = ("norm", "bias", "embedding", "quantizer_step")
"""Roles that weight decay leaves alone unless the optimizer says otherwise."""


@dataclass(frozen=True)
class Optimizer:
    """A rule, the storage of each of its tensors, and the decay groups. State is a flat dict of arrays, ready for a checkpoint."""

    rule: Rule
    storages: Mapping[str, Storage] = field(default_factory=dict)
    """Storage by role: a state name of the rule, or "param"; what is not named stays float32."""
    roles: Mapping[str, str] = field(default_factory=dict)
    """Role of each parameter; empty: no groups, everything decays."""
    no_decay: tuple[str, ...] = NO_DECAY
    weights: Mapping[str, Weights] = field(default_factory=dict)
    """How a recipe keeps parameters, by name."""
    factors: Mapping[str, float] = field(default_factory=dict)
    """Factors of the learning rate, by parameter; 1 where none is given."""

    def start(self, params: Mapping[str, Array], seed: int = 0, backend: Any = None) -> tuple[dict[str, Array], dict[str, Array]]:
        """(first params, first state): the params of the model as `weights` keep them, and the state of `init`."""
        first: dict[str, Array] = {}
        kept: dict[str, Array] = {}
        for name, p in params.items():
            first[name], arrays = self.weights[name].first(name, p, seed, backend or DefinedOps) if name in self.weights else (p, {})
            kept |= arrays
        return first, self.init(first, backend) | kept

    def init(self, params: Mapping[str, Array], backend: Any = None) -> dict[str, Array]:
        """Zero state for `params`, encoded in its storage. backend: that of the arrays, None for NumPy's definitions."""
        state: dict[str, Array] = {}
        for name, p in params.items():
            for spec in self._states(name):
                words = WordAddress(0, 0, f"{name}/{spec.name}")  # zero is exact: no word can change it
                zero = namespace(p).zeros_like(p)
                state |= self._storage(spec.name, name).encode(f"{name}/{spec.name}", zero, spec.sign, words, backend)
            if name in self.weights:
                state |= self.weights[name].first(name, p, 0, backend or DefinedOps)[1]
        return state

    def update(
        self,
        params: Mapping[str, Array],
        grads: Mapping[str, Array],
        state: Mapping[str, Array],
        ctx: OptimContext,
        backend: Any = None,
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """(new params, new state) of update number ctx.update + 1; nothing passed in is changed."""
        if set(params) != set(grads):
            without, extra = sorted(set(params) - set(grads)), sorted(set(grads) - set(params))
            raise ShapeError(f"parameters without gradient: {without}, gradients without parameter: {extra}", where="Optimizer.update")
        unlike = [f"{name}: {params[name].shape} and {grads[name].shape}" for name in params if params[name].shape != grads[name].shape]
        if unlike:
            raise ShapeError(f"parameter and gradient differ in shape: {', '.join(unlike)}", where="Optimizer.update")
        new_params: dict[str, Array] = {}
        new_state: dict[str, Array] = {}
        for names in self._together(params):
            self._update(names, params, grads, state, ctx, backend, new_params, new_state)
        return {name: new_params[name] for name in params}, new_state

    def _together(self, params: Mapping[str, Array]) -> list[list[str]]:
        """Parameters that are updated as one vector: an elementwise rule on plain float32, one dtype and one decay group each."""
        groups: dict[Any, list[str]] = {}
        for name, p in params.items():
            plain = name not in self.weights and self.rule.elementwise and all(
                self._storage(role).quantizer(p.size, sign) is None for role, sign in self._roles().items()
            )  # fmt: skip
            groups.setdefault((p.dtype, self.decays(name), self.factors.get(name, 1.0)) if plain else name, []).append(name)
        return list(groups.values())

    def _update(
        self, names: list[str], params: Mapping[str, Array], grads: Mapping[str, Array], state: Mapping[str, Array], ctx: OptimContext,
        backend: Any, new_params: dict[str, Array], new_state: dict[str, Array],
    ) -> None:  # fmt: skip
        """Update `names`, all plain, or a single one in any storage."""
        shapes, own = [params[name].shape for name in names], self.weights.get(names[0])
        lr = (self.rule.lr if ctx.lr is None else ctx.lr) * self.factors.get(names[0], 1.0)
        grads = grads if own is None else {names[0]: own.before(names[0], params[names[0]], grads[names[0]], state, ctx, backend or DefinedOps)}
        if own is not None and own.update == "codes":
            moved = (np.subtract if backend is None else backend.sub)(params[names[0]], grads[names[0]])
            self._store(names[0], params, moved, state, ctx, backend, new_params, new_state)
            return
        if own is not None and own.update == "multiply":
            moved, arrays = own.multiplied(names[0], params[names[0]], grads[names[0]], state, ctx, backend or DefinedOps)
            new_state |= arrays
            self._store(names[0], params, moved, state, ctx, backend, new_params, new_state)
            return
        old = {}
        for s in self.rule.states():
            kept = self._storage(s.name, names[0])
            old[s.name] = pack([kept.decode(f"{n}/{s.name}", state, params[n].shape, s.sign, backend) for n in names])
        p = pack([params[n] for n in names])
        g = pack([grads[n] for n in names])
        delta, new = self.rule.update(p, g, old, t=ctx.update + 1, lr=lr, decay=self.decays(names[0]), ops=backend)
        delta = np.add(delta, p) if backend is None else backend.add(delta, p)
        for name, value in zip(names, unpack(delta, shapes), strict=True):
            self._store(name, params, value, state, ctx, backend, new_params, new_state)
        for s in self.rule.states():
            for name, value in zip(names, unpack(new[s.name], shapes), strict=True):
                words = WordAddress(ctx.seed, ctx.step, f"{name}/{s.name}")
                rounded = value if own is None or s.sign == "unsigned" else own.moment(name, s.name, value, ctx, backend or DefinedOps)
                new_state |= self._storage(s.name, name).encode(f"{name}/{s.name}", rounded, s.sign, words, backend)

    def _store(
        self, name: str, params: Mapping[str, Array], value: Array, state: Mapping[str, Array], ctx: OptimContext, backend: Any,
        new_params: dict[str, Array], new_state: dict[str, Array],
    ) -> None:  # fmt: skip
        """Round one updated parameter to how it is kept."""
        if name in self.weights:
            new_params[name], arrays = self.weights[name].after(name, params[name], value, state, ctx, backend or DefinedOps)
            new_state |= arrays
        else:
            new_params[name] = self._storage("param").round(value, WordAddress(ctx.seed, ctx.step, f"{name}/param"), backend)

    def averages(self, params: Mapping[str, Array], state: Mapping[str, Array], updates: int, total: int) -> dict[str, Array]:
        """The params with the running means in the place of those that have one; empty where no mean exists yet."""
        begun = [n for n, w in self.weights.items() if w.average is not None and w.average.begun(updates, total)]
        return {**params, **{name: state[f"{name}/average"] for name in begun}} if begun else {}

    def random_sites(self, params: Mapping[str, Array]) -> list[str]:
        """The site paths whose random words the storages of `params` draw."""
        drawing = [
            role for role, sign in self._roles().items()
            if (q := getattr(self._storage(role), sign)) is not None and is_stochastic(q.rounding)
        ]  # fmt: skip
        states = [s.name for s in self.rule.states() if s.sign == "signed"]
        found = []
        for name in params:
            own = self.weights.get(name)
            roles = drawing if own is None else own.draws(states) + [r for r in drawing if r != "param" and own.state is None]
            found += [f"{name}/{role}" for role in roles]
        return found

    def decays(self, name: str) -> bool:
        """Whether the parameter is in the decay group."""
        if not self.roles:
            return True
        if name not in self.roles:
            raise UnknownNameError("parameter", name, self.roles, where="Optimizer.roles")
        return self.roles[name] not in self.no_decay

    def memory(self, params: Mapping[str, Array]) -> dict[str, int]:
        """Bytes kept for all parameters, by role: "param" and each state tensor; from shapes alone."""
        found = {}
        for role, sign in self._roles().items():
            sizes = [
                self.weights[name].nbytes(p.shape) if role == "param" and name in self.weights else self._storage(role, name).nbytes(p.size, sign)
                for name, p in params.items() if role == "param" or any(s.name == role for s in self._states(name))
            ]  # fmt: skip
            found[role] = sum(sizes)
        return found

    def _roles(self) -> dict[str, Sign]:
        """What is stored for each parameter: itself and its state, with the signs that occur."""
        roles: dict[str, Sign] = {"param": "signed"}
        return roles | {s.name: s.sign for s in self.rule.states()}

    def _states(self, name: str) -> tuple[StateSpec, ...]:
        """The state tensors of one parameter: none where its update is in codes or logarithms."""
        own = self.weights.get(name)
        return () if own is not None and own.update != "rule" else self.rule.states()

    def _storage(self, role: str, name: str = "") -> Storage:
        """Storage of a role; plain for the state of a parameter whose recipe puts it on a grid itself."""
        own = self.weights.get(name)
        return Storage() if own is not None and own.state is not None else self.storages.get(role, Storage())


def optimizer(
    name: str,
    *,
    storage_of: Mapping[str, Any] | None = None,
    roles: Mapping[str, str] | None = None,
    no_decay: tuple[str, ...] = NO_DECAY,
    weights: Mapping[str, Weights] | None = None,
    **hyper: Any,
) -> Optimizer:
    """An optimizer by rule name.

    name: a key of RULES.  hyper: fields of the rule's dataclass, for AdamW lr, betas, eps, weight_decay, wd_order, eps_mode.
    storage_of: {state name or "param": storage name, quantizer, or Storage}.  roles: parameter name -> role, for the decay groups.
    weights: parameter name -> how a recipe keeps it.
    Raises UnknownNameError for an unknown rule, hyper-parameter, state name or storage, SpecError for a value out of range.

    >>> optimizer("adamw", betas=(0.9, 0.95)).rule.betas
    (0.9, 0.95)
    """
    if name not in RULES:
        raise UnknownNameError("optimizer", name, RULES)
    known = [f.name for f in fields(RULES[name])]
    for key in hyper:
        if key not in known:
            raise UnknownNameError("hyper-parameter", key, known, where=f"optimizer {name}")
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in hyper.items()}
    rule = RULES[name](**values)
    check_hyper(rule, name)
    slots = ["param", *(s.name for s in rule.states())]
    for key in storage_of or {}:
        if key not in slots:
            raise UnknownNameError("state", key, slots, where=f"optimizer {name}.storage_of")
    storages = {key: storage(value) for key, value in (storage_of or {}).items()}
    return Optimizer(rule, storages, dict(roles or {}), tuple(no_decay), dict(weights or {}))


def check_hyper(rule: Rule, name: str) -> None:
    """Raise SpecError listing every hyper-parameter that is out of range."""
    problems = []
    for key in ("lr", "weight_decay", "eps"):
        value = getattr(rule, key, 0.0)
        if not isinstance(value, Real) or not 0 <= float(value) < np.inf:
            problems.append(f"{key}: {value!r} is not a finite number >= 0")
    for key in ("betas", "momentum", "dampening"):
        values = getattr(rule, key, ())
        for value in values if isinstance(values, tuple) else (values,):
            if not isinstance(value, Real) or not 0 <= float(value) < 1:
                problems.append(f"{key}: {value!r} is not within [0, 1)")
    if isinstance(getattr(rule, "betas", None), tuple) and len(rule.betas) != 2:  # type: ignore[attr-defined]
        problems.append("betas: needs two values")
    if getattr(rule, "nesterov", False) and not getattr(rule, "momentum", 0.0):
        problems.append("nesterov: needs momentum > 0")
    for key, known in (("wd_order", ("before", "inside", "after")), ("eps_mode", ("outside", "raw"))):
        if getattr(rule, key, known[0]) not in known:
            problems.append(f"{key}: {getattr(rule, key)!r} is not one of {', '.join(known)}")
    if problems:
        raise SpecError(problems, where=f"optimizer {name}")
