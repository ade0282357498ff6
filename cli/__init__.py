"""The `lpref` command."""

assert __name__.startswith("lpref."), "import lpref." + __name__
