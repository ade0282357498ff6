"""A training step as one CUDA graph: private memory and a stream, a warm-up in them, a capture, replays.

The memory is a pool of its own that lives as long as its graphs and that nothing else allocates from: what is freed while a step is captured may
serve that step again, never anyone else, so a replay finds only what it wrote itself. Graphs of one `Place` share it: they run one after the
other. A capture fails at any call that waits for the device or copies from or to host memory that is not pinned (CuPy refuses them), so a
graph has none.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from lpref.accel.cuda import device
from lpref.accel.cuda.feed import Feed
from lpref.accel.cuda.lines import Lines
from lpref.ref.errors import BackendError


class Place:
    """Where the steps of one run are warmed up, captured and replayed."""

    def __init__(self) -> None:
        cp = device.cupy()
        give_back()  # what ran before, to look whether it runs
        self.pool, self.stream, self.feed = cp.cuda.MemoryPool(), cp.cuda.Stream(non_blocking=True), Feed()
        self.lines = Lines()
        self.graphs: weakref.WeakSet[Captured] = weakref.WeakSet()

    def memory(self) -> int:
        """Bytes that steps hold."""
        return int(self.pool.total_bytes())

    def free(self) -> int:
        """Bytes of the device that nobody holds."""
        return int(device.cupy().cuda.Device().mem_info[0])

    @contextmanager
    def _inside(self) -> Iterator[None]:
        with device.cupy().cuda.using_allocator(self.pool.malloc), self.stream, self.feed.reading():
            yield

    def eager(self, function: Callable[[], None]) -> None:
        """function() in this place, after all work of the current stream and before what comes later there."""
        stream = device.cupy().cuda.get_current_stream()
        self.stream.wait_event(stream.record())
        with self._inside():
            self.feed.send()
            self._both(function)
        stream.wait_event(self.stream.record())

    def _both(self, function: Callable[[], None]) -> None:
        with self.lines.open():
            function()

    def close(self) -> None:
        """Gives back what steps held; there is no graph."""
        self.pool.free_all_blocks()

    def capture(self, function: Callable[[], None]) -> Captured:
        """The graph of function(); nothing of it runs now."""
        give_back()  # trials of products
        if not self.graphs:
            self.pool.free_all_blocks()  # else small arrays cut up the largest blocks of the warm-up, and the graph takes more than it did
        self.feed.constants = []
        collecting = gc.isenabled()
        gc.disable()  # what it finds may free memory of the device in its own order
        try:
            with self._inside():
                return Captured(self, record(self.stream, lambda: self._both(function)), self.feed.constants)
        finally:
            self.feed.constants = None
            if collecting:
                gc.enable()


def give_back() -> None:
    """The general pool's memory that nobody uses goes back to the device, what only a cycle of objects refers to with it."""
    gc.collect()
    device.cupy().get_default_memory_pool().free_all_blocks()


class Captured:
    """A graph, and the constants that it reads."""

    def __init__(self, place: Place, graph: Any, constants: list[Any]) -> None:
        self.place, self.graph, self.constants = place, graph, constants
        place.graphs.add(self)

    def launch(self, turn: int = 0) -> None:
        """Sends what is fed, in this turn of the feed, and replays, in the order of the current stream; waits for nothing."""
        self.place.feed.send(turn)
        self.graph.launch()


class NotCapturedError(BackendError):
    """A step cannot be a graph."""


def record(stream: Any, function: Callable[[], None]) -> Any:
    """What `stream`, the current one, would do in function(), as a CUDA graph.

    Raises: NotCapturedError where something in it waits for the device or reads host memory.
    """
    runtime = device.cupy().cuda.runtime
    stream.begin_capture(runtime.streamCaptureModeRelaxed)
    try:
        function()
    except BaseException as error:
        try:
            stream.end_capture()
        except runtime.CUDARuntimeError:
            pass  # the capture was invalidated by the call that failed: that failure is raised
        if isinstance(error, (RuntimeError, BackendError)) and "captur" in str(error):
            raise NotCapturedError(str(error), where="cuda") from error
        raise
    return stream.end_capture()
