r"""The tape: `Tensor`, primitives and their derivatives.

>>> import numpy as np, lpref
>>> from lpref.autodiff import Tensor, grad, functional as F
>>> B = lpref.backend("reference")
>>> x = Tensor(np.float32([1.0, 2.0]), B, requires_grad=True)
>>> F.sum(x * x * x).backward()
>>> x.grad.tolist()
[3.0, 12.0]
>>> grad(lambda t: F.sum(F.exp(t)), Tensor(np.float32([0.0]), B)).data.tolist()
[1.0]

Reading order
    primitives   what each operation computes, one line each, on arrays of a backend
    vjps         what each derivative is: the table that reads as a page of calculus
    tensor       `Tensor`, `Node`: what is recorded, and what is kept for the derivative
    engine       the backward walk and its order of addition, which is part of the bits
    fused/       attention, norms, activations, loss, linear: a fast pair beside a composite of primitives
    transforms   grad, hvp, checkpoint        check   derivatives against differences, with a derived bound

What is promised
    The backend is the only one that computes: the tape adds nothing but data movement.
    Gradients are added in a stated order (`engine`), so equal backends give equal bits, with and without checkpoints.
    Every derivative of a primitive is made of primitives: second order is the same table again. A fused primitive
    expands to its composite for that. A linear layer under a recipe has no second derivative and says so.

To add a primitive
    1. `primitives.py`: one line, name → (what its derivative reads, forward). Arithmetic is ops of the backend, which `ref/` defines.
    2. `vjps.py`: one line, name → a function of (g, y, *inputs) for each input, written with `plain`. What it
       reads must be named in step 1; all else arrives as `Shape`. Undo broadcasting with `like`. If the map is linear,
       add its transpose as a primitive too, each the other's derivative (`rope`, `im2col`, `embedding`).
    3. `plain.py`: the public function, with equation, shapes, errors; export it in `functional.py`.
    4. `tests/autodiff/test_vjps.py`: a case (the suite fails without one); it runs `check_grads` to second order.
To add a fused primitive
    1. The backend op X and X_backward, defined in `ref/`.
    2. `fused/`: a `Fused(name, forward, backward, composite)` and the public function; export it in `functional.py`.
    3. `tests/autodiff/test_fused.py`: a case; it proves fast = composite to rounding, and both derivatives.
"""

from __future__ import annotations

from lpref.autodiff import functional
from lpref.autodiff.check import check_grads
from lpref.autodiff.engine import backward
from lpref.autodiff.tensor import Tensor, no_grad
from lpref.autodiff.transforms import checkpoint, grad, hvp

assert __name__.startswith("lpref."), "import lpref." + __name__

__all__ = ["Tensor", "backward", "check_grads", "checkpoint", "functional", "grad", "hvp", "no_grad"]
