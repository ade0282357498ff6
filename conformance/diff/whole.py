"""`--exhaustive` and `--identify`: what the prover and the identifier find for a target that runs in its own process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from lpref.conformance.diff.cast import CastComparison
from lpref.conformance.diff.classes import CLASSES, DTYPES, RESULTS
from lpref.conformance.diff.report import CaseReport, Cell, text
from lpref.conformance.diff.run import Options, start
from lpref.conformance.exhaustive import prove
from lpref.conformance.identify import identify
from lpref.conformance.targets.base import Case, CastCase, QuantizeCase, TargetError
from lpref.conformance.targets.client import Remote, Session


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
    """With the proof over all float32 inputs; its first counter-example is looked up among the known differences."""
    if not isinstance(case, CastCase) or case.input != "float32":
        said = case.op if not isinstance(case, CastCase) else f"input={case.input}"
        return replace(report, notes=(*report.notes, f"--exhaustive knows casts of float32, not {said}"))
    try:
        proof = prove(Remote(session), case, budget=budget)
    except TargetError as error:
        return replace(report, error=(error.kind, str(error)))
    report = replace(report, notes=(*report.notes, *str(proof).splitlines()), extra={**report.extra, "proof": proof.to_json()})
    if not proof.failures or proof.first is None:
        return report
    comparison = CastComparison(session, version, case)
    x = np.array([proof.first["pattern"]], np.uint32).view(DTYPES["float32"])
    classes, kinds, label, _, _ = comparison.label(x, None)
    known = comparison.entries[label[0] - 1].id if label[0] > 0 else ""
    cell = Cell(list(CLASSES)[classes[0]], list(RESULTS)[kinds[0]], proof.failures, known)
    return replace(report, cells=(*report.cells, cell))
