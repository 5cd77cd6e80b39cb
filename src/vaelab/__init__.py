"""Research with Variational Autoencoders.

A module returns a distribution; a model turns x into a `Draw`; an objective turns a `Draw` into a number. The examples of other docstrings
go on with the model and the x of this one.

>>> from functools import partial
>>> import torch
>>> from vaelab import ELBO, VAE
>>> from vaelab.likelihoods import Bernoulli
>>> from vaelab.networks import MLP
>>> from vaelab.posteriors import Gaussian
>>> from vaelab.priors import StandardNormal
>>> network = partial(MLP, hidden=[32])
>>> model = VAE(Gaussian(network, (9,), (2,)), Bernoulli(network, (2,), (9,)), StandardNormal((2,)))
>>> x = torch.rand(5, 9).round()
>>> terms = ELBO()(model(x), step=0)
>>> sorted(terms)
['distortion', 'elbo', 'loss', 'rate']
>>> terms["loss"].backward()
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if sys.platform == "win32":
    raise ImportError("vaelab runs on Linux and macOS. On Windows, use it in WSL: https://learn.microsoft.com/windows/wsl/install")

if TYPE_CHECKING:
    from vaelab.build import load
    from vaelab.commands.composing import compose
    from vaelab.commands.train import train
    from vaelab.data import DataModule, InMemory
    from vaelab.draw import Draw, Latent
    from vaelab.metrics import evaluate
    from vaelab.models import VAE, Model
    from vaelab.objectives import ELBO, IWAE, Objective
    from vaelab.runs.folder import RunFolder

    __version__: str

HOMES = {
    "Draw": "vaelab.draw",
    "Latent": "vaelab.draw",
    "Model": "vaelab.models",
    "VAE": "vaelab.models",
    "Objective": "vaelab.objectives",
    "ELBO": "vaelab.objectives",
    "IWAE": "vaelab.objectives",
    "evaluate": "vaelab.metrics",
    "DataModule": "vaelab.data",
    "InMemory": "vaelab.data",
    "RunFolder": "vaelab.runs.folder",
    "load": "vaelab.build",
    "compose": "vaelab.commands.composing",
    "train": "vaelab.commands.train",
}
__all__ = [
    "ELBO",
    "IWAE",
    "VAE",
    "DataModule",
    "Draw",
    "InMemory",
    "Latent",
    "Model",
    "Objective",
    "RunFolder",
    "compose",
    "evaluate",
    "load",
    "train",
]


def __getattr__(name: str) -> Any:
    """The public names, imported when they are first used: a command line that needs no torch does not wait for it (PEP 562)."""
    if name == "__version__":
        return import_module("importlib.metadata").version("vaelab")
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})
