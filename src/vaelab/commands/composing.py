"""Configs of conf/, composed without a command line."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from omegaconf import DictConfig

CONF = Path(__file__).parents[1] / "conf"


def typed_words(hydra: Any) -> list[str]:
    """The words of a command line as they were typed: Hydra's own list would look up what an interpolation refers to.

    Args:
        hydra: what Hydra notes of a start.
    """
    from omegaconf import OmegaConf

    words: Any = OmegaConf.to_container(hydra.overrides.task, resolve=False)
    return list(words)


def compose(*overrides: str, config_name: str = "config", config_dir: str | Path | None = None) -> "DictConfig":
    """The config of a command line, for use from Python.

    >>> from vaelab import compose
    >>> config = compose("data=circles", "latent_dim=2", "objective.beta=4")
    >>> config.objective.beta, config.z_shape[0]
    (4, 2)

    Args:
        overrides: words of the command line, such as "prior=vamp" or "trainer.max_epochs=3".
        config_name: "config" of `vaelab train`, or the name of another command.
        config_dir: a folder with more yamls, as --config-dir.

    Returns:
        config: of a run in outputs/<name>/<date_time>, unless an override sets paths.run_dir.

    Raises:
        hydra.errors.HydraException: if an override fits nothing.
    """
    import hydra
    from omegaconf import DictConfig

    from vaelab.commands import places  # noqa: F401  (its resolvers are used in conf/config.yaml)

    more = [] if config_dir is None else [f"hydra.searchpath=[{Path(config_dir).absolute().as_uri()}]"]
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        config = hydra.compose(config_name, [*more, *overrides])
    assert isinstance(config, DictConfig)
    if "new_dir" in config.get("paths", {}) and not any(word.lstrip("+").startswith("paths.run_dir=") for word in overrides):
        config.paths.run_dir = str(config.paths.new_dir)  # the time of now, and not of each time that it is read
    return config
