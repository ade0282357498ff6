"""Packing: elements in order, a view where that is possible, and updates of one vector with the bits of updates one by one."""

from __future__ import annotations

import numpy as np
import pytest

from lpref.ref.optim import RULES, OptimContext, optimizer
from lpref.ref.optim.slab import pack, unpack

rng = np.random.default_rng(5)
SHAPES = [(3, 2), (4,), (), (0, 3), (2, 2, 2)]


def test_pack_and_unpack_are_inverse() -> None:
    arrays = [rng.standard_normal(shape).astype(np.float32) for shape in SHAPES]
    vector = pack(arrays)
    assert vector.tolist() == [v for a in arrays for v in a.reshape(-1).tolist()]
    for a, b in zip(arrays, unpack(vector, SHAPES), strict=True):
        np.testing.assert_array_equal(a, b)


def test_consecutive_parts_are_not_copied() -> None:
    vector = np.arange(19, dtype=np.float32)
    parts = unpack(vector, SHAPES)
    assert np.shares_memory(pack(parts), vector)
    assert np.shares_memory(pack(parts[1:3]), vector)
    for other in (parts[::-1], [parts[0], parts[4]], [vector[:6].reshape(2, 3).T, parts[1]], [*parts, np.ones(1, np.float32)]):
        packed = pack(other)
        assert not np.shares_memory(packed, vector)
        assert packed.tolist() == [v for a in other for v in a.ravel().tolist()]


@pytest.mark.parametrize("kind", RULES)
def test_many_parameters_at_once_have_the_bits_of_one_by_one(kind) -> None:
    roles = {"a": "mlp_up", "b": "norm", "c": "mlp_up", "d": "embedding"}
    opt = optimizer(kind, roles=roles, weight_decay=0.1, **({"momentum": 0.9} if kind == "sgd" else {}))
    params = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in zip(roles, ((5, 3), (7,), (2, 2), (3, 4)), strict=True)}
    state = opt.init(params)
    alone = {name: ({name: p}, opt.init({name: p})) for name, p in params.items()}
    for step in range(3):
        grads = {name: rng.standard_normal(p.shape).astype(np.float32) for name, p in params.items()}
        ctx = OptimContext(step, step, 0, 1e-2)
        kept = {name: p.copy() for name, p in params.items()}
        new, state = opt.update(params, grads, state, ctx)
        assert list(new) == list(params)
        for name, p in params.items():
            np.testing.assert_array_equal(p, kept[name])  # nothing passed in is changed
            alone[name] = opt.update(alone[name][0], {name: grads[name]}, alone[name][1], ctx)
            np.testing.assert_array_equal(new[name], alone[name][0][name])
            for key, value in alone[name][1].items():
                np.testing.assert_array_equal(state[key], value)
        params = new
