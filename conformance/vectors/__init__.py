"""Conformance vectors: inputs and expected outputs as data, for any language.

`export(folder, …)` generates them from the definitions, `run(folder, answer)` asks an implementation; nothing is edited by hand. The page
docs/vectors.md describes the files; `schema.json` is their JSON Schema. The vectors are CC0-1.0 (`LICENSE`); `data/` holds a small set.
"""

from __future__ import annotations

from lpref.conformance.vectors.export import export
from lpref.conformance.vectors.run import FileResult, answering, run

__all__ = ["FileResult", "answering", "export", "run"]
