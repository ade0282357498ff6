"""identify: which registered definition does a cast or quantizer follow? Every combination is tried and ranked by agreement.

    cast       rounding x overflow policy x (packed 4-bit codes) nibble order
    quantizer  scale rule with its settings x rounding x overflow policy x nibble order

The inputs are those on which definitions differ: ties, edges of the range, subnormals, specials; amax at the thresholds of the scale
rules, blocks of different size, zero blocks, NaN, infinities. Agreement is the mean over these classes of the share of equal answers, so
that a rare class (three infinities) counts as much as a large one. Definitions with the same answers everywhere are listed together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lpref.conformance.identify_casts import identify_cast
from lpref.conformance.identify_quantizers import identify_quantizer
from lpref.conformance.matches import Answer, Match
from lpref.conformance.targets.base import CastCase, QuantizeCase, Target
from lpref.ref.quantize import lookup


@dataclass(frozen=True)
class Identification:
    """The definitions in order of agreement; prints as a table."""

    title: str
    matches: tuple[Match, ...]

    @property
    def best(self) -> Match:
        """The first."""
        return self.matches[0]

    def __str__(self) -> str:
        rows = [f"  {100 * m.agreement:8.4f} %  {m.label}" for m in self.matches]
        return "\n".join([f"{self.title}: agreement with each definition", *rows])

    def to_json(self) -> dict[str, Any]:
        """The same as data."""
        return {"title": self.title, "matches": [{"agreement": m.agreement, "settings": [dict(s) for s in m.settings]} for m in self.matches]}


def identify(answer: Target | Answer, case: CastCase | QuantizeCase, *, top: int = 8) -> Identification:
    """The `top` definitions closest to `answer`: a target, or a function of x (and words, for a stochastic rounding).

    `case` says the format, or the quantizer whose element format and blocks hold; its other settings are not believed, except that a
    stochastic rounding is sought among the stochastic ones, with words.

    >>> import lpref
    >>> found = identify(lambda x: lpref.format("e4m3").encode(x, "nearest_away"), CastCase("e4m3"))
    >>> found.best.agreement, found.best.settings[0]["rounding"]
    (1.0, 'nearest_away')
    """
    if isinstance(case, CastCase):
        ask = (lambda x, **words: answer.cast(x, case, **words)) if isinstance(answer, Target) else answer
        found = identify_cast(ask, case)
    else:
        ask = (lambda x, **words: answer.quantize(x, case, **words)) if isinstance(answer, Target) else answer
        found = identify_quantizer(ask, lookup(case.quantizer))
    name = answer.name if isinstance(answer, Target) else getattr(answer, "__qualname__", type(answer).__name__)
    return Identification(f"{name}, {case}", tuple(sorted(found, key=lambda m: -m.agreement)[:top]))
