"""What a run takes of the memory, said before it is taken, and what is said where there is not enough of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lpref.ref.errors import SpecError
from lpref.trainer import checkpoint as checkpoints
from lpref.trainer.spec import TrainSpec

NO_ROOM = ("cudaErrorMemoryAllocation", "CUDA_ERROR_OUT_OF_MEMORY")
"""How the driver's own calls say it; those of a pool raise MemoryError."""


def size(arrays: Iterable[Any]) -> int:
    """Bytes of arrays."""
    return sum(int(a.nbytes) for a in arrays)


def parts(weights: Iterable[Any], moments: Iterable[Any], step: int, free: int) -> dict[str, float]:
    """MiB of weights, optimizer state, gradients (float32, in the step's memory), of what a step takes beside the first two, and what is left."""
    held = list(weights)
    found = {"weights": size(held), "optimizer": size(moments), "gradients": 4 * sum(int(a.size) for a in held), "step": step, "free": free}
    return {name: round(count / 2**20, 1) for name, count in found.items()}


def text(mib: dict[str, float]) -> str:
    """For a person, before the step is captured."""
    return (
        f"memory: weights {mib['weights']:,g} MiB, optimizer {mib['optimizer']:,g} MiB, a step {mib['step']:,g} MiB "
        f"(gradients {mib['gradients']:,g} of them), its graph takes no more; {mib['free']:,g} MiB of the GPU are free"
    )


@contextmanager
def typed_memory_errors(label: str, spec: TrainSpec, folder: Path | None = None) -> Iterator[None]:
    """Turns a failed allocation into a SpecError that says what was asked for and what was free; folder: of the checkpoints, if there are any yet."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not any(words in str(error) for words in NO_ROOM):
            raise
        train, model = spec.train, " ".join(f"{key}={value}" for key, value in spec.model.items() if type(value) is int)
        problem = f"needs more memory than there is: {str(error) or 'allocation failed'}{_free(error)}; train.batch={train.batch} "
        problem += f"train.micro_batches={train.micro_batches}, {spec.model['kind']} {model}"
        kept = checkpoints.list_steps(folder) if folder is not None else []
        if folder is not None:
            problem += f"; the last good checkpoint is step {kept[-1]}" if kept else "; there is no checkpoint yet"
        remedy = "lower train.batch or raise train.micro_batches, or choose a smaller model or model.context"
        raise SpecError([problem], where=label, remedy=remedy) from error


def _free(error: BaseException) -> str:
    """What is free on the GPU whose allocation failed; nothing where it was the host's."""
    if type(error).__module__.partition(".")[0] != "cupy" and not isinstance(error, RuntimeError):
        return ""
    from lpref.accel.cuda import device

    free, whole = device.cupy().cuda.Device().mem_info
    return f" ({free / 2**30:.2f} of the GPU's {whole / 2**30:.1f} GiB are free)"
