"""Cell nuclei of breast cancers (Wolberg et al., 1993): a small table that comes with scikit-learn."""

import torch
from sklearn.datasets import load_breast_cancer

from vaelab.data.memory import InMemory


def breast_cancer(split: str) -> InMemory:
    """569 rows of 30 standardised numbers; y: malignant or benign.

    Every split has all of them: missing values are filled in where a model was trained, as in Ipsen et al. (2021).

    Args:
        split: "train", "val" or "test".
    """
    x, y = load_breast_cancer(return_X_y=True)
    x = (x - x.mean(0)) / x.std(0)
    data = InMemory(torch.from_numpy(x).float(), torch.from_numpy(y).long(), ("malignant", "benign"))
    data.is_shared = True
    return data
