"""What the processes of `forked_scripts` and `forked_runs` have imported before they are forked."""

from importlib import import_module
from importlib.util import find_spec

from hydra.core.plugins import Plugins

MODULES = (
    "optuna.storages",
    "optuna.visualization.matplotlib",
    "pytest",  # whose command line multiprocessing imports again in every process
    "sqlalchemy",
    "torch.utils.tensorboard",
    "vaelab.benchmark",
    "vaelab.commands.anomalies",
    "vaelab.commands.evaluate",
    "vaelab.commands.generate",
    "vaelab.commands.inpaint",
    "vaelab.commands.train",
    "vaelab.runs.summary",
    "vaelab.training.callbacks",
)
for module in MODULES:
    if find_spec(module.partition(".")[0]):  # a machine with a GPU may lack the extras
        import_module(module)
Plugins.instance()  # which finds and imports the sweepers and launchers
# jobs of launcher=local are forked as all scripts are (`forked_scripts.Popen`); tests/sweeps/test_warm.py has its own server
import_module("vaelab.sweeps.local").can_be_warm = lambda words: False  # type: ignore[attr-defined]
