"""Recipes: what is quantized where in a training step, as data, and the linear layer that they define."""

from lpref.ref.optim.weights import Weights
from lpref.ref.recipes.context import Context
from lpref.ref.recipes.gemm import GEMMS, Epilogue, Expression, GemmSpec, PlannedQuantizer, Sampling, Slot, Split, Term
from lpref.ref.recipes.groups import Group
from lpref.ref.recipes.linear import LinearGrads, layer_weight, linear_backward, linear_forward, linear_parameters
from lpref.ref.recipes.observe import first_states
from lpref.ref.recipes.operation import OPERATIONS, Operation, OpRecipe, operation_sites
from lpref.ref.recipes.phases import Controller, Cycle, LossHook, Pass, Phase
from lpref.ref.recipes.recipe import (
    EXEMPT,
    LinearRecipe,
    Recipe,
    Rule,
    Saved,
    random_sites,
)
from lpref.ref.recipes.share import gemm_flop_share
from lpref.ref.recipes.transform import Transform

__all__ = [
    "EXEMPT", "GEMMS", "Context", "Controller", "Cycle", "Epilogue", "Expression", "GemmSpec", "Group", "LinearGrads", "LinearRecipe", "LossHook",
    "OPERATIONS", "OpRecipe", "Operation",
    "Pass", "Phase", "PlannedQuantizer", "Recipe", "Rule", "Sampling", "Saved", "Slot", "Split", "Term", "Transform", "Weights",
    "first_states", "gemm_flop_share", "layer_weight", "linear_backward", "linear_forward", "linear_parameters",
    "operation_sites", "random_sites",
]  # fmt: skip
