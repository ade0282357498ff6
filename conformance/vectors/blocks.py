"""The vectors of a block quantizer: small matrices with codes, block scales and the tensor scale."""

from __future__ import annotations

from typing import Any

import numpy as np

from lpref.conformance.quantizers import matrices
from lpref.conformance.vectors.files import VERSION, VectorSet
from lpref.ref.errors import FormatError, NonFiniteError
from lpref.ref.formats import format as format_of
from lpref.ref.quantize import QTensor, Quantizer, quantize
from lpref.ref.rounding import is_stochastic

CATCHES = "a stale, swapped or shared scale: the blocks of a matrix differ in size; what else is rare in it is the case's own word"
CODES = 1 << 17
"""Elements of all the cases of a file."""


def refusal(q: Quantizer) -> str | None:
    """None, or why a quantizer has no vectors."""
    if is_stochastic(q.rounding):
        return "it needs random words"
    if q.scale.rule == "learned" or q.scale.history == "delayed":
        return "its scale is a state"
    t = quantize(np.ones((q.blocks.other or 2, q.blocks.k or 32), np.float32), q)
    own = t.zero is not None or t.residual is not None or t.aux is not None or len(t.scales) > 1
    return "its result is more than codes and one level of scales" if own else None


def quantize_set(name: str, q: Quantizer, limit: int) -> VectorSet:
    """At most `limit` matrices of 2 × 2 blocks (of whole rows: 2 × 48)."""
    f = format_of(q.format)
    rows, columns = 2 * (q.blocks.other or 1), 2 * q.blocks.k if q.blocks.k else 48
    cases: list[dict[str, Any]] = []
    block: tuple[int, int] = (1, 1)
    scale_bits, most = 0, min(limit, max(1, CODES // (rows * columns * 4)))
    for label, matrix in matrices(q):
        x = np.ascontiguousarray(matrix[:rows, :columns])
        try:
            t = quantize(x, q)
        except (FormatError, NonFiniteError):
            continue
        if len(cases) == most:
            break
        block = t.block
        scale_bits = 8 * t.scales[0].dtype.itemsize if t.scales else 0
        cases.append(case_of(len(cases), label, x, t))
    header = {
        "lpref_vectors": VERSION, "op": "quantize", "subject": name, "revision": q.revision, "standard": q.standard,
        "rounding": q.rounding, "overflow": q.overflow, "code_bits": f.bits, "nan_codes": nan_codes(f), "scale_bits": scale_bits,
        "block": [int(b) for b in block], "license": "CC0-1.0", "catches": {"matrices": CATCHES},
    }  # fmt: skip
    return VectorSet(f"quantize-{name}", header, cases)


def nan_codes(f: Any) -> list[str]:
    """Codes that mean NaN."""
    return [f"{c:#x}" for c in np.flatnonzero(np.isnan(f.decode(np.arange(2**f.bits)))).tolist()] if f.bits <= 16 else []


def case_of(number: int, label: str, x: np.ndarray, t: QTensor) -> dict[str, Any]:
    """One matrix and its result, as hexadecimal digits in row-major order, most significant digit first."""
    scales = t.scales[0] if t.scales else np.zeros((0, 0), np.uint8)
    return {
        "id": number, "shape": list(x.shape), "in": digits(x.view(np.uint32)), "codes": digits(t.unpacked()), "scales": digits(scales),
        "scales_shape": list(scales.shape), "tensor_scale": f"0x{int(np.float32(t.tensor_scale).view(np.uint32)):08x}", "catches": label,
    }  # fmt: skip


def digits(values: np.ndarray) -> str:
    """Every element as two hexadecimal digits for each byte of its dtype, the most significant first.

    >>> digits(np.uint16([1, 0xabcd]))
    '0001abcd'
    """
    unsigned = np.ascontiguousarray(values).view(f"u{values.dtype.itemsize}")
    return unsigned.astype(f">u{values.dtype.itemsize}").tobytes().hex()


def numbers(text: str, bits: int) -> np.ndarray:
    """The inverse of `digits`, for elements of that many bits (8, 16, 32)."""
    width = max(1, bits // 8)
    return np.frombuffer(bytes.fromhex(text), f">u{width}").astype(f"u{width}")
