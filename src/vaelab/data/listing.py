"""Files of a folder of pictures: which of them are pictures, and which split and class each belongs to."""

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vaelab.data.pictures import endings, shown_endings

Files = Mapping[str, int]  # bytes of each file, by its path relative to the folder, in the order of the examples
# folders that are splits
NAMED = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}


@dataclass(frozen=True)
class Found:
    """The pictures below a folder, and how many other files are left out.

    Hidden files and folders, whose names begin with a point, are left out. Links are followed.
    """

    pictures: Files
    others: Counter[str] = field(default_factory=Counter)  # "hidden", or the ending of a file that is no picture


def find_pictures(top: Path) -> Found:
    """The pictures of a folder and its sub-folders."""
    pictures, others, known = dict[str, int](), Counter[str](), endings()

    def walk(folder: str, below: tuple[str, ...], above: frozenset[tuple[int, int]]) -> None:
        with os.scandir(folder) as entries:
            for entry in entries:
                ending = os.path.splitext(entry.name)[1].lower()
                if entry.name.startswith("."):
                    others["hidden"] += 1
                elif entry.is_dir():
                    about = os.stat(entry.path)
                    if (about.st_dev, about.st_ino) not in above:  # a link to a folder that it lies in
                        walk(entry.path, (*below, entry.name), above | {(about.st_dev, about.st_ino)})
                elif ending in known and entry.is_file():
                    pictures["/".join([*below, entry.name])] = entry.stat().st_size
                else:
                    others[ending or "without an ending"] += 1

    about = os.stat(top)
    walk(str(top), (), frozenset({(about.st_dev, about.st_ino)}))
    return Found({name: pictures[name] for name in sorted(pictures, key=lambda name: name.split("/"))}, others)


@dataclass(frozen=True)
class Contents:
    """The splits of a folder of pictures, and the files of each.

    Args:
        folder: that the names of files are relative to.
        files: of each split: "train", "test", and "val" if the data have validation data of their own.
        classes: names of the classes, those of the training data first.
        places: the folder of each split, "" if the splits are parts of one.
        note: one line for a person: how many pictures there are, and what is left out.
        absent: files that were recorded, and are gone or have another size.
    """

    folder: Path
    files: Mapping[str, Files]
    classes: tuple[str, ...]
    places: Mapping[str, str]
    note: str
    absent: frozenset[str] = frozenset()

    def label(self, split: str, name: str) -> int:
        """The number of the class of a file, -1 if it has none."""
        below = _below(name, self.places[split])
        return self.classes.index(below[0]) if len(below) > 1 else -1


def _place(names: Iterable[str]) -> str:
    """The folder of a split that all these files lie in; "" if there is none."""
    tops = {name.split("/")[0] for name in names}
    return tops.pop() if len(tops) == 1 and tops <= {name for names in NAMED.values() for name in names} else ""


def _below(name: str, place: str) -> list[str]:
    return name.split("/")[1 if place else 0 :]


def list_folder(base: Path, test_share: float, split_seed: int, recorded: Mapping[str, Files] | None = None) -> Contents:
    """The pictures of a folder, in splits.

    Folders named train, val (or valid, validation) and test are the splits. Where there is no test, a share of the training pictures,
    chosen by seed, is; without any of them, a share of all. A recorded split is taken as it was: pictures that are new are left out.

    Args:
        base: the folder.
        test_share: of the pictures.
        split_seed: of the choice.
        recorded: `files` of the same data at another time.

    Raises:
        ValueError: if there are no pictures, or too few, or training pictures are missing beside others.
    """
    found = find_pictures(base)
    if not found.pictures:
        raise ValueError(f"there are no pictures in {base.absolute()}: looked for {shown_endings()}{_left_out(found.others)}")
    places = {split: name for split, names in NAMED.items() for name in names if (base / name).is_dir()}
    if not {"train", "test"} & places.keys():
        places = {}
    in_places = {split: {n: b for n, b in found.pictures.items() if n.startswith(f"{place}/")} for split, place in places.items()}
    outside = len(found.pictures) - sum(map(len, in_places.values())) if places else 0
    note = f"{outside} outside of {', '.join(f'{place}/' for place in places.values())}" if outside else ""
    if recorded:
        known = {name: size for files in recorded.values() for name, size in files.items()}
        same = {name for name, size in known.items() if found.pictures.get(name) == size}
        num_new = len(found.pictures) - len(same) - outside
        note += f"{', ' * bool(note)}{num_new} that are new since this run was trained" if num_new > 0 else ""
        files, absent = dict(recorded), frozenset(known.keys() - same)
        places = {split: place for split, names in files.items() if (place := _place(names))}
        if not same:
            raise ValueError(f"none of the {len(known)} pictures of this run is in {base.absolute()}: say where they are with data.root=")
    elif places:
        files, absent = dict[str, Files](in_places), frozenset[str]()
        if "train" not in files:
            raise ValueError(f"{base.absolute()} has {', '.join(f'{place}/' for place in places.values())}, but no train/")
        for split, place in places.items():
            if not files[split]:
                raise ValueError(f"there are no pictures in {(base / place).absolute()}: looked for {shown_endings()}")
        if "test" not in files:
            files["train"], files["test"] = _parted(files["train"], test_share, split_seed, base / places["train"])
    else:
        files, absent = {}, frozenset()
        files["train"], files["test"] = _parted(found.pictures, test_share, split_seed, base)
    places = {split: places.get(split, places.get("train", "")) for split in ("train", "val", "test")}
    words = [f"{len(files[split])} {split} ({places[split] or base.name}/)" for split in NAMED if split in files]
    return Contents(base, files, _classes(files, places), places, f"{', '.join(words)}{_left_out(found.others, note)}", absent)


def _parted(files: Files, share: float, seed: int, folder: Path) -> tuple[Files, Files]:
    """Training and test files."""
    names, order = list(files), np.random.default_rng(seed).permutation(len(files))
    num_test = max(1, round(share * len(files)))
    if num_test >= len(files):
        raise ValueError(f"{folder.absolute()} holds {len(files)} pictures: too few to split into training and test data")
    train, test = ([names[i] for i in sorted(part)] for part in (order[num_test:], order[:num_test]))
    return {name: files[name] for name in train}, {name: files[name] for name in test}


def _classes(files: Mapping[str, Files], places: Mapping[str, str]) -> tuple[str, ...]:
    """A class has one number in all splits: those of the training data first, then those that others have besides."""
    of_splits = []
    for split in [split for split in NAMED if split in files]:
        parts = [_below(name, places[split]) for name in files[split]]
        of_splits.append(sorted({below[0] for below in parts if len(below) > 1}))
    if len(set(places.values())) == 1:  # parts of one folder, in which a rare class may be in the test data alone
        return tuple(sorted({name for names in of_splits for name in names}))
    return tuple(dict.fromkeys(name for names in of_splits for name in names))


def _left_out(others: Mapping[str, int], note: str = "") -> str:
    """Text such as "; left out: 3 hidden, 2 .txt"."""
    words: Iterable[str] = [*([note] if note else []), *(f"{count} {what}" for what, count in sorted(others.items()))]
    return f"; left out: {', '.join(words)}" if words else ""
