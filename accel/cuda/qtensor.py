"""`CudaQTensor`: a quantized tensor whose codes and scales lie on the device."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lpref.accel.cuda import arrays, cast, device, embed, lines
from lpref.ref.errors import BackendError, ShapeError
from lpref.ref.formats import format as format_named
from lpref.ref.quantize import QTensor
from lpref.ref.quantize.packing import row_bytes
from lpref.ref.scaling.clip import mean_deviation

PACKED = (1, 2, 4, 6)
PAGE = 256
_pages = threading.local()


class Page:
    """Rows of four counters, a spare and three more in one array, zero at first, handed out one by one; read together: what takes long is to wait."""

    def __init__(self) -> None:
        self.owner = device.cupy()
        made = getattr(_pages, "made", None)
        with nullcontext() if made is not None else device.general():
            self.rows = lines.shared(lambda: self.owner.zeros((PAGE, 8), np.uint64))
        self.taken = 0
        self.seen: Any = None
        """The rows in NumPy, None once a kernel may have written to one."""
        if made is not None:
            made.append(self)


@contextmanager
def own_pages() -> Iterator[list[Page]]:
    """Inside, what is counted goes to pages of its own: those in the list."""
    before = getattr(_pages, "page", None), getattr(_pages, "made", None)
    _pages.page, _pages.made = None, []
    try:
        yield _pages.made
    finally:
        _pages.page, _pages.made = before


@dataclass(frozen=True, eq=False)
class Counters:
    """A row of a page: what one quantization counts; `row` is its array on the device: four counts, a spare 0, and what a rule observes beyond."""

    page: Page
    place: int
    row: Any

    @classmethod
    def take(cls) -> Counters:
        """The next row."""
        page = getattr(_pages, "page", None)
        if page is None or page.taken == PAGE or page.owner is not device.cupy():
            page = _pages.page = Page()
        place, page.taken = page.taken, page.taken + 1
        return cls(page, place, page.rows[place])

    def spare(self) -> Any:
        """uint32 [1], 0 until somebody uses it."""
        return self.row[4:5].view(np.uint32)[:1]

    def read(self) -> Any:
        """The numbers in NumPy; waits for the device, unless another row of the page was just read."""
        if self.page.seen is None:
            self.page.seen = device.cupy().asnumpy(self.page.rows)
        return self.page.seen[self.place]


class Observed(Mapping[str, Any]):
    """amax, count, overflowed, underflowed, and what the rule observes beyond them (`lpref.ref.quantize.further`); read from the device when first
    asked for (which waits for it)."""

    def __init__(self, counters: Counters, count: int, told: tuple[str, ...] = (), shown: Mapping[str, Any] | None = None) -> None:
        self._counters, self._count, self._told, self._shown = counters, count, told, shown or {}
        self._read: dict[str, Any] | None = None
        counters.page.seen = None  # a kernel has written since

    @property
    def row(self) -> Any:
        """The counters on the device."""
        return self._counters.row

    def _values(self) -> dict[str, Any]:
        if self._read is None:
            self._read = self._figures(self._counters.read())
        return self._read

    def _figures(self, row: Any) -> dict[str, Any]:
        over, under, top = (int(v) for v in row[:3])
        counts = {"amax": _magnitude(top), "count": self._count, "overflowed": over, "underflowed": under}
        told = {name: int(v) if name in COUNTS else np.uint32(v).view(np.float32) for name, v in zip(self._told, row[5:], strict=False)}
        shown = {name: device.cupy().asnumpy(array) for name, array in self._shown.items()}
        if "deviation" in shown:
            shown["deviation"] = mean_deviation(shown["deviation"])
        return counts | shown | told

    def read_in(self, pages: Mapping[Page, Any]) -> dict[str, Any]:
        """The figures as they stand in copies of the pages' rows: those of a captured step, whose kernels count again each time."""
        return self._figures(pages[self._counters.page][self._counters.place])

    def __getitem__(self, key: str) -> Any:
        return self._values()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(("amax", "count", "overflowed", "underflowed", *self._shown, *self._told))

    def __len__(self) -> int:
        return 4 + len(self._shown) + len(self._told)


def _magnitude(bits: int) -> np.float32:
    """What the bits of a greatest magnitude stand for."""
    return np.uint32(bits).view(np.float32) if bits <= 0x7F800000 else np.float32(np.nan)


COUNTS = ("half", "top")
"""Observations of a row that are whole numbers; the others are bits of float32."""


@dataclass(frozen=True, eq=False)
class CudaQTensor(QTensor):
    """As `QTensor`; codes, scales, zero points, `aux` and the 0-d tensor_scale are CuPy arrays. `host()` is the same tensor in NumPy."""

    embedded: Any = None
    """`in_bfloat16(True)` where it was made together with the codes."""
    turned: Any = None
    """The codes with rows and columns exchanged, contiguous, where they were made together with the codes."""
    product: tuple[Any, Any] | None = None
    """Another operand's tensor scale, and {its product with this one's, 0}, where that was made together with the codes."""

    def host(self) -> QTensor:
        """A copy in host memory."""
        get = device.cupy().asnumpy
        scales = tuple(get(s) for s in self.scales)
        tensor_scale = np.float32(get(self.tensor_scale))
        zero = None if self.zero is None else get(self.zero)
        aux = None if self.aux is None else {name: np.float32(get(v).reshape(-1)[0]) for name, v in self.aux.items()}
        codes, seen = get(self.codes), dict(self.observed)
        if "amax" not in seen:  # bfloat16 that no kernel has read (`operand.as_codes`)
            seen = {"amax": _magnitude(int((codes & 0x7FFF).max(initial=0)) << 16), **seen}
        return QTensor(codes, scales, tensor_scale, self.k_axis, self.logical_shape, self.quantizer, seen, zero, None, aux)

    def unpacked(self) -> Any:
        bits, (rows, columns) = format_named(self.quantizer.format).bits, self.shape
        if bits not in PACKED:
            return self.codes
        out = device.cupy().empty((rows, columns), np.uint8)
        run = device.function("generic", "unpack_rows", (("LP_IN", 0),))
        args = (self.codes, rows, columns, np.int32(bits), row_bytes(columns, bits), out)
        run((device.blocks_for(out.size),), (device.THREADS,), args)
        return out

    def scale_values(self) -> Any:
        cp = device.cupy()
        if not self.scales:
            return cp.ones((1, 1), np.float32)
        return self._loaded(0)

    def _loaded(self, level: int) -> Any:
        """A level of stored scales in float32."""
        stored, name = self.scales[level], self.quantizer.scale.format
        return stored.view(np.float32) if name == "float32" else cast.decode(stored, name)

    def stored_scales(self) -> tuple[Any, Any]:
        """What kernels/stored.cuh reads: the scales as they are stored, and the table of their codes' values (0 for float32)."""
        stored = self.scales[0]
        if stored.itemsize == 2:
            return self.scale_values(), 0
        return stored, 0 if stored.itemsize == 4 else cast.values(format_named(self.quantizer.scale.format))[0]

    def element_values(self) -> Any:
        return self._values(0, np.float64)

    def decoded(self) -> Any:
        """`element_values` in float32, which holds every format that has kernels."""
        return self._values(0, np.float32)

    def folded(self) -> Any:
        """Element x block scale, rounded to float32, [R, C]."""
        return self._values(2, np.float32)

    def in_bfloat16(self, scaled: bool) -> Any:
        """`element_values`, or `folded` where scaled, as bfloat16 (its 16 bits, uint16), for what that holds."""
        if scaled and self.embedded is not None:
            return self.embedded
        cp, (rows, columns), f = device.cupy(), self.shape, format_named(self.quantizer.format)
        if f.bits not in (4, 8) or columns % 8 or not self.codes.flags.c_contiguous or self.zero is not None:
            return self._values(2 if scaled else 0, np.uint16)
        out = cp.empty((rows, columns), np.uint16)
        if out.size and not (scaled and embed.embedded(self.codes, self.scales[0], self.shape, self.block, self.quantizer, out)):
            run = device.function("blas", "embed", (("LP_BITS", f.bits),))
            scales = self.stored_scales() if scaled else (0, 0)
            run((device.blocks_for(out.size // 8),), (device.THREADS,), (self.codes, rows, columns, *self.block, cast.values(f)[0], *scales, out))
        return out

    def dequantize(self, dtype: Any = np.float64) -> Any:
        """As `QTensor.dequantize`, for float64 and float32: the float64 product, rounded once."""
        if np.dtype(dtype) not in (np.float64, np.float32):
            raise BackendError(f"no kernel dequantizes to {np.dtype(dtype)}", where="cuda", remedy="use float32 or float64, or t.host().dequantize()")
        return self._values(3 if self.quantizer.scale.rule == "minmax" else 1, np.dtype(dtype)).reshape(self.logical_shape)

    def contracted_along(self, k_axis: int) -> CudaQTensor:
        """The same codes under another contraction axis; of codes that lie both ways, those alone that have this axis side by side."""
        if self.turned is None or k_axis % 2:
            return replace(self, k_axis=k_axis)
        return replace(self, k_axis=k_axis, codes=self.turned.T, turned=None)

    def _values(self, what: int, dtype: Any) -> Any:
        """kernels/generic.cu: 0 elements, 1 values, 2 elements times block scales, 3 values of minmax, [R, C]."""
        cp, (rows, columns), bits = device.cupy(), self.shape, format_named(self.quantizer.format).bits
        (br, bc) = self.block if self.scales else (max(rows, 1), max(columns, 1))
        table, up = cast.values(format_named(self.quantizer.format))
        out = cp.empty((rows, columns), dtype)
        if out.size:
            run = device.function("generic", "dequantize", (("LP_IN", 0),))
            codes, bytes_each = cp.ascontiguousarray(self.codes), 0 if bits in PACKED else self.codes.itemsize
            source = (codes, rows, columns, codes.shape[1], *(np.int32(v) for v in (bytes_each, bits)), table, np.int32(up))
            further = (self._exact(), 0 if self.zero is None else self.zero, self._loaded(1) if what == 3 else 0)
            target = (self.tensor_scale, *further, np.int32(what), out, np.int32({4: 0, 8: 1, 2: 2}[out.itemsize]))
            run(*device.plane(rows, columns), (*source, br, bc, self.scale_values() if what else 0, *target))
        return out

    def _exact(self) -> Any:
        """float64 values by code, where float32 does not hold them (s2fp8: where decoding is no product); 0 elsewhere."""
        f = format_named(self.quantizer.format)
        if self.quantizer.scale.rule != "s2fp8" or self.aux is None:
            return cast.exact_values(f)
        out, ends = device.cupy().empty(2**f.bits, np.float64), (self.aux["alpha"], self.aux["beta"])
        arrays.each("rules", "expand", out.size, cast.values(f)[0], out.size, *ends, out, defines=(*arrays.ONE, ("LP_IN", 0)))
        return out

    def transpose(self) -> CudaQTensor:
        """As `QTensor.transpose`."""
        if self.quantizer.scale.rule != "none" and not self.quantizer.blocks.transpose_closed:
            raise ShapeError("the blocks are not transpose-closed", where="CudaQTensor.transpose", remedy="quantize the transposed tensor")
        cp, bits, (rows, columns) = device.cupy(), format_named(self.quantizer.format).bits, self.shape
        codes = pack(cp.ascontiguousarray(self.unpacked().T), bits)
        scales, zero = tuple(cp.ascontiguousarray(s.T) for s in self.scales), None if self.zero is None else cp.ascontiguousarray(self.zero.T)
        return replace(self, codes=codes, scales=scales, logical_shape=(columns, rows), zero=zero, embedded=None, turned=None)

    def to_layout(self, name: str) -> dict[str, Any]:
        """The layout ``linear``; others are made on the host: ``t.host().to_layout(name)``."""
        if name != "linear":
            raise BackendError(f"no kernel makes the layout {name!r}", where="cuda", remedy="use linear, or t.host().to_layout(name)")
        return {"codes": self.codes, "scales": self.scales[0] if self.scales else None, "tensor_scale": self.tensor_scale}


def pack(codes: Any, bits: int) -> Any:
    """`lpref.ref.quantize.packing.pack` of codes [R, C] on the device."""
    if bits not in PACKED:
        return codes
    rows, columns = codes.shape
    out = device.cupy().empty((rows, row_bytes(columns, bits)), np.uint8)
    run = device.function("generic", "pack_rows", (("LP_IN", 0),))
    run((device.blocks_for(out.size),), (device.THREADS,), (codes, rows, columns, np.int32(bits), out.shape[1], out))
    return out
