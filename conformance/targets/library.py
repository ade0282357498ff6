"""`lib:PATH.so:SYMBOL` as a target: a C function of the signature in `lpref_target.h`, called with ctypes.

    int f(const void *x, int64_t rows, int64_t cols, uint8_t *codes, uint8_t *scales, float *tensor_scale);

x: row-major, in the input's dtype (bfloat16: its 16 bits). codes: room for one code an element in a cast (1, 2 or 4 bytes each, the
smallest that holds a code), for packed rows in a quantizer. A quantizer that writes one code an element where they are packed is told so.
scales: room for the scale codes of the block grid. A result other than 0 is an error code. Casts pass rows = 1, and no room for scales (NULL).
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lpref.conformance.targets.base import (
    Case,
    CastCase,
    QuantizeCase,
    TargetMissing,
    TargetRaised,
    TargetRefused,
    Undescribed,
)
from lpref.ref.formats import format as format_of
from lpref.ref.quantize.packing import row_bytes
from lpref.ref.quantize.registry import lookup

UNTOUCHED = 0xA5  # behind the room for codes, to find a function that writes there


class LibraryTarget(Undescribed):
    """A C function as a target."""

    title = "a C function"

    def __init__(self, spec: str) -> None:
        super().__init__(spec)
        path, _, symbol = spec.removeprefix("lib:").rpartition(":")
        if not path or not symbol:
            raise TargetMissing("no symbol", where=spec, remedy="write lib:PATH.so:SYMBOL")
        try:
            self.function = getattr(ctypes.CDLL(str(Path(path).absolute())), symbol)
        except (OSError, AttributeError) as error:
            raise TargetMissing(str(error), where=spec) from error
        self.function.restype = ctypes.c_int
        self.function.argtypes = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, *(ctypes.c_void_p,) * 3]

    def refuses(self, case: Case) -> str | None:
        return None if case.op in ("cast", "quantize") else f"a C target has no {case.op}"

    def call(self, x: np.ndarray, rows: int, cols: int, codes: np.ndarray, scales: np.ndarray | None, tensor_scale: np.ndarray) -> None:
        """The C call; TargetRaised for another result than 0."""
        x = np.ascontiguousarray(x)
        result = self.function(x.ctypes.data, rows, cols, codes.ctypes.data, None if scales is None else scales.ctypes.data, tensor_scale.ctypes.data)
        if result:
            raise TargetRaised(f"returned {result}", where=self.name)

    def cast(self, x: np.ndarray, case: CastCase, words: np.ndarray | None = None) -> np.ndarray:
        if words is not None:
            raise TargetRefused("a C target takes no random words", where=self.name)
        codes = np.zeros(x.shape, format_of(case.format).code_dtype)
        self.call(x, 1, x.size, codes, None, np.ones(1, np.float32))
        return codes

    def quantize(
        self, x: np.ndarray, case: QuantizeCase, amax: np.ndarray | None = None, words: np.ndarray | None = None
    ) -> Mapping[str, Any]:
        if words is not None or amax is not None:
            raise TargetRefused("a C target takes no random words and no amax", where=self.name)
        q = lookup(case.quantizer)
        f = format_of(q.format)
        rows, cols = x.shape
        br, bc = q.blocks.on((rows, cols), 1)
        codes = np.zeros((rows, row_bytes(cols, f.bits)), f.code_dtype)
        grid, tensor_scale = (-(-rows // br), -(-cols // bc)), np.ones(1, np.float32)
        scales = np.zeros(grid, np.uint32 if q.scale.format == "float32" else np.uint8)
        room = np.zeros(codes.nbytes + x.size * codes.itemsize, np.uint8)  # one code an element, the common mistake, stays inside
        room[codes.nbytes :] = UNTOUCHED
        self.call(x, rows, cols, room, scales, tensor_scale)
        if np.any(room[codes.nbytes :] != UNTOUCHED):
            raise TargetRaised(
                f"wrote beyond the {codes.nbytes} bytes of codes of a {rows} x {cols} matrix",
                where=self.name,
                remedy=f"pack {f.bits}-bit codes as lpref_target.h says" if f.bits < 8 else "stay inside rows x cols",
            )
        codes = room[: codes.nbytes].view(f.code_dtype).reshape(codes.shape)
        return {"codes": codes, "scales": scales, "tensor_scale": tensor_scale.reshape(())}
