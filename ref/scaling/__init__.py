"""Scaling: which elements share a scale (`Blocks`), which scale they get (`Scale`), and one page per rule."""

from lpref.ref.scaling.absmean import absmean_scales
from lpref.ref.scaling.amax import amax_scales
from lpref.ref.scaling.blocks import Blocks
from lpref.ref.scaling.learned import given_scales
from lpref.ref.scaling.mx import mx_scales, shared_exponent
from lpref.ref.scaling.nvfp4 import nvfp4_scales
from lpref.ref.scaling.rule import Scale
from lpref.ref.scaling.scales import BlockScales
from lpref.ref.scaling.te import from_encode_scale, te_scales

__all__ = [
    "BlockScales", "Blocks", "Scale", "absmean_scales", "amax_scales", "from_encode_scale", "given_scales", "mx_scales", "nvfp4_scales",
    "shared_exponent", "te_scales",
]  # fmt: skip
