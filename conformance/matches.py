"""What `identify` ranks: matches, and what its two halves share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lpref.ref.errors import LprefError
from lpref.ref.formats import Format
from lpref.ref.rounding import OVERFLOW

Answer = Callable[..., Any]
NIBBLES = ("low nibble first", "high nibble first")


@dataclass(frozen=True)
class Match:
    """One definition, or several that give the same answers here: settings as text, and their agreement."""

    settings: tuple[Mapping[str, str], ...]
    agreement: float

    @property
    def label(self) -> str:
        """``rounding nearest_even, overflow saturate | ocp_sat``: settings that differ among the definitions are listed."""
        keys = dict.fromkeys(key for s in self.settings for key in s)
        return ", ".join(f"{key} {' | '.join(dict.fromkeys(s[key] for s in self.settings if key in s))}" for key in keys)


def grouped(results: Iterable[tuple[Mapping[str, str], bytes, float]]) -> list[Match]:
    """Definitions with equal answers (bytes) as one match."""
    groups: dict[bytes, tuple[list[Mapping[str, str]], float]] = {}
    for settings, key, agreement in results:
        groups.setdefault(key, ([], agreement))[0].append(settings)
    return [Match(tuple(settings), agreement) for settings, agreement in groups.values()]


def policies_of(f: Format) -> dict[str, list[str]]:
    """The overflow policies, those that mean the same in this format under the first of them."""
    first: dict[tuple[str, ...], str] = {}
    groups: dict[str, list[str]] = {}
    for name, policy in OVERFLOW.items():
        means = []
        for source in ("finite", "infinity", "nan"):
            try:
                means.append(policy.resolve(source, f.targets, ""))
            except LprefError:
                means.append("raise")
        sign = policy.unsigned if not f.signed else ""
        groups.setdefault(first.setdefault((*means, sign), name), []).append(name)
    return groups


def swapped(codes: np.ndarray, nibble: str) -> np.ndarray:
    """Packed 4-bit codes with the first element in the low nibble."""
    return (codes << 4 | codes >> 4).astype(np.uint8) if nibble == NIBBLES[1] else codes


def mean(shares: Iterable[float]) -> float:
    """The mean."""
    found = list(shares)
    return sum(found) / len(found)
