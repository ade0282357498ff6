"""Training on the cuda backend without a GPU (host_gpu): the weights of the cpu backend, bit for bit."""

from __future__ import annotations

from types import SimpleNamespace

import host_gpu
import numpy as np
import pytest

from lpref.accel import backend
from lpref.accel.cuda import quantize
from lpref.accel.cuda.backend import CudaBackend
from lpref.trainer.data import load_data
from lpref.trainer.data.batches import train_batch
from lpref.trainer.loop import start_state
from lpref.trainer.setup import prepare_on
from lpref.trainer.spec import load_spec
from lpref.trainer.step import train_step

MOVING = SimpleNamespace(
    concatenate=lambda parts: host_gpu.put(np.concatenate(parts)), zeros_like=lambda x: host_gpu.put(np.zeros_like(x)),
    repeat=lambda x, n, axis: host_gpu.put(np.repeat(x, n, axis)), asarray=lambda x, dtype: x,
    stack=lambda parts, axis: host_gpu.put(np.stack(parts, axis)), zeros=lambda shape, dtype: host_gpu.put(np.zeros(shape, dtype)),
)  # fmt: skip
"""Stands for cupy's namespace: what moves data above the backend."""
DEEP = ("fp32", "bf16", "fp8_delayed", "lsq", "int4_hq_lss", "ifairy", "hlq", "fp4_dge_occ", "int8_fallback", "xnor_net", "hdqt_acc8")
SMALL = ("model.layers=1", "model.d_model=32", "model.ffn=48", "model.context=16", "train.batch=2", "data.valid_windows=1")


@pytest.fixture(scope="module", autouse=True)
def place(tmp_path_factory: pytest.TempPathFactory):
    with host_gpu.in_place(tmp_path_factory.mktemp("host")) as patch:
        patch.setattr(host_gpu.ndarray, "__array_namespace__", lambda self: MOVING, raising=False)
        patch.setattr(quantize, "_fast", lambda job: None)  # the generic kernels: the fast ones have instructions of the GPU's own
        yield


UNIT = "{{base: {}, set: {{{}}}}}"
"""A recipe whose products are made by a matrix unit."""


def in_unit(base: str, name: str) -> str:
    """`base` with every product accumulated as the model `name` says."""
    return UNIT.format(base, ", ".join(f"linear.{gemm}.accumulate: {name}" for gemm in ("fprop", "dgrad", "wgrad")))


IN_UNITS = (in_unit("bf16", "hopper_bf16"), in_unit("nvfp4", "hopper_bf16"), in_unit("fp8_delayed", "hopper_fp8_fast"))


@pytest.mark.parametrize("recipe", [pytest.param(name, marks=pytest.mark.deep) for name in IN_UNITS])
def test_the_same_weights_under_the_models_of_matrix_units(recipe: str) -> None:
    test_the_same_weights(recipe)


@pytest.mark.parametrize("recipe", ["nvfp4", *(pytest.param(name, marks=pytest.mark.deep) for name in DEEP)])
def test_the_same_weights(recipe: str) -> None:
    found = []
    for made in (CudaBackend("exact"), backend("cpu", "exact")):
        run = prepare_on(made, load_spec("train/ci_gpt", [*SMALL, f"recipe={recipe}"]), load_data("stdlib"))
        state = start_state(run)
        with np.errstate(all="ignore"):
            for _ in range(2):
                batch = train_batch(run.data, run.length, 2, 1, state.step, 0, 2)
                state, _ = train_step(run.model, state, [batch], run.rules, run.context_of(state, collect=True))
        found.append({name: made.arrays.host(a) for name, a in run.model.arrays().items()})
    for name in found[1]:
        np.testing.assert_array_equal(found[0][name].view(np.uint32), found[1][name].view(np.uint32), name)
