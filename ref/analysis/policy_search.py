r"""FLIQS: a policy over formats, one softmax a layer, trained by REINFORCE on the reward of sampled networks.

    p_l = softmax(alpha_l)            a step draws one format a layer
    reward = accuracy - beta |cost / target - 1|                                            cost: bit operations
    alpha_l <- alpha_l + lr ((reward - baseline) grad ln p_l(choice) + entropy(t) grad H(p_l))
    baseline <- m baseline + (1 - m) reward
    entropy(t) = entropy_0 (1 + cos(pi t / T)) / 2                  explores early, commits late, so the last argmax needs no retraining

grad ln p(c) = e_c - p;  grad H = -p (ln p + H). Pure: a policy is a value, a step makes another.

Source: FLIQS, arXiv 2308.03290. Source level: memory; rates, m and the entropy's size are ours.
Pitfalls: |cost - target| also punishes cheaper networks, which keeps the search at its target instead of at fewest bits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lpref.ref import elementary
from lpref.ref.analysis.qat_law import ln


def bit_operations(products: Sequence[int], weight_bits: Sequence[int], activation_bits: Sequence[int]) -> int:
    """sum over layers of multiplications x weight bits x activation bits.

    >>> bit_operations([10, 20], [4, 8], [8, 8])
    1600
    """
    return sum(n * w * a for n, w, a in zip(products, weight_bits, activation_bits, strict=True))


def reward(accuracy: float, cost: float, target: float, beta: float = 1.0) -> float:
    """accuracy - beta |cost / target - 1|."""
    return accuracy - beta * abs(cost / target - 1.0)


@dataclass(frozen=True)
class Policy:
    """alphas: one row of scores a layer.  steps: T."""

    alphas: tuple[tuple[float, ...], ...]
    steps: int
    rate: float = 0.5
    entropy: float = 0.1
    momentum: float = 0.9
    baseline: float = 0.0
    step: int = 0

    @classmethod
    def start(cls, layers: int, formats: int, steps: int, **settings: Any) -> Policy:
        """Every format equally likely."""
        return cls(((0.0,) * formats,) * layers, steps, **settings)

    def probabilities(self) -> list[list[float]]:
        """softmax of each row."""
        found = []
        for row in self.alphas:
            e = [float(elementary.exp(np.float64(a - max(row)))) for a in row]
            found.append([x / math.fsum(e) for x in e])
        return found

    def draw(self, uniforms: Sequence[float]) -> list[int]:
        """One format a layer, from one number in [0, 1) a layer."""
        chosen = []
        for p, u in zip(self.probabilities(), uniforms, strict=True):
            total, pick = 0.0, len(p) - 1
            for i, x in enumerate(p):
                total += x
                if u < total:
                    pick = i
                    break
            chosen.append(pick)
        return chosen

    def best(self) -> list[int]:
        """The likeliest format of each layer; the first of equals."""
        return [row.index(max(row)) for row in self.alphas]

    def weight(self) -> float:
        """The entropy's weight at this step."""
        return self.entropy * (1 + float(elementary.cos(np.float64(math.pi * min(self.step / self.steps, 1.0))))) / 2

    def after(self, chosen: Sequence[int], gained: float) -> Policy:
        """The policy after a step that drew `chosen` and gained this reward; the first reward is the first baseline."""
        base = gained if self.step == 0 else self.baseline
        advantage, weight, rows = gained - base, self.weight(), []
        for row, p, c in zip(self.alphas, self.probabilities(), chosen, strict=True):
            h = -math.fsum(x * ln(x) for x in p if x > 0)
            up = [advantage * ((i == c) - x) + weight * (-x * (ln(x) + h) if x > 0 else 0.0) for i, x in enumerate(p)]
            rows.append(tuple(a + self.rate * d for a, d in zip(row, up, strict=True)))
        baseline = self.momentum * base + (1 - self.momentum) * gained
        return replace(self, alphas=tuple(rows), baseline=baseline, step=self.step + 1)
