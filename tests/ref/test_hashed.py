"""A hash that is made once is the one that dataclasses make, and no field."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from lpref.ref.hashed import hashed_once
from lpref.ref.quantize import lookup


@dataclass(frozen=True)
class Plain:
    a: int
    b: tuple[int, ...]


class Counted(int):
    asked = 0

    def __hash__(self) -> int:
        Counted.asked += 1
        return int(self)


def test_the_hash_is_kept_and_is_that_of_the_fields() -> None:
    held = hashed_once(dataclass(frozen=True)(type("Held", (), {"__annotations__": {"a": int, "b": tuple}})))
    one = held(Counted(1), (2,))
    assert hash(one) == hash(one) == hash(Plain(1, (2,)))
    assert Counted.asked == 1
    assert [f.name for f in fields(one)] == ["a", "b"]


def test_a_changed_copy_has_its_own() -> None:
    q = lookup("nvfp4")
    hash(q)
    other = replace(q, rounding="stochastic")
    assert other != q
    assert replace(other, rounding=q.rounding) == q
    assert hash(replace(other, rounding=q.rounding)) == hash(q)
