"""One call for all benchmarks: names sorted into kernels and specs, and where it ran."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from lpref.ref.errors import BackendError, UnknownNameError
from lpref.trainer.bench.kernels import cases, kernel_rows
from lpref.trainer.bench.models import model_row
from lpref.trainer.environment import commit, environment
from lpref.trainer.spec import TrainSpec, load_spec, spec_names


def bench(
    names: Sequence[str], *, backend: str | None = None, numerics: str = "fast", size: int = 2048, steps: int = 10, overrides: Sequence[str] = (),
    peers: Sequence[str] = (),
) -> dict[str, Any]:
    """{kernels, models, environment, commit}; no names: every kernel. peers: ways of `torch_steps` and `jax_gpt` that each spec is also trained in.

    Raises: UnknownNameError; BackendError for a backend or a peer that is not here and for a kernel that breaks its contract.
    """
    known = cases()
    specs = [_spec(name, backend, numerics, overrides) for name in names if name not in known]
    kernels = [name for name in names if name in known]
    rows = list(kernel_rows(kernels, _backend(backend, numerics), size)) if kernels or not names else []
    models = [row for spec in specs for row in (model_row(spec, steps), *peer_rows(spec, peers, steps))]
    return {"kernels": rows, "models": models, "environment": environment(), "commit": commit()}


def peer_rows(spec: TrainSpec, ways: Sequence[str], steps: int) -> list[dict[str, Any]]:
    """A row for each way of the torch peer and of the jax peer, on this GPU in this process."""
    return [_peer(way)(spec, way, steps) for way in ways]


def _peer(way: str) -> Callable[[TrainSpec, str, int], dict[str, Any]]:
    """What trains in this way. Raises: BackendError where its library is not here or sees no GPU."""
    try:
        if way.startswith("jax"):
            from lpref.trainer.bench.jax_gpt import jax, peer_row

            library, there = "jax", jax.default_backend() == "gpu"
        else:
            import torch

            from lpref.trainer.bench.torch_steps import peer_row

            library, there = "torch", torch.cuda.is_available()
    except ImportError as error:
        name = "jax" if way.startswith("jax") else "torch"
        remedy = f"pip install {name}, or leave out --peer"
        raise BackendError(f"the peer {way} of a training step needs {name}", where="bench", remedy=remedy) from error
    if not there:
        raise BackendError(f"the peers of a training step run on a GPU, and {library} sees none", where="bench", remedy="leave out --peer")
    return peer_row


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
