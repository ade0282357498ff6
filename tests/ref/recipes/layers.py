"""Layers with one quantizer, for tests of gradient rules."""

from __future__ import annotations

from lpref.ref.quantize import Quantizer
from lpref.ref.recipes import Epilogue, GemmSpec, LinearRecipe, Saved, Slot

MASK = (Epilogue("mask", mask="m"),)


def activations(q: Quantizer) -> LinearRecipe:
    """A layer whose activations are quantized by q."""
    masked = q.gradient.kind != "ste"
    return LinearRecipe(
        fprop=GemmSpec(a=Slot(quantizer=q)), dgrad=GemmSpec(epilogue=MASK if masked else ()), wgrad=GemmSpec(b=Slot("requant", "codes")),
        save={"codes": Saved("codes", "fprop.a"), "w": Saved("reference"), **({"m": Saved("mask", "fprop.a")} if masked else {})},
    )  # fmt: skip


def weights(q: Quantizer) -> LinearRecipe:
    """A layer whose weights are quantized by q."""
    masked = q.gradient.kind != "ste"
    return LinearRecipe(
        fprop=GemmSpec(b=Slot(quantizer=q)), dgrad=GemmSpec(b=Slot("requant")), wgrad=GemmSpec(epilogue=MASK if masked else ()),
        save={"x": Saved("hp"), "w": Saved("codes", "fprop.b"), **({"m": Saved("mask", "fprop.b")} if masked else {})},
    )  # fmt: skip
