"""One call for all benchmarks: names sorted into kernels and specs, and where it ran."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from lpref.ref.errors import UnknownNameError
from lpref.trainer.bench.kernels import cases, kernel_rows
from lpref.trainer.bench.models import model_row
from lpref.trainer.environment import commit, environment
from lpref.trainer.spec import TrainSpec, load_spec, spec_names


def bench(
    names: Sequence[str], *, backend: str | None = None, numerics: str = "fast", size: int = 2048, steps: int = 10, overrides: Sequence[str] = ()
) -> dict[str, Any]:
    """{kernels, models, environment, commit}; no names: every kernel.

    Raises: UnknownNameError; BackendError for a backend that is not here and for a kernel that breaks its contract.
    """
    known = cases()
    specs = [_spec(name, backend, numerics, overrides) for name in names if name not in known]
    kernels = [name for name in names if name in known]
    rows = list(kernel_rows(kernels, _backend(backend, numerics), size)) if kernels or not names else []
    models = [model_row(spec, steps) for spec in specs]
    return {"kernels": rows, "models": models, "environment": environment(), "commit": commit()}


def _spec(name: str, backend: str | None, numerics: str, overrides: Sequence[str]) -> TrainSpec:
    try:
        spec = load_spec(name, list(overrides))
    except UnknownNameError:
        raise UnknownNameError("benchmark", name, [*cases(), *spec_names()]) from None
    chosen: Any = backend or spec.backend
    grade: Any = numerics
    return replace(spec, backend=chosen, numerics=grade)


def _backend(name: str | None, numerics: str) -> Any:
    from lpref.accel import backend as backend_named
    from lpref.accel.cuda.device import usable

    return backend_named(name if name not in (None, "auto") else "cuda" if usable() else "cpu", numerics)
