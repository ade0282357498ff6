"""Corpora recognised by the SHA-256 of their bytes, so that figures of different people can be told to be on the same data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class KnownCorpus:
    """A name for a hash. `size` is the number of bytes."""

    name: str
    title: str
    size: int


KNOWN: dict[str, KnownCorpus] = {
    "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed": KnownCorpus(
        "tinyshakespeare", "Tiny Shakespeare (karpathy/char-rnn, data/tinyshakespeare/input.txt)", 1_115_394
    ),
    "09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22": KnownCorpus(
        "digits", "UCI Optical Recognition of Handwritten Digits, test part (scikit-learn's digits.csv.gz)", 57_523
    ),
}


def title_of(digest: str, default: str) -> str:
    """The known corpus's title, else `default`."""
    known = KNOWN.get(digest)
    return known.title if known else default
