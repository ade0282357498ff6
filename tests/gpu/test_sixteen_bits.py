"""Results in bfloat16 stay in 16 bits on the GPU: which arrays do, that a product is rounded once, and that nobody's bits change by what is kept."""

from __future__ import annotations

import hashlib

import cupy as cp
import numpy as np
import pytest
from kernel_check import check_cases, cuda_place
from kernel_draw import Draw
from kernel_products import stored

import lpref
from lpref.accel.cuda import arrays
from lpref.models.model import Model
from lpref.ref.errors import BackendError
from lpref.ref.linalg import Accumulate
from lpref.trainer.data import load_data
from lpref.trainer.data.batches import train_batch
from lpref.trainer.loop import start_state
from lpref.trainer.setup import prepare
from lpref.trainer.spec import load_spec
from lpref.trainer.step import train_step

FAST, PLACE = lpref.backend("cuda", "fast"), cuda_place()


@pytest.mark.parametrize(("one", "other", "short"), [("bf16", "bf16", True), ("nvfp4", "nvfp4_2d", True), ("fp8_tensor", "fp8_tensor", True),
                                                     ("fp8_row", "fp8_row", True), ("fp8_tile1x128", "fp8_block128", True), ("fp16", "fp16", False),
                                                     ("int8_row", "int8_row", False), ("mxfp8_e4m3", "mxfp8_e4m3", True)])  # fmt: skip
def test_products(one: str, other: str, short: bool) -> None:
    draw = Draw(3)
    for m, n, k in ((128, 128, 128), (16, 272, 4096), (256, 144, 640), (17, 33, 70)):
        a, b = stored(draw, one, other, m, n, k)
        bias = draw(n)
        check_cases(FAST.kernels["gemm"], PLACE, [(a, b, Accumulate(), *more) for more in (
            ("bfloat16",), ("binary16",), ("float32", bias), ("bfloat16", bias), ("binary16", bias))])  # fmt: skip
        sides = [PLACE.there(x) for x in (a, b)]
        y = FAST.gemm(*sides, Accumulate(), "bfloat16")
        again = FAST.gemm(*sides, Accumulate(), "bfloat16")
        added = [FAST.gemm(*sides, Accumulate(), "bfloat16", of(cp.asarray(bias))) for of in (lambda b: b, arrays.short)]
        assert bool((arrays.wide(added[0]) == arrays.wide(added[1])).all())
        assert bool((arrays.wide(y).view(np.uint32) == arrays.wide(again).view(np.uint32)).all())
        if m % 16 == 0:
            assert arrays.is_sixteen(y) == short
            assert arrays.is_sixteen(added[0])


def test_a_sum_that_is_cut_is_rounded_once() -> None:
    """64 pieces of K with 257 ones each, and one more: 16449 rounds to 16512; parts that were rounded to bfloat16 (256 each) would add up to less."""
    x = np.zeros((64, 65536), np.float32)
    x.reshape(64, 64, 1024)[:, :, :257] = 1.0
    x[:, 300] = 1.0
    a = lpref.quantize(cp.asarray(x), "bf16", k_axis=1)
    assert bool((arrays.wide(FAST.gemm(a, a, None, "bfloat16")) == 16512.0).all())


def test_elementwise_and_norms_of_both_kinds() -> None:
    draw = Draw(4)
    x, y, w = draw(300, 384), draw(300, 384), draw(384)
    there = [cp.asarray(v) for v in (x, y, w)]
    short = [arrays.short(v) for v in there]
    wide = [arrays.wide(v) for v in short]
    for op in ("add", "sub", "mul", "div", "maximum"):
        for a, b in ((0, 1), (1, 2), (0, 2)):
            got = [getattr(FAST, op)(u, v) for u, v in ((short[a], short[b]), (wide[a], short[b]), (short[a], wide[b]))]
            want = getattr(FAST, op)(wide[a], wide[b])
            assert all(bool((g.view(np.uint32) == want.view(np.uint32)).all()) for g in got)
    got, want = FAST.rmsnorm(short[0], w=there[2], eps=1e-5, store="bfloat16"), FAST.rmsnorm(wide[0], there[2], 1e-5)
    assert arrays.is_sixteen(got[0])
    assert bool((got[0].view(np.uint16) == arrays.short(want[0]).view(np.uint16)).all())
    host = FAST.arrays.host(got[0])
    assert host.dtype == np.float32


@pytest.mark.parametrize("width", [384, 768, 1024, 1028])
def test_results_made_again(width: int) -> None:
    """Activations and norms write the forward's result beside gradients that do not change."""
    draw = Draw(5)
    x, dy, w, b, ds = (cp.asarray(v) for v in (draw(1030, width), draw(1030, width), draw(width), draw(width), draw(1030, width)))
    mean, rstd = FAST.layernorm(x, w, b, 1e-5)[1:]
    cases = [("gelu", {"kind": kind}, (dy, x), FAST.gelu(x, kind=kind)) for kind in ("tanh", "erf")]
    cases += [("rmsnorm", {}, (dy, x, w, FAST.rmsnorm(x, w, 1e-5)[1]), FAST.rmsnorm(x, w, 1e-5)[0])]
    cases += [("layernorm", {"b": b}, (dy, x, w, mean, rstd), FAST.layernorm(x, w, b, 1e-5)[0])]
    cases += [(f"add_{op}", more, (args[0], ds, *args[1:]), y) for op, more, args, y in cases[2:]]
    for op, more, args, y in cases:
        for sixteen in (False, True):
            given = [arrays.short(a) if sixteen and i == 0 else a for i, a in enumerate(args)]
            backward, plain = getattr(FAST, f"{op}_backward"), {key: v for key, v in more.items() if key != "b"}
            *grads, again = backward(*given, **more, again="bfloat16")
            want = backward(*given, **plain)
            assert bool((again.view(np.uint16) == arrays.short(y).view(np.uint16)).all()), op
            for one, other in zip(grads, want if isinstance(want, tuple) else (want,), strict=True):
                assert bool((one.view(np.uint32) == other.view(np.uint32)).all()), op


def test_the_gradient_of_logits_in_their_place() -> None:
    draw, ids = Draw(6), np.arange(300) % 5000
    for classes, store in ((5000, "bfloat16"), (5001, "bfloat16"), (5000, "float32")):
        x = cp.asarray(draw(300, classes))
        logits = [arrays.short(x) if store == "bfloat16" else x.copy() for _ in range(2)]
        saved = [FAST.softmax_cross_entropy(z, ids)[1] for z in logits]
        want = FAST.softmax_cross_entropy_backward(np.float32(0.5), saved[0], ids, store=store)
        got = FAST.softmax_cross_entropy_backward(np.float32(0.5), saved[1], ids, store=store, overwrite=True)
        assert got.data.ptr == logits[1].data.ptr != want.data.ptr
        assert got.tobytes() == want.tobytes()
        with pytest.raises(BackendError, match="the logits were given up"):
            FAST.softmax_cross_entropy_backward(np.float32(0.5), saved[1], ids)


def digest(recipe: str, *changes: str) -> str:
    run = prepare(load_spec("train/ci_gpt", ["backend=cuda", "numerics=fast", f"recipe={recipe}", *changes]), data=load_data("stdlib"))
    state, s, sha = start_state(run), run.spec.train, hashlib.sha256()
    for _ in range(5):
        run.bind(state)
        batch = train_batch(run.data, run.length, s.batch, s.seed, state.step, 0, s.batch)
        state, _ = train_step(run.model, state, [batch], run.rules, run.context_of(state, collect=False))
    for array in run.model.arrays().values():
        sha.update(run.backend.arrays.host(array).tobytes())
    return sha.hexdigest()


GPT2 = (
    "model={kind: gpt, layers: 1, d_model: 64, heads: 2, ffn: 128, context: 32, vocab: 256, norm: layernorm, activation: gelu, "
    "positions: learned, bias: true, tied: true}"
)


@pytest.mark.parametrize("changes", [(), (GPT2,)], ids=["llama", "gpt2"])
@pytest.mark.parametrize("recipe", ["bf16", "nvfp4"])
def test_what_is_kept_in_sixteen_bits_changes_no_bit(recipe: str, changes: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    kept = digest(recipe, *changes)
    monkeypatch.setattr(Model, "read_in", lambda *_, **__: "float32")
    assert digest(recipe, *changes) == kept
