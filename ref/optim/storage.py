"""How a tensor of optimizer state, or a parameter, is kept between updates: plain float32, or a quantizer on the flattened tensor.

A stored tensor `param/role` is one float32 array of that name, or the arrays `param/role.codes`, `param/role.scales` (block scales)
and `param/role.tensor_scale` (two-level rules). Blocks run over the tensor flattened in row-major order, the last one partial.

    float32        as it is
    bfloat16       round to nearest even                   bfloat16_sr    stochastic rounding, 16 bits an element
    dynamic8       dynamic-tree codes, 256 elements share one float32 absmax; unsigned state gets the unsigned code book
    e4m3           E4M3, 256 elements share one float32 scale amax/448

Parameters are stored as values on the format's grid in a float32 array; state is stored as codes.
Pitfalls: with `dynamic8`, v below 1.6e-7 of its block's maximum becomes 0, so the update of that element is m/eps: small blocks, or
a float32 v for embeddings. Plain bfloat16 weights lose updates below half a unit in the last place; `bfloat16_sr` keeps them in the mean.
Source: Dettmers et al., arXiv:2110.02861, section 2; bitsandbytes functional.py (dynamic8, blocks of 256);
pytorch/ao torchao/optim/subclass_fp8.py (e4m3), torchao/optim/quant_utils.py (bfloat16 with stochastic rounding).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np

from lpref.ref.backend import HOST
from lpref.ref.errors import CheckpointError, SpecError, UnknownNameError
from lpref.ref.formats import format as format_named
from lpref.ref.quantize import QUANTIZERS, Blocks, Quantizer, Scale, lookup, quantize
from lpref.ref.quantize.extras import EXTRAS, extra_bytes, extras, with_extras
from lpref.ref.random import WordAddress

Array = np.ndarray
Sign = Literal["signed", "unsigned"]


@dataclass(frozen=True)
class Storage:
    """How one tensor is kept. `signed` and `unsigned` quantizers serve state of that sign; None is float32."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    signed: Quantizer | None = None
    unsigned: Quantizer | None = None
    min_numel: int = 0
    """Tensors of fewer elements stay float32 (bitsandbytes and torchao: 4096)."""

    def quantizer(self, size: int, sign: Sign) -> Quantizer | None:
        """The quantizer of a tensor of `size` elements, None for float32."""
        return None if size < self.min_numel else getattr(self, sign)

    def encode(self, name: str, x: Array, sign: Sign, words: WordAddress | None, ops: Any = None) -> dict[str, Array]:
        """The arrays that keep x under `name`. ops: the backend of the arrays, None for NumPy's definitions (as in the other methods)."""
        q = self.quantizer(x.size, sign)
        if q is None:
            return {name: x}
        t = (quantize if ops is None else ops.quantize)(x.reshape(-1), q, words=words)
        arrays = {f"{name}.codes": t.codes} | {f"{name}.scales": s for s in t.scales[:1]}
        arrays |= {f"{name}.{part}": array for part, array in extras(t).items()}
        return arrays | ({f"{name}.tensor_scale": t.tensor_scale.reshape(1)} if _two_level(q) else {})

    def decode(self, name: str, arrays: Mapping[str, Array], shape: tuple[int, ...], sign: Sign, ops: Any = None) -> Array:
        """What `encode` kept, as float32 of `shape`. Raises CheckpointError when an array is missing."""
        size = int(np.prod(shape, dtype=np.int64))  # exact: integers
        q = self.quantizer(size, sign)
        wanted = [name]
        if q is not None:
            levels = [*(["scales"] if _has_scales(q) else []), *(["tensor_scale"] if _two_level(q) else [])]
            wanted = [f"{name}.{part}" for part in ("codes", *levels, *EXTRAS.get(q.scale.rule, ()))]
        for key in wanted:
            if key not in arrays:
                raise CheckpointError(f"no array {key!r}", where="optimizer state", remedy="is the storage the one that the state was made with?")
        if q is None:
            return arrays[name]
        to = HOST if ops is None else ops.arrays
        tensor_scale = arrays[f"{name}.tensor_scale"][0] if _two_level(q) else to.make(np.float32(1))[()]
        scales = (arrays[f"{name}.scales"],) if _has_scales(q) else ()
        more = {part: arrays[f"{name}.{part}"] for part in EXTRAS.get(q.scale.rule, ())}
        kept = to.tensor(arrays[f"{name}.codes"], scales, tensor_scale, 1, (size,), q)
        return with_extras(kept, more).dequantize(np.float32).reshape(shape)

    def round(self, x: Array, words: WordAddress, ops: Any = None) -> Array:
        """x as this storage would give it back: how a parameter is stored."""
        q = self.quantizer(x.size, "signed")
        if q is None:
            return x
        return (quantize if ops is None else ops.quantize)(x.reshape(-1), q, words=words).dequantize(x.dtype).reshape(x.shape)

    def nbytes(self, size: int, sign: Sign, itemsize: int = 4) -> int:
        """Bytes that a tensor of `size` elements takes."""
        q = self.quantizer(size, sign)
        if q is None:
            return itemsize * size
        codes = -(-size * format_named(q.format).bits // 8)
        blocks = 0 if q.scale.rule == "none" else q.blocks.grid((1, size), 1)[1]
        return codes + -(-blocks * format_named(q.scale.format).bits // 8) + (4 if _two_level(q) else 0) + extra_bytes(q, size, blocks)


def _has_scales(q: Quantizer) -> bool:
    """Whether there are block scales."""
    return q.scale.rule not in ("none", "s2fp8")


def _two_level(q: Quantizer) -> bool:
    """Whether the rule has a tensor scale above the block scales."""
    return q.scale.rule == "nvfp4" or q.scale.multiplier != 1.0


def _plain(format_name: str, rounding: str = "nearest_even") -> Storage:
    q = Quantizer(format_name, Blocks(), Scale(rule="none"), rounding=rounding, word_bits=16 if rounding == "stochastic" else None)
    return Storage(q, q)


def _blockwise(signed: str, unsigned: str, block: int) -> Storage:
    first, second = (Quantizer(f, Blocks(1, block), Scale(rule="amax"), tail="partial") for f in (signed, unsigned))
    return Storage(first, second)


STORAGES: dict[str, Storage] = {
    "float32": Storage(),
    "bfloat16": _plain("bfloat16"),
    "bfloat16_sr": _plain("bfloat16", "stochastic"),
    "dynamic8": _blockwise("dynamic8", "dynamic8_unsigned", 256),
    "e4m3": _blockwise("e4m3", "e4m3", 256),
}
"""Named storages."""


def storage(value: Any) -> Storage:
    """A Storage from a name (of STORAGES, or of a quantizer), a Quantizer (for both signs, its tail taken as partial), or a Storage.

    Raises UnknownNameError, and SpecError for a quantizer whose scale needs a state of its own (delayed, learned).

    >>> storage("dynamic8").nbytes(1000, "signed")
    1016
    """
    if isinstance(value, Storage):
        return value
    if isinstance(value, str) and value in STORAGES:
        return STORAGES[value]
    if isinstance(value, str):
        if value.partition(":")[0].partition("@")[0] not in QUANTIZERS:
            raise UnknownNameError("storage", value, [*STORAGES, *QUANTIZERS])
        value = lookup(value)
    if isinstance(value, Quantizer):
        if value.scale.history != "current" or value.scale.learned:
            problem = f"{value.name or value.format}: its scale needs a state, which stored tensors do not have"
            raise SpecError([problem], where="optimizer.storage_of")
        q = replace(value, tail="partial")
        return Storage(q, q)
    raise SpecError([f"a storage is a name, a Quantizer or a Storage, got {type(value).__name__}"], where="optimizer.storage_of")
