"""Data sets: ``load_data(name)`` gives tokens or images with a fixed split and a hash; ``batches`` picks samples by counter."""

from __future__ import annotations

from lpref.trainer.data.sets import DATASETS, load_data
from lpref.trainer.data.types import ImageData, TokenData

assert __name__.startswith("lpref."), "import lpref." + __name__

__all__ = ["DATASETS", "ImageData", "TokenData", "load_data"]
