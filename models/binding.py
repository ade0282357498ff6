"""A recipe's rules meet a model's linear sites."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def bind_recipe(recipe: Any, sites: Sequence[Any]) -> dict[str, Any]:
    return dict.fromkeys((s.name for s in sites), None)
