"""What a model is made of before any array exists: parameters and linear sites, as data.

A parameter's first values depend on its name, its shape and the seed alone (words of the site ``init/NAME``), so they are the same on
every backend and do not change when another parameter is added.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lpref.ref import random
from lpref.ref.errors import SpecError

LARGEST = (1 << 31) - 1
"""Elements of one parameter at most: its random words are addressed with 32 bits."""


@dataclass(frozen=True)
class ParameterSpec:
    """A parameter: normal with standard deviation `std` where it is given, else the constant `value`."""

    name: str
    shape: tuple[int, ...]
    role: str
    """qkv, attn_out, mlp_up, mlp_down, fc, conv, patch, head, classifier, embedding, norm, bias or quantizer_step."""
    std: float | None = None
    value: float = 0.0

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class LinearSite:
    """A place where a recipe applies: y[M, n] = x[M, k] W[n, k]^T, a convolution being its im2col product."""

    name: str
    """Static path; random words, quantizer state and the parameter `NAME.weight` carry it."""
    role: str
    index: int
    """Position among `count` layers of the same depth measure: the block's number, or the layer's; rules for the first and
    the last layers read it. Sites outside the stack (patch embedding, head) have index -1."""
    count: int
    n: int
    k: int
    rows: int
    """Rows of M for one sample: tokens of a window, output pixels of a convolution, 1 for a vector."""
    weight: str = ""
    """Name of the weight where it is not `NAME.weight` (a tied head)."""

    @property
    def parameter(self) -> str:
        """Name of the weight."""
        return self.weight or f"{self.name}.weight"


def initial(spec: ParameterSpec, seed: int) -> np.ndarray:
    """The first values of a parameter, float32.

    >>> initial(ParameterSpec("norm.weight", (2,), "norm", value=1.0), seed=0)
    array([1., 1.], dtype=float32)
    """
    if spec.std is None:
        return np.full(spec.shape, spec.value, np.float32)
    draws = random.normal(random.WordAddress(seed, 0, f"init/{spec.name}"), spec.size)
    return draws.reshape(spec.shape) * np.float32(spec.std)


def check_sizes(specs: Iterable[ParameterSpec], where: str) -> None:
    """SpecError naming every parameter of more than `LARGEST` elements, before any array is made."""
    problems = [f"{s.name}: {' x '.join(map(str, s.shape))} is {s.size} elements, at most {LARGEST}" for s in specs if s.size > LARGEST]
    if problems:
        raise SpecError(problems, where=where, remedy="choose a smaller model")


def linear_parameters(site: LinearSite, std: float, bias: bool = False) -> Iterable[ParameterSpec]:
    """Weight (n, k) and, if wanted, a zero bias (n,) of a linear site."""
    yield ParameterSpec(f"{site.name}.weight", (site.n, site.k), site.role, std)
    if bias:
        yield ParameterSpec(f"{site.name}.bias", (site.n,), "bias")


def stored(specs: Iterable[ParameterSpec], sites: Mapping[str, LinearSite], recipes: Mapping[str, Any] | None) -> list[ParameterSpec]:
    """The parameters as their layers' recipes store them: the weight of a complex layer is (n, k / 2).

    Raises SpecError where a complex layer has an odd number of inputs or outputs, is a convolution, or shares its weight.
    """
    halved = {site.parameter: site for name, site in sites.items() if recipes is not None and recipes[name].stored > 1}
    problems = [f"{s.name}: {s.k} inputs, {s.n} outputs; pairs need even numbers" for s in halved.values() if s.k % 2 or s.n % 2]
    problems += [f"{s.name}: a {s.role} layer cannot be complex" for s in halved.values() if s.role in ("conv", "patch") or s.weight]
    if problems:
        raise SpecError(problems, where="complex linear layers", remedy="exempt these layers by a rule of the recipe")
    return [replace(spec, shape=(spec.shape[0], spec.shape[1] // 2)) if spec.name in halved else spec for spec in specs]


def norm_parameters(name: str, width: int, kind: str) -> Iterable[ParameterSpec]:
    """Weight of one, and for layernorm a bias of zero."""
    yield ParameterSpec(f"{name}.weight", (width,), "norm", value=1.0)
    if kind != "rmsnorm":
        yield ParameterSpec(f"{name}.bias", (width,), "bias")
