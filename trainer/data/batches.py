"""Which samples a step sees: a pure function of (seed, step, position), so any number of workers sees the same ones (numerics N1).

Sample i of step s is addressed by words of the site ``data/train``: no global generator, no state to save but the step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lpref.ref import random
from lpref.ref.errors import DataError
from lpref.trainer.data.types import Data, ImageData, TokenData


@dataclass(frozen=True)
class Batch:
    """`inputs`: token ids (b, t) int64 or images (b, c, h, w) float32; `targets`: (b, t) or (b,) int64."""

    inputs: np.ndarray
    targets: np.ndarray

    @property
    def tokens(self) -> int:
        """Predictions in this batch: tokens, or images."""
        return int(self.targets.size)


def uniform_integers(seed: int, site: str, step: int, start: int, count: int, bound: int) -> np.ndarray:
    r"""`count` integers in [0, bound): $\lfloor u \cdot bound / 2^{64} \rfloor$ of 64-bit words u = two 32-bit words, low one first.

    >>> uniform_integers(1, "data/train", 0, 0, 3, 1).tolist()
    [0, 0, 0]
    """
    words = random.words(seed, random.stream(site), step, 2 * start, 2 * count)
    return np.array(
        [(int(low) | int(high) << 32) * bound >> 64 for low, high in zip(words[0::2], words[1::2], strict=True)],
        np.int64,
    )


def token_batch(data: TokenData, length: int, seed: int, step: int, start: int, count: int) -> Batch:
    """Samples start..start+count of the step: windows of length+1 tokens at independent uniform offsets."""
    offsets = uniform_integers(seed, "data/train", step, start, count, data.train.size - length)
    windows = data.train[offsets[:, None] + np.arange(length + 1)].astype(np.int64)
    return Batch(windows[:, :-1], windows[:, 1:])


def image_batch(data: ImageData, batch: int, seed: int, step: int, start: int, count: int) -> Batch:
    """Samples of consecutive epochs: sample g = step·batch + i is entry g mod n of epoch g div n's order.

    An epoch's order sorts the images by one word each of the site ``data/train``, with the epoch in the place of the step.
    """
    n = len(data.train)
    place = step * batch + start + np.arange(count)
    chosen = np.empty(count, np.int64)
    for epoch in np.unique(place // n):
        order = np.argsort(random.words(seed, random.stream("data/train"), int(epoch), 0, n), kind="stable")
        here = place // n == epoch
        chosen[here] = order[place[here] % n]
    return Batch(data.train[chosen], data.train_labels[chosen])


def train_batch(data: Data, length: int, batch: int, seed: int, step: int, start: int, count: int) -> Batch:
    """Samples [start, start+count) of the global batch of `step` (0-based); `length` is the model's context (tokens only)."""
    if isinstance(data, TokenData):
        return token_batch(data, length, seed, step, start, count)
    return image_batch(data, batch, seed, step, start, count)


def valid_batches(data: Data, length: int, windows: int, batch: int) -> list[Batch]:
    """The fixed evaluation: `windows` evenly spaced windows (all that fit, if fewer), or all held-out images, `batch` at a time."""
    if isinstance(data, ImageData):
        return [
            Batch(data.valid[i : i + batch], data.valid_labels[i : i + batch]) for i in range(0, len(data.valid), batch)
        ]
    last = data.valid.size - length - 1
    count = min(windows, last // length + 1)
    offsets = np.arange(count) * last // max(count - 1, 1)
    out = []
    for i in range(0, count, batch):
        rows = data.valid[offsets[i : i + batch, None] + np.arange(length + 1)].astype(np.int64)
        out.append(Batch(rows[:, :-1], rows[:, 1:]))
    return out


def check_length(data: Data, length: int) -> None:
    """Each part must hold at least one window of length + 1 tokens."""
    if isinstance(data, TokenData):
        for part, ids in (("training", data.train), ("validation", data.valid)):
            if ids.size <= length:
                raise DataError(f"the {part} part has {ids.size} tokens, a window needs {length + 1}", where=data.name,
                                remedy="give a longer file or a smaller model.context")  # fmt: skip
