"""How a real becomes a storable number: rounding rules and overflow policies, as named values.

`Rounding` decides between two neighbours, `Overflow` decides what a number beyond the largest finite value
(or an infinity, or a NaN) becomes. Neither knows a format; `lpref.ref.formats` combines the three.
"""

from lpref.ref.rounding.mode import ROUNDINGS, Remainder, Rounding, is_stochastic, rounding
from lpref.ref.rounding.nvidia import lane_words, te_stochastic_e2m1
from lpref.ref.rounding.overflow import OVERFLOW, Overflow, overflow
from lpref.ref.rounding.stochastic import bias, check_words, default_word_bits, mean_bias, probability_up

__all__ = [
    "OVERFLOW",
    "ROUNDINGS",
    "Overflow",
    "Remainder",
    "Rounding",
    "bias",
    "check_words",
    "default_word_bits",
    "is_stochastic",
    "lane_words",
    "mean_bias",
    "overflow",
    "probability_up",
    "rounding",
    "te_stochastic_e2m1",
]
