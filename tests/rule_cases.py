"""Quantizers of every scale rule that has no one-pass kernel, with the states that they read; for the device and for its double on the host."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from device_cases import wide

from lpref.accel.cuda import plans
from lpref.ref.errors import BackendError
from lpref.ref.quantize import QUANTIZERS, Quantizer, init_state, lookup, quantize, update_state
from lpref.ref.random import WordAddress
from lpref.ref.scaling import Blocks, Scale

WORDS = WordAddress(2**40 + 5, 9, "h.0.mlp.up/dgrad/a/round")
ALL, ROW, GROUP, COLUMN, TILE = Blocks(), Blocks(1, None), Blocks(1, 48), Blocks(None, 1), Blocks(24, 24)


def served(q: Quantizer) -> bool:
    """Whether there are kernels."""
    try:
        plans.check(q)
    except BackendError:
        return False
    return True


def quantizers() -> Iterator[tuple[str, Quantizer]]:
    """(name, quantizer)."""
    for name, q in QUANTIZERS.items():
        if (q.scale.rule in plans.OTHERS or q.scale.select != "none") and served(q):
            yield name, q
    made = {
        "hbfp_tiles": Quantizer("int8", TILE, Scale("bfp", format="e8m0", mode="ceil", eps=1e-8), rounding="stochastic"),
        "dfp16": Quantizer("int16", ALL, Scale("bfp", format="e8m0"), rounding="nearest_even"),
        "coat": Quantizer("e4m3", GROUP, Scale("coat", format="bfloat16", eps=1e-10)),
        "two_eps": Quantizer("int8", ROW, Scale("two_eps", eps=1e-6)),
        "shift": Quantizer("int6", COLUMN, Scale("shift", group=5), rounding="stochastic"),
        "moments": Quantizer("int4", GROUP, Scale("moments", rms=2.5, mean=-0.4)),
        "moments_pow2": Quantizer("e4m3", ALL, Scale("moments", rms=1.0, target=1.0, pow2="down")),
        "moments_signs": Quantizer("midrise1", ROW, Scale("moments", rms=0.7978845587140913)),
        "deviation": Quantizer("e2m1", GROUP, Scale("deviation", format="e8m0", std=2.92247856 / 6, eps=1e-8)),
        "center": Quantizer("posit8_1", GROUP, Scale("center"), overflow="posit"),
        "affine": Quantizer("uint8", GROUP, Scale("affine")),
        "affine_signed": Quantizer("int8", ROW, Scale("affine", apply="mul_inverse", eps=1e-3), rounding="stochastic"),
        "affine_widened": Quantizer("uint4", TILE, Scale("affine", zero="widen"), rounding="stochastic"),
        "minmax": Quantizer("uint2", GROUP, Scale("minmax", format="bfloat16", eps=2e-6), rounding="stochastic"),
        "minmax_symmetric": Quantizer("uint6", ROW, Scale("minmax", span="symmetric"), rounding="stochastic"),
        "minmax_rows": Quantizer("uint8", ALL, Scale("minmax", span="rows", eps=1e-6)),
        "s2fp8": Quantizer("e5m2", ALL, Scale("s2fp8")),
        "clip_mse": Quantizer("int8", COLUMN, Scale("clip", steps=5)),
        "clip_weighted": Quantizer("int4", GROUP, Scale("clip", criterion="weighted", steps=7)),
        "clip_cosine": Quantizer("int8", ALL, Scale("clip", criterion="cosine", history="hindsight", window=2), rounding="stochastic"),
        "double_rounding": Quantizer("int4", GROUP, Scale("double_rounding", high=8, value=0.02), narrow=False),
        "bitnet": Quantizer("binary", TILE, Scale("absmean", center=True)),
        "binary16_scales": Quantizer("int8", Blocks(32, 32), Scale(format="binary16")),
        "ue5m3_scales": Quantizer("e2m1", Blocks(1, 16), Scale(format="ue5m3")),
        "ue5m3_inverse": Quantizer("e2m1", Blocks(1, 16), Scale(format="ue5m3", apply="mul_inverse", eps=1e-3)),
        "select_2d": replace(lookup("nvfp4_2d"), scale=replace(lookup("nvfp4_2d").scale, select="mse", scale_max=256)),
        "lns": Quantizer("lns8_g8_zero", ALL, Scale()),
        "overflow_rate": Quantizer("int10", ALL, Scale("overflow_rate", history="delayed", window=2)),
        "overflow_rate_away": Quantizer("int12", ALL, Scale("overflow_rate", history="delayed"), rounding="nearest_away"),
        "flexpoint": Quantizer("int16", ALL, Scale("flexpoint", history="delayed", window=16)),
        "hindsight_amax": Quantizer("int8", ALL, Scale(history="hindsight"), rounding="stochastic"),
        "hindsight_affine": Quantizer("uint8", ALL, Scale("affine", history="hindsight"), rounding="stochastic"),
        "hindsight_minmax": Quantizer("uint8", ALL, Scale("minmax", history="hindsight", eps=1e-6)),
        "fixed32_16": Quantizer("fixed32.16", ALL, Scale("none"), rounding="toward_negative"),
        "fixed24_22": Quantizer("fixed24.22", ALL, Scale("none")),
    }  # fmt: skip
    yield from made.items()


QUANTIZERS_OF_RULES = dict(quantizers())


def cases(name: str, cut: int | None = None) -> Iterator[tuple[np.ndarray, Quantizer, dict[str, Any] | None, int]]:
    """(x, quantizer, state, k_axis): ragged matrices (of `cut` columns at most), zeros, one magnitude; of quantizers with a state, of six steps."""
    q = replace(QUANTIZERS_OF_RULES[name], tail="pad_zero")
    rng = np.random.default_rng(5)
    plain = rng.standard_normal((67, 96)).astype(np.float32)
    zeros, one = np.zeros((24, 96), np.float32), np.full((24, 96), -0.75, np.float32)
    state = init_state(q) or None
    for whole in (plain, wide(49, 96), zeros, one, plain * np.float32(3), plain):
        x = np.ascontiguousarray(whole[:, :cut])
        for axis in (1, 0) if x.shape[0] % 2 else (1,):
            yield x, q, state, axis
        if state is not None:
            state = update_state(q, state, [quantize(x, q, state=state, words=WORDS).observed])
    if q.scale.rule == "learned":
        step, zero = np.float32(0.05), np.float32(3)
        yield plain, replace(q, format="uint4"), {"scale": step, "zero": zero}, 1


def refusing(q: Quantizer) -> bool:
    """Whether NaN may be an error."""
    return q.scale.rule in ("none", "learned", "constant", "fan_in", "double_rounding", "flexpoint", "overflow_rate") or q.scale.history != "current"


def bad(name: str) -> Iterator[np.ndarray]:
    """Inputs with NaN and infinities, where these are no error."""
    if refusing(QUANTIZERS_OF_RULES[name]):
        return
    for value in (np.nan, np.inf, -np.inf):
        x = np.random.default_rng(6).standard_normal((48, 96)).astype(np.float32)
        x[7, 50] = value
        yield x
