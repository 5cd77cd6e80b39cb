"""MNIST and its relatives: 28 x 28 grey images, 60,000 to train and 10,000 to test on.

LeCun et al. (1998); Fashion-MNIST: Xiao et al. (2017, https://arxiv.org/abs/1708.07747); Kuzushiji-MNIST: Clanuwat et al. (2018,
https://arxiv.org/abs/1812.01718).
"""

from pathlib import Path

from torchvision import datasets

from vaelab.data.memory import InMemory


def _read(family: type[datasets.MNIST], root: str, split: str, download: bool) -> InMemory:
    if split not in ("train", "test"):
        raise ValueError(f"{family.__name__} has the splits train and test, but not {split!r}")
    raw = Path(root) / family.__name__ / "raw"
    try:
        data = family(root, train=split == "train", download=download)
    except (RuntimeError, ValueError, AssertionError) as error:
        if len(list(raw.glob("*-ubyte"))) == 4:
            raise ValueError(f"the files in {raw.absolute()} cannot be read ({error}): remove them and fetch them anew") from error
        if download:
            raise ValueError(f"{family.__name__} could not be downloaded into {raw}: {error}") from error
        raise ValueError(
            f"{family.__name__} is not in {raw.absolute()}: add download=true to fetch it, or put the four files *-ubyte there,"
            " or say where they are with paths.data_dir=<the folder that holds the folder " + family.__name__ + ">"
        ) from error
    return InMemory(data.data[:, None], data.targets, data.classes)


def mnist(root: str, split: str, download: bool = False) -> InMemory:
    """Handwritten digits, with the published split.

    Raises:
        ValueError: if the files are not in root/MNIST/raw and may not, or cannot, be downloaded.
    """
    return _read(datasets.MNIST, root, split, download)


def fashion_mnist(root: str, split: str, download: bool = False) -> InMemory:
    """Articles of clothing. Raises: as `mnist`."""
    return _read(datasets.FashionMNIST, root, split, download)


def kmnist(root: str, split: str, download: bool = False) -> InMemory:
    """Cursive Japanese characters. Raises: as `mnist`."""
    return _read(datasets.KMNIST, root, split, download)
