"""Running vectors: an implementation's answers against the files of a folder. Everything is checked before anything is run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lpref.conformance import check
from lpref.conformance.targets.base import Case, CastCase, GemmCase, QuantizeCase, TargetError
from lpref.conformance.vectors.blocks import numbers
from lpref.conformance.vectors.files import VectorSet, check_sums, read
from lpref.conformance.vectors.gemms import product_of
from lpref.ref.errors import SpecError, UnknownNameError
from lpref.ref.formats import format as format_of
from lpref.ref.linalg import ACCUMULATORS
from lpref.ref.quantize.packing import row_bytes, unpack
from lpref.specs import quantizer as quantizer_of

Answer = Callable[[Case, Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]
"""(case, {x, words} or {a, b}) -> {codes | values, scales, tensor_scale} or {c}; raises TargetError."""
OWN = ("cpu", "reference")


@dataclass(frozen=True)
class FileResult:
    """One file: cases run, how many failed, the first failure; `refused`: why the target did not answer."""

    file: str
    cases: int
    failures: int
    first: str = ""
    refused: str = ""

    @property
    def passed(self) -> bool:
        """All cases ran and none failed."""
        return not self.failures and not self.refused


def run(folder: str | Path, answer: Answer) -> list[FileResult]:
    """Ask for every case of every .jsonl file of the folder.

    Raises: SpecError, before anything is asked: no vectors, a wrong checksum or schema, an unknown or differing revision.
    """
    folder = Path(folder)
    paths = sorted(folder.glob("*.jsonl")) if folder.is_dir() else []
    if not paths:
        raise SpecError([f"{folder}: no vectors (*.jsonl)"], where="vectors run", remedy="lpref vectors export DIR writes them")
    check_sums(folder)
    sets = [read(path) for path in paths]
    wrong = [text for s in sets for text in _unknown(s)]
    if wrong:
        raise SpecError(wrong, where="vectors run", remedy="export the vectors again with this version")
    return [_run(s, answer) for s in sets]


def _unknown(s: VectorSet) -> list[str]:
    """What of the header this version does not have."""
    h = s.header
    try:
        mine = revision(h["op"], h["subject"])
    except (UnknownNameError, SpecError) as error:
        return [f"{s.name}: header.subject: {error}"]
    if mine != h["revision"]:
        return [f"{s.name}: header.revision: {h['revision']}, this version defines {mine}"]
    return []


def revision(op: str, subject: str) -> int:
    """The revision of a format, a quantizer or an accumulation model.

    Raises: UnknownNameError, SpecError.
    """
    if op == "cast":
        return format_of(subject).revision
    if op == "quantize":
        return quantizer_of(subject).revision
    if subject not in ACCUMULATORS:
        raise UnknownNameError("accumulation model", subject, ACCUMULATORS)
    return ACCUMULATORS[subject].revision


def answering(name: str) -> Answer:
    """lpref's own backends, `cpu` and `reference`, as an answer.

    Raises: UnknownNameError.
    """
    if name not in OWN:
        raise UnknownNameError("backend", name, OWN)
    from lpref.accel import gemm, quantize
    from lpref.conformance.answers import own

    def answer(case: Case, arrays: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        if isinstance(case, CastCase):
            return {"codes": own(name, case).cast(arrays["x"], arrays.get("words"))}
        if isinstance(case, GemmCase):
            with np.errstate(over="ignore", invalid="ignore"):
                return {"c": gemm(arrays["a"], arrays["b"], case.accumulate, backend=name)}
        assert isinstance(case, QuantizeCase)
        t = quantize(arrays["x"], case.quantizer, backend=name)
        found = {"codes": t.codes, "tensor_scale": np.asarray(t.tensor_scale)}
        return {**found, "scales": t.scales[0]} if t.scales else found

    return answer


def _run(s: VectorSet, answer: Answer) -> FileResult:
    h = s.header
    try:
        if h["op"] == "cast":
            bad, first = _casts(s, answer)
        else:
            ask = _product if h["op"] == "gemm" else _quantized
            found = [ask(h, c, answer) for c in s.cases]
            bad, first = sum(f != "" for f in found), next((f for f in found if f), "")
    except TargetError as error:
        return FileResult(s.name, 0, 0, refused=f"{error.kind}: {error}")
    return FileResult(s.name, len(s.cases), bad, first)


def _casts(s: VectorSet, answer: Answer) -> tuple[int, str]:
    h, f = s.header, format_of(s.header["subject"])
    x = np.array([int(c["in"], 16) for c in s.cases], np.uint32).view(np.float32)
    want = np.array([int(c["out"], 16) for c in s.cases], np.int64)
    arrays = {"x": x}
    if "word_bits" in h:
        arrays["words"] = np.array([int(c["word"], 16) for c in s.cases], np.uint32)
    got = answer(CastCase(h["subject"], h["rounding"], h["overflow"], h.get("word_bits")), arrays)
    nans = [int(c, 16) for c in h["nan_codes"]]
    if "codes" in got:
        bad = _differ(got["codes"], want, nans)
    else:
        bad = check.differing_values(got["values"].astype(np.float64), f.decode(want), "negative_zero" in f.targets)
    if not bad.any():
        return 0, ""
    i = int(np.flatnonzero(bad)[0])
    shown = check.show_code(f, got["codes"][i]) if "codes" in got else repr(float(got["values"][i]))
    word = f", word {arrays['words'][i]:#x}" if "words" in arrays else ""
    classes = Counter(s.cases[int(j)]["catches"] for j in np.flatnonzero(bad))
    text = f"case {i}, x = {check.show_input(x[i])}{word}: got {shown}, expected {check.show_code(f, want[i])}"
    return int(np.count_nonzero(bad)), "\n         ".join([text, *(f"{n} of '{k}', which catches {h['catches'][k]}" for k, n in classes.items())])


def _differ(got: np.ndarray, want: np.ndarray, nans: list[int]) -> np.ndarray:
    """Where codes differ; NaN codes are one class."""
    bad: np.ndarray = (got.astype(np.int64) != want) & ~(np.isin(got, nans) & np.isin(want, nans))
    return bad


def _quantized(h: Mapping[str, Any], c: Mapping[str, Any], answer: Answer) -> str:
    """What differs in one matrix, empty if nothing does."""
    return _matrix(h, c, answer(QuantizeCase(h["subject"]), {"x": numbers(c["in"], 32).view(np.float32).reshape(c["shape"])}))


def _product(h: Mapping[str, Any], c: Mapping[str, Any], answer: Answer) -> str:
    """What differs in one matrix product: NaN is a class, and the sign of zero is left open."""
    m, n, k = c["shape"]
    given = product_of(c)
    got = np.asarray(answer(GemmCase(h["format"], h["subject"], f"{m}x{n}x{k}"), {"a": given["a"], "b": given["b"]})["c"])
    want = given["out"]
    if got.shape != want.shape:
        return f"case {c['id']}: a product of shape {got.shape}, expected {want.shape}"
    bad = check.differing_values(got.astype(np.float64), want.astype(np.float64), signed_zero=False)
    if not bad.any():
        return ""
    i, j = (int(v[0]) for v in np.nonzero(bad))
    shown, expected = check.show_input(np.float32(got[i, j])), check.show_input(want[i, j])
    return (f"case {c['id']}, K = {k}, c[{i}, {j}]: got {shown}, expected {expected}; {int(np.count_nonzero(bad))} differ"
            f"\n         of '{c['catches']}', which catches {h['catches'][c['catches']]}")  # fmt: skip


def _matrix(h: Mapping[str, Any], c: Mapping[str, Any], got: Mapping[str, np.ndarray]) -> str:
    """What differs in the answer to one matrix, empty if nothing does."""
    head = f"case {c['id']} ({c['catches']})"
    scale = int(c["tensor_scale"], 16)
    if int(np.float32(np.asarray(got.get("tensor_scale", 1)).reshape(())).view(np.uint32)) != scale:
        value = np.uint32(scale).view(np.float32)
        if not (np.isnan(value) and np.isnan(np.asarray(got.get("tensor_scale", 1))).all()):
            return f"{head}: tensor scale {float(np.asarray(got.get('tensor_scale', 1)))!r}, expected {check.show_input(value)}"
    want = numbers(c["scales"], h["scale_bits"]).reshape(c["scales_shape"])
    if want.size:
        theirs = np.asarray(got["scales"]) if "scales" in got else np.zeros(0, np.uint8)
        theirs = theirs.view(f"u{theirs.dtype.itemsize}") if theirs.dtype.kind == "f" and h["scale_bits"] == 32 else theirs
        if theirs.size != want.size or (theirs.reshape(want.shape) != want).any():
            at = "" if theirs.size != want.size else f"[{int(np.flatnonzero(theirs.reshape(-1) != want.reshape(-1))[0])}]"
            return f"{head}: scales{at} differ ({theirs.size} of {want.size})"
    codes, shape = np.asarray(got["codes"]), tuple(c["shape"])
    if codes.shape != shape and codes.shape == (shape[0], row_bytes(shape[1], h["code_bits"])):
        codes = unpack(codes, h["code_bits"], shape[1])
    if codes.shape != shape:
        return f"{head}: codes of shape {codes.shape}, expected {shape}"
    expected = numbers(c["codes"], 16 if h["code_bits"] > 8 else 8).astype(np.int64).reshape(shape)
    bad = _differ(codes, expected, [int(n, 16) for n in h["nan_codes"]])
    if bad.any():
        i, j = (int(v[0]) for v in np.nonzero(bad))
        return f"{head}: code [{i}, {j}] is {int(codes[i, j]):#x}, expected {int(expected[i, j]):#x}; {int(np.count_nonzero(bad))} differ"
    return ""
