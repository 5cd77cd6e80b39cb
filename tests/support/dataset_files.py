"""What stands in for datasets that cannot be downloaded: files of the right format with rendered content."""

import struct
from pathlib import Path

import torch


def write_idx(root: Path, family: str = "MNIST", num_train: int = 300, num_test: int = 60) -> Path:
    """The four files of an MNIST-like dataset, holding discs as grey digits; returns root."""
    from vaelab.data import circles

    raw = root / family / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    for split, prefix, count in (("train", "train", num_train), ("test", "t10k", num_test)):
        images = circles(split, size=28, num_train=num_train, num_test=num_test).x[:, 0] // 2
        labels = torch.arange(count, dtype=torch.uint8) % 10
        (raw / f"{prefix}-images-idx3-ubyte").write_bytes(struct.pack(">IIII", 2051, count, 28, 28) + images.numpy().tobytes())
        (raw / f"{prefix}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 2049, count) + labels.numpy().tobytes())
    return root
