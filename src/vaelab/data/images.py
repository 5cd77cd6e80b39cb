"""Images from files: a folder of pictures, and the Frey faces."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from math import prod
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, ImageOps
from rich.progress import track
from torch import Tensor
from torch.utils.data import Dataset

from vaelab.checks import check_at_least, given
from vaelab.data.memory import Examples, InMemory

EXTENSIONS = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"}


class ImageFiles(Dataset):
    """Pictures that are decoded when they are asked for.

    Args:
        paths: of the files.
        labels: of the files, -1 where unknown.
        shape: (channels, height, width), channels 1 (grey) or 3 (colour).
        crop: side of the central square that is cut out before resizing, or None.
        y_names: names of the labels.
    """

    def __init__(
        self, paths: Sequence[Path], labels: Sequence[int], shape: Sequence[int], crop: int | None = None, y_names: Sequence[str] = ()
    ) -> None:
        self.paths, self.labels, self.shape, self.crop, self.y_names = paths, labels, tuple(shape), crop, tuple(y_names)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[UInt8[Tensor, "c h w"], Tensor]:
        """Turned upright, resized to cover the shape, and cut to it around the middle.

        Raises:
            ValueError: if the file is not a readable picture, or is smaller than the crop.
        """
        channels, height, width = self.shape
        path = self.paths[index]
        try:
            with Image.open(path) as file:
                upright = ImageOps.exif_transpose(file)
                if upright.mode.startswith("I;16"):  # PIL would clip 16 bits to 255 instead of scaling them
                    upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
                picture = upright.convert("L" if channels == 1 else "RGB")
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise ValueError(f"{path} is not a readable picture ({error}): repair or remove it") from error
        if self.crop is not None and self.crop > min(picture.size):
            raise ValueError(f"data.crop={self.crop} is larger than {path}, which has {picture.width} x {picture.height} pixels")
        if self.crop is not None:
            left, top = (picture.width - self.crop) // 2, (picture.height - self.crop) // 2
            picture = picture.crop((left, top, left + self.crop, top + self.crop))
        if picture.size != (width, height):
            picture = ImageOps.fit(picture, (width, height), method=Image.Resampling.BICUBIC)
        return torch.from_numpy(np.asarray(picture).copy()).reshape(height, width, channels).permute(2, 0, 1), torch.tensor(
            self.labels[index]
        )


def pictures_below(top: Path) -> list[Path]:
    """The picture files of a folder and its sub-folders."""
    return sorted(path for path in top.rglob("*") if path.suffix.lower() in EXTENSIONS and path.is_file())


def classes_below(top: Path) -> list[str]:
    """The first folders on the way to them."""
    return sorted({path.relative_to(top).parts[0] for path in pictures_below(top) if path.parent != top})


def folder(
    root: str,
    split: str,
    shape: Sequence[int],
    crop: int | None = None,
    test_share: float = 0.1,
    split_seed: int = 0,
    max_memory: int = 2**30,
) -> Examples:
    """The pictures of a folder.

    root/train and root/test are used where both exist; otherwise a share of the pictures, chosen by seed, is the test data. The
    first folder below is the class, if there is one. Pictures that fit in max_memory bytes when decoded are decoded once and held
    in memory.

    Raises:
        ValueError: if the folder is missing, empty, or holds a file that cannot be read; if shape or crop is impossible.
    """
    base = Path(root)
    if len(shape) != 3 or shape[0] not in (1, 3) or min(shape) < 1:
        raise ValueError(f"data.shape must be [1 or 3, height, width] for a folder of pictures, but it is {list(shape)}")
    check_at_least(1, **given(crop=crop))
    if not base.is_dir():
        raise ValueError(f"there is no folder {base.absolute()}: set data.root to a folder of pictures")
    published = all((base / name).is_dir() for name in ("train", "test"))
    if not published and split not in ("train", "test"):
        raise ValueError(f"{base.absolute()} has no folder {split}: set data.val_size, or make the folders train, val and test")
    top = base / split if published else base
    paths = pictures_below(top)
    if not paths:
        raise ValueError(f"there are no pictures in {top.absolute()}: looked for {', '.join(sorted(EXTENSIONS))}")
    # a class has one number in all splits: those of the training data first
    classes = list(dict.fromkeys(classes_below(base / "train" if published else base) + classes_below(top)))
    if not published:
        order = np.random.default_rng(split_seed).permutation(len(paths))
        num_test = max(1, round(test_share * len(paths)))
        if num_test >= len(paths):
            raise ValueError(f"{top.absolute()} holds {len(paths)} pictures: too few to split into training and test data")
        chosen = sorted(order[:num_test] if split == "test" else order[num_test:])
        paths = [paths[i] for i in chosen]
    labels = [classes.index(path.relative_to(top).parts[0]) if path.parent != top else -1 for path in paths]
    files = ImageFiles(paths, labels, shape, crop, classes)
    if prod(shape) * len(files) > max_memory:
        return files
    x = torch.empty(len(files), *shape, dtype=torch.uint8)
    with ThreadPoolExecutor() as pool:  # decoding releases the interpreter's lock
        pictures = pool.map(lambda i: files[i][0], range(len(files)))
        for i, picture in enumerate(track(pictures, f"reading {top.name} pictures", total=len(files), transient=True)):
            x[i] = picture
    return InMemory(x, torch.tensor(labels), classes)


def freyfaces(root: str, split: str, num_test: int = 200, split_seed: int = 0) -> InMemory:
    """1,965 grey 28 x 20 frames of Brendan Frey's face (Roweis & Saul, 2000), shuffled before the split, as is the custom.

    Raises:
        ValueError: if the file is missing or is another one.
    """
    if split not in ("train", "test"):
        raise ValueError(f"the Frey faces have the splits train and test, but not {split!r}: set data.val_size")
    place = Path(root) / "FreyFaces"
    found = sorted(place.glob("*.npy"))
    if not found:
        raise ValueError(
            f"there is no *.npy in {place.absolute()}. The Frey faces have no checksummed download: fetch frey_rawface.mat from"
            " https://cs.nyu.edu/~roweis/data.html and save it there with"
            ' numpy.save("frey_faces.npy", scipy.io.loadmat("frey_rawface.mat")["ff"].T.reshape(-1, 28, 20))'
        )
    faces = np.load(found[0])
    if faces.shape != (1965, 28, 20) or faces.dtype != np.uint8:
        raise ValueError(f"{found[0]} has shape {faces.shape} and dtype {faces.dtype}: expected (1965, 28, 20) of uint8")
    order = np.random.default_rng(split_seed).permutation(len(faces))
    chosen = np.sort(order[:num_test] if split == "test" else order[num_test:])
    return InMemory(torch.from_numpy(faces[chosen])[:, None])
