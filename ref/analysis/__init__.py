"""Analysis of quantized training: laws of the loss and their fits, the choice of bit widths, statistics of tensors. Float64 on the host."""

from lpref.ref.analysis.bit_budget import allocate, roulette
from lpref.ref.analysis.fit import linear_fit, minimum
from lpref.ref.analysis.policy_search import Policy, bit_operations, reward
from lpref.ref.analysis.precision_law import PrecisionLaw, fit_efficiency
from lpref.ref.analysis.qat_law import Chinchilla, QatLaw, fit_noisy_qat_law, fit_qat_law
from lpref.ref.analysis.split_law import SplitLoss, best_fraction, fit_split, tokens_per_byte
from lpref.ref.analysis.tensor_statistics import tensor_statistics

__all__ = [
    "Chinchilla", "Policy", "PrecisionLaw", "QatLaw", "SplitLoss", "allocate", "best_fraction", "bit_operations", "fit_efficiency",
    "fit_noisy_qat_law", "fit_qat_law", "fit_split", "linear_fit", "minimum", "reward", "roulette", "tensor_statistics",
    "tokens_per_byte",
]  # fmt: skip
