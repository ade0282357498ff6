"""Vectors of matrix products: they are the oracle's, they tell all models apart, and the runner says what a wrong product does wrong."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from oracle import accumulate as oracle

from lpref.conformance import check
from lpref.conformance.proves import proves
from lpref.conformance.targets.base import GemmCase
from lpref.conformance.vectors import answering, export, run, shipped
from lpref.conformance.vectors.files import LIMIT, read
from lpref.conformance.vectors.gemms import CATCHES, gemm_set, operand_format, pairs, product_of, refusal
from lpref.ref import formats
from lpref.ref.errors import SpecError
from lpref.ref.linalg import ACCUMULATORS, Accumulate, HighPrecision, gemm

MODELS = {n: entry.model for n, entry in ACCUMULATORS.items() if refusal(entry.model) is None}
EQUAL = [{"hopper_fp16", "blackwell_fp16"}, {"blackwell_f8f6f4", "blackwell_mxf8f6f4"}]
"""Models that differ in nothing that operands of this kind reach: the clamp at 2^-133 or 2^-126, where products of binary16 are at least 2^-48; the
treatment of block scales, where there are none."""


def by_fractions(name: str, a: np.ndarray, b: np.ndarray) -> Fraction | float:
    """One inner product under a model, by the oracle."""
    model, f = MODELS[name], operand_format(MODELS[name])
    if model.inner == "integer":
        return float(np.float32(oracle.integer([int(v) for v in a], [int(v) for v in b], model.bits, model.overflow)))
    x, y = ([Fraction(float(v)) for v in row] for row in (a, b))
    if model.inner == "exact":
        return oracle.nearest(sum((p * q for p, q in zip(x, y, strict=True)), Fraction(0)), "float32")
    total, size = Fraction(0), model.chunk or len(x)
    for k in range(0, len(x), size):
        part = slice(k, k + size)
        if model.core is not None:
            piece = Fraction(oracle.unit_chain(x[part], y[part], model.core, (f.emin, f.emin)))
        else:
            piece = getattr(oracle, model.inner)(x[part], y[part], model.format, model.product)
        total = oracle.nearest(total + piece, model.outer)
    return total


@proves("{name}", "vectors")
@pytest.mark.parametrize("name", shipped.MODELS)
def test_the_products_are_the_oracle_s(name: str) -> None:
    """Every finite result whose operands are finite; the oracle does not look at the range above."""
    seen = 0
    for case in read(shipped.DATA / f"gemm-{name}.jsonl").cases:
        if case["catches"] in ("range", "special"):
            continue
        given = product_of(case)
        for i, j in np.ndindex(given["out"].shape):
            seen += 1
            assert Fraction(float(given["out"][i, j])) == by_fractions(name, given["a"][i], given["b"][j]), (case["id"], i, j)
    assert seen > 50


@pytest.mark.parametrize("name", MODELS)
def test_every_other_model_differs_somewhere(name: str) -> None:
    """On the vectors of a model, each other model for the same operands gives other bits, unless it is the same model by another name."""
    own, f = MODELS[name], operand_format(MODELS[name])
    others = {n: m for n, m in MODELS.items() if m != own and operand_format(m) == f and {n, name} not in EQUAL}
    with np.errstate(over="ignore", invalid="ignore"):
        for _, a, b in pairs(f, own):
            x, y = HighPrecision(a), HighPrecision(b)
            want = gemm(x, y, own).astype(np.float64)
            others = {n: m for n, m in others.items() if not check.differing_values(gemm(x, y, m).astype(np.float64), want, signed_zero=False).any()}
            if not others:
                break
    assert not others


def test_what_is_said_to_be_equal_is() -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        for first, second in EQUAL:
            a, b = (gemm_set(ACCUMULATORS[n], 999).cases for n in (first, second))
            assert a == b


@pytest.mark.parametrize("name", MODELS)
def test_operands_are_values_of_the_format_and_files_are_small(name: str) -> None:
    s = gemm_set(ACCUMULATORS[name], 2048)
    f = formats.format(s.header["format"])
    assert len(s.text().encode()) <= LIMIT // 8
    assert {c["catches"] for c in s.cases} == set(s.header["catches"]) <= set(CATCHES)
    for case in s.cases:
        given = product_of(case)
        for side in (given["a"], given["b"]):
            known = np.isfinite(side)
            assert np.array_equal(f.round(side[known]), side[known])


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_own_backends_pass(backend: str, tmp_path: Path) -> None:
    export(tmp_path, models=["fused", "kahan", "hopper_bf16", "int32_saturate"], max_cases=12)
    results = run(tmp_path, answering(backend))
    assert [r.file for r in results] == ["gemm-fused", "gemm-hopper_bf16", "gemm-int32_saturate", "gemm-kahan"]
    assert all(r.passed for r in results), results


def test_a_wrong_product_fails_and_says_what_was_caught(tmp_path: Path) -> None:
    export(tmp_path, models=["sequential", "int16_saturate"])
    asked: list[GemmCase] = []

    def wrong(case: GemmCase, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        asked.append(case)
        other = {"sequential": "pairwise", "int16_saturate": "int16_wrap"}[case.accumulate]
        return {"c": gemm(HighPrecision(arrays["a"]), HighPrecision(arrays["b"]), other)}

    integers, sums = run(tmp_path, wrong)
    assert "of 'alignment', which catches products cut at another bit" in sums.first
    assert "of 'integer range', which catches wrapping where the sum saturates" in integers.first
    assert asked[0].format == "int8"
    for result in run(tmp_path, lambda case, arrays: {"c": np.zeros((9, 9), np.float32)}):
        assert "a product of shape (9, 9), expected" in result.first


def test_npz_holds_the_same_and_unknown_models_are_refused(tmp_path: Path) -> None:
    export(tmp_path, models=["exact"], form="npz")
    with np.load(tmp_path / "gemm-exact.npz") as arrays:
        a, b, out = (arrays[f"{k}_0"].view(np.float32) for k in ("a", "b", "out"))
        assert np.array_equal(gemm(HighPrecision(a), HighPrecision(b), "exact"), out)
    lines = (shipped.DATA / "gemm-exact.jsonl").read_text().splitlines()
    folder = tmp_path / "other"
    folder.mkdir()
    (folder / "gemm-exact.jsonl").write_text("\n".join([json.dumps({**json.loads(lines[0]), "subject": "exactly"}), *lines[1:]]) + "\n")
    with pytest.raises(SpecError, match=r"header\.subject: unknown accumulation model 'exactly'"):
        run(folder, answering("cpu"))


def test_what_has_no_vectors_says_why() -> None:
    assert "exact or sequential" in str(refusal(Accumulate()))
    assert "order of addition" in str(refusal(Accumulate("sequential", order="unspecified")))
    assert set(MODELS) == set(ACCUMULATORS) - {"auto"}
