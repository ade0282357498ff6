"""What every update rule is: declared state and a pure update."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

Array = np.ndarray


@dataclass(frozen=True)
class StateSpec:
    """One tensor of optimizer state for each parameter, of the parameter's shape, zero at the start."""

    name: str
    """Role of the tensor; its random words and its stored arrays are addressed as `param/name`."""
    sign: Literal["signed", "unsigned"] = "signed"
    """Whether negative values occur: a codebook for `unsigned` state spends no codes on them."""


@dataclass(frozen=True)
class Rule:
    """An update rule with its hyper-parameters. Subclasses are final; they override :meth:`states` and :meth:`update` only."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    elementwise: ClassVar[bool] = True
    """Each element's update depends on that element alone, so that many parameters may be updated as one vector."""

    lr: float
    """Learning rate where the context gives none."""
    weight_decay: float
    """Decay coefficient; each page says where it enters."""

    def states(self) -> tuple[StateSpec, ...]:
        """The state tensors that one parameter needs."""
        raise NotImplementedError

    def update(
        self, p: Array, g: Array, state: Mapping[str, Array], *, t: int, lr: float, decay: bool, ops: Any = None
    ) -> tuple[Array, dict[str, Array]]:
        """(delta, new state) of update number `t` (1-based): p + delta is the new parameter, nothing is rounded to storage here.

        `decay` says whether the parameter is in the decay group. `ops` is the backend whose kernels run, None for the definitions.
        """
        raise NotImplementedError


def integer_power(base: float, exponent: int) -> float:
    """base**exponent for exponent >= 0 by squaring, low bit first: a fixed sequence of float64 multiplications.

    `**` would call the C library's pow, whose last bit differs between platforms.

    >>> integer_power(0.5, 10)
    0.0009765625
    """
    result = 1.0
    while exponent:
        if exponent & 1:
            result *= base
        base *= base
        exponent >>= 1
    return result
