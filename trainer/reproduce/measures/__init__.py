"""The measurements of experiments: name -> f(seed, **fields of the arm) -> a number. Arithmetic is float64 of the host."""

from __future__ import annotations

from collections.abc import Callable

from lpref.trainer.reproduce.measures.flips import weight_flips
from lpref.trainer.reproduce.measures.gradients import input_gradient, weight_gradient
from lpref.trainer.reproduce.measures.laws import best_share, qat_exponent
from lpref.trainer.reproduce.measures.products import (
    accumulation_error,
    forward_error,
    product_error,
    weight_gradient_error,
)
from lpref.trainer.reproduce.measures.rounding import relative_error, shrinkage

MEASURES: dict[str, Callable[..., float]] = {
    "relative_error": relative_error,
    "shrinkage": shrinkage,
    "accumulation_error": accumulation_error,
    "product_error": product_error,
    "forward_error": forward_error,
    "input_gradient": input_gradient,
    "weight_gradient": weight_gradient,
    "weight_flips": weight_flips,
    "best_share": best_share,
    "qat_exponent": qat_exponent,
    "weight_gradient_error": weight_gradient_error,
}

SHARED = {"qat_exponent"}
"""Those whose arms come from the same runs of a seed, which a process makes once."""
