"""Objectives: functions of a `Draw` that return a loss and its named terms."""

from vaelab.objectives.base import Objective, Sum
from vaelab.objectives.elbo import ELBO
from vaelab.objectives.geco import GECO
from vaelab.objectives.importance_weighted import CIWAE, IWAE, MIWAE, PIWAE, STL, VIMCO, DReG, ImportanceWeighted, Renyi
from vaelab.objectives.mmd import MMD
from vaelab.objectives.moments import DIP
from vaelab.objectives.prior_fit import PriorFit
from vaelab.objectives.semi_supervised import M2
from vaelab.objectives.total_correlation import BetaTC, FactorTC
from vaelab.objectives.vq import VQ

__all__ = [
    "CIWAE",
    "DIP",
    "ELBO",
    "GECO",
    "IWAE",
    "M2",
    "MIWAE",
    "MMD",
    "PIWAE",
    "STL",
    "VIMCO",
    "VQ",
    "BetaTC",
    "DReG",
    "FactorTC",
    "ImportanceWeighted",
    "Objective",
    "PriorFit",
    "Renyi",
    "Sum",
]
