"""Scores that say how unlike its training data an example looks to a trained model.

A score is in nats, the larger the more anomalous. That -log p(x) alone can be smaller for anomalies than for training data is well known
(Nalisnick et al., 2019, https://arxiv.org/abs/1810.09136): p(x) is dominated by what all images share. Hence several scores:

    negative_log_likelihood   -log p(x), importance weighted (Burda et al., 2016, https://arxiv.org/abs/1509.00519)
    negative_elbo             -ELBO = distortion + rate
    distortion                -E_q[log p(x | z)] (the reconstruction probability of An & Cho, 2015,
                              http://dm.snu.ac.kr/static/docs/TR/SNUDM-TR-2015-03.pdf)
    rate                      KL(q(z | x) || p(z)), of all latents together
    kl_to_aggregate           KL(q(z | x) || q(z)), q(z) the mean of q(z | x_n) over training examples: far from all of their codes
    typicality                |-log p(x) - H|, H the mean of -log p(x) over training examples (Nalisnick et al., 2019,
                              https://arxiv.org/abs/1906.02994, for batches of one): less likely than they are, or more
    complexity_ratio          -log p(x) - L(x), L(x) the length of x as PNG (Serra et al., 2020, https://arxiv.org/abs/1909.11480): the
                              likelihood ratio whose background model is a compressor
    likelihood_ratio          log p_0(x) - log p(x), p_0 a background model (Ren et al., 2019, https://arxiv.org/abs/1906.02845), which
                              knows what all images share: what it explains as well is not counted
"""

import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO

import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor
from torch.distributions import Distribution

from vaelab.distributions import Quantized, is_discrete, rsample_and_log_prob
from vaelab.evidence import evaluating, importance_weighted
from vaelab.metrics import bound
from vaelab.metrics.latent import aggregate_log_prob
from vaelab.models import Model, SemiSupervisedVAE

AT_ONCE = 100  # examples, times num_draws decodings of each


@dataclass(frozen=True)
class Detector:
    """All scores of a model. No score looks at y.

    Args:
        model: of x, not conditional on y.
        entropy: H, the mean of -log p(x) over training examples.
        posteriors: q(z | x_n) of training examples, in batches; None if their density is not known at every z: no kl_to_aggregate.
        background: p_0; None: no likelihood_ratio.
        num_samples: importance samples of log p(x).
        num_draws: samples of z for negative_elbo, distortion, rate and kl_to_aggregate.
        compressor: L, such as `complexity`; None: no complexity_ratio.
    """

    model: Model
    entropy: float
    posteriors: list[Distribution] | None
    background: Model | None = None
    num_samples: int = 100
    num_draws: int = 10
    compressor: Callable[[Tensor], Tensor] | None = None

    @torch.no_grad()
    def __call__(self, x: Float[Tensor, "b ..."]) -> dict[str, Float[Tensor, "b"]]:
        """The scores by name, in double precision on the CPU."""
        with evaluating(self.model):
            parts = [self._from_draws(part) for part in x.split(AT_ONCE)]
        scores = {"negative_log_likelihood": surprisal(self.model, x, self.num_samples)}
        scores |= {name: torch.cat([part[name] for part in parts]).double().cpu() for name in parts[0]}
        scores["typicality"] = (scores["negative_log_likelihood"] - self.entropy).abs()
        if self.compressor is not None:
            scores["complexity_ratio"] = scores["negative_log_likelihood"] - self.compressor(x)
        if self.background is not None:
            scores["likelihood_ratio"] = scores["negative_log_likelihood"] - surprisal(self.background, x, self.num_samples)
        return scores

    def _from_draws(self, x: Tensor) -> dict[str, Tensor]:
        terms = bound(self.model(x, num_samples=self.num_draws))
        scores = {"negative_elbo": -terms["elbo"], "distortion": terms["distortion"], "rate": terms["rate"]}
        if self.posteriors is not None:
            scores["kl_to_aggregate"] = kl_to_aggregate(self.model.encode(x), self.posteriors, self.num_draws)
        return scores


@torch.no_grad()
def fit_detector(
    model: Model,
    batches: Iterable[Float[Tensor, "_ ..."]],
    background: Model | None = None,
    num_samples: int = 100,
    num_draws: int = 10,
    compressor: Callable[[Tensor], Tensor] | None = None,
) -> Detector:
    """The scores of a model, with what they need to know of training data: their entropy under the model, and their codes.

    Args:
        model: of x, not conditional on y.
        batches: of training examples.
        background: of the likelihood ratio, or None: a model of more than these data. Ren et al. (2019) train it on the same data with a
            tenth to three tenths of the pixels replaced at random.
        num_samples, num_draws, compressor: see `Detector`.

    Raises:
        ValueError: if there is no training example, a model is conditional, or the two score another kind of data.
    """
    check_unconditional(model)
    surprisals: list[Tensor] = []
    posteriors: list[Distribution] = []
    for x in batches:
        if background is not None and not posteriors:
            check_comparable(model, background, x)
        surprisals.append(surprisal(model, x, num_samples))
        with evaluating(model):
            posteriors.append(model.encode(x))
    if not posteriors:
        raise ValueError("there is no training example: the entropy of the data cannot be estimated")
    known = not isinstance(posteriors[0], Quantized) and not hasattr(posteriors[0], "rsample_and_log_prob")
    entropy = torch.cat(surprisals).mean().item()
    return Detector(model, entropy, posteriors if known else None, background, num_samples, num_draws, compressor)


def surprisal(model: Model, x: Float[Tensor, "b ..."], num_samples: int) -> Float[Tensor, "b"]:
    """-log p^(x), on the CPU."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of few effective samples: an anomaly, whose q(z | x) is poor, always has few
        return -importance_weighted(model, x, None, num_samples).log_likelihood.cpu()


def kl_to_aggregate(q: Distribution, posteriors: Sequence[Distribution], num_draws: int) -> Float[Tensor, "b"]:
    """KL(q(z | x) || q(z)) of each q(z | x), the mean of log q(z | x) - log q(z) over num_draws samples of z.

    q(z) = (1/N) sum_n q(z | x_n). It is at most log N for one of the N training examples. Of a hierarchy, z is z_L, the top.
    """
    z, log_q = rsample_and_log_prob(q, num_draws)
    log_aggregate, _ = aggregate_log_prob(z.flatten(0, 1), posteriors)
    return (log_q.cpu().double() - log_aggregate.reshape(log_q.shape)).mean(0)


def complexity(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b"]:
    """The length of grey or colour images with values in [0, 1] as 8-bit PNG files, in nats: 8 log 2 times the bytes, header included."""
    levels = (256 * x).floor().clamp(0, 255).to(torch.uint8).cpu()  # k / 255 is k; and so is (k + u) / 256, dequantised
    return torch.tensor([8 * math.log(2) * png_bytes(image) for image in levels.movedim(1, -1)], dtype=torch.float64)


def png_bytes(image: UInt8[Tensor, "h w c"]) -> int:
    """The length of a PNG file."""
    file = BytesIO()
    Image.fromarray(image.squeeze(-1).numpy()).save(file, "PNG", compress_level=9)
    return file.tell()


def check_unconditional(model: Model) -> None:
    """A model that is shown the label is told what is to be found out.

    Raises:
        ValueError: if it is.
    """
    if model.num_classes and not isinstance(model, SemiSupervisedVAE):
        raise ValueError(
            f"this model of p(x | y) is shown y (num_classes={model.num_classes}): anomalies are found by a model with num_classes=0"
        )


def check_comparable(model: Model, background: Model, x: Float[Tensor, "b ..."]) -> None:
    """The ratio of a probability to a density would mean nothing.

    Raises:
        ValueError: if the background model is conditional, or of another kind of data.
    """
    check_unconditional(background)
    with evaluating(model), evaluating(background):
        discrete = [is_discrete(one(x[:1]).p_x) for one in (model, background)]
    if discrete[0] != discrete[1]:
        names = ["a probability" if known else "a density" for known in discrete]
        raise ValueError(f"the model's p(x | z) is {names[0]}, but the background model's is {names[1]}: train it with the same likelihood")
