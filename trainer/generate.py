"""Sampling from a byte model: one forward a byte over the last window, random words by position."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from lpref.ref import random
from lpref.ref.errors import DataError, SpecError
from lpref.trainer.evaluate import EVAL_PASS

GENERATE_PASS = EVAL_PASS << 1


def sample_byte(logits: np.ndarray, temperature: float, word: int) -> int:
    """The byte whose share of the softmax, laid end to end, covers word/2^32; temperature 0: the first largest logit.

    >>> sample_byte(np.array([0.0, 5.0, 1.0]), 0.0, 0)
    1
    """
    if temperature == 0:
        return int(np.argmax(logits))
    z = logits.astype(np.float64) / temperature
    p = np.exp(z - np.max(z))
    edges = np.cumsum(p)
    return int(min(np.searchsorted(edges, word / 2.0**32 * edges[-1], side="right"), len(p) - 1))


def generate(
    model: Any, length: int, context: Any, *, prompt: bytes, count: int, temperature: float, seed: int
) -> bytes:
    """`count` bytes that continue `prompt`; `length` is the model's window, `context(pass)` gives a Context."""
    from lpref.autodiff import no_grad

    text = list(prompt or b"\n")
    words = random.words(seed, random.stream("generate"), 0, 0, count)
    with no_grad():
        for i in range(count):
            window = np.array([text[-length:]], np.int64)
            logits = model.logits(window, context(GENERATE_PASS + i))
            last = model.backend.arrays.host(logits.data.reshape(-1, logits.data.shape[-1])[-1])
            text.append(sample_byte(last, temperature, int(words[i])))
    return bytes(text[-count:])


def generate_from_run(path: Path, *, prompt: str, count: int, temperature: float, seed: int, backend: str | None = None) -> str:
    """Text from a run's newest checkpoint; bytes that are no UTF-8 are shown as U+FFFD. backend: see `restore`."""
    from lpref.trainer.restore import restore

    if not (temperature >= 0 and temperature < float("inf")):
        raise SpecError([f"--temperature: {temperature} is not a finite number of at least 0"], where="generate")
    loaded = restore(path, backend)
    if not loaded.byte_level:
        raise DataError(
            "only byte-level models generate text", where=str(path), remedy="choose a run on stdlib or text:PATH"
        )
    made = generate(
        loaded.model,
        loaded.length,
        loaded.context,
        prompt=prompt.encode(),
        count=count,
        temperature=temperature,
        seed=seed,
    )
    return prompt + made.decode("utf-8", errors="replace")
