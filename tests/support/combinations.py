"""The grid: every prior with every posterior, likelihood and objective that there is a yaml for, and a few cases that stand for all.

The rules below say from the mathematics alone which combinations are legal.
"""

import itertools
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from forked_scripts import ROOT
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from small_runs import composed
from torch import Tensor

from vaelab import VAE
from vaelab.build import build as build_run

B = 5
SMALL = [
    "data.size=4",
    "encoder=mlp",
    "decoder=mlp",
    "encoder.hidden=[8]",
    "decoder.hidden=[8]",
]
SHRUNK = {
    "prior=vamp": ["prior.num_components=3"],
    "prior=mixture": ["prior.num_components=3"],
    "prior=autoregressive_mixture": ["prior.num_components=3", "prior.channels=8", "prior.num_layers=1"],
    "posterior=vector_quantized": ["posterior.num_codes=5"],
    "posterior=simvq": ["posterior.num_codes=5"],
    "posterior=fsq": ["posterior.levels=[2,3,2]"],
    "posterior=hierarchical": ["posterior.top.num_codes=5", "posterior.bottom.num_codes=4", "posterior.channels=4"],
    "posterior=residual": ["posterior.quantizer.num_codes=5", "posterior.depth=2"],
    "likelihood=categorical": ["likelihood.num_bins=4"],
    "likelihood=discretized_logistic": ["likelihood.num_bins=4"],
    "likelihood=mixed": [
        "likelihood.columns=[real,real,real,real,count,count,count,nonnegative,nonnegative,[ordinal,3],[ordinal,2],[categorical,4],"
        "[categorical,2],binary,binary,binary]"
    ],
    "likelihood=mixture_of_logistics": ["likelihood.num_bins=4", "likelihood.num_mixtures=2"],
    "objective=factor_tc": ["objective.tc.discriminator.hidden=[8]"],
    "objective=renyi": ["objective.num_samples=3"],
    "objective=miwae": ["objective.num_bounds=2", "objective.samples_per_bound=2"],
    "objective=piwae": ["objective.num_bounds=2", "objective.samples_per_bound=2"],
    "objective=ciwae": ["objective.num_samples=3"],
    "objective=vimco": ["objective.num_samples=3"],
    "objective=geco": ["objective.target=5"],
}


def choices(dial: str) -> list[str]:
    return sorted(path.stem for path in (ROOT / "conf" / dial).glob("*.yaml"))


# the space of z that each family is over, and a small shape of it
REAL, SPHERE, ONE_HOT, RELAXED, CODES = "real", "sphere", "one-hot", "relaxed", "codes"
Z_SHAPE = {REAL: (3,), SPHERE: (3,), ONE_HOT: (2, 3), RELAXED: (2, 3), CODES: (3, 2, 2)}
FLOWS = {"planar", "sylvester", "sylvester_householder", "sylvester_triangular", "iaf", "spline"}
POSTERIORS = dict.fromkeys(["gaussian", "full_gaussian", "laplace", *sorted(FLOWS)], REAL) | {
    "hyperspherical": SPHERE,
    "categorical": ONE_HOT,
    "straight_through": ONE_HOT,
    "gumbel": RELAXED,
    **dict.fromkeys(["vector_quantized", "simvq", "fsq", "lookup_free", "binary_spherical", "residual", "hierarchical"], CODES),
}
PRIORS = {
    **{prior: {REAL} for prior in ("standard_normal", "standard_laplace", "mixture", "flow", "coupling_flow", "conditional_gaussian")},
    "autoregressive_mixture": {REAL},
    "vamp": {REAL, SPHERE, ONE_HOT, RELAXED},
    "uniform_sphere": {SPHERE},
    "uniform_categorical": {ONE_HOT},
    "relaxed_categorical": {RELAXED},
    "uniform_codes": {CODES},
    "autoregressive_codes": {CODES},
    "transformer_codes": {CODES},
}
CLOSED_FORM = {
    ("gaussian", "standard_normal"),
    ("gaussian", "standard_laplace"),
    ("gaussian", "conditional_gaussian"),
    ("full_gaussian", "standard_normal"),
    ("full_gaussian", "conditional_gaussian"),
    ("laplace", "standard_normal"),
    ("laplace", "standard_laplace"),
    ("laplace", "conditional_gaussian"),
    ("hyperspherical", "uniform_sphere"),
    ("categorical", "uniform_categorical"),
    ("straight_through", "uniform_categorical"),
    ("gumbel", "uniform_categorical"),
    *((posterior, prior) for posterior, space in POSTERIORS.items() if space == CODES for prior in PRIORS if "_codes" in prior),
}
FACTORISED, FACTORISED_PRIORS = {"gaussian", "laplace"}, {"standard_normal", "standard_laplace", "conditional_gaussian"}
LEARNED_PRIORS = {"mixture", "vamp", "flow", "coupling_flow", "conditional_gaussian"}
LEARNED_PRIORS |= {"autoregressive_mixture", "autoregressive_codes", "transformer_codes"}
# objectives with a KL of their own, and the path of its option
WITH_KL = {"elbo": "kl", "geco": "kl"} | dict.fromkeys(["factor_tc", "dip_i", "dip_ii", "info_mmd", "wae"], "elbo.kl")
DIALS = ("posterior", "likelihood", "prior")


def refusal(posterior: str, prior: str, objective: str) -> str | None:
    """What the refusal of an illegal combination says; None for a legal one."""
    space, closed = POSTERIORS[posterior], (posterior, prior) in CLOSED_FORM
    if prior == "vamp" and space == CODES:
        return "prior=uniform_codes"
    if prior in ("uniform_codes", "autoregressive_codes", "transformer_codes") and space != CODES:
        return "set posterior=vector_quantized"
    if prior == "uniform_sphere" and len(Z_SHAPE[space]) > 1:
        return "a sphere needs a vector"
    if objective == "m2":
        return "set model=m2"
    if prior == "vamp" and posterior in FLOWS:
        return "along its samples only"
    if objective == "prior_fit" and prior not in LEARNED_PRIORS:
        return "nothing to fit"
    if posterior == "simvq" and objective not in ("vq", "prior_fit"):
        return "no gradient for the codebook"
    if posterior == "categorical" and objective not in ("vimco", "prior_fit"):
        return "not reparameterised"
    if objective == "vimco" and posterior != "categorical":
        return "VIMCO is for posteriors without reparameterised samples"
    if objective == "vq" and space != CODES:
        return "set posterior=vector_quantized"
    if objective == "beta_tc" and not (posterior in FACTORISED and prior in FACTORISED_PRIORS):
        return "the total correlation needs q and p that factorise"
    if space not in PRIORS[prior] and (objective in ("wae", "info_mmd") or not (closed and objective in WITH_KL)):
        return "choose a prior of the same kind"
    if objective == "factor_tc" and space != REAL:
        return "permutes the numbers that z is made of"
    if objective in ("stl", "dreg") and posterior in FLOWS:
        return "no density with detached parameters"
    if objective in ("dip_i", "dip_ii") and posterior not in FACTORISED:
        return "DIP needs a posterior whose dimensions are independent"
    return None


@cache
def grid() -> DictConfig:
    """All parts in one config, small, each at its dial and its choice: to compose it takes as long as to compose one part's."""
    parts = {dial: choices(dial) for dial in (*DIALS, "objective")}
    words = [f"+{dial}@grid.{dial}.{choice}={choice}" for dial, names in parts.items() for choice in names]
    words += [f"grid.{chosen.replace('=', '.')}.{word.partition('.')[2]}" for chosen, small in SHRUNK.items() for word in small]
    return composed([*SMALL, *words], Path())


@cache
def node(dial: str, choice: str, z_shape: tuple[int, ...], num_classes: int, extra: tuple[tuple[str, str], ...]) -> Any:
    """The yaml of a part as plain types, with everything that it refers to filled in."""
    config = grid()
    config.z_shape, config.num_classes = list(z_shape), num_classes
    part = config.grid[dial][choice]
    part = deepcopy(part.get(dial, part))  # a likelihood of counts sets encoder.input beside itself
    for key, value in extra:
        OmegaConf.update(part, key, value)
    return OmegaConf.to_container(OmegaConf.create({"part": part}, parent=config), resolve=True)["part"]


@cache
def built(dial: str, choice: str, z_shape: tuple[int, ...], num_classes: int, extra: tuple[tuple[str, str], ...]) -> Any:
    return instantiate(node(dial, choice, z_shape, num_classes, extra), _convert_="all")


def build(dial: str, choice: str, z_shape: tuple[int, ...], num_classes: int, extra: tuple[tuple[str, str], ...] = ()) -> Any:
    """A fresh part: copied, because to instantiate one takes longer than to train it."""
    return deepcopy(built(dial, choice, z_shape, num_classes, extra))


def model_of(posterior: str, prior: str, likelihood: str) -> VAE:
    """A VAE of these three, as its yamls describe them."""
    torch.manual_seed(0)
    num_classes, z_shape = 3 if prior == "conditional_gaussian" else 0, Z_SHAPE[POSTERIORS[posterior]]
    parts = [build(dial, choice, z_shape, num_classes) for dial, choice in zip(DIALS, (posterior, likelihood, prior), strict=True)]
    return VAE(*parts, num_classes=num_classes)


def objective_of(posterior: str, prior: str, objective: str) -> Any:
    """An objective, with the closed-form KL where there is one, else the Monte-Carlo KL."""
    kl = "analytic" if (posterior, prior) in CLOSED_FORM else "k1"
    extra = ((WITH_KL[objective], kl),) if objective in WITH_KL else ()
    return build("objective", objective, Z_SHAPE[POSTERIORS[posterior]], 0, extra)


@cache
def allows_black_and_white(likelihood: str) -> bool:
    """True if a likelihood has a density at 0 and at 1."""
    x = torch.arange(16.0).reshape(1, 1, 4, 4) % 2
    support: Any = model_of("gaussian", "standard_normal", likelihood)(x).p_x.support
    return bool(support.check(x).all())


def data_for(likelihood: str) -> tuple[Tensor, Tensor]:
    """Black and white pixels, which almost every likelihood allows, and labels."""
    x, y = torch.rand(B, 1, 4, 4).round(), torch.arange(B) % 3
    return (x if allows_black_and_white(likelihood) else 0.2 + 0.6 * x), y


LIKELIHOODS, OBJECTIVES = choices("likelihood"), choices("objective")
PAIRS = list(itertools.product(POSTERIORS, PRIORS))


class Case(NamedTuple):
    """What makes a step."""

    model: Any
    objective: Any
    x: Tensor
    y: Tensor


def a_few() -> list[tuple[str, ...]]:
    """Legal combinations in which each part occurs, each KL in closed form, and an objective that draws from each prior that is learned."""
    grid = [(*pair, objective) for objective in ("elbo", *OBJECTIVES) for pair in PAIRS if refusal(*pair, objective) is None]
    seen, found = set[Any](), []
    for posterior, prior, objective in grid:
        new = {posterior, prior, objective, (posterior, prior) if (posterior, prior) in CLOSED_FORM else posterior}
        new |= {(prior, objective)} if objective == "wae" and prior in LEARNED_PRIORS else set()
        if new - seen:
            seen |= new
            found.append((posterior, prior, LIKELIHOODS[len(found) % len(LIKELIHOODS)], objective))
    return found


# what the grid has not: other models, and options that take another way through a step
DISCRETE = ["posterior=gumbel", "prior=relaxed_categorical", "objective.kl=k1", "latent_dim=6", "z_shape=[2,3]"]
CODES_WORDS = ["posterior=vector_quantized", "posterior.num_codes=5", "prior=uniform_codes", "z_shape=[3,2,2]", "objective=vq"]
OTHERS = {
    "m2": ["model=m2", "objective=m2", "num_classes=3"],
    "ladder_vae": ["model=ladder_vae"],
    "top_down_vae": ["model=top_down_vae", "decoder=resnet"],
    "hvae": ["model=hvae", "objective.kl=k1"],
    "conv": ["encoder=conv", "decoder=conv", "encoder.batch_norm=true"],
    "resnet": ["encoder=resnet", "decoder=resnet"],
    "conditional": ["num_classes=3", "prior=conditional_gaussian"],
    "missing": ["missing=true"],
    "capacity": ["+schedule@objective.beta=sigmoid", "+schedule@objective.capacity=linear", "objective.capacity.end=5"],
    "free_bits": ["objective.free_bits=0.1"],
    "estimators": ["objective.kl=k3", "objective.num_samples=3"],
    "temperature": [*DISCRETE, "+schedule@posterior.temperature=linear", "posterior.temperature.start=1", "posterior.temperature.end=0.5"],
    "learned_codes": [*CODES_WORDS, "posterior.update=gradient"],
    "weighted": ["objective=beta_tc", "objective.estimator=mws", "objective.beta=2", "objective.num_examples=100"],
    "sigma=learned": ["likelihood=gaussian", "likelihood.sigma=learned"],
    "sigma=optimal": ["likelihood=gaussian", "likelihood.sigma=optimal"],
    "sigma=per_pixel": ["likelihood=gaussian", "likelihood.sigma=per_pixel"],
}
CASES = ["-".join(parts) for parts in a_few()] + list(OTHERS)


@cache
def made(name: str) -> Case:
    torch.manual_seed(0)
    if name in OTHERS:
        given = {word.partition("=")[0] for word in OTHERS[name]}
        unset = {"encoder", "decoder"} & given | ({"encoder"} if name == "top_down_vae" else set())
        lit = build_run(composed([*(word for word in SMALL if not word.startswith(tuple(unset))), *OTHERS[name]], Path()))
        model, objective, (x, y) = lit.model, lit.objective, data_for("bernoulli")
        x = x.masked_fill(torch.rand_like(x) < 0.3, torch.nan) if model.missing else x
    else:
        posterior, prior, likelihood, loss = name.split("-")
        (x, y), model, objective = data_for(likelihood), model_of(posterior, prior, likelihood), objective_of(posterior, prior, loss)
    for part in objective.modules():
        part.num_examples = 100
    return Case(model, objective, x, y)


def case_of(name: str) -> Case:
    """The case of a name in `CASES`, always with the same weights and data."""
    return deepcopy(made(name))
