"""Keys of a config that only its data tell, such as how many columns a table has."""

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from vaelab.data import Table


def complete(config: DictConfig) -> None:
    """Fill keys of a config that are null with what its data tell, before anything is built of them.

    Raises:
        ValueError: if the data cannot be read.
    """
    if config.data.get("shape", ()) is not None:
        return
    dataset = instantiate(OmegaConf.create({"dataset": config.data.dataset}, parent=config).dataset, _convert_="all")
    if not isinstance(dataset, Table):
        raise ValueError("data.shape=null must be the shape of one x, such as data.shape=[1,28,28]: only data=table finds it in the file")
    dataset.tell()
    for key, value in dataset.found.items():
        if OmegaConf.select(config, key) is None:
            OmegaConf.update(config, key, value)
