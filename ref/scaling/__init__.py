"""Scaling: which elements share a scale (`Blocks`), and which scale they get (`Scale` and one page per rule)."""

from lpref.ref.scaling.blocks import Blocks
from lpref.ref.scaling.rule import Scale

__all__ = ["Blocks", "Scale"]
