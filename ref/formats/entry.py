"""What every registered format has, of numbers or of vectors: codes of some bits, and a page."""

from __future__ import annotations

import sys
from functools import cached_property
from typing import Any

import numpy as np


class Entry:
    """`bits` of a code, and `module`, whose docstring is the page."""

    bits: int
    module: str

    @cached_property
    def code_dtype(self) -> np.dtype[Any]:
        """The smallest unsigned dtype that holds a code."""
        return np.dtype(f"uint{max(8, 1 << (self.bits - 1).bit_length())}")

    def page(self) -> str:
        """The definition in prose: the docstring of the module that registers the format."""
        return sys.modules[self.module].__doc__ or ""
