"""The executable specification of low-precision training: NumPy and the standard library only."""

assert __name__.startswith("lpref."), "import lpref." + __name__
