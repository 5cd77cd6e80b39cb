"""The aggregate posterior q(z) = (1/N) sum_n q(z | x_n) of N examples, and the parts of the rate.

The rate splits (Hoffman & Johnson, 2016, http://approximateinference.org/accepted/HoffmanJohnson2016.pdf; Chen et al., 2018,
https://arxiv.org/abs/1802.04942):

    (1/N) sum_n KL(q(z | x_n) || p(z)) = I_q(x; z) + KL(q(z) || p(z)),
    KL(q(z) || p(z)) = KL(q(z) || prod_d q(z_d)) + KL(prod_d q(z_d) || p(z)) = total correlation + dimension-wise KL.

Each term is estimated by the mean of log-densities at one z_n ~ q(z | x_n) for each n, with q(z) of all N examples, without bias. A batch
in place of all N would make the mutual information saturate at the logarithm of its size.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal

from vaelab.distributions import Quantized
from vaelab.metrics.progress import progress


def aggregate_log_prob(
    z: Float[Tensor, "m ..."], posteriors: Sequence[Distribution], chunk_size: int = 100
) -> tuple[Float[Tensor, "m"], Float[Tensor, "m d"] | None]:
    """log q(z) and the log q(z_d), in nats and in double precision.

    Of z that is made of one-hot variables, z_d is one of them. In memory are chunk_size z's times one batch of posteriors.

    Args:
        z: points of the latent space.
        posteriors: q(z | x_n) of N examples, in batches.
        chunk_size: how many z are scored at a time.

    Returns:
        log q(z), and log q(z_d), which is None if the marginals of q(z | x) are not known.
    """
    joint, marginals = [], []
    log_n = math.log(sum(q.batch_shape[0] for q in posteriors))
    for chunk in progress("aggregate posterior", z.split(chunk_size)):
        sums, sums_of_variables = zip(*(log_sums(chunk, q) for q in posteriors), strict=True)
        joint.append(torch.stack(sums).logsumexp(0) - log_n)
        if sums_of_variables[0] is not None:
            marginals.append(torch.stack(sums_of_variables).logsumexp(0) - log_n)
    return torch.cat(joint), torch.cat(marginals) if marginals else None


def log_sums(z: Float[Tensor, "m ..."], q: Distribution) -> tuple[Float[Tensor, "m"], Float[Tensor, "m d"] | None]:
    """log sum_b q(z | x_b) and the log sum_b q(z_d | x_b), over a batch of posteriors."""
    points, variables = z[:, None], variables_of(q)
    if variables is None:
        return q.log_prob(points).logsumexp(1).cpu().double(), None
    each = variables.log_prob(points).reshape(len(z), q.batch_shape[0], -1)
    joint = each.sum(2) if isinstance(q, Independent) else q.log_prob(points)
    return joint.logsumexp(1).cpu().double(), each.logsumexp(1).cpu().double()


def variables_of(q: Distribution) -> Distribution | None:
    """The distribution of each variable that z is made of; None if it is not known."""
    if isinstance(q, Independent):
        return q.base_dist
    if isinstance(q, MultivariateNormal):
        return Normal(q.loc, q.variance.sqrt(), validate_args=False)
    return None


def parts_of_rate(
    z: Float[Tensor, "n ..."],
    log_q: Float[Tensor, "n"],
    log_p: Float[Tensor, "n"],
    posteriors: Sequence[Distribution],
    prior: Distribution,
    chunk_size: int = 100,
) -> dict[str, Float[Tensor, "n"] | None]:
    """The terms whose means over n are the parts of the rate, in nats; None for those that are not defined.

    - rate_monte_carlo: log q(z_n | x_n) - log p(z_n), the sum of the next two.
    - mutual_information: log q(z_n | x_n) - log q(z_n), at most ln N. None where q has no density at any z (a flow) or is a point (a
      vector-quantised posterior), and then so are the others.
    - marginal_kl: log q(z_n) - log p(z_n), the sum of the next two. None where p depends on y: there is no one p(z).
    - total_correlation: log q(z_n) - sum_d log q(z_nd). None where the marginals of q are not known.
    - dimension_wise_kl: sum_d log q(z_nd) - log p(z_n). None also where p does not factorise.

    Args:
        z: a sample of q(z | x_n) for each of N examples.
        log_q: log q(z_n | x_n).
        log_p: log p(z_n).
        posteriors: q(z | x_n), in batches.
        prior: p(z), or p(z | y) of a batch.
        chunk_size: how many z are scored at a time.
    """
    log_q, log_p, q = log_q.cpu().double(), log_p.cpu().double(), posteriors[0]
    terms: dict[str, Tensor | None] = dict.fromkeys(("mutual_information", "marginal_kl", "total_correlation", "dimension_wise_kl"))
    terms["rate_monte_carlo"] = log_q - log_p
    if isinstance(q, Quantized) or hasattr(q, "rsample_and_log_prob"):
        return terms
    joint, marginals = aggregate_log_prob(z, posteriors, chunk_size)
    terms["mutual_information"] = log_q - joint
    if not prior.batch_shape:
        terms["marginal_kl"] = joint - log_p
    if marginals is None:
        return terms
    terms["total_correlation"] = joint - marginals.sum(1)
    if terms["marginal_kl"] is not None and factorises_alike(q, prior):
        terms["dimension_wise_kl"] = marginals.sum(1) - log_p
    return terms


def factorises_alike(q: Distribution, p: Distribution) -> bool:
    """True if p is a product over the variables that z ~ q is made of."""
    variables = variables_of(q)
    return variables is not None and isinstance(p, Independent) and p.base_dist.event_shape == variables.event_shape
