r"""`Gate`: every residual block at a precision that a small recurrent net picks for each sample (DFQ of FracTrain).

Candidate k of K is a linear recipe: candidate 0 is the recipe's `linear`, candidate k > 0 the same under the changes ``others[k - 1]``. Block l maps
x_l (B samples, C_l channels, any number of positions: tokens of a sequence, pixels of an image) to

.. math::
    u &= W_2\,\mathrm{relu}(W_1\,\mathrm{mean}_{positions}(x_l) + b_1) + b_2 & &[B, embedding] \\
    (i, f, g, o) &= u W_{ih}^T + b_{ih} + h_{l-1} W_{hh}^T + b_{hh} & &[B, 4\,hidden] \\
    c_l &= \sigma(f)\,c_{l-1} + \sigma(i) \tanh g, \quad h_l = \sigma(o) \tanh c_l & &[B, hidden],\ h_{-1} = c_{-1} = 0 \\
    p &= \mathrm{softmax}(h_l W_p^T + b_p) & &[B, K] \\
    m_{bk} &= [k = \arg\max_j p_{bj}], \qquad x_{l+1,b} = \sum_k m_{bk}\,\mathrm{block}_l^{(k)}(x_l)_b

W_1 [features, C_l], W_2 [embedding, features] and their biases are each block's own; the LSTM and W_p, b_p are one for all blocks, and the state runs
from block to block within a forward pass. All of it is computed in float32 and trained with the net, by its optimizer.

Operands     a candidate quantizes those linear layers of a block that no rule of the recipe sends elsewhere. Every candidate runs on all samples, as
             in the source: the ranges of X, W and dY are those of the whole batch, and dY of candidate k is 0 at samples that did not choose it.
Gradient     straight through: dp = dm, dm_bk the sum over the block's output of dx_{l+1,b} block_k(x_l)_b; block k gets m_bk dx_{l+1,b}. Through
             what the gate reads its gradient goes on into the net, as in the source.
Random words candidate k of forward pass n draws those of pass n K + k, so that candidate 0 alone is the recipe without a gate, bit for bit.
State        none beside the parameters ``gate.…``; h, c and m live within a forward pass.
Price        that of a sample at candidate k is c_k = (a w + g w + a g) / 32^2, with the bits a, w, g of fprop.a, fprop.b and dgrad.a (32: float32):
             forward, error and weight gradient. The loss hook `bit_cost` adds it to the loss (`lpref.ref.recipes.loss_hooks`).
First values normal: W_1, W_2 with variance 2 / outputs, W_p with 2 / (hidden K); biases of the two layers and of p, and all of the LSTM, with the
             variance 1 / (3 n) of the source's uniform, n the inputs of the layer, or `hidden`.
Defaults     features 32, embedding 16, hidden 16 (CIFAR's ResNets; MobileNet 64, 32, 32).
Statistics   of quantizers are those of candidate 0. Quantizers of a gate's recipe keep no state, and learn nothing.

Source: arXiv 2012.13113, sec. 3.2; RICE-EIC/FracTrain dc4fa5b fractrain_cifar/models.py, `RNNGate` and `ResNetRecurrentGateSP`, train_dfq.py (read).
Deviations: equal largest p choose the first, the source adds their blocks; the source runs the gate once more behind the last block and drops the
choice; its biases are uniform. A causal model's choice reads all tokens of the sequence, those to come included, as the pooling of an image does.
Pitfalls: a range from min to max has no code for 0 in general, so stochastic rounding makes noise where dY is 0 (mean 0, a step's size) for samples
that did not choose the candidate.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Gate:
    """others: the changes of `linear` for each candidate but the first, path -> value.

    >>> Gate(others=({"fprop.a.quantizer.format": "uint4"},)).candidates
    2
    """

    others: tuple[Mapping[str, Any], ...] = field(default=(), hash=False)
    features: int = 32
    embedding: int = 16
    hidden: int = 16

    @property
    def candidates(self) -> int:
        """K."""
        return 1 + len(self.others)

    @property
    def sizes(self) -> tuple[int, ...]:
        """What the shapes of its parameters depend on, beside the blocks."""
        return self.features, self.embedding, self.hidden, self.candidates

    def shapes(self, blocks: Mapping[str, int]) -> Iterator[tuple[str, tuple[int, ...], float]]:
        """(name, shape, standard deviation of the first values) of every parameter; blocks: name -> channels of its input.

        >>> [name for name, _, _ in Gate().shapes({"h.0": 8})][:2]
        ['gate.h.0.features.weight', 'gate.h.0.features.bias']
        """
        for name, channels in blocks.items():
            for part, n, k in (("features", self.features, channels), ("embedding", self.embedding, self.features)):
                yield f"gate.{name}.{part}.weight", (n, k), (2 / n) ** 0.5
                yield f"gate.{name}.{part}.bias", (n,), (3 * k) ** -0.5
        rows, std = 4 * self.hidden, (3 * self.hidden) ** -0.5
        yield from (("gate.lstm.weight_ih", (rows, self.embedding), std), ("gate.lstm.weight_hh", (rows, self.hidden), std))
        yield from (("gate.lstm.bias_ih", (rows,), std), ("gate.lstm.bias_hh", (rows,), std))
        yield "gate.proj.weight", (self.candidates, self.hidden), (2 / (self.hidden * self.candidates)) ** 0.5
        yield "gate.proj.bias", (self.candidates,), std
