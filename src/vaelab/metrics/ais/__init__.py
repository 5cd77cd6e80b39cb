"""Annealed importance sampling: log p(x) between two bounds (Wu et al., 2017, https://arxiv.org/abs/1611.04273)."""

from vaelab.metrics.ais.annealing import Chains, anneal, temperatures, tuned_step_sizes
from vaelab.metrics.ais.hmc import Path, Point, hmc_step, leapfrog
from vaelab.metrics.ais.report import ais
from vaelab.metrics.ais.sampler import Estimate, Sampler

__all__ = [
    "Chains",
    "Estimate",
    "Path",
    "Point",
    "Sampler",
    "ais",
    "anneal",
    "hmc_step",
    "leapfrog",
    "temperatures",
    "tuned_step_sizes",
]
