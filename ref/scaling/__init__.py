"""Scaling: which elements share a scale (`Blocks`), which scale they get (`Scale`), and one page per rule."""

from types import ModuleType

from lpref.ref.scaling import (
    absmean,
    affine,
    amax,
    bfp,
    center,
    clip,
    coat,
    deviation,
    double,
    double_rounding,
    fan_in,
    flexpoint,
    learned,
    minmax,
    moments,
    mx,
    nvfp4,
    overflow_rate,
    quartic,
    s2fp8,
    shift,
    te,
    trit_planes,
    twn,
    two_eps,
)
from lpref.ref.scaling.absmean import absmean_scales
from lpref.ref.scaling.affine import affine_scales
from lpref.ref.scaling.amax import amax_scales
from lpref.ref.scaling.bfp import bfp_scales
from lpref.ref.scaling.blocks import Blocks
from lpref.ref.scaling.center import center_scales
from lpref.ref.scaling.clip import clip_scales
from lpref.ref.scaling.coat import coat_scales
from lpref.ref.scaling.deviation import deviation_scales
from lpref.ref.scaling.double import double_scales
from lpref.ref.scaling.double_rounding import double_rounding_scales
from lpref.ref.scaling.fan_in import fan_in_scales
from lpref.ref.scaling.flexpoint import flexpoint_scales
from lpref.ref.scaling.four_over_six import four_over_six_scales
from lpref.ref.scaling.learned import given_scales
from lpref.ref.scaling.minmax import minmax_scales
from lpref.ref.scaling.moments import moments_scales
from lpref.ref.scaling.mx import mx_scales, shared_exponent
from lpref.ref.scaling.nvfp4 import nvfp4_scales, torchao_scales
from lpref.ref.scaling.overflow_rate import overflow_rate_scales
from lpref.ref.scaling.quartic import quartic_scales
from lpref.ref.scaling.rule import Scale
from lpref.ref.scaling.s2fp8 import s2fp8_scales
from lpref.ref.scaling.scales import BlockScales
from lpref.ref.scaling.shift import shift_scales
from lpref.ref.scaling.te import from_encode_scale, te_scales
from lpref.ref.scaling.trit_planes import trit_plane_scales
from lpref.ref.scaling.twn import twn_scales
from lpref.ref.scaling.two_eps import two_eps_scales

PAGES: dict[str, ModuleType] = {
    "amax": amax, "te": te, "mx": mx, "nvfp4": nvfp4, "absmean": absmean, "twn": twn, "affine": affine, "bfp": bfp, "flexpoint": flexpoint,
    "s2fp8": s2fp8, "double": double, "trit_planes": trit_planes, "quartic": quartic, "learned": learned, "constant": learned,
    "fan_in": fan_in, "coat": coat, "minmax": minmax, "moments": moments, "two_eps": two_eps, "double_rounding": double_rounding,
    "deviation": deviation, "center": center,
    "overflow_rate": overflow_rate, "clip": clip, "shift": shift,
}  # fmt: skip
"""Rule -> the module whose docstring is its page: formula, order of operations, zero block, NaN and infinity. `none` has no scale."""

__all__ = [
    "PAGES", "BlockScales", "Blocks", "Scale", "absmean_scales", "affine_scales", "amax_scales", "bfp_scales", "center_scales",
    "clip_scales", "coat_scales", "deviation_scales", "double_rounding_scales", "double_scales", "fan_in_scales", "flexpoint_scales",
    "four_over_six_scales", "from_encode_scale", "given_scales", "minmax_scales", "moments_scales", "mx_scales", "nvfp4_scales",
    "overflow_rate_scales", "quartic_scales", "s2fp8_scales", "shared_exponent", "shift_scales", "te_scales", "torchao_scales",
    "trit_plane_scales", "twn_scales", "two_eps_scales",
]  # fmt: skip
