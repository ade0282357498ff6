"""Scaling: which elements share a scale (`Blocks`), which scale they get (`Scale`), and one page per rule."""

from types import ModuleType

from lpref.ref.scaling import absmean, amax, learned, mx, nvfp4, te
from lpref.ref.scaling.absmean import absmean_scales
from lpref.ref.scaling.amax import amax_scales
from lpref.ref.scaling.blocks import Blocks
from lpref.ref.scaling.learned import given_scales
from lpref.ref.scaling.mx import mx_scales, shared_exponent
from lpref.ref.scaling.nvfp4 import nvfp4_scales
from lpref.ref.scaling.rule import Scale
from lpref.ref.scaling.scales import BlockScales
from lpref.ref.scaling.te import from_encode_scale, te_scales

PAGES: dict[str, ModuleType] = {
    "amax": amax, "te": te, "mx": mx, "nvfp4": nvfp4, "absmean": absmean, "learned": learned, "constant": learned,
}  # fmt: skip
"""Rule -> the module whose docstring is its page: formula, order of operations, zero block, NaN and infinity. `none` has no scale."""

__all__ = [
    "PAGES", "BlockScales", "Blocks", "Scale", "absmean_scales", "amax_scales", "from_encode_scale", "given_scales", "mx_scales", "nvfp4_scales",
    "shared_exponent", "te_scales",
]  # fmt: skip
