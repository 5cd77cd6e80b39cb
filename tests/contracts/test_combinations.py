"""The grid: every prior with every posterior, likelihood and objective that there is a yaml for.

What is legal trains for two steps; what is not is refused in words. The rules below say which is which from the mathematics alone.
By default each (posterior, prior, objective) meets one likelihood, all of them in turn; `--full-grid` trains every legal combination.
"""

import itertools
import re
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from forked_scripts import ROOT
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from small_runs import composed
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vaelab import VAE
from vaelab.distributions.von_mises_fisher import quadrature
from vaelab.schedules import Linear

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
    "posterior=vector_quantized": ["posterior.num_codes=5"],
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
    "vector_quantized": CODES,
}
PRIORS = {
    **{prior: {REAL} for prior in ("standard_normal", "standard_laplace", "mixture", "flow", "coupling_flow", "conditional_gaussian")},
    "vamp": {REAL, SPHERE, ONE_HOT, RELAXED},
    "uniform_sphere": {SPHERE},
    "uniform_categorical": {ONE_HOT},
    "relaxed_categorical": {RELAXED},
    "uniform_codes": {CODES},
    "autoregressive_codes": {CODES},
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
}
FACTORISED, FACTORISED_PRIORS = {"gaussian", "laplace"}, {"standard_normal", "standard_laplace", "conditional_gaussian"}
LEARNED_PRIORS = {"mixture", "vamp", "flow", "coupling_flow", "conditional_gaussian", "autoregressive_codes"}
# objectives with a KL of their own, and the path of its option
WITH_KL = {"elbo": "kl", "geco": "kl"} | dict.fromkeys(["factor_tc", "dip_i", "dip_ii", "info_mmd", "wae"], "elbo.kl")
DIALS = ("posterior", "likelihood", "prior")


def refusal(posterior: str, prior: str, objective: str) -> str | None:
    """What the refusal of an illegal combination says; None for a legal one."""
    space, closed = POSTERIORS[posterior], (posterior, prior) in CLOSED_FORM
    if prior == "vamp" and space == CODES:
        return "prior=uniform_codes"
    if prior in ("uniform_codes", "autoregressive_codes") and space != CODES:
        return "set posterior=vector_quantized"
    if prior == "uniform_sphere" and len(Z_SHAPE[space]) > 1:
        return "a sphere needs a vector"
    if objective == "m2":
        return "set model=m2"
    if prior == "vamp" and posterior in FLOWS:
        return "along its samples only"
    if objective == "prior_fit" and prior not in LEARNED_PRIORS:
        return "nothing to fit"
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


def train(posterior: str, prior: str, likelihood: str, objective: Any) -> None:
    """Two optimiser steps, as `LitVAE` makes them."""
    (x, y), model = data_for(likelihood), model_of(posterior, prior, likelihood)
    objective.num_examples = 100
    before = {name: value.clone() for name, value in model.named_parameters()}
    optimizer = torch.optim.Adam([{"params": list(model.parameters())}, *objective.parameter_groups()], lr=1e-3)
    for step in range(2):
        terms = objective(objective.draw(model, x, y), step)
        assert terms["loss"].isfinite(), terms
        optimizer.zero_grad()
        terms["loss"].backward()
        optimizer.step()
    moved = {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}
    assert moved
    assert all(value.isfinite().all() for value in model.parameters())


LIKELIHOODS, OBJECTIVES = choices("likelihood"), choices("objective")
PAIRS = list(itertools.product(POSTERIORS, PRIORS))


def test_the_grid_is_all_that_there_is() -> None:
    assert choices("posterior") == sorted(POSTERIORS)
    assert choices("prior") == sorted(PRIORS)


@pytest.mark.parametrize(("posterior", "prior"), PAIRS, ids=["-".join(pair) for pair in PAIRS])
def test_every_combination_trains_or_is_refused_in_words(posterior: str, prior: str, request: pytest.FixtureRequest) -> None:
    full, turn = request.config.getoption("--full-grid"), PAIRS.index((posterior, prior))
    for i, objective in enumerate(OBJECTIVES):
        message = refusal(posterior, prior, objective)
        for likelihood in LIKELIHOODS if full and message is None else [LIKELIHOODS[(turn + i) % len(LIKELIHOODS)]]:
            where = f"posterior={posterior} prior={prior} likelihood={likelihood} objective={objective}"
            try:
                train(posterior, prior, likelihood, objective_of(posterior, prior, objective))
                refused = None
            except (ValueError, InstantiationException) as error:
                refused = str(error)
            assert (refused is None) == (message is None), f"{where}: expected {message!r}, but got {refused!r}"
            assert message is None or re.search(message, refused or ""), f"{where}: expected {message!r}, but got {refused!r}"


@pytest.mark.parametrize(("posterior", "prior"), [pair for pair in PAIRS if pair not in CLOSED_FORM and refusal(*pair, "elbo") is None])
def test_without_a_closed_form_the_analytic_kl_is_refused(posterior: str, prior: str) -> None:
    with pytest.raises(ValueError, match=r"no closed-form KL between .* set objective\.kl=k1"):
        train(posterior, prior, "bernoulli", build("objective", "elbo", Z_SHAPE[POSTERIORS[posterior]], 0))


ASKS = {"_local_scalar_dense", "nonzero", "equal", "_is_all_true"}  # what gives Python a value or a shape that depends on one


class Watch(TorchDispatchMode):
    """Notes the operations that make a GPU wait: a value is asked for, or tensors move between devices."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out, name = func(*args, **(kwargs or {})), func.overloadpacket.__name__
        devices = {each.device for each in tree_leaves((args, kwargs, out)) if isinstance(each, Tensor)}
        if name in ASKS or (name in ("_to_copy", "copy_") and len(devices) > 1):
            self.found.append(f"{name}{[tuple(each.shape) for each in tree_leaves(args) if isinstance(each, Tensor)]}")
        return out


def a_few() -> list[tuple[str, str, str, str]]:
    """Legal combinations in which each part occurs, and each KL in closed form."""
    grid = [(*pair, objective) for objective in ("elbo", *OBJECTIVES) for pair in PAIRS if refusal(*pair, objective) is None]
    seen, found = set[Any](), []
    for posterior, prior, objective in grid:
        new = {posterior, prior, objective} | ({(posterior, prior)} & CLOSED_FORM)
        if new - seen:
            seen |= new
            found.append((posterior, prior, LIKELIHOODS[len(found) % len(LIKELIHOODS)], objective))
    return found


DIFFERENTIATES = {"piwae", "dreg"}  # within the loss


@pytest.mark.parametrize(("posterior", "prior", "likelihood", "objective"), a_few())
def test_a_step_does_not_make_a_gpu_wait(
    posterior: str, prior: str, likelihood: str, objective: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss on a GPU that is made believe; its gradient, for which torch wants a real one, on the CPU."""
    (x, y), model, loss = data_for(likelihood), model_of(posterior, prior, likelihood), objective_of(posterior, prior, objective)
    loss.num_examples = 100
    if objective == "elbo":
        loss.beta, loss.capacity = Linear(), Linear(end=5.0)
    terms, watch = loss(loss.draw(model, x, y), 0), Watch()
    with watch:
        terms["loss"].backward()
    if objective in DIFFERENTIATES:
        assert not watch.found
        return
    quadrature.cache_clear()
    monkeypatch.setattr(torch.__future__, "get_overwrite_module_params_on_conversion", lambda: True)
    with FakeTensorMode():

        def on_gpu(tensor: Tensor) -> Tensor:
            return torch.empty(tensor.shape, dtype=tensor.dtype, device="cuda")

        for module in (model, loss):
            module._apply(on_gpu)
        loss(loss.draw(model, on_gpu(x), on_gpu(y)), 0)  # constants are copied once
        with watch:
            loss(loss.draw(model, on_gpu(x), on_gpu(y)), 1)
    quadrature.cache_clear()
    assert not watch.found
