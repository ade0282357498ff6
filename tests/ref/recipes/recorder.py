"""A backend that remembers what it multiplies, and the comparison of that with an emulation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from lpref.accel.reference import ReferenceBackend
from lpref.ref.recipes import GEMMS


class Recorder:
    """The reference backend; `pairs` are the operands of every product in order, `products` the results."""

    def __init__(self) -> None:
        self.ops = ReferenceBackend("exact")
        self.pairs: list[tuple[Any, Any]] = []
        self.products: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.ops, name)

    def gemm(self, a: Any, b: Any, *accumulate: Any) -> Any:
        self.pairs.append((a, b))
        self.products.append(self.ops.gemm(a, b, *accumulate))
        return self.products[-1]

    def gemms(self, products: Any) -> list[Any]:
        return [self.gemm(*product) for product in products]

    @property
    def values(self) -> list[tuple[Any, Any]]:
        """`pairs` in float32."""
        return [(a.dequantize(np.float32), b.dequantize(np.float32)) for a, b in self.pairs]


def assert_operands(ops: Recorder, wanted: Mapping[str, Any], told: str = "", dtype: Any = np.float64) -> None:
    """The operands of the three products are `wanted`, by slot, as numbers of `dtype`."""
    for gemm, pair in zip(GEMMS, ops.pairs, strict=True):
        for side, operand in zip("ab", pair, strict=True):
            found, card = operand.dequantize(dtype), np.asarray(wanted[f"{gemm}.{side}"]).astype(dtype)
            np.testing.assert_array_equal(found, card, err_msg=f"{told} {gemm}.{side}")
