"""Parameters of a GPT from public tensors, with every name and shape checked."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lpref.models.gpt import GPT, GPTConfig
from lpref.models.pretrained.config import gpt2_config, llama_config
from lpref.models.pretrained.reader import read_safetensors
from lpref.models.pretrained.tables import GPT2, GPT2_BUFFERS, HEAD, LLAMA, LLAMA_BUFFERS, Row
from lpref.ref.errors import CheckpointError, UnknownNameError, nearest


@dataclass(frozen=True)
class Family:
    """How the checkpoints of a model family are named."""

    rows: tuple[Row, ...]
    buffers: tuple[str, ...]
    """Tensors that carry no parameter and are left out."""
    prefix: str
    """Prefix that some files put before every name."""
    config: Callable[[Mapping[str, Any]], GPTConfig]


FAMILIES: dict[str, Family] = {
    "gpt2": Family(GPT2, GPT2_BUFFERS, "transformer.", gpt2_config),
    "llama": Family(LLAMA, LLAMA_BUFFERS, "", llama_config),
}
"""Families of checkpoints by name."""


def weights(tensors: Mapping[str, np.ndarray], family: str, cfg: GPTConfig) -> dict[str, np.ndarray]:
    """Parameter name -> array, for all parameters of a GPT of `cfg`.

    Raises CheckpointError for a missing tensor, a tensor that the family does not have, a wrong shape, or a tied head that differs from
    the embedding; UnknownNameError for an unknown family.
    """
    if family not in FAMILIES:
        raise UnknownNameError("checkpoint family", family, FAMILIES)
    f = FAMILIES[family]
    left = {name.removeprefix(f.prefix): t for name, t in tensors.items() if not _is_buffer(name.removeprefix(f.prefix), f)}
    rows = list(_expanded(f.rows if cfg.tied else (*f.rows, HEAD), cfg.layers))
    shapes = GPT.shapes(cfg)
    arrays = {row.ours: _assembled(row, left, shapes) for row in rows}
    for row in rows:
        for name in row.theirs:
            del left[name]
    copy = left.pop(HEAD.theirs[0], None) if cfg.tied else None
    if copy is not None and not np.array_equal(copy, arrays["wte.weight"]):
        raise CheckpointError(f"{HEAD.theirs[0]} differs from the embedding of a tied model", where=family, remedy="set tied: false")
    if left:
        raise CheckpointError(f"{len(left)} tensors that {family} does not have: {', '.join(sorted(left)[:4])}", where=family)
    return arrays


def from_folder(folder: Path | str, family: str, recipe: Any = None, backend: Any = None) -> GPT:
    """The model in a folder that holds `config.json` and one or more `.safetensors` files."""
    folder = Path(folder)
    if family not in FAMILIES:
        raise UnknownNameError("checkpoint family", family, FAMILIES)
    files = sorted(folder.glob("*.safetensors"))
    if not (folder / "config.json").is_file() or not files:
        raise CheckpointError("needs config.json and at least one .safetensors file", where=str(folder))
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"config.json is no JSON: {error}", where=str(folder)) from error
    cfg = FAMILIES[family].config(config)
    tensors: dict[str, np.ndarray] = {}
    for file in files:
        tensors |= read_safetensors(file)
    model = GPT(cfg, recipe, 0, backend)
    model.set_arrays(weights(tensors, family, cfg))
    return model


def _expanded(rows: tuple[Row, ...], layers: int) -> Iterator[Row]:
    for row in rows:
        for i in range(layers) if "{i}" in row.ours else (0,):
            yield Row(row.ours.replace("{i}", str(i)), tuple(t.replace("{i}", str(i)) for t in row.theirs), row.transposed)


def _is_buffer(name: str, family: Family) -> bool:
    return any(re.fullmatch(re.escape(b).replace(r"\{i\}", r"\d+"), name) for b in family.buffers)


def _assembled(row: Row, tensors: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]]) -> np.ndarray:
    parts = []
    for name in row.theirs:
        if name not in tensors:
            near = nearest(name, tensors, 1)
            raise CheckpointError(f"no tensor {name!r}", where=row.ours, remedy=f"nearest: {near[0]!r}" if near else "is it the right family?")
        parts.append(tensors[name].T if row.transposed else tensors[name])
    widths = {part.shape[1:] for part in parts}
    if len(widths) != 1 or parts[0].ndim == 0:
        raise CheckpointError(f"{', '.join(row.theirs)} have shapes {', '.join(str(p.shape) for p in parts)}", where=row.ours)
    array = np.ascontiguousarray(np.concatenate(parts))
    if array.shape != shapes[row.ours]:
        raise CheckpointError(
            f"{' + '.join(row.theirs)} make {array.shape}, the configuration needs {shapes[row.ours]}", where=row.ours,
            remedy="does config.json belong to these weights?",
        )  # fmt: skip
    return array
