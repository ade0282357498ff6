"""The examples in docstrings of `ref/` are run, and every page has the parts that a page has."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

import lpref.ref

ROOT = Path(lpref.ref.__file__).parent
MODULES = sorted(".".join(("lpref", "ref", *p.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__") for p in ROOT.rglob("*.py"))


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    module = importlib.import_module(name)
    found = [t for t in doctest.DocTestFinder(exclude_empty=True).find(module, name) if t.examples]
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    for test in found:
        runner.run(test)
    assert runner.failures == 0


def pages() -> list[str]:
    """The modules that define a format, a rounding, a scale rule or an accumulator."""
    from lpref.ref.formats import FORMATS, VECTOR_FORMATS
    from lpref.ref.scaling import PAGES

    named = {f.module for f in (*FORMATS.values(), *VECTOR_FORMATS.values())} | {p.__name__ for p in PAGES.values()}
    named |= {f"lpref.ref.rounding.{m}" for m in ("mode", "overflow", "stochastic", "nvidia")}
    named |= {f"lpref.ref.linalg.{m}" for m in ("accumulators", "exact_dot", "integer_dot", "quire", "tensor_core")}
    return sorted(named | {"lpref.ref.formats.e8m0_casts"})


@pytest.mark.parametrize("name", pages())
def test_pages_have_one_shape(name: str) -> None:
    """A title; an indented block of equations or a table; source and pitfalls; the gradient where something is quantized."""
    text = importlib.import_module(name).__doc__ or ""
    without = name.split(".")[2] == "linalg" or name.rpartition(".")[2] in ("overflow", "nvidia", "e8m0_casts")
    words = ["Source:", "Pitfalls:", *([] if without else ["radient"]), *(["ource level:"] if ".scaling." in name else [])]
    assert [w for w in words if w not in text] == []
    assert text.index("Source:") < text.index("Pitfalls:")
    assert text.partition("\n")[0].rstrip().endswith((".", ":", "$."))
    assert "\n    " in text or "\n|" in text or "(" in text
