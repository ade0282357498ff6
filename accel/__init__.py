"""The functions of `lpref.ref`, fast, each registered with its reference and contract."""

assert __name__.startswith("lpref."), "import lpref." + __name__
