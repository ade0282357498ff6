"""Comparing matrix products, optimizers and attention with their definitions: bits first, then a proved bound where there is one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from lpref.conformance.diff.cast import taken_notes
from lpref.conformance.diff.known import about
from lpref.conformance.diff.report import UNEXPLAINED, CaseReport, Cell, Example
from lpref.conformance.targets.base import AttentionCase, Case, GemmCase, OptimizerCase, TargetError
from lpref.conformance.targets.client import Session
from lpref.ref.attention.bounds import attention_bound
from lpref.ref.attention.dense import attention
from lpref.ref.errors import SpecError
from lpref.ref.formats import format as format_of
from lpref.ref.linalg import ACCUMULATORS, Accumulate, HighPrecision, accumulator, gemm
from lpref.ref.linalg.bounds import gamma, magnitude
from lpref.ref.optim import OptimContext, optimizer
from lpref.ref.random import words

RESULTS: dict[str, str] = {
    "within the bound": "other bits, within the proved bound of any order of float32 operations",
    "few ulp": "other bits, at most 8 float32 neighbours off",
    "beyond": "farther off; the line at 8 only sorts, both sides of it are unexplained", "NaN": "NaN, or none where the definition has one",
}  # fmt: skip
WITHIN = "within the bound"
GEMM_CLASSES = {"small numbers": 2, "wide exponents": 12, "cancellation": 2, "infinity": 2, "NaN": 2}


def noise(stream: int, shape: tuple[int, ...], spread: int) -> np.ndarray:
    """Fixed numbers with exponents down to -spread."""
    n = int(np.prod(shape))
    raw = words(0, 12 + stream, 0, 0, 2 * n).astype(np.float64)
    return (np.ldexp(raw[:n] / 2.0**31 - 1, -(raw[n:] % (spread + 1)).astype(np.int32))).reshape(shape)


def operands(case: GemmCase) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Name -> a [M, K], b [N, K], values of the case's format in float32."""
    try:
        m, n, k = (int(v) for v in case.shape.split("x"))
    except ValueError:
        raise SpecError([f"shape: {case.shape!r} is not MxNxK"]) from None
    f = format_of(case.format)
    top = min(f.max, 2.0**20) / 4
    for i, (name, spread) in enumerate(GEMM_CLASSES.items()):
        a, b = (f.round(noise(2 * i + j, (r, k), spread) * top).astype(np.float32) for j, r in enumerate((m, n)))
        if name == "cancellation":
            half = k // 2
            a[:, half : 2 * half], b[:, half : 2 * half] = -a[:, :half], b[:, :half]
        if name in ("infinity", "NaN"):
            value = np.inf if name == "infinity" else np.nan
            if not (f.has_inf if name == "infinity" else f.has_nan):
                continue
            a[0, 0] = value
        yield name, a, b


def compare_gemm(session: Session, version: str, case: GemmCase) -> CaseReport:
    """c = a b^T under the case's accumulation model; `exact`: the exact sum rounded once, and the bound of float32 sums explains."""
    if case.accumulate == "exact":
        model = Accumulate(inner="exact")
    elif case.accumulate in ("sequential", "pairwise"):
        model = Accumulate(inner=case.accumulate)
    else:
        model = accumulator(case.accumulate)
    parts: list[Part] = []
    for name, a, b in operands(case):
        x, y = HighPrecision(a, 1), HighPrecision(b, 1)
        with np.errstate(all="ignore"):
            want = gemm(x, y, model)
            bound = (gamma(a.shape[1]) + 2.0**-24) * magnitude(x, y)
        parts.append((name, {"a": a, "b": b}, "c", want, bound if case.accumulate == "exact" else None))
    return compare(session, version, case, parts, bounded=True)


def compare_attention(session: Session, version: str, case: AttentionCase) -> CaseReport:
    """o against dense softmax attention: the bits, or the proved bound of any float32 evaluation."""
    parts: list[Part] = []
    for name, heads, length in (("one head", 1, 16), ("grouped heads", 4, 24)):
        q, k, v = (noise(20 + i, (2, heads if i == 0 else 1 if heads == 1 else 2, length, 8), 3).astype(np.float32) for i in range(3))
        want = attention(q, k, v, bool(case.causal))[0]
        parts.append((name, {"q": q, "k": k, "v": v}, "o", want, attention_bound(None, q, k, v, bool(case.causal))[0]))
    return compare(session, version, case, parts, bounded=True)


def compare_optimizer(session: Session, version: str, case: OptimizerCase) -> CaseReport:
    """Parameters after `steps` updates; each step starts from the definition's state."""
    opt = optimizer(case.optimizer)
    params = {"w": noise(30, (6, 8), 4).astype(np.float32), "b": noise(31, (8,), 4).astype(np.float32)}
    state = opt.init(params)
    parts: list[Part] = []
    for step in range(case.steps):
        grads = {k: noise(40 + 2 * step + i, p.shape, 8).astype(np.float32) for i, (k, p) in enumerate(params.items())}
        arrays = {f"{kind}.{k}": v for kind, tree in (("params", params), ("grads", grads), ("state", state)) for k, v in tree.items()}
        ctx = {"step": step, "update": step, "seed": 0, "lr": float(opt.rule.lr)}
        arrays |= {f"ctx.{k}": np.array(v) for k, v in ctx.items()}
        old = params
        params, state = opt.update(params, grads, state, OptimContext(step=step, update=step))
        # a float32 number off in the larger of the old and the new parameter: an update may cancel
        parts += [(f"step {step + 1}, {k}", arrays, f"params.{k}", params[k], old[k]) for k in params]
    return compare(session, version, case, parts)


Part = tuple[str, Mapping[str, np.ndarray], str, np.ndarray, np.ndarray | None]


def compare(session: Session, version: str, case: Case, parts: list[Part], bounded: bool = False) -> CaseReport:
    """Elementwise, over (class, arrays, name of the answer, definition, None or the bound (`bounded`) or what else sets the spacing)."""
    same: dict[str, int] = {}
    cells: list[Cell] = []
    examples: list[Example] = []
    entries = about(session.spec, version, case)
    used = []
    try:
        for name, arrays, key, want, bound in parts:
            got = session.ask(case, arrays)[key].astype(np.float64)
            result = judge(got, want, bound if bounded else None, None if bounded else bound)
            same[name] = int(np.count_nonzero(result == ""))
            for kind in RESULTS:
                count = int(np.count_nonzero(result == kind))
                if not count:
                    continue
                entry = next((e for e in entries if (not e.classes or name in e.classes) and kind in e.becomes.get("result", ())), None)
                label = WITHIN if kind == WITHIN else entry.id if entry else UNEXPLAINED
                used += [entry] if entry and entry not in used and label == entry.id else []
                cells.append(Cell(name, kind, count, label))
                at = tuple(int(i) for i in np.argwhere(result == kind)[0])
                g, w = float(got[at]), float(want[at])
                line = f"{name}, element {list(at)}: got {g!r} = {g.hex()}, the definition gives {w!r} = {w.hex()}"
                if label != WITHIN and label not in {e.known for e in examples}:
                    data = {"class": name, "at": list(at), "got": float(got[at]), "expected": float(want[at])}
                    examples.append(Example(label, (line,), data))
    except TargetError as error:
        return CaseReport(session.spec, version, case, error=(error.kind, str(error)), notes=taken_notes(session))
    return CaseReport(session.spec, version, case, same, tuple(cells), 0, tuple(examples), tuple(used), None, taken_notes(session), session.seconds)


def judge(got: np.ndarray, want: np.ndarray, bound: np.ndarray | None, beside: np.ndarray | None = None) -> np.ndarray:
    """The result of every element; empty where the values are equal (NaN with NaN). Neighbours are counted at the larger of want, beside."""
    wanted = want.astype(np.float64)
    equal = (got == wanted) | (np.isnan(got) & np.isnan(wanted))
    with np.errstate(invalid="ignore", over="ignore"):
        off = np.abs(got - wanted)
        size = np.abs(want) if beside is None else np.maximum(np.abs(want), np.abs(beside))
        ulp = np.spacing(size.astype(np.float32)).astype(np.float64)
        close = off <= 8 * ulp
        inside = np.zeros(got.shape, bool) if bound is None else off <= bound
    out = np.where(close, "few ulp", "beyond").astype("U16")
    out[inside] = WITHIN
    out[np.isnan(got) != np.isnan(wanted)] = "NaN"
    out[equal] = ""
    return out


def models() -> list[str]:
    """Names that `GemmCase.accumulate` may have."""
    return ["exact", "sequential", "pairwise", *ACCUMULATORS]
