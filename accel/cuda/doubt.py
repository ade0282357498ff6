"""What a kernel found that the definition would refuse: an eager step asks at once, a captured one when it is over.

A captured step may not wait, so its doubts are collected in one word; what was computed is discarded where that is not 0, and the eager repetition of
the step raises the definition's error.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from lpref.accel.cuda import device

_now = threading.local()


@contextmanager
def collected(word: Any) -> Iterator[None]:
    """Inside, doubts go to `word`, uint32 [1] on the device, which is set to 1 by any; nobody waits."""
    before, _now.word = getattr(_now, "word", None), word
    try:
        yield
    finally:
        _now.word = before


def above(count: Any, limit: int) -> bool:
    """Whether count, one uint64 on the device, is above the limit; False where doubts are collected."""
    word = getattr(_now, "word", None)
    if word is None:
        return int(device.cupy().asnumpy(count).reshape(-1)[0]) > limit
    device.function("generic", "doubted", (("LP_IN", 0),))((1,), (1,), (count, np.uint64(limit), word))
    return False
