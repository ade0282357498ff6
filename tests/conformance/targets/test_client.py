"""Foreign code in a child process: every way to fail is one typed error, and the next case is asked all the same."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from lpref.conformance.targets import resolve
from lpref.conformance.targets.base import (
    CastCase,
    GemmCase,
    QuantizeCase,
    TargetAnswer,
    TargetCrashed,
    TargetError,
    TargetMissing,
    TargetRaised,
    TargetRefused,
    TargetTimeout,
)
from lpref.conformance.targets.client import Session
from lpref.ref.errors import UnknownNameError

FOREIGN = str(Path(__file__).with_name("foreign.py"))
CASE = CastCase("bfloat16", overflow="to_infinity")
X = np.float32([1.0, 1.00390625, -0.0, np.inf, np.nan])
CODES = [0x3F80, 0x3F80, 0x8000, 0x7F80, 0x7FC0]


@pytest.mark.parametrize("spec", [f"{FOREIGN}:bfloat16", f"exec:{sys.executable} {FOREIGN}"], ids=["module", "exec"])
def test_a_target_answers(spec: str) -> None:
    with Session(spec) as session:
        for _ in range(2):
            assert session.ask(CASE, {"x": X})["codes"].tolist() == CODES


def test_large_arrays_travel_both_ways_at_once() -> None:
    x = np.ones(1 << 20, np.float32)
    with Session(f"exec:{sys.executable} {FOREIGN}") as session:
        assert (session.ask(CASE, {"x": x})["codes"] == 0x3F80).all()


@pytest.mark.parametrize(
    ("name", "error", "text"),
    [
        ("raises", TargetRaised, "RuntimeError: no such kernel"),
        ("exits", TargetRaised, "SystemExit: 3"),
        ("crashes", TargetCrashed, "signal SIGSEGV"),
        ("hangs", TargetTimeout, "--timeout"),
        ("shape", TargetAnswer, r"codes have shape \[4\], not \[5\]"),
        ("dtype", TargetAnswer, "codes are int32, not unsigned integers"),
        ("nothing", TargetAnswer, "returned nothing"),
        ("text", TargetAnswer, "returned <U7"),
    ],
)
def test_bad_targets(name: str, error: type[TargetError], text: str) -> None:
    with Session(f"{FOREIGN}:{name}", timeout=2 if name == "hangs" else 30) as session:
        for _ in range(1 if name == "hangs" else 2):  # and again: the session starts a new process where the old one is gone
            with pytest.raises(error, match=text):
                session.ask(CASE, {"x": X})


def test_prints_are_noted_and_do_no_harm() -> None:
    with Session(f"{FOREIGN}:talks") as session:
        assert session.ask(CASE, {"x": X})["codes"].tolist() == CODES
        assert "hello from the target" in session.printed[0]
        assert session.printed[0].startswith("32 bytes")


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ("no_such_module:f", "No module named 'no_such_module'"),
        (f"{FOREIGN}:no_such_function", "no_such_function"),
        ("no_such_file.py:f", "no such file"),
        (f"{FOREIGN}:np", "is a module, not callable"),
        ("lib:./no_such.so:f", "no_such.so"),
        ("lib:no_symbol.so", "write lib:PATH.so:SYMBOL"),
        ("exec:/no/such/program", "No such file"),
    ],
)
def test_targets_that_are_not_there(spec: str, text: str) -> None:
    with Session(spec) as session, pytest.raises(TargetMissing, match=text):
        session.ask(CASE, {"x": X})


def test_a_program_that_prints_is_told_so() -> None:
    with Session("exec:echo hello, this is a program that prints a line") as session, pytest.raises(TargetAnswer, match="no frame"):
        session.ask(CASE, {"x": X})


def test_a_program_that_ends_at_once() -> None:
    with Session("exec:true") as session, pytest.raises(TargetCrashed, match="exit code 0"):
        session.ask(CASE, {"x": X})


def test_builtin_targets_refuse_what_they_have_not() -> None:
    with Session("ml_dtypes") as session:
        with pytest.raises(TargetRefused, match="ml_dtypes has no cast e4m3 toward_zero"):
            session.ask(CastCase("e4m3", "toward_zero"), {"x": X})
        with pytest.raises(TargetRefused, match="has no quantize mxfp4"):
            session.ask(QuantizeCase("mxfp4"), {"x": np.ones((1, 32), np.float32)})


def test_products() -> None:
    a, b = np.float32([[1, 2], [3, 4], [5, 6]]), np.float32([[1, -1]])
    with Session(f"{FOREIGN}:sequential") as session:
        assert session.ask(GemmCase(), {"a": a, "b": b})["c"].tolist() == [[-1], [-1], [-1]]


@pytest.mark.peer
def test_arrays_of_another_library() -> None:
    pytest.importorskip("torch")
    with Session(f"{FOREIGN}:torch_bfloat16", array="torch") as session:
        np.testing.assert_array_equal(session.ask(CASE, {"x": X})["values"], np.float32([1, 1, -0.0, np.inf, np.nan]))


@pytest.mark.skipif(importlib.util.find_spec("cupy") is not None, reason="cupy is here")
def test_an_array_library_that_is_not_there() -> None:
    with Session(f"{FOREIGN}:bfloat16", array="cupy") as session, pytest.raises(TargetMissing, match="cupy"):
        session.ask(CASE, {"x": X})


def test_names() -> None:
    with pytest.raises(UnknownNameError, match="ml_dtypes"):
        resolve("ml_dtype")
    with pytest.raises(UnknownNameError, match="array library"):
        resolve(f"{FOREIGN}:bfloat16", array="pytorch")
