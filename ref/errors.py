"""The exception tree of lpref.

Every error states the invariant that was broken, the values that broke it, the place, and a remedy::

    LprefError(Exception)
    ├── UnknownNameError      (KeyError)    a name that no registry holds; lists the nearest ones
    ├── SpecError             (ValueError)  a YAML or mapping that does not describe what it should; carries every problem found
    ├── FormatError           (ValueError)  a format, rounding or overflow that cannot do what was asked
    ├── NonFiniteError        (ValueError)  NaN or infinity where the policy is ``raise``
    ├── ShapeError            (ValueError)  shapes, axes, blocks or tails that do not fit
    ├── DTypeError            (TypeError)   a dtype that does not fit: floats where integers are needed, mixed dtypes
    ├── GraphError            (RuntimeError) a derivative that is not there: freed graph, no seed, not connected
    ├── WordsError            (ValueError)  stochastic rounding without words, or words that do not fit
    ├── BackendError          (RuntimeError) a backend or an operation that is not available
    ├── DataError             (ValueError)  a data file that is missing, empty or malformed
    ├── CheckpointError       (ValueError)  a checkpoint or run folder that is incomplete or does not match
    ├── OutputError           (OSError)     an output that exists, or a folder that cannot be written
    └── DivergedError         (ArithmeticError) a run whose loss or gradients are not finite
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any


class LprefError(Exception):
    """Root of the tree. `where` is the place, `remedy` what to do; both are part of the message."""

    def __init__(self, message: str, *, where: str = "", remedy: str = "") -> None:
        self.message, self.where, self.remedy = message, where, remedy
        super().__init__(message)

    def __str__(self) -> str:
        place = f"{self.where}:{'' if self.message.startswith(chr(10)) else ' '}" if self.where else ""
        return "".join([place, self.message, f"; {self.remedy}" if self.remedy else ""])

    def __reduce__(self) -> tuple[Any, ...]:
        """Errors cross processes whole, whatever their constructors take."""
        return _remade, (type(self), self.args, dict(self.__dict__))


def _remade(cls: type[LprefError], args: tuple[Any, ...], fields: dict[str, Any]) -> LprefError:
    error = cls.__new__(cls)
    error.args = args
    error.__dict__.update(fields)
    return error


LISTED = 24  # names in the message of an unknown one


class UnknownNameError(LprefError, KeyError):
    """`name` is not among `known`."""

    def __init__(self, kind: str, name: object, known: Iterable[str], *, where: str = "") -> None:
        self.kind, self.name = kind, str(name)
        self.known = sorted(set(known), key=lambda text: (text[:1].isupper(), text))  # own names before CUDA_R_…
        near = nearest(self.name, self.known)
        more = ", …" if len(self.known) > LISTED else ""
        remedy = f"did you mean {' or '.join(map(repr, near))}?" if near else f"known: {', '.join(self.known[:LISTED])}{more}"
        super().__init__(f"unknown {kind} {self.name!r}", where=where, remedy=remedy)

    __str__ = LprefError.__str__


class SpecError(LprefError, ValueError):
    """A spec with one or more problems; `problems` holds all of them as `path: what` lines."""

    def __init__(self, problems: Sequence[str], *, where: str = "", remedy: str = "") -> None:
        self.problems = list(problems)
        head = self.problems[0] if len(self.problems) == 1 else "".join(f"\n  {p}" for p in self.problems)
        super().__init__(head, where=where, remedy=remedy)


class FormatError(LprefError, ValueError):
    """A format, rounding or overflow policy that cannot do what was asked."""


class NonFiniteError(LprefError, ValueError):
    """NaN or infinity where the policy is `raise`."""


class ShapeError(LprefError, ValueError):
    """Shapes, axes, blocks or tails that do not fit."""


class DTypeError(LprefError, TypeError):
    """A dtype that does not fit: floats where integers are needed, or two dtypes where one is."""


class GraphError(LprefError, RuntimeError):
    """A derivative that is not there: a freed graph, no seed for a non-scalar, a tensor without gradients."""


class WordsError(LprefError, ValueError):
    """Stochastic rounding without words, or words that do not fit."""


class BackendError(LprefError, RuntimeError):
    """A backend or an operation that is not available here."""


class DataError(LprefError, ValueError):
    """A data file that is missing, empty or malformed."""


class CheckpointError(LprefError, ValueError):
    """A checkpoint or run folder that is incomplete or does not match."""


class OutputError(LprefError, OSError):
    """An output that exists already, or a folder that cannot be written."""

    __str__ = LprefError.__str__


class DivergedError(LprefError, ArithmeticError):
    """A run whose loss or gradients are not finite."""


def nearest(name: str, known: Iterable[str], n: int = 3) -> list[str]:
    """The names of `known` that `name` most likely means, best first (at most `n`)."""
    return difflib.get_close_matches(name.lower(), list(known), n=n, cutoff=0.6)
