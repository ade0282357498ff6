"""What the docstring of a module, a page of the specification, says about itself: title, source, how the source was consulted."""

from __future__ import annotations

import importlib
import inspect
import re
from dataclasses import dataclass
from functools import cache

LEVEL = re.compile(r"[Ss]ource[ _]level:\s*(read|secondary|memory)\b")


@dataclass(frozen=True)
class Page:
    """A page's first line, its ``Source:`` paragraph up to the source level, and the level; empty where it says none."""

    title: str = ""
    source: str = ""
    source_level: str = ""


@cache
def page(module: str) -> Page:
    """The page `module`; an empty one for an empty name.

    >>> page("lpref.ref.scaling.mx").source_level
    'read'
    """
    if not module:
        return Page()
    text = inspect.cleandoc(importlib.import_module(module).__doc__ or "")
    level = LEVEL.search(text)
    source = re.search(r"^Sources?:\s*(.+?)(?=^\w[\w ]*:\s|\n\n|\Z)", text, re.MULTILINE | re.DOTALL)
    return Page(
        text.partition("\n")[0].rstrip("."),
        " ".join(source[1].split()).rstrip(".") if source else "",
        level[1] if level else "",
    )
