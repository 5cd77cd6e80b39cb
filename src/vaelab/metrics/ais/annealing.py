"""Annealed importance sampling (Neal, 2001, https://arxiv.org/abs/physics/9803008), forwards and in reverse.

With 0 = beta_0 < ... < beta_T = 1 and moves z_t -> z_(t+1) that leave f_(beta_(t+1)) invariant, a chain from z_0 ~ r has the weight

    log W = sum_(t=1)^T (beta_t - beta_(t-1)) log w(z_(t-1)),   E[W] = int r w dz / int r dz.

A chain that starts at a sample of r w and meets the same temperatures in reverse has E[W] = int r dz / int r w dz. So the logarithm of
a mean of weights bounds the log-evidence from below in the mean, and that of reverse chains, with its sign changed, from above:
bidirectional Monte Carlo (Grosse et al., 2015, https://arxiv.org/abs/1511.02543). Both hold if moves do not depend on the past of their
own chain, which is why step sizes come from chains that ran before.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vaelab.checks import check_at_least, check_choice
from vaelab.metrics.ais.hmc import Path, hmc_step
from vaelab.metrics.progress import progress

FIRST_STEP_SIZE, GAIN = 0.1, 0.3  # of the adaptation; its traces are gone after some tens of temperatures
MIN_TUNING_TEMPERATURES, TUNING_SHARE = 100, 5  # it takes a fifth of the temperatures, but not so few that it cannot follow


@dataclass(frozen=True)
class Chains:
    """The log-weights of K annealed chains for each of B examples, and how often their moves were accepted."""

    log_weight: Float[Tensor, "k b"]  # in nats and double precision
    acceptance: Float[Tensor, "moves b"]  # the mean over the chains, of each move


def temperatures(num: int, schedule: str = "sigmoid") -> list[float]:
    """beta_0 = 0, ..., beta_T = 1 for T = num: t / T, or sigmoid(4 (2 t / T - 1)) moved and scaled to start at 0 and end at 1.

    The latter is that of Wu et al. (2017, https://arxiv.org/abs/1611.04273).

    Raises:
        ValueError: if num is below 1, or the schedule is neither linear nor sigmoid.
    """
    check_at_least(1, num_temperatures=num)
    check_choice(("linear", "sigmoid"), schedule=schedule)
    times = torch.linspace(0, 1, num + 1, dtype=torch.float64)
    if schedule == "linear":
        return times.tolist()
    betas = torch.sigmoid(4 * (2 * times - 1))
    return ((betas - betas[0]) / (betas[-1] - betas[0])).tolist()


@torch.no_grad()
def anneal(
    path: Path, z: Float[Tensor, "k b ..."], betas: list[float], step_sizes: Float[Tensor, "moves b"], num_leapfrog_steps: int
) -> Chains:
    """Takes chains along these temperatures, forwards or in reverse, with one move at each but the first and the last.

    Args:
        path: from r to r w.
        z: where the chains start: samples of r, or of r w.
        betas: 0 to 1, or 1 to 0.
        step_sizes: of the moves, in the order in which they are made.
        num_leapfrog_steps: of each move.
    """
    point = path.at(z)
    log_weight = torch.zeros_like(point.log_w, dtype=torch.float64)
    acceptance = torch.zeros_like(step_sizes)
    for t in progress("annealing", range(1, len(betas))):
        log_weight += (betas[t] - betas[t - 1]) * point.log_w.double()
        if t < len(betas) - 1:
            point, probability = hmc_step(path, point, betas[t], step_sizes[t - 1], num_leapfrog_steps)
            acceptance[t - 1] = probability.mean(0)
    return Chains(log_weight, acceptance)


@torch.no_grad()
def tuned_step_sizes(
    path: Path, z: Float[Tensor, "k b ..."], num: int, schedule: str, num_leapfrog_steps: int, target: float
) -> Float[Tensor, "moves b"]:
    """The step sizes of the T - 1 moves of a forward chain for each example, from chains of their own that are thrown away.

    These take fewer temperatures, and after each, log step += 0.3 (acceptance - target), where the acceptance is the mean over the chains.

    Args:
        path: from r to r w.
        z: samples of r.
        num, schedule: of `temperatures`.
        num_leapfrog_steps: of each move.
        target: the acceptance; 0.65 is optimal in many dimensions (Beskos et al., 2013, https://arxiv.org/abs/1001.4460).
    """
    betas = temperatures(num_tuning_temperatures(num), schedule)
    log_step = z.new_full((z.shape[1],), FIRST_STEP_SIZE).log()
    found, point = [log_step.exp()], path.at(z)
    for beta in betas[1:-1]:
        point, probability = hmc_step(path, point, beta, log_step.exp(), num_leapfrog_steps)
        log_step = log_step + GAIN * (probability.mean(0) - target)
        found.append(log_step.exp())
    return torch.stack(found)[torch.arange(1, num) * (len(betas) - 1) // num]  # what was known at the last temperature below


def num_tuning_temperatures(num: int) -> int:
    """The number of temperatures of the chains that tune the step sizes of T = num."""
    return min(num, max(MIN_TUNING_TEMPERATURES, num // TUNING_SHARE))
