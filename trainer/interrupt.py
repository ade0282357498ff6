"""Ctrl-C ends a run between two steps, after a checkpoint; a second Ctrl-C ends it at once."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

from lpref.ref.errors import LprefError


class Interrupted(LprefError, KeyboardInterrupt):
    """The run was interrupted and saved; the command line turns it into exit code 130."""

    __str__ = LprefError.__str__


class Interrupt:
    """Inside the block, the first SIGINT or SIGTERM sets `requested`. Outside the main thread (notebook workers) it does nothing."""

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[int, Any] = {}

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
