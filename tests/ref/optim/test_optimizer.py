"""The driver: composition of rule and storage, decay groups, memory, errors, and the guarded step."""

from __future__ import annotations

import numpy as np
import pytest

from lpref.ref.errors import NonFiniteError, ShapeError, SpecError, UnknownNameError
from lpref.ref.optim import RULES, STORAGES, LossScale, OptimContext, guarded_step, optimizer
from lpref.ref.random import WordAddress

rng = np.random.default_rng(31)
CTX = OptimContext(step=4, update=2, seed=9, lr=1e-2)


def tree(scale: float = 1.0) -> dict[str, np.ndarray]:
    shapes = {"wte.weight": (40, 16), "h.0.attn.qkv.weight": (48, 16), "norm.weight": (16,)}
    return {name: (scale * rng.standard_normal(shape)).astype(np.float32) for name, shape in shapes.items()}


@pytest.mark.parametrize("kind", RULES)
def test_float32_driver_is_the_rule(kind: str) -> None:
    opt, params, grads = optimizer(kind, **({"momentum": 0.9} if kind == "sgd" else {})), tree(), tree()
    state = opt.init(params)
    new, kept = opt.update(params, grads, state, CTX)
    for name, p in params.items():
        old = {s.name: np.zeros_like(p) for s in opt.rule.states()}
        delta, moments = opt.rule.update(p, grads[name], old, t=3, lr=1e-2, decay=True)
        assert np.array_equal(new[name], p + delta)
        assert all(np.array_equal(kept[f"{name}/{key}"], value) for key, value in moments.items())
    assert set(kept) == set(state)


@pytest.mark.parametrize("kept_as", ["dynamic8", "bfloat16_sr", "e4m3"])
def test_the_update_uses_the_unrounded_moments(kept_as: str) -> None:
    """p' = store(p + rule(decode(state))), state' = encode(unrounded moments): recomputed here piece by piece."""
    opt = optimizer("adamw", betas=(0.9, 0.95), storage_of={"m": kept_as, "v": kept_as, "param": "bfloat16_sr"})
    params, store = tree(), STORAGES[kept_as]
    state = opt.init(params)
    for step in range(3):
        grads, ctx = tree(10.0**-step), OptimContext(step, step, 9, 1e-2)
        new, kept = opt.update(params, grads, state, ctx)
        for name, p in params.items():
            old = {k: store.decode(f"{name}/{k}", state, p.shape, sign) for k, sign in (("m", "signed"), ("v", "unsigned"))}
            delta, moments = opt.rule.update(p, grads[name], old, t=step + 1, lr=1e-2, decay=True)
            assert np.array_equal(new[name], STORAGES["bfloat16_sr"].round(p + delta, WordAddress(9, step, f"{name}/param")))
            for k, sign in (("m", "signed"), ("v", "unsigned")):
                encoded = store.encode(f"{name}/{k}", moments[k], sign, WordAddress(9, step, f"{name}/{k}"))
                assert all(np.array_equal(kept[key], array) for key, array in encoded.items())
                assert not np.array_equal(store.decode(f"{name}/{k}", kept, p.shape, sign), moments[k])  # it was rounded
        params, state = new, kept


def test_random_sites_are_the_stochastic_storages() -> None:
    opt = optimizer("adamw", storage_of={"param": "bfloat16_sr", "m": "dynamic8", "v": "bfloat16_sr"})
    assert opt.random_sites({"a": None, "b": None}) == ["a/param", "a/v", "b/param", "b/v"]
    assert optimizer("adamw").random_sites(tree()) == []


def test_words_do_not_depend_on_the_order_of_the_parameters() -> None:
    opt = optimizer("adamw", storage_of={"param": "bfloat16_sr", "m": "bfloat16_sr"})
    params, grads = tree(), tree()
    one = opt.update(params, grads, opt.init(params), CTX)[0]
    turned = dict(reversed(params.items()))
    two = opt.update(turned, grads, opt.init(turned), CTX)[0]
    assert all(np.array_equal(one[name], two[name]) for name in one)


def test_nothing_passed_in_is_changed() -> None:
    opt = optimizer("adamw", storage_of={"m": "dynamic8", "v": "dynamic8"})
    params, grads = tree(), tree()
    state = opt.update(params, grads, opt.init(params), CTX)[1]
    before = {name: array.copy() for name, array in (params | grads | state).items()}
    opt.update(params, grads, state, CTX)
    assert all(np.array_equal(before[name], array) for name, array in (params | grads | state).items())


def test_decay_groups_by_role() -> None:
    roles = {"wte.weight": "embedding", "h.0.attn.qkv.weight": "qkv", "norm.weight": "norm"}
    params = tree()
    zeros = {name: np.zeros_like(p) for name, p in params.items()}
    opt = optimizer("adamw", weight_decay=0.5, roles=roles)
    new = opt.update(params, zeros, opt.init(params), CTX)[0]
    moved = [name for name in params if not np.array_equal(new[name], params[name])]
    assert moved == ["h.0.attn.qkv.weight"]
    opt = optimizer("adamw", weight_decay=0.5, roles=roles, no_decay=("norm",))
    assert [opt.decays(name) for name in params] == [True, True, False]
    with pytest.raises(UnknownNameError, match="extra"):
        opt.decays("extra.weight")


@pytest.mark.parametrize("kept_as", STORAGES)
def test_memory_is_what_the_arrays_take(kept_as: str) -> None:
    opt = optimizer("adamw", storage_of={"m": kept_as, "v": kept_as})
    params = tree()
    state = opt.update(params, tree(), opt.init(params), CTX)[1]
    memory = opt.memory(params)
    for role in ("m", "v"):
        assert memory[role] == sum(a.nbytes for key, a in state.items() if key.partition("/")[2].split(".")[0] == role)
    assert memory["param"] == sum(p.nbytes for p in params.values())


def test_eight_bit_state_is_a_quarter() -> None:
    params = {"w": np.zeros((1024, 1024), np.float32)}
    memory = optimizer("adamw", storage_of={"m": "dynamic8", "v": "dynamic8"}).memory(params)
    assert memory == {"param": 4 << 20, "m": (1 << 20) + (4 << 12), "v": (1 << 20) + (4 << 12)}


def test_errors_name_what_is_known() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'adamw'"):
        optimizer("adam_w")
    with pytest.raises(UnknownNameError, match="weight_decay"):
        optimizer("adamw", weightdecay=0.1)
    with pytest.raises(UnknownNameError, match="state 'vv'"):
        optimizer("adamw", storage_of={"vv": "dynamic8"})
    with pytest.raises(SpecError) as error:
        optimizer("adamw", betas=(0.9, 1.0), eps=-1, wd_order="later")
    assert len(error.value.problems) == 3
    with pytest.raises(SpecError, match="nesterov"):
        optimizer("sgd", nesterov=True)
    with pytest.raises(SpecError, match="two values"):
        optimizer("lion", betas=(0.9,))
    opt, params = optimizer("sgd"), tree()
    with pytest.raises(ShapeError, match=r"without gradient: \['norm\.weight'\]"):
        opt.update(params, {k: v for k, v in params.items() if k != "norm.weight"}, {}, CTX)


def test_lr_comes_from_the_context_else_from_the_rule() -> None:
    params, grads = tree(), tree()
    opt = optimizer("sgd", lr=0.25)
    without = opt.update(params, grads, {}, OptimContext(0, 0))[0]
    assert np.array_equal(without["norm.weight"], params["norm.weight"] - np.float32(0.25) * grads["norm.weight"])
    assert np.array_equal(opt.update(params, grads, {}, OptimContext(0, 0, lr=0.0))[0]["norm.weight"], params["norm.weight"])


def test_skipped_step_leaves_everything_untouched() -> None:
    opt, params = optimizer("adamw"), tree()
    config = LossScale("dynamic", init=1024.0)
    state, scale = opt.init(params), config.start()
    bad = tree()
    bad["norm.weight"][3] = np.inf
    done = guarded_step(opt, params, bad, state, CTX, loss_scale=config, scale=scale, clip=1.0)
    assert not done.applied
    assert done.params is params
    assert done.state is state
    assert (done.scale.scale, done.scale.skipped) == (512.0, 1)


def test_a_loss_that_is_not_finite_skips_the_step_too() -> None:
    opt, params = optimizer("sgd"), tree()
    done = guarded_step(opt, params, tree(), {}, CTX, finite=False)
    assert not done.applied
    assert done.params is params


def test_scaled_gradients_give_the_bits_of_unscaled_ones() -> None:
    opt, params, grads = optimizer("adamw"), tree(), tree()
    config = LossScale("static", init=4096.0)
    scaled = {name: g * np.float32(4096) for name, g in grads.items()}
    one = guarded_step(opt, params, grads, opt.init(params), CTX, clip=0.5)
    two = guarded_step(opt, params, scaled, opt.init(params), CTX, loss_scale=config, scale=config.start(), clip=0.5)
    assert one.norm == two.norm > 0.5
    assert all(np.array_equal(one.params[name], two.params[name]) for name in params)
    free = guarded_step(opt, params, grads, opt.init(params), CTX)
    assert free.norm == one.norm
    assert not np.array_equal(free.state["norm.weight/m"], one.state["norm.weight/m"])


def test_norm_beyond_float32_raises_only_when_it_clips() -> None:
    opt, params = optimizer("lion"), {"w": np.ones(2, np.float32)}
    huge = {"w": np.float32([1e30, 1])}
    with pytest.raises(NonFiniteError), np.errstate(over="ignore"):
        guarded_step(opt, params, huge, opt.init(params), CTX, clip=1.0)
    with np.errstate(over="ignore"):
        assert guarded_step(opt, params, huge, opt.init(params), CTX).applied
