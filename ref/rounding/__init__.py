"""How a real becomes a storable number: rounding rules and overflow policies, as named values.

`Rounding` decides between two neighbours, `Overflow` decides what a number beyond the largest finite value
(or an infinity, or a NaN) becomes. Neither knows a format; `lpref.ref.formats` combines the three.
"""

from lpref.ref.rounding.mode import ROUNDINGS, Remainder, Rounding, is_stochastic, rounding
from lpref.ref.rounding.overflow import OVERFLOW, Overflow, overflow
from lpref.ref.rounding.stochastic import check_words, default_word_bits, probability_up

__all__ = [
    "OVERFLOW",
    "ROUNDINGS",
    "Overflow",
    "Remainder",
    "Rounding",
    "check_words",
    "default_word_bits",
    "is_stochastic",
    "overflow",
    "probability_up",
    "rounding",
]
