"""Sphinx: `python3 dev.py docs`. Tables and one page per public name are written from the registries at build time."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.path.insert(0, str(HERE.parent / "src"))

import generate  # noqa: E402

import lpref  # noqa: E402

project = "lpref"
author = "The lpref authors"
release = version = lpref.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.mathjax", "sphinx.ext.viewcode"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["_build"]
myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = f"lpref {release}"
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_docstring_signature = False
nitpicky = False
# ref/ writes its prose in Markdown-flavoured docstrings; they are shown as they are read in the source.


def plain_docstring(app, what, name, obj, options, lines):  # type: ignore[no-untyped-def]
    """Show docstrings verbatim: they are laid out for reading in the source, tables and formulas included."""
    if lines:
        lines[:] = ["::", "", *(f"   {line}" for line in lines), ""]


def setup(app):  # type: ignore[no-untyped-def]
    app.connect("builder-inited", lambda app: generate.write(HERE))
    app.connect("autodoc-process-docstring", plain_docstring)
