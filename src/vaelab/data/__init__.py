"""Datasets of (x, y), and the one LightningDataModule that batches them."""

from vaelab.data.arrays import array
from vaelab.data.breast_cancer import breast_cancer
from vaelab.data.datamodule import DataModule
from vaelab.data.dsprites import DSprites, dsprites
from vaelab.data.images import folder, freyfaces
from vaelab.data.memory import InMemory
from vaelab.data.mnist import fashion_mnist, kmnist, mnist
from vaelab.data.normal import normal, ppca_log_likelihood
from vaelab.data.synthetic import Rendered, circles, shapes
from vaelab.data.table import Table
from vaelab.data.trajectories import trajectories
from vaelab.data.transforms import Binarize, Chain, Dequantize, HideLarge, Missing
from vaelab.data.views import hide_labels

__all__ = [
    "Binarize",
    "Chain",
    "DSprites",
    "DataModule",
    "Dequantize",
    "HideLarge",
    "InMemory",
    "Missing",
    "Rendered",
    "Table",
    "array",
    "breast_cancer",
    "circles",
    "dsprites",
    "fashion_mnist",
    "folder",
    "freyfaces",
    "hide_labels",
    "kmnist",
    "mnist",
    "normal",
    "ppca_log_likelihood",
    "shapes",
    "trajectories",
]
