"""A training step in lockstep on machines without a GPU: every op of the cpu backend against the definitions, and planted mistakes."""

from __future__ import annotations

import json
from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest
from click.testing import CliRunner

from lpref.accel import backend
from lpref.cli.diff_step import text
from lpref.cli.main import main
from lpref.conformance.diff.lockstep import differences, distances, hexadecimal
from lpref.ref.backend import Backend
from lpref.ref.errors import SpecError
from lpref.trainer import lockstep as page
from lpref.trainer.lockstep import Lockstepped, lockstep
from lpref.trainer.spec import load_spec

SMALL = ("model.layers=1", "model.d_model=32", "model.ffn=48", "model.context=16", "train.batch=2", "data.valid_windows=1")


def small(*changes: str, spec: str = "train/ci_gpt"):
    own = SMALL if spec == "train/ci_gpt" else ("train.batch=4",)
    return load_spec(spec, ["backend=cpu", *own, *changes])


@pytest.mark.parametrize("numerics", ["exact", "fast"])
@pytest.mark.parametrize("recipe", ["fp32", "nvfp4", "int8_switchback", "fp8_block"])
def test_every_op_of_a_step_keeps_its_contract(recipe: str, numerics: str) -> None:
    found = lockstep(small(f"recipe={recipe}", f"numerics={numerics}", "train.micro_batches=2"), steps=2)
    assert found.good, text(found)
    ops = {row.op: row for row in found.rows}
    assert {"gemm", "gemms", "operand", "adamw_update", "softmax_cross_entropy", "attention_packed_backward"} <= set(ops)
    assert sum(row.calls for row in found.rows if row.op == "adamw_update") == 4  # with decay and without, in two steps
    assert all(row.contract == "bits" for row in found.rows) == (numerics == "exact")
    assert not any(row.differ for row in found.rows if row.contract == "bits")


def test_images_and_learned_scales() -> None:
    assert lockstep(small("recipe=fp32", "numerics=fast", spec="train/digits_cnn")).good
    found = lockstep(small("recipe=lsq", "numerics=exact"))
    assert found.good, text(found)


def test_places() -> None:
    """Forward and backward of every linear layer, every norm and table; what belongs to no layer is the update."""
    found = lockstep(small("recipe=nvfp4"))
    linear = {"h.0.attn.qkv", "h.0.attn.out", "h.0.mlp.up", "h.0.mlp.down", "head"}
    places = {(row.phase, row.op): set() for row in found.rows}
    for row in found.rows:
        places[row.phase, row.op].add(row.site)
    assert places["forward", "gemm"] == places["backward", "gemms"] == linear
    assert places["forward", "rmsnorm"] == {"h.0.norm1"}
    assert places["forward", "add_rmsnorm"] == {"h.0.norm2", "norm"}
    assert places["backward", "add_rmsnorm_backward"] == {"h.0.norm1", "h.0.norm2"}
    assert places["backward", "rmsnorm_backward"] == {"norm"}
    assert places["forward", "attention_packed"] == places["backward", "attention_packed_backward"] == {"h.0.attn"}
    assert places["forward", "swiglu_packed"] == places["backward", "swiglu_packed_backward"] == {"h.0.mlp"}
    assert places["forward", "embedding"] == places["backward", "embedding_backward"] == {"wte"}
    assert places["update", "adamw_update"] == places["update", "global_norm"] == {""}


def wrong(op: str, at: int) -> Backend:
    """The cpu backend, whose call number `at` of one op has an element one ulp too large."""
    made = backend("cpu", "exact")
    calls = []

    def function(*args, **kwargs):
        result = kernel.function(*args, **kwargs)
        calls.append(1)
        if len(calls) == at + 1:
            result = result.copy()
            result[1, 3] = np.nextafter(result[1, 3], np.float32(np.inf))
        return result

    kernel = made.kernels[op]
    return Backend("cpu", "exact", [replace(k, function=function) if k.op == op else k for k in made.kernels.values()], made.arrays)


@pytest.mark.parametrize(("op", "at", "where"), [("gemm", 2, "forward h.0.mlp.up"), ("swiglu_packed_backward", 0, "backward h.0.mlp")])
def test_a_planted_mistake_is_named_where_it_is(op: str, at: int, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "load_backend", lambda spec: wrong(op, at))
    found = lockstep(small("recipe=fp32"))
    (broken,) = [row for row in found.rows if row.broken]
    assert (broken.op, f"{broken.phase} {broken.site}") == (op, where)
    assert (broken.differ, broken.ulps, broken.broken_calls) == (1, 1, 1)
    assert broken.first is not None
    assert (broken.first.where, broken.first.ulps) == ("output[1, 3]", 1)
    shown = text(found)
    assert f"BROKEN: {op} at {where}, 1 of " in shown
    assert f"{op} differs first at {where}" in shown
    assert "a contract is broken" in shown


def test_the_command() -> None:
    arguments = ["diff", "step", "train/ci_gpt", "--backend", "cpu", "--against", "reference", "-s", "recipe=mxfp8", "-s", "numerics=exact"]
    arguments += [part for change in SMALL for part in ("-s", change)]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    assert "every contract holds" in done.output
    assert "graph: none" in done.output
    told = json.loads(CliRunner().invoke(main, [*arguments, "--json"]).stdout)
    assert told["good"]
    assert {"phase", "site", "op", "contract", "calls", "elements", "differ", "ulps", "first", "broken"} <= set(told["rows"][0])


def test_a_broken_contract_is_exit_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lpref.trainer.lockstep.lockstep", lambda *a: Lockstepped("cuda", "fast", "cpu", "s", "r", 1, [], "3 steps", ("step 1: w",)))
    done = CliRunner().invoke(main, ["diff", "step", "train/ci_gpt", "--backend", "cpu"])
    assert (done.exit_code, "BROKEN: step 1: w" in done.output) == (1, True)


def test_bad_input() -> None:
    with pytest.raises(SpecError, match="the backend under test, in the same grade"):
        lockstep(small("numerics=exact"), "cpu")
    for arguments, said in ((["train/no_such"], "no_such"), (["train/ci_gpt", "-s", "recipe=bf17"], "bf17"), (["train/ci_gpt", "--steps", "0"], "0")):
        done = CliRunner().invoke(main, ["diff", "step", *arguments])
        assert (done.exit_code, said in done.output) == (2, True)


def test_distances() -> None:
    x = np.float32([0.0, -1e-45, 1e-45, np.inf, np.nan, 1.0])
    y = np.float32([-0.0, 1e-45, 1e-45, np.finfo(np.float32).max, 2.0, -1.0])
    apart = distances(x, y)
    assert apart[:4].tolist() == [1, 3, 0, 1]
    assert apart[4] == np.uint64(2**64 - 1)
    assert apart[5] == 2 * 0x3F800000 + 1
    assert distances(np.int8([-3]), np.int8([4])).tolist() == [7]
    assert distances(np.array([True]), np.array([False])).tolist() == [1]
    b = np.array([1.0, np.nan, 3.0], ml_dtypes.bfloat16)
    assert distances(b, np.array([1.0078125, np.nan, 3.0], ml_dtypes.bfloat16)).tolist() == [1, 0, 0]
    assert hexadecimal(b[2]) == "0x1.8000000000000p+1"
    assert hexadecimal(np.float32(-0.0)) == "-0x0.0p+0"
    assert differences((np.float32([1, 2]), [np.uint8([3])]), (np.float32([1, 2]), [np.uint8([5])]), 7)[1:3] == (1, 2)
