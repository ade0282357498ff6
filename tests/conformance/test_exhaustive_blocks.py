"""Block quantizers by factorisation: the CPU backend passes, planted mistakes are found, and the definition is the oracle's."""

from __future__ import annotations

import json
from fractions import Fraction
from itertools import islice

import numpy as np
import pytest
from oracle.scaling import mx_exponent

import lpref
from lpref.conformance import exhaustive_blocks
from lpref.conformance.block_definition import block_definition
from lpref.conformance.exhaustive_blocks import AMAX, prove_block, stratified_amax
from lpref.conformance.proves import proves
from lpref.ref.errors import FormatError, ShapeError, SpecError, UnknownNameError
from lpref.ref.quantize import quantize

MX = ("mxfp8_e4m3", "mxfp8_e5m2", "mxfp6_e2m3", "mxfp6_e3m2", "mxfp4", "mxint8")
MODES = ("floor", "ceil", "even", "rceil")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["mxfp4", "mxfp8_e4m3"])
def test_the_scale_thresholds_are_the_oracle_s(name: str, mode: str) -> None:
    q = lpref.quantizer(f"{name}:scale={mode}")
    d = block_definition(q)
    f = lpref.format(q.format)
    near = (d.starts[:-1, None] + np.arange(-2, 3)).reshape(-1)
    patterns = np.unique(near[(near >= 0) & (near < 0x7F800000)]).astype(np.uint32)
    want = [mx_exponent(Fraction(float(a)), mode, Fraction(f.max), f.trailing_bits) + 127 for a in patterns.view(np.float32)]
    assert d.scale_codes(patterns).tolist() == want


@pytest.mark.parametrize("name", ["mxfp4", "mxfp8_e4m3:scale=rceil", "nvfp4"])
def test_the_reference_is_the_definition(name: str) -> None:
    q = lpref.quantizer(name)
    d = block_definition(q, 10.0)
    patterns = stratified_amax(d)
    patterns = np.concatenate([patterns[::300], d.starts[1:-1].astype(np.uint32), d.starts[1:-1].astype(np.uint32) - np.uint32(1)])
    x = np.zeros((patterns.size, q.blocks.k), np.float32)
    x[:, 3] = patterns.view(np.float32)
    got = quantize(x, q, amax=np.float32(10) if name == "nvfp4" else None).scales[0].reshape(-1)
    want = d.scale_codes(patterns)
    assert np.array_equal(got[want >= 0], want[want >= 0])
    assert np.isin(got[want < 0], (0xFF, 0x7F)).all()


@pytest.mark.parametrize("name", ["mxfp4", "nvfp4"])
@proves("quantizer:{name}", "cpu")
def test_the_cpu_backend_on_the_stratified_amax(name: str) -> None:
    proof = prove_block("cpu", name, all_amax=False, progress=None)
    assert proof.passed, proof
    assert proof.pairs_tried > 5e6
    assert json.loads(json.dumps(proof.to_json()))["passed"] is True


@pytest.mark.deep
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", [*MX, "mxfp4:scale=rceil", "mxfp8_e4m3:scale=even", "nvfp4"])
def test_the_cpu_backend_on_every_amax(name: str) -> None:
    proof = prove_block("cpu", name, progress=None)
    assert proof.passed, proof


def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundredth of the first parts, for tests that are about something else."""
    whole, steps = exhaustive_blocks.stratified_amax, exhaustive_blocks._Run.steps
    monkeypatch.setattr(exhaustive_blocks, "stratified_amax", lambda d: whole(d)[::100])
    monkeypatch.setattr(exhaustive_blocks._Run, "steps", lambda run: islice(steps(run), 0, None, 100))


def test_planted_mistakes_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def ceil_scale(x, amax):
        return quantize(x, "mxfp4:scale=ceil")

    def away(x, amax):
        return quantize(x, "mxfp4:rounding=nearest_away")

    few(monkeypatch)
    for cast, says, part in ((ceil_scale, "scale code", "scale"), (away, "element ", "element")):
        proof = prove_block(cast, "mxfp4", all_amax=False, progress=None)
        assert proof.failures >= len(proof.examples) > 0
        assert says in proof.first
        assert proof.examples[0]["part"] == part
        assert "FAILED" in str(proof)
        block = np.array([[float.fromhex(v) for v in proof.examples[0]["block"]]], np.float32)
        got, want = cast(block, None), quantize(block, "mxfp4")
        assert (got.codes != want.codes).any() or (got.scales[0] != want.scales[0]).any()


def test_a_slow_target_gets_the_stratified_set(monkeypatch: pytest.MonkeyPatch) -> None:
    few(monkeypatch)
    monkeypatch.setattr(exhaustive_blocks, "SLOW", 1e30)
    said = []
    proof = prove_block("cpu", "mxfp4", progress=said.append)
    assert proof.passed
    assert proof.mode == "stratified"
    assert "every amax would take" in str(proof)
    assert said[0].estimate
    assert said[0].total == proof.amax_total * 32 + proof.pairs_total


def test_budget_and_resumption(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state.json"
    few(monkeypatch)
    nothing = prove_block("cpu", "nvfp4", all_amax=True, budget=0.0, resume=path, progress=None)
    assert (nothing.mode, nothing.amax_tried, nothing.pairs_tried, nothing.complete) == ("stratified", 0, 0, False)
    assert "not finished" in str(nothing)
    assert not path.exists()
    monkeypatch.setattr(exhaustive_blocks._Run, "spent", lambda run: run.scales_asked > 3)
    monkeypatch.setattr(exhaustive_blocks._Run, "scales_asked", 0, raising=False)
    ask = exhaustive_blocks._Run.scales

    def counted(run, patterns):
        run.scales_asked += 1
        ask(run, patterns)

    monkeypatch.setattr(exhaustive_blocks._Run, "scales", counted)
    first = prove_block("cpu", "nvfp4", all_amax=True, resume=path, progress=None)
    assert first.mode == "all"
    assert not first.complete
    assert 0 < json.loads(path.read_text())["done"] == first.amax_tried < AMAX
    with pytest.raises(SpecError, match="case is"):
        prove_block("cpu", "nvfp4", tensor_amax=1.0, budget=0.0, resume=path, progress=None)
    second = prove_block("cpu", "nvfp4", resume=path, progress=None)
    assert second.amax_tried > first.amax_tried
    assert second.pairs_tried == first.pairs_tried == first.pairs_total


def test_errors() -> None:
    with pytest.raises(SpecError, match="by factorisation"):
        prove_block("cpu", "fp8_tensor")
    with pytest.raises(UnknownNameError, match="backend"):
        prove_block("gpu", "mxfp4")
    with pytest.raises(ShapeError, match="scales for x"):
        prove_block(lambda x, amax: {"codes": x.astype(np.uint8), "scales": np.zeros(3, np.uint8)}, "mxfp4", progress=None)
    with pytest.raises(FormatError, match="a proof compares codes"):
        prove_block(lambda x, amax: quantize(x, "mxfp4").dequantize(), "mxfp4", progress=None)
