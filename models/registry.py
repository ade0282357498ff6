"""Models by kind, and how one is built from a spec."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from lpref.models.cnn import CNN, CNNConfig
from lpref.models.gpt import GPT, GPTConfig
from lpref.models.mlp import MLP, MLPConfig
from lpref.models.model import Model
from lpref.models.vit import ViT, ViTConfig
from lpref.ref.errors import SpecError, UnknownNameError

MODELS: dict[str, type[Model]] = {"mlp": MLP, "cnn": CNN, "gpt": GPT, "vit": ViT}
"""Model classes by kind."""

CONFIGS: dict[str, type] = {"mlp": MLPConfig, "cnn": CNNConfig, "gpt": GPTConfig, "vit": ViTConfig}
"""Configuration dataclasses by kind."""


def config(spec: Mapping[str, Any]) -> Any:
    """The configuration that a mapping `{kind: ..., field: value}` describes.

    >>> config({"kind": "gpt", "layers": 2}).layers
    2
    """
    if "kind" not in spec:
        raise SpecError([f"kind: missing; known: {', '.join(sorted(MODELS))}"], where="model")
    kind = spec["kind"]
    if kind not in CONFIGS:
        raise UnknownNameError("model kind", kind, CONFIGS, where="model.kind")
    known = [f.name for f in fields(CONFIGS[kind])]
    for name in spec:
        if name != "kind" and name not in known:
            raise UnknownNameError("field", name, known, where=f"model {kind}")
    return CONFIGS[kind](**{name: value for name, value in spec.items() if name != "kind"})


def build(spec: Mapping[str, Any] | Any, recipe: Any = None, seed: int = 0, backend: Any = None) -> Model:
    """A model with its initial parameters; `spec` is a mapping with `kind`, or a configuration."""
    cfg = config(spec) if isinstance(spec, Mapping) else spec
    kinds = [kind for kind, cls in CONFIGS.items() if type(cfg) is cls]
    if not kinds:
        raise SpecError([f"model: {type(cfg).__name__} is no configuration; known: {', '.join(c.__name__ for c in CONFIGS.values())}"])
    return MODELS[kinds[0]](cfg, recipe, seed, backend)
