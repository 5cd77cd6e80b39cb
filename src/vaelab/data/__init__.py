"""Datasets of (x, y), and the one LightningDataModule that batches them."""

from vaelab.data.datamodule import DataModule
from vaelab.data.images import folder, freyfaces
from vaelab.data.memory import InMemory
from vaelab.data.mnist import fashion_mnist, kmnist, mnist
from vaelab.data.synthetic import Rendered, circles, shapes
from vaelab.data.transforms import Binarize

__all__ = [
    "Binarize",
    "DataModule",
    "InMemory",
    "Rendered",
    "circles",
    "fashion_mnist",
    "folder",
    "freyfaces",
    "kmnist",
    "mnist",
    "shapes",
]
