"""Tells Hydra of the sweepers and launchers in `vaelab.sweeps`."""

from hydra.core.config_store import ConfigStore

from vaelab.sweeps.grid import GridConf, GridSweeper
from vaelab.sweeps.local import LocalConf, LocalLauncher
from vaelab.sweeps.ray import RayConf, RayLauncher
from vaelab.sweeps.search import OptunaSweeper, SearchConf
from vaelab.sweeps.stacked import StackedConf, StackedLauncher

NODES = {
    "sweeper": {"vaelab_grid": GridConf, "vaelab_optuna": SearchConf},
    "launcher": {"vaelab_local": LocalConf, "vaelab_ray": RayConf, "vaelab_stacked": StackedConf},
}
for group, nodes in NODES.items():
    for name, node in nodes.items():
        ConfigStore.instance().store(group=f"hydra/{group}", name=name, node=node, provider="vaelab")
for plugin in (GridSweeper, OptunaSweeper, LocalLauncher, RayLauncher, StackedLauncher):
    plugin.__module__ = __name__  # Hydra builds no plugin from another package than hydra_plugins
