"""What scaling laws of quantization-aware training say of small models: losses of whole grids of runs, in one figure a seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from lpref.ref.analysis.qat_law import fit_noisy_qat_law
from lpref.ref.errors import UnknownNameError
from lpref.trainer.reproduce.measures.flips import batches

EXPONENTS = ("n", "d", "g")


def integer_recipe(weights: int, activations: int, group: int) -> dict[str, Any]:
    """Both operands of the forward product as integers with a scale for each `group` elements; gradients straight through."""
    formats = {"a": activations, "b": weights}
    quantizers: dict[str, Any] = {
        f"linear.fprop.{slot}.quantizer": {
            "format": f"int{bits}", "blocks": {"other": 1, "k": group}, "scale": {"rule": "te", "apply": "mul_inverse", "eps": 1e-5},
        }
        for slot, bits in formats.items()
    }  # fmt: skip
    return {"base": "bitnet_b158", "set": {**quantizers, "linear.dgrad.b": {"source": "requant"}}}


def trained_loss(seed: int, train: str, overrides: Mapping[str, Any]) -> float:
    """The held-out loss after the last step of a training spec under `overrides`, infinity where it is not finite.

    It trains on the CPU, unless `overrides` name a backend.
    """
    from lpref.trainer.data.batches import valid_batches
    from lpref.trainer.evaluate import evaluate
    from lpref.trainer.loop import start_state
    from lpref.trainer.setup import prepare
    from lpref.trainer.spec import load_spec
    from lpref.trainer.stepping import stepper

    spec = load_spec(train, {"backend": "cpu", **overrides, "train.seed": seed})
    prepared = prepare(spec)
    state, runner = start_state(prepared), stepper(prepared)
    with np.errstate(all="ignore"):  # what overflows shows in the loss
        while state.step < spec.train.steps:
            state, _ = runner.steps(state, spec.train.steps - state.step, lambda step: batches(prepared, step), collect=False)[-1]
        prepared.bind(state, evaluation=True)
        held_out = valid_batches(prepared.data, prepared.length, spec.data.valid_windows, spec.train.batch)
        loss = evaluate(prepared.model, prepared.data, held_out, prepared.evaluation_context(state))["loss"]
    return loss if np.isfinite(loss) else float("inf")


def best_share(seed: int, train: str, bits: int, group: int, shares: Sequence[float], **overrides: Any) -> float:
    """The share of quantization-aware steps, at the end of a run, with the least loss in `bits` bits for weights and 8 for activations.

    Before it the same products are in bfloat16; share 0 is rounded after the last step. overrides: fields of the spec, `backend` among them.
    """
    losses = []
    for share in shares:
        before = {"stop": 1.0 - share, "unit": "fraction", "set": {f"linear.fprop.{slot}.quantizer": "bf16" for slot in "ab"}}
        recipe = integer_recipe(bits, 8, group)
        recipe["set"]["schedule"] = [before] if share < 1 else []
        losses.append(trained_loss(seed, train, {**overrides, "recipe": recipe}))
    return float(shares[int(np.argmin(losses))])


def qat_exponent(
    seed: int, exponent: str, train: str, widths: Sequence[int], steps: Sequence[int], groups: Sequence[int], **overrides: Any
) -> float:
    """An exponent of delta = k D^d log2(G)^g / N^n, fitted to the grid of W4A4 runs of this seed; those of a process share the grid.

    delta: the loss above that of bfloat16 with as many steps. N: 12 width^2, up to a constant that the fit takes in; D: the steps likewise.
    Raises: UnknownNameError for an exponent; SpecError for a grid that determines no law.
    """
    if exponent not in EXPONENTS:
        raise UnknownNameError("exponent", exponent, EXPONENTS)
    fixed = tuple(sorted(overrides.items()))
    law = _law(seed, train, tuple(widths), tuple(steps), tuple(groups), fixed)
    return float(getattr(law, exponent))


@cache
def _law(seed: int, train: str, widths: tuple[int, ...], steps: tuple[int, ...], groups: tuple[int, ...], fixed: tuple[tuple[str, Any], ...]) -> Any:
    points = []
    for width in widths:
        for count in steps:
            fields = {**dict(fixed), "model.d_model": width, "model.ffn": 3 * width, "train.steps": count}
            floor = trained_loss(seed, train, {**fields, "recipe": "bf16"})
            for group in groups:
                loss = trained_loss(seed, train, {**fields, "recipe": integer_recipe(4, 4, group)})
                points.append((12.0 * width**2, float(count), float(group), loss - floor))
    return fit_noisy_qat_law(points)
