"""Two lines of work in a step: gradients of parameters on a stream of their own, beside the stream of all else (`lpref.ref.branch`).

In a graph they are two branches, which the device runs at once; an eager step waits for each piece of work where it stands, so that it takes the same
memory and is one line to look at. Both lines run the same kernels and cuBLASLt algorithms; each stream has its workspace.

Memory is safe for three reasons. A piece begins behind everything that the main line was told before, so what it allocates is of the main line's
arena in the pool, whoever had it: gradients take the place of the activations that went. What it allocated and what it reads is held until the main
line has waited for it: up to DEPTH pieces are under way, which read no more than HELD bytes, so saved activations go a little later than they would
have gone. Work that is done ahead begins earlier than that and has an arena of its own, the side stream's.
Nothing is written in place that a piece may still read.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

from lpref.accel.cuda import device, feed
from lpref.ref.branch import Branch

T = TypeVar("T")
DEPTH = 4
"""Pieces of work under way on the side line."""
HELD = 256 << 20
"""Bytes that these read, unless the last of them does alone: the gradient of the scores of a large vocabulary goes before the next piece comes."""
AHEAD = 8
"""Pieces that the side line may be ahead of the main line."""
ONE = "LPREF_CUDA_LINES"
"""Variable of the environment: 1 puts everything on one line."""
_now = threading.local()


class Piece(NamedTuple):
    """Work under way on the side line: its end, what is held until then, and how many bytes it reads."""

    end: Any
    kept: Any
    size: int


class Lines:
    """The side line of a place (`graph.Place`). `two`: whether it is used; else everything is on one line."""

    def __init__(self) -> None:
        self.side = device.cupy().cuda.Stream(non_blocking=True)
        self.two = os.environ.get(ONE, "2") != "1"
        self.main: Any = None
        """The main line's stream, while a piece of work is told to the side line."""
        self.held: deque[Piece] = deque()
        self.late: dict[int, Any] = {}
        """Address of an allocation -> an array in it that the main line may not have waited for."""
        self.done: deque[tuple[Any, Any]] = deque()
        """Of the last pieces that were done ahead: where the main line was when they were given, and what they made, which it may still read."""

    @contextmanager
    def open(self) -> Iterator[None]:
        """Inside, the branch of the cuda backend is the side line; at the end the main line has waited for it."""
        before, _now.lines = getattr(_now, "lines", None), self
        try:
            yield
            self.join()
        finally:
            self._forget()
            _now.lines = before

    def run(self, work: Callable[[], T], reads: Sequence[Any] = ()) -> T:
        """work() on the side line, behind everything that the main line was told until now. reads: what is large of what it reads."""
        main, size = device.cupy().cuda.get_current_stream(), sum(int(a.nbytes) for a in reads)
        while self.held and (len(self.held) == DEPTH or size + sum(piece.size for piece in self.held) > HELD):
            main.wait_event(self.held.popleft().end)
        self.side.wait_event(main.record())
        self.done.clear()
        with _allocating(main) as held:
            made, end = self._told(main, work)
        self.held.append(Piece(end, (work, held), size))
        self.late.update((_place(a), a) for a in _arrays(made))
        if not feed.capturing():
            main.wait_event(end)
        return made

    def _told(self, main: Any, work: Callable[[], T]) -> tuple[T, Any]:
        """work() on the side line, and the event of its end."""
        self.main = main
        try:
            with self.side:
                return work(), self.side.record()
        finally:
            self.main = None

    def ahead(self, work: Callable[[], T]) -> T:
        """work() on the side line, behind its own work alone; the main line waits for it here.

        Memory of the side line that the main line reads may not be given out before it was read: what the last AHEAD pieces made is held, and a
        piece begins behind the readers of what is older. The first one, and the first behind gradients of parameters or a new page of counters,
        begins behind the main line.
        """
        main = device.cupy().cuda.get_current_stream()
        now = main.record()
        if len(self.done) == AHEAD:
            self.done.popleft()
            self.side.wait_event(self.done[0][0])
        if not (self.done and feed.capturing()):
            self.side.wait_event(now)
        made, end = self._told(main, work)
        self.done.append((now, made))
        main.wait_event(end)
        return made

    def before(self, make: Callable[[], T]) -> T:
        """make(), which the main line does before the rest of the piece of work that is being told to the side line."""
        with self.main:
            made = make()
            self.side.wait_event(self.main.record())
        return made

    def join(self) -> None:
        """The main line waits for the side line."""
        if self.held:
            device.cupy().cuda.get_current_stream().wait_event(self.held[-1].end)
        self._forget()

    def _forget(self) -> None:
        self.held.clear()
        self.late.clear()
        self.done.clear()


class OfStep(Branch):
    """The side line of the place that this thread works in; outside of places, and in a piece of work, no branch."""

    @property
    def apart(self) -> bool:
        lines = getattr(_now, "lines", None)
        return lines is not None and lines.two and lines.main is None

    def __call__(self, work: Callable[[], T], *reads: Any) -> T:
        return _now.lines.run(work, reads) if self.apart else work()

    def ahead(self, work: Callable[[], T]) -> T:
        return _now.lines.ahead(work) if self.apart else work()

    def read(self, x: Any = None) -> None:
        lines = getattr(_now, "lines", None)
        if lines is not None and lines.late and (x is None or _place(x) in lines.late):
            lines.join()


BRANCH = OfStep()


def shared(make: Callable[[], T]) -> T:
    """make(): what both lines will use, whichever is at work."""
    lines = getattr(_now, "lines", None)
    if lines is None:
        return make()
    if lines.main is not None:
        return lines.before(make)
    lines.done.clear()  # what is done ahead begins behind it
    return make()


@contextmanager
def _allocating(stream: Any) -> Iterator[list[Any]]:
    """Inside, memory is of this stream's arena, whichever stream is current, and what was allocated is in the list."""
    cuda, held = device.cupy().cuda, []  # type: ignore[var-annotated]
    allocate = cuda.get_allocator()

    def malloc(size: int) -> Any:
        with stream:
            held.append(allocate(size))
        return held[-1]

    with cuda.using_allocator(malloc):
        yield held


def _arrays(made: Any) -> Iterator[Any]:
    """The arrays in tuples and dicts."""
    if isinstance(made, (tuple, list, dict)):
        for one in made.values() if isinstance(made, dict) else made:
            yield from _arrays(one)
    elif made is not None:
        yield made


def _place(x: Any) -> int:
    """The address of the allocation that x is in."""
    return int(getattr(x.data, "mem", x.data).ptr)
