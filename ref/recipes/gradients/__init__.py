"""Gradient rules, one page each, and the table that names them."""

from lpref.ref.recipes.gradients.affine import AFFINE
from lpref.ref.recipes.gradients.dge import DGE
from lpref.ref.recipes.gradients.dsq import DSQ
from lpref.ref.recipes.gradients.ewgs import EWGS
from lpref.ref.recipes.gradients.lsq import LSQ, LSQ_PLUS
from lpref.ref.recipes.gradients.pact import PACT
from lpref.ref.recipes.gradients.rule import GradientRule, Seen
from lpref.ref.recipes.gradients.straight import CLIPPED_STE, STE, ZERO
from lpref.ref.recipes.gradients.tanh import TANH
from lpref.ref.recipes.gradients.trust import TRUST
from lpref.ref.recipes.gradients.xnor import XNOR

RULES: dict[str, GradientRule] = {
    "ste": STE,
    "clipped_ste": CLIPPED_STE,
    "zero": ZERO,
    "trust": TRUST,
    "dge": DGE,
    "tanh": TANH,
    "dsq": DSQ,
    "ewgs": EWGS,
    "lsq": LSQ,
    "lsq_plus": LSQ_PLUS,
    "pact": PACT,
    "affine": AFFINE,
    "xnor": XNOR,
}
"""``gradient.kind`` -> rule."""

LEARNED = ("step", "offset", "zero", "alpha")
"""What a rule may learn; a layer's parameters are ``x_step``, ``w_step``, ``x_offset``, …"""

__all__ = ["LEARNED", "RULES", "GradientRule", "Seen"]
