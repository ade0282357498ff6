"""Two lines of a step, with streams that write down what they are told: who waits for whom, and how long a piece of work is held."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from lpref.accel.cuda import device, feed, lines
from lpref.accel.cuda.lines import AHEAD, BRANCH, DEPTH, HELD, Lines, shared

TOLD: list[Any] = []
CURRENT: list[Any] = []


class Stream:
    """Writes down what it is told, and what is allocated while it is the current one."""

    def __init__(self, name: str = "side", non_blocking: bool = True) -> None:
        self.name = name

    def __enter__(self) -> None:
        CURRENT.append(self)

    def __exit__(self, *_: object) -> None:
        CURRENT.pop()

    def record(self) -> str:
        TOLD.append(f"{self.name} records {len(TOLD)}")
        return f"{self.name} {len(TOLD) - 1}"

    def wait_event(self, event: str) -> None:
        TOLD.append(f"{self.name} waits for {event}")


class Array:
    """Stands for an array: the allocation that it is in."""

    def __init__(self, place: int, nbytes: int = 0) -> None:
        self.data = SimpleNamespace(mem=SimpleNamespace(ptr=place))
        self.nbytes = nbytes


class Memory:
    """Stands for an allocation of so many bytes in the arena of a stream."""

    def __init__(self, size: int) -> None:
        self.size, self.arena = size, CURRENT[-1].name


ALLOCATORS: list[Any] = [Memory]


@contextmanager
def using(allocate: Any) -> Iterator[None]:
    ALLOCATORS.append(allocate)
    yield
    ALLOCATORS.pop()


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Lines:
    TOLD.clear()
    CURRENT[:] = [Stream("main")]
    cuda = SimpleNamespace(
        Stream=Stream, get_current_stream=lambda: CURRENT[-1], get_allocator=lambda: ALLOCATORS[-1], using_allocator=using
    )
    monkeypatch.setattr(device, "cupy", lambda: SimpleNamespace(cuda=cuda))
    monkeypatch.setattr(feed, "capturing", lambda: True)
    monkeypatch.delenv(lines.ONE, raising=False)
    return Lines()


def at() -> str:
    return str(CURRENT[-1].name)


def told_where(found: list[str]) -> None:
    """Notes where it is told."""
    found.append(at())


def test_without_a_place_there_is_one_line(made: Lines) -> None:
    assert not BRANCH.apart
    assert BRANCH(at) == "main"
    BRANCH.read()
    assert shared(at) == "main"
    assert not TOLD


def test_a_piece_begins_behind_the_main_line_and_is_waited_for_at_the_end(made: Lines) -> None:
    with made.open():
        assert BRANCH.apart
        found: list[str] = []
        BRANCH(lambda: (told_where(found), BRANCH(lambda: told_where(found)), found.append(f"apart: {BRANCH.apart}")))
        assert found == ["side", "side", "apart: False"]
        assert TOLD == ["main records 0", "side waits for main 0", "side records 2"]
    assert TOLD[3:] == ["main waits for side 2"]
    assert not BRANCH.apart


def test_a_piece_is_held_until_the_main_line_has_waited_for_it(made: Lines) -> None:
    """What it reads is memory of the main line, which would be given out again."""
    reads = []
    with made.open():
        for number in range(DEPTH + 1):
            array = Array(number)
            reads.append(weakref.ref(array))
            BRANCH(lambda held=array: id(held) and None)
            del array
        assert [held() is None for held in reads] == [True] + [False] * DEPTH
        assert [line for line in TOLD if line.startswith("main waits")] == ["main waits for side 2"]
    assert all(held() is None for held in reads)


def test_a_piece_takes_memory_of_the_main_line_and_keeps_it_until_that_has_waited(made: Lines) -> None:
    found, there = [], []

    def work() -> None:
        array = ALLOCATORS[-1](8)
        found.append(array.arena)
        there.append(weakref.ref(array))

    with made.open():
        BRANCH(work)
        BRANCH.ahead(work)
        assert found == ["main", "side"]
        assert [array() is None for array in there] == [False, True]
    assert there[0]() is None
    assert ALLOCATORS == [Memory]


def test_pieces_under_way_read_no_more_than_the_bound(made: Lines) -> None:
    def under_way(*sizes: int) -> list[int]:
        with made.open():
            for size in sizes:
                BRANCH(lambda: None, Array(1, size // 2), Array(2, size - size // 2))
            return [piece.size for piece in made.held]

    assert under_way(HELD // 2, HELD // 2) == [HELD // 2, HELD // 2]
    assert under_way(HELD // 2, HELD // 2, 2) == [HELD // 2, 2]
    assert under_way(8 * HELD) == [8 * HELD]
    assert under_way(8 * HELD, 0) == [0]
    assert under_way(*[0] * (DEPTH + 1)) == [0] * DEPTH


def test_who_reads_what_the_branch_made_waits_for_it(made: Lines) -> None:
    with made.open():
        BRANCH(lambda: (Array(1), {"step": Array(2), "none": None}))
        BRANCH.read(Array(3))
        assert TOLD[-1] == "side records 2"
        BRANCH.read(Array(2))  # another view of the same allocation
        assert TOLD[-1] == "main waits for side 2"
        BRANCH.read()
        BRANCH.read(Array(1))
        assert len(TOLD) == 4
    assert len(TOLD) == 4


def test_an_eager_step_waits_where_the_work_stands(made: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "capturing", lambda: False)
    with made.open():
        BRANCH(lambda: None)
        assert TOLD[-1] == "main waits for side 2"
        assert len(made.held) == 1  # it takes the memory of the graph


def test_what_both_lines_use_is_made_on_the_main_line(made: Lines) -> None:
    with made.open():
        found: list[str] = []
        BRANCH(lambda: (shared(lambda: told_where(found)), told_where(found)) and None)
        assert found == ["main", "side"]
        assert TOLD[2:4] == ["main records 2", "side waits for main 2"]


def test_what_is_done_ahead_waits_for_the_readers_of_what_it_may_overwrite(made: Lines) -> None:
    def told() -> list[str]:
        new, TOLD[:] = [line for line in TOLD if "waits" in line], []
        return new

    made_by: list[Any] = []
    with made.open():
        for number in range(AHEAD + 2):
            result = BRANCH.ahead(lambda number=number: Array(number))
            made_by.append(weakref.ref(result))
            del result
            side = [line for line in told() if line.startswith("side")]
            assert len(side) == (number == 0 or number >= AHEAD), number
        assert [held() is None for held in made_by] == [True] * 2 + [False] * AHEAD
        shared(lambda: None)
        BRANCH.ahead(lambda: None)
        assert told()[0].startswith("side waits for main")
        BRANCH(lambda: None)
        told()
        BRANCH.ahead(lambda: None)
        assert told()[0].startswith("side waits for main")


def test_one_line_on_demand(made: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(lines.ONE, "1")
    with Lines().open():
        assert not BRANCH.apart
        assert BRANCH(at) == "main"
    assert not TOLD


def test_an_error_leaves_no_branch_behind(made: Lines) -> None:
    def fails() -> None:
        raise ValueError

    with pytest.raises(ValueError), made.open():
        BRANCH(fails)
    assert not BRANCH.apart
    assert not made.held
    with made.open():
        found: list[str] = []
        BRANCH(lambda: told_where(found))
    assert found == ["side"]
