"""Where in a model an op was called: phase and site, read from the frames of the calls that led there.

    forward    the innermost function of `lpref.models` that is about a site: its local `name`, `table` or `norm`; else that function's name
    backward   the site of the forward call that the node of the tape came from (`number` counts up with the nodes)
    update     everything else: clipping, finite checks, the optimizer

Only for looking: nothing that is computed depends on it.
"""

from __future__ import annotations

import sys
from bisect import bisect_left
from collections.abc import Callable
from types import FrameType

LOCALS = ("name", "table", "norm")
"""What a method of a model calls its site."""


class Places:
    """The sites of the calls so far."""

    def __init__(self, number: Callable[[], int] | None = None) -> None:
        self.number = number
        self._numbers: list[int] = []
        self._sites: list[str] = []

    def now(self) -> tuple[str, str]:
        """(phase, site) of the call that is under way."""
        site, node = "", None
        frame: FrameType | None = sys._getframe(1)
        while frame is not None:
            module = frame.f_globals.get("__name__", "")
            if not site and module.startswith("lpref.models."):
                site = _site(frame)
            if module == "lpref.autodiff.engine" and node is None:
                node = frame.f_locals.get("node")
            frame = frame.f_back
        if node is not None:
            return "backward", site or self._of(node.number)
        if not site:
            return "update", ""
        if self.number is not None:
            self._numbers.append(self.number())
            self._sites.append(site)
        return "forward", site

    def _of(self, number: int) -> str:
        """The site of the last forward call before the node with this number."""
        at = bisect_left(self._numbers, number)
        return self._sites[at - 1] if at else ""


def _site(frame: FrameType) -> str:
    """The site that a function of a model is about; empty for what is inside of one (a lambda, a comprehension)."""
    found = next((frame.f_locals[key] for key in LOCALS if isinstance(frame.f_locals.get(key), str)), "")
    own = frame.f_code.co_name
    return found or ("" if own.startswith("<") else own)
