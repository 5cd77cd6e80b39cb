"""Tables whose columns are of several kinds (HI-VAE; Nazabal et al., 2018, https://arxiv.org/abs/1807.03653)."""

import math
from collections.abc import Sequence
from math import prod

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal
from torch.nn.functional import softplus

from vaelab import distributions
from vaelab.checks import check_choice, check_columns, check_positive
from vaelab.conditional import Conditional, NetworkFactory
from vaelab.distributions import soft_limit

MIN_GAP = 1e-4  # between two thresholds of an ordinal column
MIN_DISPERSION = 1e-4  # as of NegativeBinomial


class Mixed(Conditional):
    """p(x | z) = prod_j p_j(x_j | z), where column j is of one of these kinds; f_j(z) are outputs of the network, of mean 0 and scale 1.

    | kind | x_j | p_j(x_j; z) |
    |---|---|---|
    | real | any number | N(m_j + s_j f, (s_j sigma_j)^2) |
    | positive | x > 0 | log x ~ N(m_j + s_j f, (s_j sigma_j)^2) |
    | nonnegative | x >= 0 | 0 with probability sigmoid(m'_j + f'), else as positive |
    | count | 0, 1, 2, ... | NB(mean exp(m_j + f), inverse dispersion theta_j), or Poisson(exp(m_j + f)) |
    | ordinal | a code 0, ..., C - 1, in order | P(x <= k) = sigmoid(theta_jk - f), theta_j increasing |
    | categorical | a code 0, ..., C - 1 | softmax(m_j + f)_k |
    | binary | 0 or 1 | sigmoid(m_j + f) |

    m and s are constants: mean and standard deviation of the training data (`initialise`), of log x, or logits of frequencies, so that a
    network that gives 0 has p(x | z) = the product of the marginals of the training data. x and log p(x | z) are in the units of the data.
    sigma_j, theta_j are parameters of a column, and do not depend on z; with scale="per_value", sigma_j and the theta_j of counts do.

    Args:
        network, in_shape, event_shape, num_classes: see `Conditional`.
        columns: the kind of each value of x, in row-major order; see `vaelab.checks.check_columns`.
        scale: "learned" or "per_value".
        counts: "negative_binomial" or "poisson".
        min_scale: a floor for sigma, in standard deviations of the training data: a column that can be told exactly would otherwise drive
            the density to infinity.

    Raises:
        ValueError: if columns are not the kinds of all values of x, or another argument is none of its choices.
    """

    num_initial = math.inf  # all training data: see `initialise`
    mean: Tensor  # m, of every column
    sd: Tensor  # s, of every column
    order: Tensor
    logits: Tensor  # of the frequencies of categories
    zero: Tensor  # logits of the shares of zeros

    def __init__(
        self,
        network: NetworkFactory,
        in_shape: Sequence[int],
        event_shape: Sequence[int],
        num_classes: int = 0,
        columns: Sequence[str | Sequence] = (),
        scale: str = "learned",
        counts: str = "negative_binomial",
        min_scale: float = 1e-3,
    ) -> None:
        check_choice(("learned", "per_value"), scale=scale)
        check_choice(("negative_binomial", "poisson"), counts=counts)
        check_positive(min_scale=min_scale)
        num = prod(event_shape)
        kinds = check_columns(num, columns)
        places = {kind: [j for j, (found, _) in enumerate(kinds) if found == kind] for kind in dict.fromkeys(kind for kind, _ in kinds)}
        per_value, sizes = scale == "per_value", {kind: [kinds[j][1] for j in found] for kind, found in places.items()}
        each = {"real": 1 + per_value, "positive": 1 + per_value, "nonnegative": 2 + per_value, "binary": 1, "ordinal": 1}
        each["count"] = 1 + (per_value and counts == "negative_binomial")
        self.outputs = {k: len(found) * (max(sizes[k]) if k == "categorical" else each[k]) for k, found in places.items()}
        self.num_params = -(-sum(self.outputs.values()) // num)  # rows of D numbers; the last one may be longer than needed
        super().__init__(network, in_shape, event_shape, num_classes)
        self.shape, self.kinds, self.counts, self.min_scale = tuple(event_shape), list(places), counts, min_scale
        self.register_buffer("order", torch.tensor([j for found in places.values() for j in found]).argsort())
        self.register_buffer("mean", torch.zeros(num))
        self.register_buffer("sd", torch.ones(num))
        for kind, found in places.items():
            self.register_buffer(f"places_{kind}", torch.tensor(found))
            if kind in ("ordinal", "categorical"):
                self.register_buffer(f"sizes_{kind}", torch.tensor(sizes[kind]))
                self.register_buffer("logits", torch.zeros(len(found), max(sizes[kind]))) if kind == "categorical" else None
            if kind in ("real", "positive", "nonnegative", "count") and not per_value and (kind != "count" or counts != "poisson"):
                self.register_parameter(f"log_scale_{kind}", nn.Parameter(torch.zeros(len(found))))
        if "nonnegative" in places:
            self.register_buffer("zero", torch.zeros(len(places["nonnegative"])))
        if "ordinal" in places:
            self.first = nn.Parameter(torch.zeros(len(places["ordinal"])))
            self.raw_gaps = nn.Parameter(torch.zeros(len(places["ordinal"]), max(sizes["ordinal"]) - 2))

    @torch.no_grad()
    def initialise(self, x: Float[Tensor, "n ..."]) -> None:
        """Takes the constants from training data, of what is not missing there: NaN is."""
        x = x.flatten(1).double()
        for kind in self.kinds:
            values = x.index_select(1, self.places(kind))
            if kind in ("ordinal", "categorical"):
                self._count_codes(kind, values)
                continue
            if kind == "nonnegative":
                self.zero.copy_((smoothed(values == 0) / smoothed(values > 0)).log())
            if kind in ("positive", "nonnegative"):
                values = values.where(values > 0, torch.nan).log()
            mean = values.nanmean(0).nan_to_num(0.5 if kind == "binary" else 0.0)
            sd = (values - mean).square().nanmean(0).sqrt()
            if kind == "count":
                excess = ((sd.square() - mean) / mean.square()).clamp(min=1e-2)  # var = mean + mean^2 / theta
                if f"log_scale_{kind}" in dict(self.named_parameters()):
                    self.get_parameter(f"log_scale_{kind}").copy_((1 / excess).log().nan_to_num(0.0))
                mean, sd = mean.clamp(min=1e-2).log(), torch.ones_like(sd)
            if kind == "binary":
                mean, sd = (smoothed(values == 1) / smoothed(values == 0)).log(), torch.ones_like(sd)
            self.mean[self.places(kind)] = mean.to(self.mean)
            self.sd[self.places(kind)] = sd.where(sd > 0, 1.0).to(self.sd)

    def _count_codes(self, kind: str, codes: Tensor) -> None:
        sizes = self.get_buffer(f"sizes_{kind}")
        counts = torch.stack([smoothed(codes == k) for k in range(int(sizes.max()))], -1)
        counts = counts.where(torch.arange(counts.shape[-1], device=counts.device) < sizes.unsqueeze(-1), 0.0)
        share = counts / counts.sum(-1, keepdim=True)
        if kind == "categorical":
            self.logits.copy_(share.clamp(min=1e-30).log())
            return
        theta = share.cumsum(-1)[:, :-1].clamp(max=1 - 1e-6).logit()
        gaps = (theta.diff(dim=-1) - MIN_GAP).clamp(min=1e-3)
        self.first.copy_(theta[:, 0])
        self.raw_gaps.copy_(gaps + (-torch.expm1(-gaps)).log())  # the inverse of softplus

    def places(self, kind: str) -> Tensor:
        """Places of the columns of a kind."""
        return self.get_buffer(f"places_{kind}")

    def distribution(self, *params: Float[Tensor, "..."]) -> Independent:
        batch_ndim = params[0].ndim - self.event_ndim
        rows = torch.stack(params, batch_ndim).flatten(batch_ndim)[..., : sum(self.outputs.values())]
        outputs = zip(self.kinds, rows.split(list(self.outputs.values()), -1), strict=True)
        parts = [(self.places(kind), self.family(kind, found)) for kind, found in outputs]
        mixed = distributions.Mixed(parts, self.shape, self.order, validate_args=False)
        return Independent(mixed, self.event_ndim, validate_args=False)

    def family(self, kind: str, outputs: Float[Tensor, "..."]) -> Distribution:
        """The distribution of all columns of a kind, given the outputs of the network for them, (*batch, as many)."""
        places = self.places(kind)
        if kind == "categorical":
            return distributions.Codes(
                outputs.unflatten(-1, self.logits.shape) + self.logits, self.get_buffer("sizes_categorical"), validate_args=False
            )
        if kind == "ordinal":
            gaps = softplus(self.raw_gaps) + MIN_GAP
            sizes = self.get_buffer("sizes_ordinal")
            return distributions.Codes(distributions.ordinal_logits(outputs, self.first, gaps, sizes), sizes, validate_args=False)
        numbers = outputs.unflatten(-1, (-1, len(places))).unbind(-2)
        mean, sd = self.mean[places], self.sd[places]
        if kind == "binary":
            return distributions.Bernoulli(logits=mean + numbers[0], validate_args=False)
        log_scale = getattr(self, f"log_scale_{kind}", None)
        log_scale = numbers[-1] if log_scale is None else log_scale
        if kind == "count":
            log_mean = soft_limit(mean + numbers[0], low=-math.inf, high=20.0)
            if self.counts == "poisson":
                return distributions.Poisson(log_mean, validate_args=False)
            theta = soft_limit(log_scale).exp() + MIN_DISPERSION
            return distributions.NegativeBinomial(theta, logits=log_mean - theta.log(), validate_args=False)
        loc, scale = mean + sd * numbers[0], sd * (soft_limit(log_scale).exp() + self.min_scale)
        if kind == "real":
            return Normal(loc, scale, validate_args=False)
        if kind == "positive":
            return distributions.PositiveLogNormal(loc, scale, validate_args=False)
        return distributions.ZeroOrLogNormal(self.zero + numbers[1], loc, scale, validate_args=False)


def smoothed(chosen: Tensor) -> Float[Tensor, "m"]:
    """Number of chosen cells of each column, and one half more, so that what never occurs keeps a probability."""
    return chosen.double().sum(0) + 0.5
