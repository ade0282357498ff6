"""The tape: Tensor, primitives and their derivatives."""

assert __name__.startswith("lpref."), "import lpref." + __name__
