"""`lpref.accel.reference.qdq`, fast: quantized and dequantized without codes in between."""

from __future__ import annotations

from typing import Any

import numpy as np

from lpref.accel.cpu import plain, s2fp8, threads
from lpref.accel.cpu.codes import scaled
from lpref.accel.cpu.quantize import prepare, quantize, run
from lpref.accel.cpu.quantize_plan import plan_of
from lpref.ref.quantize import Quantizer, lookup
from lpref.ref.quantize.quantize import logical_view


def qdq(
    x: np.ndarray, quantizer: Quantizer | str, *, state: Any = None, amax: Any = None, words: Any = None, k_axis: int = -1
) -> np.ndarray:
    """Quantize, then dequantize with one rounding to x's dtype: the elements in float32, then the float64 product of `QTensor.dequantize`."""
    q = lookup(quantizer) if isinstance(quantizer, str) else quantizer
    if plain.covered(x, q):
        matrix, _ = logical_view(x, k_axis)
        return plain.values(matrix, q, words)[0].reshape(x.shape)
    plan = plan_of(q) if x.dtype == np.float32 else None
    ready = None if plan is None else prepare(x, q, plan, state=state, amax=amax, k_axis=k_axis)
    if plan is None or ready is None or (plan.table is not None and not plan.table.exact):
        made = quantize(x, q, state=state, amax=amax, words=words, k_axis=k_axis)
        return s2fp8.values(made) if q.scale.rule == "s2fp8" and x.dtype == np.float32 else made.dequantize(x.dtype)
    values, scales = np.empty(ready.x.shape, np.float32), ready.scales
    run(ready, plan, q, words, values=values, codes=None, bare=True)
    rows, columns = ready.x.shape
    fixed = (*ready.block, ready.period, scales.values, np.float64(scales.tensor_scale))
    threads.split(rows, lambda r0, r1: scaled(values, *fixed, r0, r1), 1, max(1, threads.GRAIN // max(columns, 1)))
    return values.reshape(x.shape)
