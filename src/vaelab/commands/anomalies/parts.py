"""Normal test data, and anomalies."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from jaxtyping import Int
from omegaconf import DictConfig
from torch import Tensor

from vaelab.build import OpenedRun, build_data, open_run
from vaelab.commands.common import places_of_data
from vaelab.commands.pictures import examples_of
from vaelab.data import InMemory
from vaelab.data.datamodule import present
from vaelab.data.memory import Examples, as_example
from vaelab.data.split import Split
from vaelab.data.views import by_class
from vaelab.runs.folder import RunFolder


@dataclass(frozen=True)
class Part:
    """Test examples that are all normal, or all anomalies."""

    name: str  # of the data
    split: Split
    is_anomaly: bool

    def __str__(self) -> str:
        return f"{len(self.split)} of {self.name}"


def find_parts(run: OpenedRun, config: DictConfig) -> list[Part]:
    """The normal test examples and the anomalies, in random orders, at most num of each.

    Normal are the test data of the classes that the run was trained on; anomalies are those of other classes, or the data of `against`.

    Raises:
        ValueError: if one of the two is empty, or the data of `against` have another shape or are those of the run.
    """
    data, name = run.datamodule, run.config.data.get("name", run.config.name)
    if data.classes is None and not config.against:
        raise ValueError(
            f"this run was trained on all of {name}, so that none of it is an anomaly: choose other data, such as against=kmnist, or a run"
            " that was trained on some classes, such as data.classes=[3]"
        )
    data.setup("test")
    test = data.splits["test"]

    def part(name: str, dataset: Examples, indices: Int[Tensor, "n"], is_anomaly: bool) -> Part:
        return Part(name, Split(dataset, indices[: config.num], test.modality, test.transform, test.seed), is_anomaly)

    normal, others = test.indices, test.indices[:0]
    if data.classes is not None:
        normal, others = by_class(test.dataset, data.classes, test.indices)
        name += f" {data.classes}"
    if config.against:
        other = other_data(config.against, run, config)
        check_alike(other, test.dataset, config.against, data.shape)
        order = present(other, torch.randperm(len(other), generator=torch.Generator().manual_seed(data.split_seed)))
        anomalies = part(Path(config.against).name, other, order, True)
    else:
        if not len(others):
            raise ValueError(f"{name} are all classes, so that none of it is an anomaly: choose other data, such as against=kmnist")
        anomalies = part("other classes", test.dataset, others, True)
    return [part(name, test.dataset, normal, False), anomalies]


def other_data(against: str, run: OpenedRun, config: DictConfig) -> Examples:
    """The test data of a choice of conf/data or of another run, or all of a file, or of a folder of pictures.

    Raises:
        ValueError: if it is none of these, or the folder holds no pictures.
    """
    path = Path(against)
    if (path.is_dir() and not RunFolder(path).checkpoints.is_dir()) or (path.is_file() and path.suffix != ".ckpt"):
        return examples_of(path, run)
    if path.exists():
        places = {key: value for key, value in places_of_data(config).items() if key != "data.root"}  # which is of the run itself
        return open_run(path, places=places, trust=config.trust).datamodule.read("test")
    known = GlobalHydra.instance().config_loader().get_group_options("data")
    choices = [choice for choice in known if choice != "folder"]
    if against not in choices:
        raise ValueError(f"against={against} is neither a folder nor a choice of conf/data ({', '.join(choices)})")
    theirs = compose("config", [f"data={against}"])
    theirs.paths.data_dir, theirs.download = run.config.paths.data_dir, config.download
    return build_data(theirs).read("test")


def check_alike(other: Examples, test: Examples, against: str, shape: Sequence[int]) -> None:
    """Anomalies must be of the shape of what is normal, and not the same.

    Raises:
        ValueError: if they are not.
    """
    found = tuple(as_example(other[0])[0].shape)
    if found != tuple(shape):
        raise ValueError(f"the run is of data of shape {list(shape)}, but against={against} has shape {list(found)}")
    if isinstance(other, InMemory) and isinstance(test, InMemory) and torch.equal(other.x, test.x):
        raise ValueError(f"against={against} are the test data of the run itself: choose other data")
