"""Imports what the processes of jobs need, for the process that they are forked from."""

from contextlib import suppress
from importlib import import_module

from hydra.core.plugins import Plugins

for module in (
    "sklearn.linear_model",
    "torch.utils.tensorboard",
    "vaelab.commands.overrides",
    "vaelab.commands.places",
    "vaelab.commands.train",
    "vaelab.likelihoods",
    "vaelab.networks",
    "vaelab.posteriors",
    "vaelab.priors",
):
    with suppress(ImportError):  # of an extra
        import_module(module)
Plugins.instance()  # which looks for sweepers and launchers, and imports them
