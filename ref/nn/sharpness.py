r"""Sharpness of the loss in the space of logits: how much it can rise when every logit may move a little.

For a row of logits z with target t, a half-width eps and the box $B = \{y : |y_i| \le \varepsilon (|z_i| + 1)\}$::

    sharpness = 100 (max_{y in B} L(z + y) - L(z)) / (1 + L(z)),    L(z) = log sum_i exp(z_i) - z_t

L rises in every z_i with i != t (its derivative is p_i > 0) and falls in z_t (p_t - 1 < 0), so the maximum is at the corner
$y_i = \varepsilon (|z_i| + 1)$, $y_t = -\varepsilon (|z_t| + 1)$: one more evaluation of the loss instead of a search. The measure of a batch is the
mean over its rows (the paper takes the last token of each sequence).

float64 inside, from the logits as they are. A row with NaN or infinity has sharpness NaN.
Source: Lee et al., To FP8 and Back Again, arXiv 2405.18710 (perturbing logits instead of inputs, Keskar's normalisation).
Source level: secondary. Deviations: the paper searches with L-BFGS-B, the corner is exact; its half-width is not known, 5e-4 is Keskar's smaller one.
Pitfalls: sharpness of a wrong prediction is not larger by itself: the normalisation divides by 1 + L.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lpref.ref.elementary import exp, log
from lpref.ref.errors import SpecError
from lpref.ref.nn.loss import check_targets
from lpref.ref.reduce import tree_mean, tree_sum


def logit_sharpness(logits: NDArray, targets: NDArray, half_width: float = 5e-4) -> NDArray[np.float64]:
    """The sharpness of every row of logits [N, V] with integer targets [N]; its mean over rows is `mean_sharpness`.

    Errors: ShapeError, DataError as `softmax_cross_entropy`; SpecError for a half-width that is not positive.

    >>> logit_sharpness(np.float32([[0, 0]]), np.array([0]), 0.5).round(3).tolist()
    [36.625]
    """
    check_targets("logit_sharpness", logits, targets)
    if not half_width > 0:
        raise SpecError([f"half_width: {half_width!r} is not a positive number"], where="logit_sharpness")
    z = logits.astype(np.float64)
    away = half_width * (np.abs(z) + 1)
    rows = np.arange(len(targets))
    away[rows, targets] *= -1
    loss = _losses(z, targets)
    return 100 * (_losses(z + away, targets) - loss) / (1 + loss)


def mean_sharpness(logits: NDArray, targets: NDArray, half_width: float = 5e-4) -> float:
    """The mean of `logit_sharpness` over the rows."""
    return float(tree_mean(logit_sharpness(logits, targets, half_width), axis=0))


def _losses(z: NDArray[np.float64], targets: NDArray) -> NDArray[np.float64]:
    """log sum exp z - z[target], row by row."""
    with np.errstate(invalid="ignore"):
        z = z - np.max(z, axis=1, keepdims=True)
        found: NDArray[np.float64] = log(tree_sum(exp(z), axis=-1)) - z[np.arange(len(targets)), targets]
    return found
