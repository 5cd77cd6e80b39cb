"""Keys of a config that are left to the data that it names."""

import copy

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from vaelab.data import Table
from vaelab.data.memory import as_example


def with_shape(config: DictConfig) -> DictConfig:
    """The config with data.shape, if it is null, that of the first training example: the networks and the stored config need it.

    Of a table also with the kinds of its columns, the classes of y, and whether values are missing, where they are null.

    Raises:
        ValueError: if the data cannot be read.
    """
    if "shape" not in config.data or config.data.shape is not None:
        return config
    read, config = instantiate(copy.deepcopy(config).data.dataset, _convert_="all"), copy.deepcopy(config)
    if isinstance(read, Table):
        read.tell()
        for key, value in read.found.items():
            if OmegaConf.select(config, key) is None:
                OmegaConf.update(config, key, value)
        return config
    dataset = read(split="train")
    config.data.shape = list(as_example(dataset[0], getattr(dataset, "y_names", ()))[0].shape)
    return config
