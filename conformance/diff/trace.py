"""`--trace`: the intermediates of one counter-example in the order of the definition, beside what the target's answer implies for each."""

from __future__ import annotations

from typing import Any

import numpy as np

from lpref.conformance import check
from lpref.conformance.targets.base import CastCase, QuantizeCase
from lpref.ref.formats import Format
from lpref.ref.formats import format as format_of
from lpref.ref.quantize import Quantizer
from lpref.ref.rounding import overflow as overflow_of

Step = tuple[str, str, str]  # name, the definition's, the target's (empty: cannot be seen from its answer)


def rows(steps: list[Step]) -> tuple[str, ...]:
    """Aligned lines; the first step whose two sides differ is marked."""
    head: list[Step] = [("step", "definition", "target"), *steps]
    widths = [max(len(s[i]) for s in head) for i in range(3)]
    marked = next((i for i, (_, a, b) in enumerate(head) if i and b and a != b), None)
    return tuple(
        "  ".join(c.ljust(w) for c, w in zip(s, widths, strict=True)).rstrip() + ("   <- first difference" if i == marked else "")
        for i, s in enumerate(head)
    )


def trace_cast(case: CastCase, f: Format, x: np.generic, word: np.ndarray | None, got: float, code: Any) -> tuple[str, ...]:
    """A cast: x, its neighbours, the fraction nu between them, overflow, value, code; then a reproducer."""
    v = float(x)
    given = None if word is None else np.asarray(word)
    want = f.encode(np.array([x]), case.rounding, case.overflow, given, case.word_bits)[0]
    steps: list[Step] = [("x", f"{v!r} ({v.hex()})", f"{v!r} ({v.hex()})")]
    finite = np.isfinite(v)
    if finite:
        inside = np.float64(min(max(v, f.min), f.max))
        low, high = (float(f.decode(f.encode(inside, r))) for r in ("toward_negative", "toward_positive"))
        told = np.isfinite(got) and low != high and f.min <= v <= f.max
        steps += [("value below", repr(low), ""), ("value above", repr(high), "")]
        if low != high:
            steps.append(("fraction of the way", repr((v - low) / (high - low)), ""))
            rounded = float(f.decode(f.encode(inside, case.rounding, "saturate", given, case.word_bits if given is not None else None)))
            steps.append((f"rounded ({case.rounding})", repr(rounded), repr(float(got)) if told else ""))
        else:
            steps.append((f"rounded ({case.rounding})", repr(low), ""))
    policy = overflow_of(case.overflow)
    answer, theirs = repr(float(f.decode(want))), repr(float(got))
    if not finite:
        steps.append((f"{'NaN' if np.isnan(v) else 'infinity'} ({policy.nan if np.isnan(v) else policy.infinity})", answer, theirs))
    elif v > f.max or v < f.min:
        steps.append((f"overflow ({policy.finite})", answer, theirs))
    steps += [("value", answer, theirs), ("code", check.show_code(f, want), "" if code is None else check.show_code(f, code))]
    python = f"lpref.format({case.format!r}).encode(np.{numpy_name(case.input)}(float.fromhex({v.hex()!r})), {case.rounding!r}, {case.overflow!r})"
    c_type = {"float64": "double"}.get(case.input, "float")
    c_value = c_float(v) if c_type == "float" or not np.isfinite(v) else v.hex()
    return (*rows(steps), f"Python: {python}  # {int(want):#x}", f"C: {c_type} x = {c_value};  /* expected code {int(want):#04x} */")


def numpy_name(input_name: str) -> str:
    """The NumPy scalar type that holds an input exactly."""
    return "float32" if input_name == "bfloat16" else input_name


def trace_block(case: QuantizeCase, q: Quantizer, part: np.ndarray, at: tuple[int, ...], want: Any, got: Any,
                block: tuple[int, int], e: tuple[int, int]) -> tuple[str, ...]:  # fmt: skip
    """A block quantizer: amax, scale before and after rounding, x / s, element, code; the target's x / s under its own scale."""
    f = format_of(q.format)
    x, amax = float(part[at]), float(np.max(np.abs(part)))
    target = float(q.scale.target or f.max)
    before = amax * (float(want.tensor_scale) and 1 / (target * float(want.tensor_scale))) if q.scale.rule == "nvfp4" else amax / target
    s = None if want.scales is None else float(want.scales[block])
    t = None if got.scales is None else float(got.scales[block])
    steps: list[Step] = [("amax of the block", f"{amax!r} ({amax.hex()})", "")]
    if q.scale.rule == "nvfp4":
        steps.append(("tensor scale", repr(want.tensor_scale), repr(got.tensor_scale)))
    mode = f"{q.scale.rule} {q.scale.mode}" if q.scale.rule == "mx" else q.scale.rule
    steps += [("scale before rounding", f"{before!r}" if np.isfinite(before) else "-", ""),
              (f"scale ({mode}, {q.scale.format})", repr(s), "" if t is None else repr(t))]  # fmt: skip
    steps.append(("x", f"{x!r} ({x.hex()})", f"{x!r} ({x.hex()})"))
    steps.append(("x / scale", scaled(x, s, want.tensor_scale), "" if t is None else scaled(x, t, got.tensor_scale)))
    if want.codes is not None:
        mine = f.decode(np.array([want.codes[e]], np.uint64))[0]
        theirs = "" if got.codes is None else repr(float(f.decode(np.array([got.codes[e]], np.uint64))[0]))
        steps.append((f"element ({q.rounding})", repr(float(mine)), theirs))
        steps.append(("code", check.show_code(f, want.codes[e]), "" if got.codes is None else check.show_code(f, got.codes[e])))
    steps.append(("value", repr(float(want.values[e])), repr(float(got.values[e]))))
    kept = [(tuple(int(i) for i in p), float(part[tuple(p)])) for p in np.argwhere(part != 0)][:8]
    fills = "; ".join(f"x[{i}, {j}] = float.fromhex({v.hex()!r})" for (i, j), v in kept)
    c_fills = " ".join(f"x[{i * part.shape[1] + j}] = {c_float(v)};" for (i, j), v in kept)
    return (
        *rows(steps),
        f"Python: x = np.zeros({part.shape}, np.float32); {fills}; lpref.quantize(x, {case.quantizer!r})",
        f"C: float x[{part.size}] = {{0}}; {c_fills}",
    )


def scaled(x: float, scale: float | None, tensor_scale: float) -> str:
    """x over its scales, to float32."""
    if scale is None:
        return repr(x)
    with np.errstate(all="ignore"):
        return repr(float(np.float32(x) / (np.float32(scale) * np.float32(tensor_scale))))


def c_float(v: float) -> str:
    """A float constant of C."""
    return "NAN" if np.isnan(v) else ("-INFINITY" if v < 0 else "INFINITY") if np.isinf(v) else f"{v.hex()}f"
