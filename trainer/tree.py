"""Nested states as flat tensors plus a JSON skeleton, without pickle: what a checkpoint stores besides the weights.

A tree is a mapping, list or tuple of trees; a leaf is a NumPy array or scalar, a Python scalar, a string or None. Arrays become
entries ``path/of/keys`` of a safetensors file; the skeleton says where each one goes. Python floats are kept as ``float.hex``
text, so they come back bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from lpref.ref.errors import CheckpointError


def flatten(tree: Any, path: str = "") -> tuple[dict[str, np.ndarray], Any]:
    """(arrays by path, JSON skeleton).

    >>> arrays, skeleton = flatten({"m": {"w": np.float32([1, 2])}, "t": 3, "s": 0.5})
    >>> sorted(arrays), skeleton
    (['m/w'], {'dict': {'m': {'dict': {'w': {'array': 'm/w'}}}, 't': 3, 's': {'float': '0x1.0000000000000p-1'}}})
    >>> unflatten(arrays, skeleton)["s"]
    0.5
    """
    arrays: dict[str, np.ndarray] = {}
    return arrays, _flatten(tree, path, arrays)


def _flatten(tree: Any, path: str, arrays: dict[str, np.ndarray]) -> Any:
    if isinstance(tree, (np.ndarray, np.generic)):
        arrays[path] = np.asarray(tree, order="C")
        return {"scalar" if isinstance(tree, np.generic) else "array": path}
    if isinstance(tree, Mapping):
        return {
            "dict": {
                str(key): _flatten(value, f"{path}/{key}" if path else str(key), arrays) for key, value in tree.items()
            }
        }
    if isinstance(tree, (list, tuple)):
        kind = "list" if isinstance(tree, list) else "tuple"
        return {kind: [_flatten(value, f"{path}/{i}" if path else str(i), arrays) for i, value in enumerate(tree)]}
    if tree is None or isinstance(tree, (bool, int, str)):
        return tree
    if isinstance(tree, float):
        return {"float": tree.hex()}
    raise CheckpointError(
        f"a {type(tree).__name__} cannot be stored",
        where=path,
        remedy="states hold arrays, numbers, text and containers of them",
    )


def unflatten(arrays: Mapping[str, np.ndarray], skeleton: Any) -> Any:
    """The inverse of `flatten`; a tensor that the skeleton names but the file lacks is a CheckpointError."""
    if not isinstance(skeleton, dict):
        return skeleton
    ((kind, value),) = skeleton.items()
    if kind in ("array", "scalar"):
        if value not in arrays:
            raise CheckpointError("tensor is missing from the file", where=value, remedy="the checkpoint is incomplete")
        return arrays[value] if kind == "array" else arrays[value][()]
    if kind == "float":
        return float.fromhex(value)
    if kind == "dict":
        return {key: unflatten(arrays, part) for key, part in value.items()}
    parts = [unflatten(arrays, part) for part in value]
    return parts if kind == "list" else tuple(parts)
