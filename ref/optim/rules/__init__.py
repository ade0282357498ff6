"""Update rules: pure functions arrays -> (delta, new moments), and the coefficients that the host computes for them.

Every rule is one page: equation, written order of the arithmetic, defaults, pitfalls, source. A rule knows nothing of storage:
it gets the decoded state and returns the new state unrounded; :mod:`lpref.ref.optim.optimizer` owns every rounding to a stored format.
"""

from lpref.ref.optim.rules.adamw import AdamW, AdamWCoefficients, adamw_coefficients, adamw_update
from lpref.ref.optim.rules.base import Rule, StateSpec, integer_power
from lpref.ref.optim.rules.lion import Lion, lion_update
from lpref.ref.optim.rules.sgd import SGD, sgd_update

RULES: dict[str, type[Rule]] = {"sgd": SGD, "adamw": AdamW, "lion": Lion}
"""Registered update rules by name."""

__all__ = [
    "RULES",
    "AdamW",
    "AdamWCoefficients",
    "Lion",
    "Rule",
    "SGD",
    "StateSpec",
    "adamw_coefficients",
    "adamw_update",
    "integer_power",
    "lion_update",
    "sgd_update",
]
