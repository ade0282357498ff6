"""The CUDA backend: CuPy arrays, kernels compiled by NVRTC. Grade exact has the bits of every other backend.

Importing this page needs neither CuPy nor a GPU; calling an op needs both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lpref.accel.cuda import device
from lpref.accel.cuda.qtensor import CudaQTensor
from lpref.accel.cuda.quantize import quantize
from lpref.accel.reference import reference_ops
from lpref.ref.backend import Arrays, Backend, Bits, Kernel

KERNELS: dict[str, Callable[..., Any]] = {
    "quantize": quantize,
}


def to_device(x: Any) -> Any:
    """A NumPy array or number as a CuPy array; CuPy arrays as they are."""
    return x if device.on_device(x) else device.cupy().asarray(x)


def to_host(x: Any) -> Any:
    """A CuPy array or quantized tensor in NumPy; waits for the device. Everything else as it is."""
    if isinstance(x, CudaQTensor):
        return x.host()
    return device.cupy().asnumpy(x) if device.on_device(x) else x


def memory() -> int:
    """Bytes of the device's memory."""
    return int(device.cupy().cuda.Device().mem_info[1])


ARRAYS = Arrays(to_device, to_host, CudaQTensor, memory)


class CudaBackend(Backend):
    """Functions of CuPy arrays. Grade "fast" multiplies matrices by cuBLAS; everything else has the same bits in both grades."""

    def __init__(self, numerics: str = "fast") -> None:
        definitions = reference_ops("exact")
        super().__init__("cuda", numerics, [Kernel(op, f, definitions[op], Bits()) for op, f in KERNELS.items()], ARRAYS)
