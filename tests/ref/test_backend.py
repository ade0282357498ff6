"""Backends as tables, contracts that bite, and lockstep replay."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest

from lpref.ref.backend import Backend, Bits, Bound, Kernel, Law
from lpref.ref.errors import BackendError
from lpref.ref.recording import RecordingBackend, replay

f32 = np.float32


def toy(double=lambda x: x + x, contract=None) -> Backend:
    pair = lambda x: (x, {"n": len(x)})  # noqa: E731
    return Backend("toy", "exact", [Kernel("double", double, lambda x: x + x, contract or Bits()), Kernel("pair", pair, pair, Bits())])


def test_an_unknown_op_names_what_exists() -> None:
    with pytest.raises(BackendError, match=r"no op 'dubble'; nearest: double; all: double, pair"):
        toy().dubble(1)
    assert not hasattr(type(toy()), "double")
    with pytest.raises(BackendError, match="grade 'exakt'"):
        Backend("toy", "exakt", [])


def test_the_table_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        toy().ops["double"] = None
    with pytest.raises(TypeError):
        toy().kernels["double"] = None


@pytest.mark.parametrize(
    ("want", "got", "what"),
    [
        (f32([1, np.nan]), f32([1, -np.nan]), None),
        (f32([0.0]), f32([-0.0]), r"-0x0p\+0"),
        (f32([1]), np.nextafter(f32([1]), f32(2)), "0x1.000002"),
        (f32([1]), np.float64([1]), "float64"),
        (f32([1]), f32([[1]]), r"\[1, 1\]"),
        (f32([1]), f32([np.nan]), "nan"),
        ((f32([1]), 2), (f32([1]), 3), r"output\.1"),
        ((f32([1]), 2), (f32([1]),), "output"),
        ({"a": 1}, {"b": 1}, "'a'"),
        (None, f32([1]), "output"),
        (f32([1]), None, "output"),
        ("x", "x", None),
        (np.uint8([1, 255]), np.uint8([1, 254]), "0xff"),
    ],
)
def test_bits(want, got, what) -> None:
    found = Bits().mismatch(want, got, (), {})
    if what is None:
        assert found is None
    else:
        assert found is not None
        assert re.search(what, found)


@dataclasses.dataclass(frozen=True)
class Held:
    codes: np.ndarray
    cache: object = dataclasses.field(default=None, compare=False)

    def dequantize(self) -> np.ndarray:
        return self.codes * 0.5


@dataclasses.dataclass(frozen=True)
class Embedded:
    values: np.ndarray

    def dequantize(self) -> np.ndarray:
        return self.values


def test_bits_of_operands() -> None:
    held = Held(np.float64([1, 2]), cache=1)
    assert Bits().mismatch(held, Held(np.float64([1, 2]), cache=2), (), {}) is None
    assert "codes" in Bits().mismatch(held, Held(np.float64([1, 3])), (), {})
    assert Bits().mismatch(held, Embedded(np.float64([0.5, 1])), (), {}) is None
    assert "dequantize" in Bits().mismatch(held, Embedded(np.float64([0.5, 2])), (), {})


def test_bound_and_law() -> None:
    bound = Bound("test", lambda want, x: np.float64([0.1, 0.1, np.inf, 0.1]))
    want = f32([1, 2, 3, np.inf])
    assert bound.mismatch(want, f32([1.05, 2, 99, 7]), (want,), {}) is None
    assert "bound 0.1 (1 of 4 outside; test)" in bound.mismatch(want, f32([1, 2.2, 3, 7]), (want,), {})
    assert "outside" in bound.mismatch(want, f32([np.nan, 2, 3, 7]), (want,), {})
    law = Law("never shrinks", lambda want, got, args, kwargs: bool((got >= args[0]).all()))
    assert law.mismatch(None, f32([2]), (f32([1]),), {}) is None
    assert law.mismatch(None, f32([0]), (f32([1]),), {}) == "law broken: never shrinks"


def test_replay_judges_each_op_on_recorded_inputs() -> None:
    recorder = RecordingBackend(toy())
    x = f32([1, 2])
    y = recorder.double(x)
    recorder.double(y)
    recorder.pair(y)
    x[:] = 0  # a caller may reuse its arrays
    assert recorder.recording.counts() == {"double": 2, "pair": 1}
    assert replay(recorder.recording, toy()) == []
    wrong = replay(recorder.recording, toy(lambda x: np.where(x == 4, f32(9), x + x)))
    shown = "output[1]: expected 0x1.0000000000000p+3 = 8.0, got 0x1.2000000000000p+3 = 9.0 (1 of 2 differ)"
    assert [str(m) for m in wrong] == [f"call 1, double: {shown}"]
    with pytest.raises(BackendError, match="no op 'pair'"):
        replay(recorder.recording, Backend("less", "exact", [Kernel("double", lambda x: x + x, None, Bits())]))
