"""What a config leaves to the data that it names."""

import copy

from hydra.utils import instantiate
from omegaconf import DictConfig

from vaelab.data.memory import as_example


def with_shape(config: DictConfig) -> DictConfig:
    """The config with data.shape, if it is null, that of the first training example: the networks and the stored config need it.

    Raises:
        ValueError: if the data cannot be read.
    """
    if "shape" not in config.data or config.data.shape is not None:
        return config
    dataset = instantiate(copy.deepcopy(config).data.dataset)(split="train")
    config = copy.deepcopy(config)
    config.data.shape = list(as_example(dataset[0], getattr(dataset, "y_names", ()))[0].shape)
    return config
