"""Hashes that are made once: nested records are keys of many tables, and hashing all of their fields took longer than looking them up."""

from __future__ import annotations

from typing import Any, TypeVar

T = TypeVar("T", bound=type)


def hashed_once(cls: T) -> T:
    """A frozen dataclass, written above `@dataclass`, whose objects keep their hash in their `__dict__`, where no field has it: equality, fields,
    `replace` and `repr` are what they were. Objects that go to another process are made anew there.

    >>> from dataclasses import dataclass
    >>> @hashed_once
    ... @dataclass(frozen=True)
    ... class Pair:
    ...     a: int
    ...     b: int
    >>> hash(Pair(1, 2)) == hash(Pair(1, 2)), Pair(1, 2)
    (True, Pair(a=1, b=2))
    """
    made: Any = cls.__hash__

    def hash_of(self: Any) -> int:
        kept = self.__dict__
        if "_hash" not in kept:
            kept["_hash"] = made(self)  # past the frozen `__setattr__`
        found: int = kept["_hash"]
        return found

    cls.__hash__ = hash_of  # type: ignore[method-assign, assignment]
    return cls
