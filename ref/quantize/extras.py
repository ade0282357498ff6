"""What a `QTensor` holds beside codes, block scales and tensor scale, as named arrays: for layouts and for stored optimizer states.

    affine       zero                              int32, on the grid of the scales
    double       scales_1, offset                  second-level scales (uint32 bits of float32); float32
    s2fp8        alpha, beta                       float32; there are no block scales
    trit_planes  residual_codes, residual_scales   the second plane
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lpref.ref.formats import format as format_named
from lpref.ref.quantize.qtensor import QTensor
from lpref.ref.quantize.quantizer import Quantizer

EXTRAS: dict[str, tuple[str, ...]] = {
    "affine": ("zero",), "double": ("scales_1", "offset"), "s2fp8": ("alpha", "beta"), "trit_planes": ("residual_codes", "residual_scales"),
}  # fmt: skip
"""Rule -> names of its further arrays."""


def extras(t: QTensor) -> dict[str, NDArray]:
    """The further arrays of `t`, as it holds them.

    >>> from lpref.ref.quantize import quantize
    >>> {k: v.tolist() for k, v in extras(quantize(np.float32([[-1, 2]]), "uint8_affine")).items()}
    {'zero': [[85]]}
    """
    held: dict[str, NDArray] = {} if t.aux is None else {name: np.asarray([v], np.float32) for name, v in t.aux.items()}
    if t.zero is not None:
        held["zero"] = t.zero
    if t.quantizer.scale.rule == "double":
        held["scales_1"] = t.scales[1]
    if t.residual is not None:
        held |= {"residual_codes": t.residual.codes, "residual_scales": t.residual.scales[0]}
    return {name: held[name] for name in EXTRAS.get(t.quantizer.scale.rule, ())}


def with_extras(t: QTensor, arrays: Mapping[str, NDArray]) -> QTensor:
    """`t` with the further arrays of its rule taken from `arrays`."""
    rule = t.quantizer.scale.rule
    if rule == "affine":
        return replace(t, zero=np.asarray(arrays["zero"], np.int32))
    if rule in ("double", "s2fp8"):
        numbers = [name for name in EXTRAS[rule] if name != "scales_1"]
        aux = {name: np.float32(np.asarray(arrays[name]).reshape(-1)[0]) for name in numbers}
        return replace(t, aux=aux, scales=(*t.scales, np.asarray(arrays["scales_1"])) if rule == "double" else ())
    if rule == "trit_planes":
        return replace(t, residual=replace(t, codes=np.asarray(arrays["residual_codes"]), scales=(np.asarray(arrays["residual_scales"]),)))
    return t


def extra_bytes(q: Quantizer, size: int, blocks: int) -> int:
    """Bytes of these arrays for a tensor of `size` elements in one row of `blocks` blocks, less the block scales that s2fp8 has not."""
    plane = -(-size * format_named(q.format).bits // 8) + 4 * blocks
    return {"affine": 4 * blocks, "double": 4 * -(-blocks // q.scale.group) + 4, "s2fp8": 8 - 4 * blocks, "trit_planes": plane}.get(q.scale.rule, 0)
