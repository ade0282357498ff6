"""Attention of bfloat16 arrays beside that of the float32 arrays of the same values, which give the same bits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import ml_dtypes
import numpy as np
from kernel_check import Place
from kernel_draw import Draw

from lpref.ref.backend import Kernel
from lpref.ref.nn.rope import rope_tables


def rounded(x: np.ndarray) -> np.ndarray:
    return x.astype(ml_dtypes.bfloat16)


class Rounded(Draw):
    """Numbers of bfloat16, in float32."""

    def __call__(self, *shape: int) -> np.ndarray:
        return rounded(super().__call__(*shape)).astype(np.float32)


def narrow(place: Place) -> Place:
    """`place` with the float32 arrays that bfloat16 can hold in bfloat16."""

    def put(x: Any) -> Any:
        fits = isinstance(x, np.ndarray) and x.dtype == np.float32 and x.size and not np.ascontiguousarray(x).view(np.uint32).astype(np.uint16).any()
        return place.put(x.astype(ml_dtypes.bfloat16, order="K") if fits else x)

    return Place(put, lambda x: place.get(x.astype(np.float32)) if getattr(x, "dtype", None) == ml_dtypes.bfloat16 else place.get(x), place.refuses)


def dense_and_packed(draw: Draw, T: int, D: int) -> Iterator[tuple[str, tuple[np.ndarray, ...], np.ndarray, tuple[Any, ...]]]:
    """Op, its bfloat16 arguments, do, further arguments: rows that are contiguous and not, a scale below zero."""
    q, k, v, do = (rounded(draw(2, T, heads, D)).transpose(0, 2, 1, 3) for heads in (4, 2, 2, 4))
    yield "attention", (q, k, v), do, (True, None)
    yield "attention", tuple(np.ascontiguousarray(x) for x in (q, k, v)), do, (False, -0.3)
    for rotary in (None, rope_tables(T, D)) if D % 2 == 0 else (None,):
        yield "attention_packed", (rounded(draw(2 * T, 8 * D)),), rounded(draw(2 * T, 4 * D)), (2, 4, 2, rotary, True, None)


def compare(kernels: Mapping[str, Kernel], place: Place, cases: Any, operands: str) -> None:
    """Forward and backward of every case, do of either type."""
    for op, given, do, more in cases:
        forward, backward = kernels[op].function, kernels[op + "_backward"].function
        options = place.there((*more, operands))
        made = []
        for kind in (ml_dtypes.bfloat16, np.float32):
            sources = [place.put(x.astype(kind, order="K")) for x in given]
            o, saved = forward(*sources, *options)
            made.append([o, getattr(saved, "logs", saved)])
            for of in (kind, np.float32):
                gradients = backward(place.put(do.astype(of, order="K")), *sources, o, saved, *options)
                made[-1] += gradients if isinstance(gradients, tuple) else [gradients]
            if op == "attention_packed":
                short = backward(place.put(do), *sources, o, saved, *options, store="bfloat16")
                np.testing.assert_array_equal(place.get(short), rounded(place.get(made[-1][-1])), "stored as bfloat16")
        for narrow, wide in zip(*made, strict=True):
            assert narrow.dtype == wide.dtype == np.float32
            np.testing.assert_array_equal(place.get(narrow), place.get(wide), f"{op} {[x.shape for x in given]} {more[-2:]}")
