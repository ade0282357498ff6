"""Controllers: observers with a memory that change a recipe, its weights or its optimizer at step boundaries. One kind a page."""

from lpref.ref.recipes.controllers.alrs import Alrs
from lpref.ref.recipes.controllers.base import NOTHING, Clock, Influence, Kind, Probe, Seen
from lpref.ref.recipes.controllers.block_wise import BlockWise
from lpref.ref.recipes.controllers.counteract import Counteract
from lpref.ref.recipes.controllers.diversity import Diversity
from lpref.ref.recipes.controllers.ema import Ema
from lpref.ref.recipes.controllers.freeze import Freeze
from lpref.ref.recipes.controllers.hasb import Hasb
from lpref.ref.recipes.controllers.kinds import KINDS, kind_of
from lpref.ref.recipes.controllers.plateau import Plateau
from lpref.ref.recipes.controllers.ramping import Ramping
from lpref.ref.recipes.controllers.sensitivity import Sensitivity
from lpref.ref.recipes.controllers.steer import Steer

__all__ = [
    "KINDS", "NOTHING", "Alrs", "BlockWise", "Clock", "Counteract", "Diversity", "Ema", "Freeze", "Hasb", "Influence", "Kind",
    "Plateau", "Probe", "Ramping", "Seen", "Sensitivity", "Steer", "kind_of",
]  # fmt: skip
