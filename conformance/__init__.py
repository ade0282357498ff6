"""The public test kit."""

assert __name__.startswith("lpref."), "import lpref." + __name__
