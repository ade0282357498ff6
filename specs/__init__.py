"""Recipes, quantizers and training specs as YAML, and their loader."""

from __future__ import annotations

from typing import Any

from lpref.ref.quantize import Quantizer
from lpref.ref.recipes import Recipe
from lpref.specs.loader import KINDS, QUANTIZER, RECIPE, Kind, load, load_text, to_yaml

assert __name__.startswith("lpref."), "import lpref." + __name__


def recipe(source: Any, set: dict[str, Any] | None = None) -> Recipe:
    """A recipe by name, path or mapping: ``recipe("nvfp4")``, ``recipe({"base": "nvfp4", "set": {"linear.wgrad.transform": "none"}})``."""
    made: Recipe = load(source, RECIPE, set)
    return made


def quantizer(source: Any, set: dict[str, Any] | None = None) -> Quantizer:
    """A quantizer by name (``mxfp4``, ``mxfp4@1``, ``mxfp4:scale=rceil``), path or mapping (``{base: nvfp4, rounding: stochastic}``)."""
    made: Quantizer = load(source, QUANTIZER, set)
    return made


__all__ = ["KINDS", "QUANTIZER", "RECIPE", "Kind", "load", "load_text", "quantizer", "recipe", "to_yaml"]
