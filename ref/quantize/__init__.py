"""Quantizers: tensors in, codes and scales out."""

from lpref.ref.quantize.quantizer import GradRule, Quantizer
from lpref.ref.scaling import Blocks, Scale

__all__ = ["Blocks", "GradRule", "Quantizer", "Scale"]
