"""One run of `lpref diff`: which cases, in which order, and the exit code."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any
from xml.sax.saxutils import quoteattr

from lpref.conformance.diff.blocks import compare_blocks
from lpref.conformance.diff.cast import compare_cast
from lpref.conformance.diff.others import compare_attention, compare_gemm, compare_optimizer
from lpref.conformance.diff.report import CaseReport, text
from lpref.conformance.targets import TARGETS, builtin
from lpref.conformance.targets.base import (
    AttentionCase,
    Case,
    CastCase,
    GemmCase,
    OptimizerCase,
    QuantizeCase,
    TargetMissing,
)
from lpref.conformance.targets.client import Session
from lpref.ref.errors import SpecError, UnknownNameError, nearest
from lpref.ref.formats import format as format_of
from lpref.ref.quantize.registry import lookup

OPS = ("cast", "quantize", "gemm", "optimizer", "attention")


@dataclass(frozen=True)
class Options:
    """What narrows a run; None: everything that the target says it implements."""

    op: str | None = None
    format: str | None = None
    quantizer: str | None = None
    rounding: str | None = None
    overflow: str | None = None
    layout: str | None = None
    input: str | None = None
    word_bits: int | None = None
    array: str = "numpy"
    device: str = "cpu"
    timeout: float = 60.0
    trace: bool = False

    def set(self) -> dict[str, Any]:
        """The fields of cases that were given."""
        names = ("format", "quantizer", "rounding", "overflow", "layout", "input", "word_bits")
        return {n: getattr(self, n) for n in names if getattr(self, n) is not None}


def cases(spec: str, options: Options) -> list[Case]:
    """The cases of a run: those of a built-in target that fit the options (with the options' values put in), or the one described.

    Raises: UnknownNameError, SpecError.
    """
    given = options.set()
    check_names(given)
    if options.op is not None and options.op not in OPS:
        raise UnknownNameError("op", options.op, OPS)
    if ":" in spec:
        return [described(options.op, given)]
    mine = [c for c in builtin(spec).cases() if options.op in (None, c.op)]
    subject = [c for c in mine if all(fits(c, k, v) for k, v in given.items() if k in ("format", "quantizer", "rounding", "input"))]
    subject = subject or [c for c in mine if all(fits(c, k, v) for k, v in given.items() if k in ("format", "quantizer", "rounding"))]
    chosen = dict.fromkeys(replace(c, **{k: v for k, v in given.items() if k in {f.name for f in fields(c)}}) for c in subject)
    if not chosen:
        has = dict.fromkeys(str(getattr(c, fields(c)[0].name)) for c in mine)
        wanted = " ".join(f"{k}={v}" for k, v in given.items()) or f"op={options.op}"
        raise SpecError([f"{spec} implements no {wanted}; it has {', '.join(has) if has else 'nothing'}"], where="lpref diff")
    return list(chosen)


def fits(case: Case, key: str, value: Any) -> bool:
    """Whether a case has that field with that value; quantizers by their name without parameters."""
    mine = getattr(case, key, None)
    if mine is None:
        return False
    if key == "format":
        return format_of(mine) == format_of(value)
    if key == "quantizer":
        return str(mine) == value or str(mine).partition(":")[0] == value
    return bool(mine == value)


def check_names(given: dict[str, Any]) -> None:
    """Names that lpref knows."""
    from lpref.ref.quantize.layouts import LAYOUTS
    from lpref.ref.rounding import overflow, rounding

    for key, check in (("format", format_of), ("quantizer", lookup), ("rounding", rounding), ("overflow", overflow)):
        if key in given:
            check(given[key])
    if given.get("layout", "linear") not in LAYOUTS:
        raise UnknownNameError("layout", given["layout"], LAYOUTS)
    if "format" in given and "quantizer" in given:
        raise SpecError(["format, quantizer: give one of the two"], where="lpref diff")


def described(op: str | None, given: dict[str, Any]) -> Case:
    """The case that the options describe, for targets that do not say what they implement."""
    op = op or ("cast" if "format" in given else "quantize" if "quantizer" in given else None)
    if op == "cast":
        need(given, "format", op)
        return CastCase(**{k: v for k, v in given.items() if k in {f.name for f in fields(CastCase)}})
    if op == "quantize":
        need(given, "quantizer", op)
        return QuantizeCase(**{k: v for k, v in given.items() if k in {f.name for f in fields(QuantizeCase)}})
    if op == "gemm":
        return GemmCase(format=given.get("format", "float32"))
    if op == "optimizer":
        return OptimizerCase()
    if op == "attention":
        return AttentionCase()
    raise SpecError(["say what the target implements"], where="lpref diff", remedy="--op cast --format NAME, or --op quantize --quantizer NAME")


def need(given: dict[str, Any], key: str, op: str) -> None:
    """SpecError where an option is missing."""
    if key not in given:
        raise SpecError([f"--op {op} needs --{key} NAME"], where="lpref diff")


def compare(session: Session, version: str, case: Case, trace: bool = False) -> CaseReport:
    """One case; a target's failure becomes its report."""
    if isinstance(case, CastCase):
        return compare_cast(session, version, case, trace)
    if isinstance(case, QuantizeCase):
        return compare_blocks(session, version, case, trace)
    if isinstance(case, GemmCase):
        return compare_gemm(session, version, case)
    if isinstance(case, OptimizerCase):
        return compare_optimizer(session, version, case)
    assert isinstance(case, AttentionCase)
    return compare_attention(session, version, case)


def run(spec: str, options: Options) -> Iterator[CaseReport]:
    """The reports, case by case; raises what `start` raises."""
    for _, _, _, report in start(spec, options):
        yield report


def start(spec: str, options: Options) -> Iterator[tuple[Session, str, Case, CaseReport]]:
    """(session, version, case, report), case by case.

    Raises: UnknownNameError and SpecError for options, TargetMissing for a built-in target that is not installed.
    """
    known_target(spec)
    chosen = cases(spec, options)
    version = ""
    if ":" not in spec:
        target = builtin(spec)
        if target.available:
            raise TargetMissing(target.available, where=spec)
        version = target.version
    with Session(spec, array=options.array, device=options.device, timeout=options.timeout) as session:
        for case in chosen:
            yield session, version, case, compare(session, version, case, options.trace)


def known_target(spec: str) -> None:
    """UnknownNameError for what is neither a built-in name nor a spelling of something else."""
    if ":" not in spec and spec not in TARGETS:
        near = nearest(spec, TARGETS)
        text = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(TARGETS)}"
        raise SpecError([f"unknown target {spec!r}; {text}"], where="lpref diff", remedy="or write module:callable, lib:PATH.so:SYMBOL, exec:COMMAND")


def exit_code(reports: list[CaseReport]) -> int:
    """0 nothing unexplained; 1 a difference without explanation, or a target that failed; 2 it is not there at all."""
    if reports and all(r.status == "missing" for r in reports):
        return 2
    return 0 if all(r.good for r in reports) else 1


def junit(reports: list[CaseReport]) -> str:
    """The reports as JUnit XML: a test case for each case, failures with the text of the report."""
    failures = sum(r.status == "unexplained" for r in reports)
    errors = sum(r.error is not None for r in reports)
    lines = ['<?xml version="1.0" encoding="utf-8"?>',
             f'<testsuite name="lpref diff" tests="{len(reports)}" failures="{failures}" errors="{errors}">']  # fmt: skip
    for r in reports:
        head = f'  <testcase classname={quoteattr(f"{r.target}.{r.case.op}")} name={quoteattr(str(r.case))} time="{r.seconds:.3f}"'
        if r.good:
            lines.append(f"{head}/>")
            continue
        kind = "failure" if r.error is None else "error"
        body = f"{head}>\n    <{kind} type={quoteattr(r.status)} message={quoteattr(text(r).splitlines()[0])}>"
        lines.append(body + escape(text(r)) + f"</{kind}>\n  </testcase>")
    return "\n".join([*lines, "</testsuite>", ""])


def escape(body: str) -> str:
    """Text for XML: markup escaped, control characters replaced."""
    printable = "".join(c if c in "\n\t" or ord(c) >= 32 else "?" for c in body)
    return printable.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


