"""Quantizers: tensors in, codes and scales out."""

from lpref.ref.quantize.quantizer import GradRule, Quantizer
from lpref.ref.quantize.registry import COMPLEX_QUANTIZERS, QUANTIZERS, lookup
from lpref.ref.scaling import Blocks, Scale

from lpref.ref.quantize.qtensor import QTensor  # isort: skip
from lpref.ref.quantize.state import init_state, merge, update_state  # isort: skip
from lpref.ref.quantize.stats import stats  # isort: skip
from lpref.ref.quantize.quantize import quantize  # isort: skip  (last: the function takes the place of its module's name)

__all__ = [
    "COMPLEX_QUANTIZERS", "QUANTIZERS", "Blocks", "GradRule", "QTensor", "Quantizer", "Scale", "init_state", "lookup", "merge", "quantize", "stats",
    "update_state",
]  # fmt: skip
