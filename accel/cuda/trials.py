"""Trials of cuBLASLt's algorithms for a product: which is fastest among those that leave the same bits each time.

Tried are what the library proposes, with and without sums that are cut, and, where a product takes long enough to matter, from the fastest of
these the algorithms that differ in one entry of their configuration (tile, cluster, custom option) and leave the bits of the one they came from.

Short products are timed in a graph whose launches each follow a write that empties the second cache, since in a step operands come from elsewhere,
and since launches from Python take as long as they do. The graph itself is launched behind such a write, so that no time has its launch in it. The
finalists are timed in turns: the clock falls when the card is hot.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from lpref.accel.cuda import cublaslt, device
from lpref.accel.cuda.cublaslt import Plan
from lpref.ref.errors import BackendError

Launch = Callable[[Plan, int], int]
"""(plan, stream) -> status: queue the product on the stream."""
GAIN = 0.985
"""Of the time before, for a step to another algorithm."""
TINY, SHORT = 8.0, 300.0
"""Microseconds below which the first timing decides; below which a graph is timed."""
NEAR = 1.4
"""Times the fastest first timing, up to which a proposal is timed again."""
SECONDS = 0.1
"""After which no other algorithm is tried."""
FLUSH = 96 << 20
"""Bytes that are written between launches."""
REPEATS = 4
LAUNCHES = 5
"""In a graph."""
CLOSE = 1.04
"""Times the fastest, up to which an algorithm is timed in turns with it."""
FINALISTS, FINALISTS_SHORT = 3, 8
"""At most; where they are short."""
ROUNDS, ROUNDS_SHORT = 5, 15
"""Of the finalists; where they are short."""


@dataclass(frozen=True)
class Timed:
    """An algorithm (its 64 bytes), its workspace and its time in microseconds."""

    us: float
    code: bytes
    workspace: int


def tried(plan: Plan, out: Any, launch: Launch, workspace: int) -> dict[str, Any]:
    """Time what there is; the plan takes the fastest that repeats its bits. Returns what is kept of it.

    Raises: BackendError where none serves.
    """
    proposed: dict[bytes, int] = {}
    for space, split in ((workspace, True), (workspace // 2, True), (workspace, False), (0, False)):
        for one in plan.candidates(space, split):
            proposed.setdefault(bytes(one.algorithm), one.workspace)
    trial = Trial(plan, out, launch, workspace)
    found = sorted((t for code, space in proposed.items() if (t := trial.quick(code, space))), key=lambda t: t.us)
    if found and found[0].us >= TINY:
        near = [t for t in found if t.us <= NEAR * found[0].us]
        found = sorted((again for t in near if (again := trial.timed(t))), key=lambda t: t.us)
    most = FINALISTS_SHORT if found and found[0].us <= SHORT else FINALISTS
    close = [t for t in found if t.us <= CLOSE * found[0].us][:most]
    steady = [t for t in close if trial.repeated(t) is not None] or [t for t in found[len(close) :] if trial.repeated(t) is not None][:1]
    if not steady:
        raise BackendError(f"cuBLASLt has no algorithm for {plan.product.name}", where="cuda", remedy="numerics: exact")
    best, first = steady[0], steady[0].us
    if first >= TINY:
        best = trial.final([*steady, trial.climbed(best)])
    plan.take(best.code, best.workspace)
    entry = {"us": round(best.us, 2), "us_proposed": round(first, 2), "proposed": len(proposed)}
    return {"algorithm": best.code.hex(), **entry, **cublaslt.configuration(best.code)}


@dataclass(frozen=True)
class Trial:
    """A product's launch, timed under one algorithm or another."""

    plan: Plan
    out: Any
    launch: Launch
    workspace: int

    def take(self, one: Timed) -> None:
        """Launch this algorithm from now on."""
        self.plan.take(one.code, one.workspace)

    def run(self) -> int:
        """Queue one launch on the current stream."""
        return self.launch(self.plan, device.cupy().cuda.get_current_stream().ptr)

    def quick(self, code: bytes, workspace: int) -> Timed | None:
        """The time of three launches after one, behind a write that lets Python run ahead; None where it fails."""
        self.take(Timed(0.0, code, workspace))
        if self.run():
            return None
        us = self.behind(lambda: all(self.run() == 0 for _ in range(3)))
        return None if us is None else Timed(us / 3, code, workspace)

    def behind(self, work: Callable[[], bool]) -> float | None:
        """The time of what is queued behind a write that lets Python run ahead; None where it fails."""
        device.cupy().cuda.runtime.memsetAsync(self.cache.ptr, 0, FLUSH, device.cupy().cuda.get_current_stream().ptr)
        return _elapsed(work)

    def timer(self, one: Timed) -> Callable[[], float | None]:
        """What measures a launch of the algorithm, in microseconds, each time it is called: in one graph where it is short, else as the best of three
        pairs, without the pause of a write, in which the clock would recover. None where it fails."""
        self.take(one)
        graph = self.graph(LAUNCHES, True) if one.us <= SHORT else None

        def replayed() -> float | None:
            us = None if graph is None else self.behind(graph)
            return None if us is None else max((us - self.empty * LAUNCHES) / LAUNCHES, 0.1)

        def launched() -> float | None:
            self.take(one)
            pairs = [_elapsed(lambda: all(self.run() == 0 for _ in range(2))) for _ in range(3)]
            return min((us / 2 for us in pairs if us is not None), default=None)

        return replayed if one.us <= SHORT else launched

    def timed(self, one: Timed) -> Timed | None:
        """The algorithm with a better timing: the best of three. None where it fails."""
        measure = self.timer(one)
        best = min((us for _ in range(3 if one.us <= SHORT else 1) if (us := measure()) is not None), default=None)
        return None if best is None else Timed(best, one.code, one.workspace)

    @cached_property
    def stream(self) -> Any:
        """Where graphs are captured."""
        return device.cupy().cuda.Stream(non_blocking=True)

    @cached_property
    def cache(self) -> Any:
        """What is written between launches; of no pool, and given back with the trial."""
        return device.cupy().cuda.Memory(FLUSH)

    @cached_property
    def empty(self) -> float:
        """Microseconds of a write alone."""
        graph = self.graph(LAUNCHES, False)
        assert graph is not None
        return min(self.behind(graph) or 0.0 for _ in range(9)) / LAUNCHES

    def graph(self, count: int, launches: bool) -> Callable[[], bool] | None:
        """`count` writes, each before a launch where `launches`, as one launch on the current stream; None where the algorithm fails."""
        cp = device.cupy()
        cp.cuda.Device().synchronize()
        place, failed = self.cache.ptr, False
        self.stream.begin_capture()
        for _ in range(count):
            cp.cuda.runtime.memsetAsync(place, 0, FLUSH, self.stream.ptr)
            failed |= launches and self.launch(self.plan, self.stream.ptr) != 0
        graph = self.stream.end_capture()

        def replay() -> bool:
            graph.launch(cp.cuda.get_current_stream())
            return True

        return None if failed else replay

    def repeated(self, one: Timed) -> Any:
        """The bytes that the algorithm leaves each time; None where they differ."""
        self.take(one)
        self.run()
        first = _bytes(self.out).copy()
        return first if all(self.same(first) for _ in range(REPEATS - 1)) else None

    def same(self, want: Any) -> bool:
        """Whether a launch leaves these bytes."""
        words = _bytes(self.out)
        words.fill(0xFF)
        return self.run() == 0 and bool(device.cupy().array_equal(words, want))

    def climbed(self, best: Timed) -> Timed:
        """The fastest algorithm that is reached from `best` in steps that change one entry, gain at least GAIN and leave the same bits."""
        bits, seen, until, moved = self.repeated(best), {best.code}, time.monotonic() + SECONDS, True
        values = cublaslt.capabilities(best.code) | {"cluster": list(cublaslt.CLUSTERS)}
        while moved:
            moved = False
            for code in [cublaslt.altered(best.code, name, value) for name in ("cluster", "custom", "tile") for value in values[name]]:
                if code is None or code in seen or time.monotonic() > until:
                    continue
                seen.add(code)
                space = self.plan.accepts(code)
                one = None if space is None or space > self.workspace else self.quick(code, space)
                one = self.timed(one) if one is not None and one.us < NEAR * max(best.us, TINY) else None
                if one is not None and one.us < GAIN * best.us and self.same(bits):
                    best, moved = one, True
        return best

    def final(self, these: list[Timed]) -> Timed:
        """The fastest by the median of rounds in turns."""
        codes = {one.code: one for one in these}
        measures = {code: self.timer(one) for code, one in codes.items()}
        count = ROUNDS_SHORT if these[0].us <= SHORT else ROUNDS
        rounds = [{code: measure() for code, measure in measures.items()} for _ in range(count if len(codes) > 1 else 1)]
        medians = {code: statistics.median(us for r in rounds if (us := r[code]) is not None) for code in codes}
        best = min(medians, key=lambda code: medians[code])
        return Timed(medians[best], best, codes[best].workspace)


def _elapsed(work: Callable[[], bool]) -> float | None:
    """Microseconds by CUDA events; None where the work says that it failed."""
    cp = device.cupy()
    begin, end = cp.cuda.Event(), cp.cuda.Event()
    begin.record()
    done = work()
    end.record()
    end.synchronize()
    return float(cp.cuda.get_elapsed_time(begin, end)) * 1000.0 if done else None


def _bytes(out: Any) -> Any:
    return out.reshape(-1).view("uint8")
