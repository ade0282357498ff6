"""What a data set is in memory."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class TokenData:
    """Text as token ids. `train` and `valid` are one-dimensional and may be memory-mapped."""

    name: str
    sha256: str  # of everything that was read, in a stated order
    train: np.ndarray  # (n,) uint8 or uint16
    valid: np.ndarray  # (m,)
    vocab: int  # ids are below this
    byte_level: bool = True  # a token is a byte: bits per token are bits per byte
    title: str = ""
    facts: dict[str, str | int] = field(default_factory=dict)  # written to env.json

    kind = "tokens"


@dataclass(frozen=True)
class ImageData:
    """Labelled images, channels first."""

    name: str
    sha256: str
    train: np.ndarray  # (n, c, h, w) float32
    train_labels: np.ndarray  # (n,) int64
    valid: np.ndarray  # (m, c, h, w) float32
    valid_labels: np.ndarray  # (m,) int64
    classes: int
    title: str = ""
    facts: dict[str, str | int] = field(default_factory=dict)

    kind = "images"
    byte_level = False


Data = TokenData | ImageData
