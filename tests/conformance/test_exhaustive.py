"""The exhaustive prover: what it proves, what it finds, how it stops and goes on."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest

import lpref
from lpref.accel.cpu.cast import encode
from lpref.conformance import exhaustive, state
from lpref.conformance.exhaustive import CHUNK, Proof, prove
from lpref.conformance.intervals import PATTERNS, intervals
from lpref.conformance.progress import Progress
from lpref.conformance.proves import proves
from lpref.conformance.targets.base import CastCase, Target, TargetRefused
from lpref.ref.errors import ShapeError, SpecError, UnknownNameError
from lpref.ref.formats import FORMATS
from lpref.ref.rounding import ROUNDINGS

E4M3 = lpref.format("e4m3")
UNARY = [n for n, f in FORMATS.items() if f.bits <= 16]


def resume_at(path, case: CastCase, name: str, version: str, done: int, words=()) -> None:
    """A state file as if `done` inputs had been tried."""
    f = lpref.format(case.format)
    passes = [intervals(f, case.rounding, case.overflow, w, case.word_bits) for w in words or (0,)]
    what = {"target": name, "version": version, "case": case.fields(), "words": list(words), "definition": state.digest(passes)}
    state.save(path, what, {**state.FRESH, "done": done})


@pytest.mark.parametrize(("name", "rounding"), [("int4", "nearest_even"), ("e4m3", "to_odd"), ("nf4", "stochastic")])
def test_the_cpu_backend_on_the_stratified_set(name: str, rounding: str) -> None:
    words = (7,) if ROUNDINGS[rounding].stochastic else None
    proof = prove("cpu", CastCase(name, rounding), all_inputs=False, progress=None, words=words)
    assert proof.passed, proof
    assert proof.mode == "stratified"
    assert proof.inputs > 2**21
    assert "all inputs would take" in proof.note
    assert Proof.from_json(json.loads(json.dumps(proof.to_json()))) == proof


def test_the_last_chunks_of_all_inputs(tmp_path) -> None:
    path, case = tmp_path / "state.json", CastCase("e4m3")
    resume_at(path, case, "cpu", lpref.__version__, PATTERNS - 8 * CHUNK)
    said: list[Progress] = []
    proof = prove("cpu", case, resume=path, all_inputs=True, progress=said.append)
    assert proof.passed
    assert proof.mode == "all"
    assert proof.inputs == PATTERNS
    assert said[0].estimate
    assert said[0].done == PATTERNS - 8 * CHUNK
    assert "Melem/s" in str(said[0])
    again = prove("cpu", case, resume=path, all_inputs=True, progress=None)  # nothing is left to do
    assert again.inputs == PATTERNS


def test_a_budget_stops_and_the_state_goes_on(tmp_path) -> None:
    path, case = tmp_path / "state.json", CastCase("e4m3")
    first = prove("cpu", case, resume=path, budget=0.0, all_inputs=True, progress=None)
    assert not first.complete
    assert not first.passed
    assert "not finished" in str(first)
    assert json.loads(path.read_text())["done"] == first.inputs
    with pytest.raises(SpecError, match="case is"):
        prove("cpu", CastCase("e4m3", "toward_zero"), resume=path, all_inputs=True, progress=None)
    path.write_text("{}")
    with pytest.raises(SpecError, match="not the state of a proof"):
        prove("cpu", case, resume=path, all_inputs=True, progress=None)


def wrong_at(pattern: int):
    def cast(x: np.ndarray) -> np.ndarray:
        codes = encode(x, "e4m3")
        codes[x.view(np.uint32) == pattern] ^= 1
        return codes

    return cast


def test_one_wrong_input_of_all_is_found(tmp_path) -> None:
    path, pattern = tmp_path / "state.json", PATTERNS - 3 * CHUNK + 12345
    cast = wrong_at(pattern)
    resume_at(path, CastCase("e4m3"), cast.__qualname__, "", (pattern // CHUNK) * CHUNK)
    proof = prove(cast, "e4m3", resume=path, all_inputs=True, progress=None)
    assert proof.failures == 1
    assert proof.first is not None
    assert proof.first["pattern"] == pattern
    assert "FAILED" in str(proof)


@pytest.mark.parametrize(
    "cast",
    [
        lambda x: encode(x, "e4m3", "nearest_away"),
        lambda x: encode(x.astype(np.float16).astype(np.float32), "e4m3"),
        lambda x: E4M3.round(x) + np.float32(0),
        lambda x: encode(np.where(np.isnan(x), np.float32(0), x), "e4m3"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning", "ignore:invalid:RuntimeWarning")
def test_planted_mistakes_are_found_in_the_stratified_set(cast) -> None:
    proof = prove(cast, "e4m3", all_inputs=False, progress=None)
    assert proof.failures, proof
    assert "the definition gives" in str(proof)


def test_values_are_proved_too_and_slow_targets_get_less() -> None:
    def slow(x: np.ndarray) -> np.ndarray:
        time.sleep(x.size / 15e6)
        return E4M3.round(x)

    proof = prove(slow, "e4m3", progress=None)
    assert proof.passed
    assert proof.mode == "stratified"


def test_targets_by_protocol() -> None:
    class Mine(Target):
        name, package, imports = "mine", "numpy", "numpy"

        def cases(self):
            return (CastCase("e2m1"),)

        def cast(self, x, case, words=None):
            return lpref.format(case.format).encode(x)

    proof = prove(Mine(), "e2m1", all_inputs=False, progress=None)
    assert proof.passed
    assert proof.version == np.__version__
    assert proof.refused > 0  # NaN: e2m1 has none
    with pytest.raises(TargetRefused, match="no cast e4m3"):
        prove(Mine(), "e4m3", progress=None)


def test_errors() -> None:
    with pytest.raises(UnknownNameError, match="backend"):
        prove("gpu", "e4m3")
    with pytest.raises(ShapeError, match="must keep the shape"):
        prove(lambda x: x[1:], "e4m3", progress=None)
    with pytest.raises(SpecError, match="32 bits"):
        prove("cpu", "float32")
    with pytest.raises(SpecError, match="lpref_proof"):
        Proof.from_json({"lpref_proof": 2})


@pytest.mark.deep
@pytest.mark.timeout(600)
@pytest.mark.parametrize("rounding", ["nearest_even", "toward_positive", "stochastic"])
@pytest.mark.parametrize("name", UNARY)
@proves("{name}", "cpu")
def test_the_cpu_backend_on_all_inputs(name: str, rounding: str) -> None:
    words = (0x5A,) if rounding == "stochastic" else None
    proof = prove("cpu", CastCase(name, rounding), words=words, all_inputs=True, progress=None)
    assert proof.passed, proof


def test_the_module_runs_by_itself(capsys) -> None:
    assert exhaustive.main(["e2m1", "--budget", "0"]) == 1  # not finished
    assert "not finished" in capsys.readouterr().out
