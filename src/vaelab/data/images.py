"""Images from files: a folder of pictures, and the Frey faces."""

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from math import prod
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from lightning.pytorch.utilities import rank_zero_only
from rich.progress import track
from torch import Tensor
from torch.utils.data import Dataset

from vaelab.checks import check_choice
from vaelab.data.cache import cached
from vaelab.data.listing import Contents, Files, find_pictures, list_folder
from vaelab.data.memory import Examples, InMemory
from vaelab.data.pictures import Reader, shown_endings

MOST_NAMED = 10  # files in a message


class ImageFiles(Dataset):
    """Pictures that are decoded when they are asked for.

    Args:
        names: paths of the files, relative to the folder of `contents`, or to the working directory.
        labels: of the files, -1 where unknown.
        reader: of a file.
        y_names: names of the labels.
        contents: of the folder that they are of.
        absent: places of files that cannot be read, and are left out.
    """

    def __init__(
        self,
        names: Sequence[str | Path],
        labels: Sequence[int],
        reader: Reader,
        y_names: Sequence[str] = (),
        contents: Contents | None = None,
        absent: Sequence[int] = (),
    ) -> None:
        self.names, self.labels, self.reader, self.y_names = names, labels, reader, tuple(y_names)
        self.contents, self.absent = contents, frozenset(absent)

    def path(self, index: int) -> Path:
        """Path of a file."""
        return Path() / self.names[index] if self.contents is None else self.contents.folder / self.names[index]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> tuple[UInt8[Tensor, "c h w"], Tensor]:
        """The picture and its label.

        Raises:
            ValueError: as `Reader`, with all pictures that cannot be read.
        """
        try:
            return self.reader(self.path(index)), torch.tensor(self.labels[index])
        except ValueError:
            check_readable(self.whole_folder().broken())  # now that one is known
            raise

    def whole_folder(self) -> "ImageFiles":
        """The pictures of all splits, without labels."""
        if self.contents is None:
            return self
        found = self.contents
        names = sorted({name for files in found.files.values() for name in files} - found.absent)
        return ImageFiles(names, [-1] * len(names), self.reader, contents=found)

    def broken(self) -> dict[int, str]:
        """Messages of the files that cannot be read, by their places. Decodes all."""
        return self._read_all(None)

    def in_memory(self) -> tuple[UInt8[Tensor, "n c h w"], dict[int, str]]:
        """All pictures, and `broken`: these are black, as absent ones are."""
        x = torch.zeros(len(self), *self.reader.shape, dtype=torch.uint8)
        return x, self._read_all(x)

    def in_file(self, folder: Path) -> tuple[UInt8[Tensor, "n c h w"], dict[int, str]]:
        """The same as `in_memory`, but in a file of a folder that is made once: see `vaelab.data.cache`.

        Its name tells the files, their sizes and times, and how they are read.

        Raises:
            OSError: if the file cannot be written or read.
        """
        found = hashlib.blake2b(repr(self.reader).encode(), digest_size=16)
        for i, name in enumerate(self.names):
            state = None if i in self.absent else self.path(i).stat()
            found.update(f"\n{name} {state and (state.st_size, state.st_mtime_ns)}".encode())
        return cached(folder / f"{found.hexdigest()}.pictures", (len(self), *self.reader.shape), self._read_all)

    def leave_out(self, broken: Mapping[int, str], split: str) -> None:
        """Leave out files that cannot be read, and note how many."""
        if broken and self.contents is not None:
            names = ", ".join(str(self.names[i]) for i in list(broken)[:3]) + ", ..." * (len(broken) > 3)
            note = f"{self.contents.note}; skipped: {len(broken)} {split} pictures that cannot be read ({names})"
            self.contents = replace(self.contents, note=note)
        self.absent |= broken.keys()

    def _read_all(self, x: Tensor | None) -> dict[int, str]:
        def read(i: int) -> str:
            try:
                picture = self.reader(self.path(i))
            except ValueError as error:
                return str(error)
            if x is not None:
                x[i] = picture
            return ""

        places = [i for i in range(len(self)) if i not in self.absent]
        with ThreadPoolExecutor() as pool:  # decoding releases the interpreter's lock
            told = track(pool.map(read, places), "reading pictures", total=len(places), transient=True)
            return {i: message for i, message in zip(places, told, strict=True) if message}


def check_readable(broken: Mapping[int, str]) -> None:
    """Raise if there are pictures that cannot be read.

    Raises:
        ValueError: if there are, with all of them; of many, the first.
    """
    if broken:
        rest = len(broken) - MOST_NAMED
        messages = [*list(broken.values())[:MOST_NAMED], *([f"and {rest} more"] if rest > 0 else [])]
        hint = "; data.on_error=skip leaves such files out"
        raise ValueError(messages[0] + hint if len(broken) == 1 else f"{len(broken)} pictures{hint}:\n  " + "\n  ".join(messages))


def pictures_of(path: Path, reader: Reader) -> ImageFiles:
    """A picture file, or all of a folder, without labels.

    Raises:
        ValueError: if there are none.
    """
    paths = [path] if path.is_file() else [path / name for name in find_pictures(path).pictures]
    if not paths:
        raise ValueError(f"{path} is a folder without pictures: looked for {shown_endings()}")
    return ImageFiles(paths, [-1] * len(paths), reader)


def folder(
    root: str,
    split: str,
    shape: Sequence[int],
    crop: int | None = None,
    test_share: float = 0.1,
    split_seed: int = 0,
    max_memory: int = 2**30,
    background: str | Sequence[int] = "white",
    white: float | None = None,
    on_error: str = "stop",
    recorded: Mapping[str, Files] | None = None,
    cache: str | None = None,
) -> Examples:
    """The pictures of a folder, in splits as `list_folder` finds them. The first folder below is the class, if there is one.

    Pictures that fit in max_memory bytes when decoded are decoded once and held in memory. More of them are decoded anew in every epoch, or
    once into a file that is read as memory.

    Args:
        root: the folder.
        split: "train" or "test", or "val" if there is a folder of that name.
        shape, crop, background, white: see `Reader`.
        test_share, split_seed, recorded: see `list_folder`.
        max_memory: in bytes.
        on_error: "stop" at pictures that cannot be read, with all their names; or "skip" them.
        cache: folder for such a file; None: there is none.

    Raises:
        ValueError: if the folder is missing, empty, or holds a file that cannot be read; if another argument is impossible.
    """
    base, reader = Path(root), Reader(tuple(shape), crop, background, white)
    check_choice(("stop", "skip"), on_error=on_error)
    if not base.is_dir():
        raise ValueError(f"there is no folder {base.absolute()}: set data.root to a folder of pictures")
    contents = list_folder(base, test_share, split_seed, recorded)
    if split not in contents.files:
        raise ValueError(f"{base.absolute()} has no folder {split}: set data.val_size, or make the folders train, val and test")
    names = list(contents.files[split])
    labels, absent = [contents.label(split, name) for name in names], [i for i, name in enumerate(names) if name in contents.absent]
    files = ImageFiles(names, labels, reader, contents.classes, contents, absent)
    values = None
    if prod(shape) * len(files) <= max_memory:
        values = files.in_memory()
    elif cache is not None:
        try:
            values = files.in_file(Path(cache))
        except OSError as error:
            rank_zero_only(print)(f"note: data.cache={cache} cannot be used ({error.strerror}): pictures are decoded anew in every epoch")
    if values is None:
        if on_error == "skip":
            files.leave_out(files.broken(), split)
        return files
    x, broken = values
    if broken and on_error == "stop":
        check_readable(files.whole_folder().broken())
    files.leave_out(broken, split)
    data = InMemory(x, torch.tensor(labels), contents.classes, names=names)
    data.contents, data.absent = files.contents, files.absent
    return data


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
