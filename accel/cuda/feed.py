"""What a step reads from host memory, and where it lies on the device when the step is a graph.

A graph repeats its launches with the arguments they were captured with, so whatever changes from step to step has to be read from device
memory. `Feed` is that memory: sources are host values that the next step changes (arrays of `Feed.array` and `Feed.made`, numbers of
`Feed.number`); `upload` of a function of sources gets a fixed place in a pinned buffer with a twin on the device, and `send` makes all of them
again and copies the buffer once. An `upload` of anything else is a constant: copied at once, while a step is captured beside the capture, and
kept by the graph.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, lru_cache, wraps
from typing import Any, TypeVar

import numpy as np

from lpref.accel.cuda import device
from lpref.ref.errors import BackendError
from lpref.ref.random import WordAddress

T = TypeVar("T")
BLOCK = 1 << 18
TURNS = 32
"""Steps that may be under way at once."""
ALIGNED = 64
_now = threading.local()


class Fed(np.ndarray):
    """An array that the next step changes, or what was computed from one on the host, which `upload` refuses: a graph would keep it."""


class FedInt(int):
    """An integer that the next step changes: as an int its value when it was made; `upload` of it reads the feed."""

    feed: Feed
    name: str


@dataclass(eq=False)
class Block:
    """A part of the mirror: the twin, and pinned host memory for each turn."""

    turns: list[np.ndarray]
    device: Any
    used: int = 0


@dataclass(eq=False)
class Upload:
    """function(*args) at a place of a block: on the host in each turn, and on the device."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    turns: list[np.ndarray]
    device: Any


class Feed:
    """Sources, what is uploaded of them, and the mirrored memory. `with feed.reading():` makes it the one that this thread's `upload` asks."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}
        self.sources: dict[int, np.ndarray] = {}
        self.makers: dict[Any, tuple[np.ndarray, Callable[..., Any], tuple[Any, ...]]] = {}
        self.uploads: dict[Any, Upload] = {}
        self.blocks: list[Block] = []
        self.turn = 0
        self.constants: list[Any] | None = None
        """Where constants are kept while a step is captured; None else."""

    def array(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """A source: an array in host memory, zero at first, that the caller changes between steps, in place."""
        return self._source(np.zeros(shape, dtype))

    def made(self, function: Callable[..., Any], *args: Any) -> np.ndarray:
        """A source that holds function(*args): `send` makes it again. args: sources among others."""
        key = (function, *(_key(arg) for arg in args))
        if key not in self.makers:
            self.makers[key] = (self._source(np.array(function(*args))), function, args)
        return self.makers[key][0]

    def _source(self, array: np.ndarray) -> np.ndarray:
        made = array.view(Fed)
        self.sources[id(_root(made))] = made
        return made

    def number(self, name: str, value: int) -> FedInt:
        """The source `name` with this value now."""
        self.numbers[name] = int(value)
        made = FedInt(value)
        made.feed, made.name = self, name
        return made

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Inside, `upload` finds this feed's sources."""
        before, _now.feed = getattr(_now, "feed", None), self
        try:
            yield
        finally:
            _now.feed = before

    def send(self, turn: int = 0) -> None:
        """Everything uploaded so far is made again and copied, one copy a block, in the order of the current stream.

        turn: below TURNS; its pinned memory is read when the device comes to the copy: do not send this turn again before.
        """
        self.turn = turn
        for source, function, args in self.makers.values():
            source[...] = function(*(self._present(arg) for arg in args))
        for one in self.uploads.values():
            one.turns[turn][...] = one.function(*(self._present(arg) for arg in one.args))
        for block in self.blocks:
            copy_to_device(block.device, block.turns[turn], block.used)

    def has(self, arg: Any) -> bool:
        """Whether `arg` is a source, a view of one, or an address of words whose step is one."""
        if isinstance(arg, WordAddress):
            arg = arg.step
        if isinstance(arg, FedInt):
            return arg.feed is self
        return isinstance(arg, np.ndarray) and id(_root(arg)) in self.sources

    def place(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """The device array of function(*args), of which one at least is a source."""
        key = (function, *(_key(arg) for arg in args))
        if key not in self.uploads:
            value = np.asarray(function(*(self._present(arg) for arg in args)))
            turns, there = self._room(value)
            turns[self.turn][...] = value
            if self.constants is None:  # while a step is captured nothing runs: it is sent before the first replay
                copy_to_device(there, turns[self.turn], value.nbytes)
            self.uploads[key] = Upload(function, args, turns, there)
        return self.uploads[key].device

    def _present(self, arg: Any) -> Any:
        if isinstance(arg, FedInt):
            return self.numbers[arg.name]
        return replace(arg, step=self._present(arg.step)) if isinstance(arg, WordAddress) else arg

    def _room(self, value: np.ndarray) -> tuple[list[np.ndarray], Any]:
        if not self.blocks or self.blocks[-1].used + value.nbytes > self.blocks[-1].turns[0].size:
            size = max(BLOCK, value.nbytes)
            held = pinned(TURNS * size).reshape(TURNS, size)
            self.blocks.append(Block(list(held), outside(lambda: device.cupy().empty(size, np.uint8))))
        block = self.blocks[-1]
        part = slice(block.used, block.used + value.nbytes)
        block.used += -(-value.nbytes // ALIGNED) * ALIGNED
        *turns, there = (memory[part].view(value.dtype).reshape(value.shape) for memory in (*block.turns, block.device))
        return turns, there


def upload(function: Callable[..., Any], *args: Any) -> Any:
    """function(*args), NumPy values in and out, as an array on the device. The function is pure and a name of a module, no lambda.

    Raises: BackendError for a source of another feed than the one that is read, whose value a graph would keep.
    """
    feed = getattr(_now, "feed", None)
    if feed is not None and any(feed.has(arg) for arg in args):
        return feed.place(function, args)
    if any(isinstance(arg, FedInt) or (isinstance(arg, WordAddress) and isinstance(arg.step, FedInt)) for arg in args):
        raise BackendError("a number of a step is read outside of that step", where="cuda")
    if any(isinstance(arg, Fed) or isinstance(_root(arg), Fed) for arg in args if isinstance(arg, np.ndarray)):
        raise BackendError("an array was computed on the host from what a step is fed", where="cuda", remedy="reshape and index it on the device")
    value = np.asarray(function(*args))
    if feed is None or feed.constants is None:
        with device.general():
            return device.cupy().asarray(value)
    feed.constants.append(outside(lambda: device.cupy().asarray(value)))
    return feed.constants[-1]


def fed(x: Any) -> bool:
    """Whether x is a source of the feed that is read, or a view of one."""
    feed = getattr(_now, "feed", None)
    return feed is not None and feed.has(x)


def capturing() -> bool:
    """Whether a step is being captured, so that nothing may wait for the device."""
    feed = getattr(_now, "feed", None)
    return feed is not None and feed.constants is not None


def same(x: Any) -> Any:
    """x: what to upload as it is."""
    return x


def one_word(step: int) -> np.ndarray:
    """A step as the kernels read it."""
    return np.array([step], np.uint32)


def word(step: int) -> Any:
    """A step's number on the device, uint32 [1]."""
    return upload(one_word, step) if isinstance(step, FedInt) or capturing() else _word(int(step))


@lru_cache(4)
def _word(step: int) -> Any:
    return upload(one_word, step)


def _root(array: Any) -> Any:
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def _key(arg: Any) -> Any:
    if isinstance(arg, FedInt):
        return arg.name
    if isinstance(arg, np.ndarray):
        return arg.__array_interface__["data"][0], arg.shape, arg.strides, arg.dtype.str
    return (arg.seed, _key(arg.step), arg.site, arg.start) if isinstance(arg, WordAddress) else arg


def outside(make: Callable[[], T]) -> T:
    """make(), its memory from the general pool and its work done when this returns, on a stream that no capture sees."""
    with device.general(), beside() as stream:
        made = make()
        stream.synchronize()
    return made


def lasting(make: Callable[..., T]) -> Callable[..., T]:
    """`make`, called once for each set of arguments. What it makes is in memory of no step, which would end with that step's run."""

    @cache
    @wraps(make)
    def made(*args: Any) -> T:
        return outside(lambda: make(*args))

    return made


@lru_cache(1)
def beside() -> Any:
    """The stream beside captures."""
    return device.cupy().cuda.Stream(non_blocking=True)


def pinned(size: int) -> np.ndarray:
    """Host memory that the device copies by itself, uint8."""
    return np.frombuffer(device.cupy().cuda.alloc_pinned_memory(size), np.uint8, size)


def copy_to_device(target: Any, source: np.ndarray, size: int) -> None:
    """The first bytes of pinned memory, in the order of the current stream."""
    runtime, stream = device.cupy().cuda.runtime, device.cupy().cuda.get_current_stream()
    runtime.memcpyAsync(target.data.ptr, source.ctypes.data, size, runtime.memcpyHostToDevice, stream.ptr)


def copy_to_host(target: np.ndarray, source: Any) -> None:
    """A whole array into pinned memory of its size, in the order of the current stream."""
    runtime, stream = device.cupy().cuda.runtime, device.cupy().cuda.get_current_stream()
    runtime.memcpyAsync(target.ctypes.data, source.data.ptr, source.nbytes, runtime.memcpyDeviceToHost, stream.ptr)
