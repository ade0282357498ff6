"""`--exhaustive` and `--identify`: what the prover and the identifier find for a target that runs in its own process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from lpref.conformance.block_definition import block_definition
from lpref.conformance.diff.block_results import CLASSES as BLOCK_CLASSES
from lpref.conformance.diff.block_results import RESULTS as BLOCK_RESULTS
from lpref.conformance.diff.blocks import BlockComparison
from lpref.conformance.diff.cast import CastComparison
from lpref.conformance.diff.classes import CLASSES, DTYPES, RESULTS
from lpref.conformance.diff.report import CaseReport, Cell, text
from lpref.conformance.diff.run import Options, start
from lpref.conformance.exhaustive import prove
from lpref.conformance.exhaustive_blocks import prove_block
from lpref.conformance.identify import identify
from lpref.conformance.targets.base import Case, CastCase, QuantizeCase, TargetError, TargetRaised, TargetRefused
from lpref.conformance.targets.client import Remote, Session
from lpref.ref.errors import FormatError, SpecError
from lpref.ref.quantize.registry import lookup

PART_RESULTS = {"scale": "scale", "element": "codes"}
"""What a failure of a proof is called where the comparison, which measures the tensor's amax itself, does not see it."""


def run(
    spec: str, options: Options, exhaustive: bool, budget: float | None, with_identification: bool, say: Callable[[str], Any] | None
) -> Iterator[CaseReport]:
    """The reports of `run.run`, each with what was asked for in addition."""
    for session, version, case, report in start(spec, options):
        if report.error is None and with_identification:
            report = identified(report, session, case)
        if report.error is None and exhaustive:
            report = proved(report, session, version, case, budget)
        if say is not None:
            say(text(report))
        yield report


def identified(report: CaseReport, session: Session, case: Case) -> CaseReport:
    """With the definitions that come closest."""
    if not isinstance(case, (CastCase, QuantizeCase)):
        return replace(report, notes=(*report.notes, f"--identify knows casts and quantizers, not {case.op}"))
    try:
        found = identify(Remote(session), case)
    except TargetError as error:
        return replace(report, error=(error.kind, str(error)))
    return replace(report, notes=(*report.notes, *str(found).splitlines()), extra={**report.extra, "identification": found.to_json()})


def proved(report: CaseReport, session: Session, version: str, case: Case, budget: float | None) -> CaseReport:
    """With the proof: of casts over all float32 inputs, of block quantizers by factorisation. What the proof finds is looked up among the known
    differences."""
    said = case.op
    if isinstance(case, (CastCase, QuantizeCase)):
        if case.input != "float32":
            said = f"input={case.input}"
        elif isinstance(case, CastCase):
            return proved_cast(report, session, version, case, budget)
        elif case.layout == "linear":
            return proved_blocks(report, session, version, case, budget)
        else:
            said = f"layout={case.layout}"
    return noted(report, f"--exhaustive knows casts and block quantizers of float32, not {said}")


def noted(report: CaseReport, *notes: str) -> CaseReport:
    """With these notes."""
    return replace(report, notes=(*report.notes, *notes))


def proved_cast(report: CaseReport, session: Session, version: str, case: CastCase, budget: float | None) -> CaseReport:
    """With the proof of a cast. All failures count as explained where every example of them is."""
    try:
        proof = prove(Remote(session), case, budget=budget)
    except TargetError as error:
        return replace(report, error=(error.kind, str(error)))
    report = replace(noted(report, *str(proof).splitlines()), extra={**report.extra, "proof": proof.to_json()})
    if not proof.failures:
        return report
    comparison = CastComparison(session, version, case)
    x = np.array([pattern for pattern, _ in proof.examples], np.uint32).view(DTYPES["float32"])
    words = np.array([word for _, word in proof.examples], np.uint32) if proof.words else None
    classes, kinds, label, _, _ = comparison.label(x, words)
    known = [comparison.entries[i - 1].id if i > 0 else "" for i in label]
    cells = [Cell(list(CLASSES)[c], list(RESULTS)[k], proof.failures, name) for c, k, name in zip(classes, kinds, known, strict=True)]
    return replace(report, cells=(*report.cells, judged(cells)))


def judged(cells: list[Cell]) -> Cell:
    """Of the cells of all examples, the one that stands for them: the first that nothing explains, else the first."""
    return next((c for c in cells if not c.known), cells[0])


def proved_blocks(report: CaseReport, session: Session, version: str, case: QuantizeCase, budget: float | None) -> CaseReport:
    """With the proof of a block quantizer. A quantizer or a target that cannot be proved so is said to be, in a note.

    All failures count as explained where every example of them is, else as unexplained, under the first example that is.
    """
    try:
        block_definition(lookup(case.quantizer))
    except SpecError as error:
        return noted(report, f"--exhaustive: {error.problems[0]}")
    if lookup(case.quantizer).scale.rule == "nvfp4" and not takes_amax(session, case):
        return noted(report, "--exhaustive: NVFP4 is proved under one tensor amax, and the target does not heed the argument amax")
    try:
        proof = prove_block(Remote(session), case.quantizer, budget=budget)
    except FormatError as error:
        return noted(report, f"--exhaustive: {error}")
    except TargetError as error:
        return replace(report, error=(error.kind, str(error)))
    report = replace(noted(report, *str(proof).splitlines()), extra={**report.extra, "proof": proof.to_json()})
    if not proof.failures:
        return report
    comparison = BlockComparison(session, version, case)
    cells = []
    for example in proof.examples:
        x = np.array([[float.fromhex(v) for v in example["block"]]], np.float32)
        classes, results, label = comparison.label(x)
        result = list(BLOCK_RESULTS)[results[0, 0]] if label[0, 0] >= 0 else PART_RESULTS[example["part"]]
        known = comparison.entries[label[0, 0] - 1].id if label[0, 0] > 0 else ""
        cells.append(Cell(list(BLOCK_CLASSES)[classes[0, 0]], result, proof.failures, known))
    return replace(report, cells=(*report.cells, judged(cells)))


def takes_amax(session: Session, case: QuantizeCase) -> bool:
    """Whether the target's answer depends on the tensor amax that it is given."""
    x = np.linspace(-2, 2, 64, dtype=np.float32).reshape(2, 32)
    try:
        small, large = (session.ask(case, {"x": x, "amax": np.array(a, np.float32)}) for a in (2.0, 1024.0))
    except (TargetRefused, TargetRaised):
        return False
    return any(not np.array_equal(small[name], large[name]) for name in ("codes", "scales", "values") if name in small and name in large)
