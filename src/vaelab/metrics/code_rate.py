"""The rate of latents under a small prior that is fitted to them: what they cost, whatever prior their model was trained with.

A model of the second stage, such as a Transformer over codes or a diffusion model, pays this rate, and not the one of a prior that was
in the way of reconstructions (KL weights near 0) or is uniform. Each prior is fitted for the same number of steps, from the same seed, so
that kinds of latents can be compared: codes, and real numbers with any posterior whose density is known.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from math import log, prod
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from vaelab.checks import check_at_least, check_choice, check_positive
from vaelab.distributions import Codebook, Quantized, Table, is_euclidean, space_of
from vaelab.draw import Latent
from vaelab.evidence import evaluating
from vaelab.metrics.data import Batches, Data, first
from vaelab.metrics.decoding import channels
from vaelab.metrics.progress import progress, stage
from vaelab.metrics.target import average
from vaelab.models import Model

AT_ONCE = 256  # examples that are scored at a time


@torch.no_grad()
def code_rate(
    model: Model,
    data: Data,
    prior_of_codes: Callable[..., nn.Module],
    prior_of_numbers: Callable[..., nn.Module],
    split: str = "test",
    num_train: int = 20_000,
    num_examples: int = 10_000,
    num_steps: int = 1000,
    batch_size: int = 64,
    learning_rate: float = 4e-3,
) -> dict[str, Any]:
    """The mean over examples of KL(q(z | x) || p(z)) in nats, where p is fitted to samples of q(z | x) of the training data.

        KL = -H[q(z | x)] - E_q[log p(z)]

    The entropy is exact where it is known in closed form; a code is certain, and has none. Real numbers are shown to p with mean 0 and
    standard deviation 1 of each channel of the training data, and the change of volume is counted: the rate is that of a z + b, too. p
    is not shown y. Of several latent variables each has a prior of its own, and the rate is the sum.

    - code_rate, and code_rate_bits_per_dim, in bits for each dimension of x.
    - code_rate_of_train, of the first num_examples training examples: far below code_rate, if p remembers them.
    - code_rate_bits_per_code, if z is of codes: at most log2 K or little more. Sums of several codes count as one.
    - code_rate_of_latents, of each of several latent variables.

    Args:
        model: whose latents they are.
        data: of x.
        prior_of_codes: a factory, prior(posterior) -> module () -> distribution over codes, such as `vaelab.priors.AutoregressiveCodes`.
        prior_of_numbers: a factory, prior(z_shape) -> module () -> density, such as `vaelab.priors.AutoregressiveMixture`.
        split: "test" or "val".
        num_train: examples that p is fitted to, at most.
        num_examples: that it is measured on, at most.
        num_steps, batch_size: of the fit, by Adam.
        learning_rate: its largest, after a third of the steps; it begins and ends near 0.

    Raises:
        ValueError: if an option is out of range, z is neither of codes nor of real numbers, or a rate is not finite.
    """
    check_choice(("test", "val"), split=split)
    check_at_least(2, num_train=num_train)
    check_at_least(1, num_examples=num_examples, num_steps=num_steps, batch_size=batch_size)
    check_positive(learning_rate=learning_rate)
    data.setup("test" if split == "test" else "fit")
    stage("encoding")
    with evaluating(model):
        x_shape, train = encoded(model, first(data.batches("train", model.device), num_train))
        _, held = encoded(model, first(data.batches(split, model.device), num_examples))
    of_held, of_train, num_codes = list[Tensor](), list[Tensor](), 0
    for known, new in zip(train, held, strict=True):
        scale = standardising(known)
        known, new = scale(known), scale(new)
        make = prior_of_numbers if known.codebook is None else prior_of_codes
        prior = fitted(partial(make, **known.given), known, num_steps, batch_size, learning_rate)
        of_held.append(rates(prior, new))
        of_train.append(rates(prior, known.part(slice(num_examples))))
        num_codes += 0 if known.codebook is None else prod(known.z_shape[1:])
    total = torch.stack(of_held).sum(0)
    if not bool(total.isfinite().all()):
        raise ValueError("code_rate is not finite: the model, or the small prior, has diverged")
    report: dict[str, Any] = average("code_rate", total)
    report["code_rate_of_train"] = torch.stack(of_train).sum(0).mean().item()
    report["code_rate_bits_per_dim"] = report["code_rate"] / log(2) / prod(x_shape)
    if all(known.codebook is not None for known in train):
        report["code_rate_bits_per_code"] = report["code_rate"] / log(2) / num_codes
    if len(train) > 1:
        report["code_rate_of_latents"] = [values.mean().item() for values in of_held]
    return report | {"code_rate_num_train": len(train[0].z), "code_rate_num_examples": len(total)}


class Codes(nn.Module):
    """The part of a quantiser that a prior over codes asks for."""

    def __init__(self, codes: Codebook, event_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.codes, self.event_shape = codes, event_shape


@dataclass(frozen=True)
class Encoded:
    """z ~ q(z | x) of N examples."""

    z_shape: tuple[int, ...]
    z: Shaped[Tensor, "n ..."]  # a sample; the mean, if there is a scale; indices, if there is a codebook
    scale: Float[Tensor, "n ..."] | None  # of a Gaussian
    entropy: Float[Tensor, "n"]  # of q, or -log q(z)
    codebook: Codebook | None

    @property
    def given(self) -> dict[str, Any]:
        """Arguments that a prior is made of."""
        return {"z_shape": self.z_shape} if self.codebook is None else {"posterior": Codes(self.codebook, self.z_shape)}

    def part(self, chosen: Tensor | slice) -> "Encoded":
        scale = None if self.scale is None else self.scale[chosen]
        return replace(self, z=self.z[chosen], scale=scale, entropy=self.entropy[chosen])

    def sample(self) -> Shaped[Tensor, "n ..."]:
        return self.z if self.scale is None else self.z + self.scale * torch.randn_like(self.z)

    def log_prob(self, p: Distribution) -> Float[Tensor, "n"]:
        """log p of a sample."""
        return (p if self.codebook is None else p.indices).log_prob(self.sample())  # type: ignore[attr-defined]


def encoded(model: Model, batches: Batches) -> tuple[tuple[int, ...], list[Encoded]]:
    """The shape of x, and each latent variable of these examples.

    Raises:
        ValueError: if there is no example, or a latent variable is neither of codes nor of real numbers.
    """
    parts: dict[int, list[Encoded]] = defaultdict(list)
    x_shape: tuple[int, ...] = ()
    several = False
    for x, y in batches:
        if not parts:
            x_shape, several = tuple(x.shape[1:]), len(model(x[:1], y[:1]).latents) > 1  # one alone is known without decoding
        q = None if several else model.encode(x, y)
        latents = model(x, y).latents if q is None else (Latent.sample(q, q, 1),)
        for i, latent in enumerate(latents):
            parts[i].append(encoding(latent))
    if not parts:
        raise ValueError("there is nothing to encode: the data have no batch")
    return x_shape, [joined(each) for each in parts.values()]


def encoding(latent: Latent) -> Encoded:
    """One sample of each example.

    Raises:
        ValueError: if z is neither of codes nor of real numbers.
    """
    q, z_shape = latent.q, tuple(latent.q.event_shape)
    if isinstance(q, Quantized):
        indices = q.indices.expand(*latent.shape, *q.indices.shape[len(q.batch_shape) :])[0]
        return Encoded(z_shape, indices, None, torch.zeros(len(indices), device=indices.device), q.codebook)
    z, entropy = latent.z[0], known_entropy(latent)
    if space_of(q) == "one-hot codes":
        vectors = torch.eye(z_shape[-1], dtype=z.dtype, device=z.device)
        return Encoded((z_shape[-1], *z_shape[:-1]), z.argmax(-1), None, entropy, Table(vectors))
    if not is_euclidean(q):
        raise ValueError(f"code_rate is of codes and of vectors of real numbers, but z is of {space_of(q)}: use metrics=[likelihood]")
    if isinstance(q, Independent) and isinstance(q.base_dist, Normal):
        loc, scale = (each.expand(latent.z.shape)[0] for each in (q.base_dist.loc, q.base_dist.scale))
        return Encoded(z_shape, loc, scale, entropy, None)
    return Encoded(z_shape, z, None, entropy, None)


def known_entropy(latent: Latent) -> Float[Tensor, "n"]:
    """H[q]; -log q(z), whose mean it is, where it has no closed form."""
    try:
        return latent.q.entropy().expand(latent.shape)[0]
    except NotImplementedError:
        return -latent.log_q[0]


def joined(parts: list[Encoded]) -> Encoded:
    z, entropy = (torch.cat([getattr(part, name) for part in parts]) for name in ("z", "entropy"))
    scale = None if parts[0].scale is None else torch.cat([part.scale for part in parts if part.scale is not None])
    return replace(parts[-1], z=z, scale=scale, entropy=entropy.double())


def standardising(known: Encoded) -> Callable[[Encoded], Encoded]:
    """A map to mean 0 and standard deviation 1 of each channel of these z, with the noise of q; codes stay what they are."""
    if known.codebook is not None:
        return lambda found: found
    values = channels(known.z)
    variance = values.var(0, correction=0)
    if known.scale is not None:
        variance = variance + channels(known.scale).square().mean(0)
    shape = (-1, *[1] * (known.z.ndim - 2))
    mean, sd = (each.to(known.z.device).reshape(shape) for each in (values.mean(0), variance.sqrt()))
    volume = sd.log().expand(known.z_shape).sum()

    def scaled(found: Encoded) -> Encoded:
        z, scale = ((found.z - mean) / sd).to(found.z), None if found.scale is None else (found.scale / sd).to(found.z)
        return replace(found, z=z, scale=scale, entropy=found.entropy - volume)

    return scaled


def fitted(make: Callable[[], nn.Module], z: Encoded, num_steps: int, batch_size: int, learning_rate: float) -> nn.Module:
    """A prior, fitted by Adam to -E_q[log p(z)]; z has new noise in each step.

    Its weights depend on z alone: initialisation, order and noise have a seed of their own, and torch's generator is left as it was.
    """
    with torch.random.fork_rng(), torch.backends.cudnn.flags(deterministic=True, benchmark=False), torch.enable_grad():
        torch.manual_seed(0)
        prior = make().to(z.z.device)
        optimizer = torch.optim.Adam(prior.parameters())
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=learning_rate, total_steps=num_steps + 1)
        for _, chosen in zip(progress("steps of the small prior", range(num_steps)), batches_of(len(z.z), batch_size), strict=False):
            optimizer.zero_grad()
            loss = -z.part(chosen.to(z.z.device)).log_prob(prior()).mean()
            loss.backward()
            optimizer.step()
            schedule.step()
    return prior.eval()


def batches_of(num: int, batch_size: int) -> Iterator[Tensor]:
    """Batches of numbers below `num`, each once in an epoch, without end."""
    while True:
        yield from torch.randperm(num).split(batch_size)


def rates(prior: nn.Module, z: Encoded) -> Float[Tensor, "n"]:
    """-H[q] - log p(z) of each example, in double precision."""
    p = prior()
    log_p = [z.part(slice(start, start + AT_ONCE)).log_prob(p).double() for start in range(0, len(z.z), AT_ONCE)]
    return (-z.entropy - torch.cat(log_p)).cpu()
