"""Recipes, quantizers and training specs as YAML, and their loader."""

from __future__ import annotations

from typing import Any

from lpref.ref.errors import SpecError
from lpref.ref.quantize import Quantizer
from lpref.ref.recipes import Recipe
from lpref.specs.loader import KINDS, QUANTIZER, RECIPE, Kind, load, load_text, to_yaml

assert __name__.startswith("lpref."), "import lpref." + __name__


def recipe(source: Any, set: dict[str, Any] | None = None) -> Recipe:
    """A recipe by name (``nvfp4``, ``nvfp4@1``), path or mapping: ``recipe({"base": "nvfp4", "set": {"linear.wgrad.transform": "none"}})``."""
    made: Recipe = load(source, RECIPE, set)
    return made


def quantizer(source: Any, set: dict[str, Any] | None = None, **parameters: Any) -> Quantizer:
    """A quantizer by name (``mxfp4``, ``mxfp4@1``, ``mxfp4:scale=rceil``), path or mapping (``{base: nvfp4, rounding: stochastic}``).

    >>> quantizer("mxfp4", scale="rceil") == quantizer("mxfp4:scale=rceil")
    True
    """
    if parameters and not isinstance(source, str):
        raise SpecError([f"{name}: parameters go with a quantizer's name" for name in parameters], remedy="use set, or write the field")
    if parameters:
        source = ":".join([source, *(f"{name}={'all' if value is None else value}" for name, value in parameters.items())])
    made: Quantizer = load(source, QUANTIZER, set)
    return made


__all__ = ["KINDS", "QUANTIZER", "RECIPE", "Kind", "load", "load_text", "quantizer", "recipe", "to_yaml"]
