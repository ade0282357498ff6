"""Vendored data sets."""

assert __name__.startswith("lpref."), "import lpref." + __name__
