"""Block scales of the grid: kernels for the rules with small blocks, the pages of `lpref.ref.scaling` for the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lpref.accel.cpu import cast, elementwise, four_over_six, grid_kernels, reduce, threads
from lpref.accel.cpu.quantize_plan import Plan
from lpref.ref import scaling
from lpref.ref.formats import format as format_named
from lpref.ref.quantize import Quantizer
from lpref.ref.quantize.block_scales import block_scales
from lpref.ref.scaling.nvfp4 import global_encode_scale


def grid_scales(
    x: NDArray[np.float32], top: NDArray[np.int32], tensor_amax: np.float32, q: Quantizer, plan: Plan, axis: int,
    state: Mapping[str, Any] | None, amax: Any,
) -> scaling.BlockScales:  # fmt: skip
    """Step 2 of `lpref.ref.quantize.quantize`; top: the magnitude bits of every block's amax, all finite."""
    rule = q.scale.rule
    if rule == "mx" and amax is None:
        return _mx(top, q, plan)
    if rule == "amax" and q.scale.format == "e4m3" and q.scale.pow2 == "none" and amax is None:
        return _one_level(top, q, plan)
    if rule == "amax" and q.scale.format not in ("float32", "e8m0", "binary16") and q.scale.history == "current" and amax is None:
        return scaling.amax_scales(top.view(np.float32), plan.target, q.scale, _cast)
    if rule == "deviation" and amax is None:
        return scaling.deviation_scales(x, q.blocks.on(x.shape, axis), q.scale, reduce.tree_sum)
    if rule == "center" and amax is None:
        return scaling.center_scales(x, q.blocks.on(x.shape, axis), elementwise.log2, reduce.tree_sum)
    chosen = tensor_amax if amax is None or rule != "nvfp4" else np.float32(amax)
    if rule == "nvfp4" and chosen >= 0:
        if q.scale.apply == "torchao":
            return _torchao(top, chosen, plan)
        if q.scale.select == "none":
            return _nvfp4(top, chosen, plan)
        block = q.blocks.on(x.shape, axis)
        if four_over_six.covered(block, axis, chosen, plan.target, q.scale):
            return four_over_six.four_over_six_scales(x, block, axis, top, chosen, plan.target, q.scale)
    return block_scales(x, top.view(np.float32), tensor_amax, q, format_named(q.format), axis, state, amax)


def _cast(s: NDArray[np.float32], name: str) -> tuple[NDArray, NDArray[np.float32]]:
    codes = cast.encode(s, name)
    return codes, cast.decode(codes, name)


def _filled(
    kernel: Callable[..., None], top: NDArray[np.int32], *given: Any, operation: Literal["divide", "multiply"] = "multiply", tensor_scale: Any
) -> scaling.BlockScales:  # fmt: skip
    """kernel(amax, *given, codes, values, factors) over the grid."""
    codes, values, factors = np.empty(top.shape, np.uint8), np.empty(top.shape, np.float32), np.empty(top.shape, np.float32)
    flat = [a.reshape(-1) for a in (top, codes, values, factors)]

    def work(start: int, stop: int) -> None:
        amax, *out = (a[start:stop] for a in flat)
        kernel(amax, *given, *out)

    threads.split(top.size, work, grain=threads.GRAIN // 4)
    return scaling.BlockScales(codes, values, factors, operation, tensor_scale)


def _mx(top: NDArray[np.int32], q: Quantizer, plan: Plan) -> scaling.BlockScales:
    mode, emax, threshold, inverse = plan.mx
    given = (np.int32(mode), np.int32(emax), np.int32(threshold), inverse)
    return _filled(grid_kernels.mx_grid, top, *given, tensor_scale=np.float32(1) / np.float32(q.scale.multiplier))


def _one_level(top: NDArray[np.int32], q: Quantizer, plan: Plan) -> scaling.BlockScales:
    divide = q.scale.apply == "divide"
    given = (np.float32(plan.target), np.float32(q.scale.eps), divide)
    tensor_scale = np.float32(1) / np.float32(q.scale.multiplier)
    return _filled(grid_kernels.one_level_grid, top, *given, operation="divide" if divide else "multiply", tensor_scale=tensor_scale)


def _nvfp4(top: NDArray[np.int32], amax: np.float32, plan: Plan) -> scaling.BlockScales:
    encode = global_encode_scale(amax, plan.target)
    with np.errstate(over="ignore", under="ignore"):
        mult, inverse = encode * (np.float32(1) / np.float32(plan.target)), np.float32(1) / encode
    return _filled(grid_kernels.nvfp4_grid, top, mult, inverse, tensor_scale=np.float32(amax / np.float32(448 * plan.target)))


def _torchao(top: NDArray[np.int32], amax: np.float32, plan: Plan) -> scaling.BlockScales:
    with np.errstate(over="ignore", under="ignore"):
        outer = np.float32(amax / (np.float32(448) * np.float32(plan.target)))
        safe = np.float32(1) if outer == 0 else outer
        inverse = np.float32(1) / safe
    return _filled(grid_kernels.torchao_grid, top, np.float32(plan.target), safe, inverse, tensor_scale=outer)
