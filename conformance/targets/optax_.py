"""optax: `optax.adamw`, `optax.sgd`, `optax.lion` in JAX, float32 on the CPU, one step from the definition's state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from lpref.conformance.targets.base import Case, OptimizerCase, Target


class Optax(Target):
    name = "optax"
    title = "optax: gradient transformations in JAX"
    package = "optax"
    notes = "adamw; other order of operations: last bits differ"

    def cases(self) -> tuple[Case, ...]:
        return (OptimizerCase("adamw"),)

    def optimizer(self, params: Mapping[str, np.ndarray], grads: Mapping[str, np.ndarray], state: Mapping[str, np.ndarray],
                  case: OptimizerCase, ctx: Mapping[str, Any]) -> tuple[Any, Any]:  # fmt: skip
        import jax.numpy as jnp
        import optax

        from lpref.ref.optim import optimizer

        rule: Any = optimizer(case.optimizer).rule
        opt = optax.adamw(rule.lr, b1=rule.betas[0], b2=rule.betas[1], eps=rule.eps, weight_decay=rule.weight_decay)
        p = {k: jnp.asarray(v) for k, v in params.items()}
        fresh = opt.init(p)
        moments = {n: {k: jnp.asarray(state[f"{k}/{n}"]) for k in p} for n in ("m", "v")}
        count = jnp.asarray(np.int32(ctx["update"]))
        adam = fresh[0]._replace(count=count, mu=moments["m"], nu=moments["v"])
        updates, after = opt.update({k: jnp.asarray(v) for k, v in grads.items()}, (adam, *fresh[1:]), p)
        new = optax.apply_updates(p, updates)
        kept = {f"{k}/{n}": np.asarray(tree[k]) for n, tree in (("m", after[0].mu), ("v", after[0].nu)) for k in p}
        return {k: np.asarray(v) for k, v in new.items()}, kept
