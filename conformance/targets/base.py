"""What a target of `lpref diff` is: somebody else's implementation, asked one case at a time.

A `Target` says which cases it implements (`cases`) in lpref's own words, and answers them. It is foreign code: it may crash, hang or
print; `lpref.conformance.targets.client` therefore runs it in a child process. Answers are checked there, not here.

    cast      x float[n]                        -> codes uint[n], or values float[n]
    quantize  x float32[R, C]                   -> {codes, scales, tensor_scale}, or values float[R, C]
    gemm      a float32[M, K], b float32[N, K]  -> float32[M, N]        contraction over the last axis of both
    optimizer params, grads, state (dicts of float32 arrays)  -> params, state
    attention q[B, H, T, D], k, v float32       -> o[B, H, T, D]
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np

from lpref.ref.errors import LprefError

INPUTS = ("float32", "float64", "bfloat16", "float16")


class TargetError(LprefError, RuntimeError):
    """A target did not answer a case. `kind` is one word for tables::

        TargetError
        ├── TargetMissing   missing   not installed, not found, cannot be loaded
        ├── TargetRefused   refused   does not implement the case
        ├── TargetRaised    raised    an exception, or an error code
        ├── TargetCrashed   crashed   its process ended
        ├── TargetTimeout   timeout   no answer in time
        └── TargetAnswer    answer    the wrong shape or dtype, or bytes that are no answer
    """

    kind: ClassVar[str] = "error"


class TargetMissing(TargetError):
    """The target is not installed, or cannot be found or loaded."""

    kind = "missing"


class TargetRefused(TargetError):
    """The target does not implement the case."""

    kind = "refused"


class TargetRaised(TargetError):
    """The target raised an exception or returned an error code."""

    kind = "raised"


class TargetCrashed(TargetError):
    """The target's process ended."""

    kind = "crashed"


class TargetTimeout(TargetError):
    """No answer in time; the process was ended."""

    kind = "timeout"


class TargetAnswer(TargetError):
    """An answer of the wrong shape or dtype, or bytes that are no answer."""

    kind = "answer"


TARGET_ERRORS: dict[str, type[TargetError]] = {
    e.kind: e for e in (TargetMissing, TargetRefused, TargetRaised, TargetCrashed, TargetTimeout, TargetAnswer)
}


@dataclass(frozen=True)
class Case:
    """A question to a target. Every field is one word, so that it travels as `key=value` lines."""

    op: ClassVar[str] = ""

    def fields(self) -> dict[str, str]:
        """The fields that are set, as text; defaults included."""
        return {f.name: str(getattr(self, f.name)) for f in fields(self) if getattr(self, f.name) is not None}

    def __str__(self) -> str:
        """The non-default fields: ``e4m3 rounding=toward_zero``."""
        changed = [f for f in fields(self) if getattr(self, f.name) != f.default]
        return " ".join(str(getattr(self, f.name)) if i == 0 else f"{f.name}={getattr(self, f.name)}" for i, f in enumerate(changed))


@dataclass(frozen=True)
class CastCase(Case):
    """encode(x) of a format; `overflow` is a preset's name, `input` the dtype of x (bfloat16 travels as float32 that bfloat16 holds).

    >>> print(CastCase("e4m3", overflow="to_nan"))
    e4m3 overflow=to_nan
    """

    op: ClassVar[str] = "cast"
    format: str = ""
    rounding: str = "nearest_even"
    overflow: str = "saturate"
    word_bits: int | None = None
    input: str = "float32"


@dataclass(frozen=True)
class QuantizeCase(Case):
    """quantize(x) under a registered quantizer, parameters included: `mxfp4:scale=rceil`; `layout` names the arrays' layout."""

    op: ClassVar[str] = "quantize"
    quantizer: str = ""
    layout: str = "linear"
    input: str = "float32"


@dataclass(frozen=True)
class GemmCase(Case):
    """c = a b^T; `format` is what the operands' values are values of, `accumulate` a name of the accumulation model."""

    op: ClassVar[str] = "gemm"
    format: str = "float32"
    accumulate: str = "exact"
    shape: str = "16x24x64"


@dataclass(frozen=True)
class OptimizerCase(Case):
    """Steps of an optimizer from its initial state."""

    op: ClassVar[str] = "optimizer"
    optimizer: str = "adamw"
    steps: int = 4


@dataclass(frozen=True)
class AttentionCase(Case):
    """softmax(q k^T scale) v."""

    op: ClassVar[str] = "attention"
    attention: str = "dense"
    causal: int = 1


CASES: dict[str, type[Case]] = {c.op: c for c in (CastCase, QuantizeCase, GemmCase, OptimizerCase, AttentionCase)}


def case_from(op: str, given: Mapping[str, str]) -> Case:
    """The case that `Case.fields` wrote; unknown keys are ignored (a later protocol may add some)."""
    cls = CASES[op]
    known = {f.name: f for f in fields(cls)}
    return cls(**{k: int(v) if "int" in str(known[k].type) else v for k, v in given.items() if k in known})


class Target:
    """Base of the built-in targets, one file each: the class says what the package implements; its methods answer.

    name      how `lpref diff` calls it            package   distribution whose version counts
    title     one line                             imports   module that must be importable
    notes     what a reader of the matrix should know: how the definition is spelt there
    """

    name: ClassVar[str] = ""
    title: ClassVar[str] = ""
    package: ClassVar[str] = ""
    imports: ClassVar[str] = ""
    notes: ClassVar[str] = ""

    @property
    def version(self) -> str:
        """The installed version, empty where there is none; nothing is imported."""
        try:
            return importlib.metadata.version(self.package)
        except importlib.metadata.PackageNotFoundError:
            return ""

    @property
    def available(self) -> str | None:
        """None, or why it cannot be used here."""
        if importlib.util.find_spec(self.imports or self.package) is None:
            return f"the package {self.package} is not installed; python3 -m pip install {self.package}"
        return None

    def prepare(self) -> None:
        """Import, compile, load: done once, before the first case, and not counted against its time."""

    def cases(self) -> tuple[Case, ...]:
        """What it implements, under its own policies: these are compared when no option narrows the run."""
        return ()

    def refuses(self, case: Case) -> str | None:
        """None, or why it cannot answer: by default, only formats (quantizers) and roundings of `cases` are answered."""
        key = _subject(case)
        mine = [c for c in self.cases() if c.op == case.op]
        if key not in {_subject(c) for c in mine}:
            known = sorted({" ".join(_subject(c)) for c in mine})
            return f"{self.name} has no {case.op} {' '.join(key)}; it has {', '.join(known) if known else 'none'}"
        return None

    def cast(self, x: np.ndarray, case: CastCase, words: np.ndarray | None = None) -> np.ndarray:
        """Codes (unsigned) or values (floating) of x's shape."""
        raise TargetRefused("no casts", where=self.name)

    def quantize(
        self, x: np.ndarray, case: QuantizeCase, amax: np.ndarray | None = None, words: np.ndarray | None = None
    ) -> Mapping[str, Any] | np.ndarray:
        """{codes, scales, tensor_scale}, or dequantized values."""
        raise TargetRefused("no quantizers", where=self.name)

    def gemm(self, a: np.ndarray, b: np.ndarray, case: GemmCase) -> np.ndarray:
        """a b^T."""
        raise TargetRefused("no matrix products", where=self.name)

    def optimizer(
        self, params: Mapping[str, np.ndarray], grads: Mapping[str, np.ndarray], state: Mapping[str, np.ndarray], case: OptimizerCase,
        ctx: Mapping[str, Any],
    ) -> tuple[Mapping[str, np.ndarray], Mapping[str, np.ndarray]]:  # fmt: skip
        """One step; ctx holds step, update (counted from 0), seed and lr."""
        raise TargetRefused("no optimizers", where=self.name)

    def attention(self, q: np.ndarray, k: np.ndarray, v: np.ndarray, case: AttentionCase) -> np.ndarray:
        """Attention outputs."""
        raise TargetRefused("no attention", where=self.name)


class Undescribed(Target):
    """A target that its author describes, not its class: a function, a library, a process. `name` is how it was spelt."""

    def __init__(self, spec: str) -> None:
        self.name = spec  # type: ignore[misc]

    @property
    def version(self) -> str:
        """Known to who named it."""
        return ""

    @property
    def available(self) -> str | None:
        """It was loaded, or asked, before."""
        return None

    def refuses(self, case: Case) -> str | None:
        """Never: it says so itself when it is asked."""
        return None


def _subject(case: Case) -> tuple[str, ...]:
    """What must match for a target to answer: format and rounding; the quantizer; the operands' format; …"""
    if isinstance(case, CastCase):
        return case.format, case.rounding
    return (str(getattr(case, fields(case)[0].name)),)
