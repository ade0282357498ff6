"""`Branch`: work beside the main line of a step, which nothing waits for: gradients of parameters, not read before the backward pass is over.

A backend whose device does two things at once has its own (`lpref.accel.cuda.lines`). This one does everything where it stands; same bits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


class Branch:
    """No branch: the work is done when it is given."""

    @property
    def apart(self) -> bool:
        """Whether work that is given now is done beside the main line."""
        return False

    def __call__(self, work: Callable[[], T], *reads: Any) -> T:
        """work(), whose arrays only later work of the branch reads, or who has called `read` for them. It reads what was made before it was given;
        reads: what is large of that, which is kept as long as the work is under way."""
        return work()

    def ahead(self, work: Callable[[], T]) -> T:
        """work(), which reads only what no step under way writes (weights, numbers that it is fed): it may be done long before the main line comes
        here. What comes after this call finds it done."""
        return work()

    def read(self, x: Any = None) -> None:
        """The main line is going to read the array x (None: any): what comes after this call finds it made, if it is from the branch."""
