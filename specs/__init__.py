"""Recipes, quantizers and training specs as YAML, and their loader."""

assert __name__.startswith("lpref."), "import lpref." + __name__
