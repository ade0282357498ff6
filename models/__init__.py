"""Layers and models."""

from lpref.models.model import Model
from lpref.models.parameters import LinearSite, ParameterSpec
from lpref.models.registry import CONFIGS, MODELS, build, config

assert __name__.startswith("lpref."), "import lpref." + __name__

__all__ = ["CONFIGS", "LinearSite", "MODELS", "Model", "ParameterSpec", "build", "config"]
