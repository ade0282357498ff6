"""`lpref diff step` on the GPU: every op of a captured step's eager twin under its contract, and the graph's bits against the twin's."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from lpref.cli.diff_step import text
from lpref.cli.main import main
from lpref.trainer.data import load_data
from lpref.trainer.device_step import DeviceStep
from lpref.trainer.lockstep import lockstep
from lpref.trainer.spec import load_spec


@pytest.mark.parametrize("numerics", ["exact", "fast"])
@pytest.mark.parametrize("recipe", ["bf16", "fp8_current", "fp8_delayed", "nvfp4", "lsq", "fp16_loss_scaled"])
def test_every_op_and_the_graph(recipe: str, numerics: str) -> None:
    spec = load_spec("train/ci_gpt", ["backend=cuda", f"recipe={recipe}", f"numerics={numerics}", "train.micro_batches=2"])
    found = lockstep(spec, "cpu", 2, data=load_data("stdlib"))
    assert found.good, text(found)
    assert found.graph == "3 steps as they are trained, 1 graph"
    assert {"gemm", "gemms", "guarded_step"} <= {row.op for row in found.rows}


def test_images() -> None:
    found = lockstep(load_spec("train/digits_cnn", ["backend=cuda", "train.batch=16"]), "cpu")
    assert found.good, text(found)


def test_the_command() -> None:
    done = CliRunner().invoke(main, ["diff", "step", "train/default", "--backend", "cuda", "--json"])
    told = json.loads(done.stdout)
    assert (done.exit_code, told["good"], told["against"], told["numerics"]) == (0, True, "cpu", "fast")


def test_a_graph_that_goes_its_own_way_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    launched = DeviceStep._start

    def start(self, kind, collect, turn):
        outcome = launched(self, kind, collect, turn)
        if kind.captured is not None:
            self.weights[0][0, 0] += 1
        return outcome

    monkeypatch.setattr(DeviceStep, "_start", start)
    found = lockstep(load_spec("train/ci_gpt", ["backend=cuda", "recipe=bf16"]), "cpu", data=load_data("stdlib"))
    assert not found.good
    assert found.graph_differs[0].startswith("step 2, a replay: wte.weight: 1 of ")
