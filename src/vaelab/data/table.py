"""Tables: rows of a file are the examples, and its columns, each of a kind, the values of x."""

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from lightning.pytorch.utilities import rank_zero_only

from vaelab.checks import check_choice
from vaelab.data.columns import ALIASES, CODED, LEFT_OUT, Column, build_column, infer
from vaelab.data.hidden import read_hidden
from vaelab.data.memory import InMemory
from vaelab.data.table_files import Content, Kinds, kinds_of, read_kinds, read_table

PLAIN = re.compile(r"[A-Za-z_]\w*", re.ASCII)
ID_NAMES = ("id", "index", "uuid", "key", "rowid", "row_id", "unnamed: 0", "c1")


class Table:
    """The rows of a csv, tsv or parquet file, x (N, D) in the units of the file, with codes for categories and NaN for what is missing.

    The kind of each column is inferred (see `vaelab.data.columns.infer`) or given; dates, ids, free text and columns of a single value are
    left out. Categories and kinds are those of the whole file; whatever has a scale is fitted to training rows by the model.

    Args:
        file: path of the table.
        y: name of a column that becomes the label y of each row, and is no part of x; None: there is none.
        id: name of a column that names the rows; None: the first that is inferred to be one, or there is none.
        types: a file of kinds, or a mapping in text, see `read_kinds`.
        columns: kinds by name, which come before those of `types`; a kind may also be "out": the column is left out.
        na: words that stand for a missing value.
        header: whether the first line names the columns; None: as `read_table` finds.
        test_share: of the rows; 0: every split has all rows.
        split_seed: of the choice of test rows.
        hidden: a file of cells that models do not see, which metrics hold against what is filled in; see `read_hidden`.

    Raises:
        ValueError: if the file cannot be read, or a cell cannot be what its column is, with its row and column.
    """

    def __init__(
        self,
        file: str,
        y: str | None = None,
        id: str | None = None,
        types: str | Mapping[str, Any] | None = None,
        columns: Mapping[str, Any] | None = None,
        na: Sequence[str] = ("NA", "N/A", "NaN", "nan", "null", "NULL", "?"),
        header: bool | None = None,
        test_share: float = 0.1,
        split_seed: int = 0,
        hidden: str | None = None,
    ) -> None:
        if not 0 <= test_share < 1:
            raise ValueError(f"data.test_share={test_share} must lie between 0 and 1")
        self.file, self.y, self.id, self.types, self.given = Path(file), y, id, types, dict(columns or {})
        self.na, self.header, self.test_share, self.split_seed, self.hidden = tuple(na), header, test_share, split_seed, hidden

    @cached_property
    def content(self) -> Content:
        """The file as it was read."""
        return read_table(self.file, self.na, self.header)

    @property
    def read(self) -> dict[str, np.ndarray]:
        """The cells of all columns of the file, by name."""
        return self.content.columns

    @cached_property
    def roles(self) -> dict[str, tuple[str, list[str] | None, bool]]:
        """Kind of each column of the file, or why it is left out; its values, if they are given; and whether it has decimal commas."""
        names = list(self.read)
        given: Kinds = {} if self.types is None else read_kinds(self.types, names)
        given |= kinds_of({name: kind for name, kind in self.given.items() if kind is not None}, names, "data.columns")
        for key, name in (("data.y", self.y), ("data.id", self.id)):
            if name is not None and name not in names:
                raise ValueError(f"{key}={name}: the table has no such column; it has {', '.join(names)}")
        roles: dict[str, tuple[str, list[str] | None, bool]] = {}
        for name, cells in self.read.items():
            kind, values = given.get(name, (None, None))
            if kind == "out" or name == self.id:
                roles[name] = ("out" if kind == "out" else "id", None, False)
                continue
            inferred, comma = infer(name, cells) if kind is None or kind not in CODED else ("", False)
            if kind is None and self.id is None and is_id(name, cells, inferred):
                inferred = "id"
            roles[name] = (ALIASES.get(kind, kind) if kind else inferred, values, comma)
        return roles

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """The columns that x is made of.

        Raises:
            ValueError: if there are none.
        """
        kept = {name: role for name, role in self.roles.items() if role[0] not in (*LEFT_OUT, "out") and name != self.y}
        if not kept:
            raise ValueError(f"{self.file} has no column that a model can be shown: {self.left_out}")
        return tuple(build_column(name, self.read[name], *role) for name, role in kept.items())

    @cached_property
    def label(self) -> Column | None:
        """The column of y."""
        if self.y is None:
            return None
        kind, values, comma = self.roles[self.y]
        if kind not in CODED:
            raise ValueError(f"data.y={self.y} is {kind}: y must be a category; if its values are, set +data.columns.{self.y}=categorical")
        return build_column(self.y, self.read[self.y], kind, values, comma)

    @property
    def found(self) -> dict[str, Any]:
        """Keys of a config that only the file tells, and their values."""
        has_holes = self.hidden is not None or any((self.read[column.name] == "").any() for column in self.columns)
        kinds = [column.for_model for column in self.columns]
        return {
            "data.shape": [len(kinds)],
            "data.kinds": kinds,
            "missing": bool(has_holes),
            "num_classes": 0 if self.label is None else len(self.label.values),
        }

    @property
    def left_out(self) -> str:
        """Columns that no model is shown, and why, by their kinds."""
        names: dict[str, list[str]] = {}
        for name, (kind, _, _) in self.roles.items():
            if kind in (*LEFT_OUT, "out"):
                names.setdefault(kind, []).append(name)
        return "; ".join(f"{', '.join(found)} ({kind})" for kind, found in names.items())

    @property
    def note(self) -> str:
        """Kinds of the columns, as a word of a command line, and what is left out."""
        word = as_word({column.name: column.kind for column in self.columns})
        return word + f"\nleft out: {self.left_out}" * bool(self.left_out)

    def __call__(self, split: str, recorded: Sequence[Mapping[str, Any]] | None = None) -> InMemory:
        """The rows of "train", without the test rows, or "test"; all rows if there are no test rows.

        Args:
            split: which; "val" only if every split has all rows.
            recorded: columns of the run that the table was read for before, as `Column.as_dict` has them.

        Raises:
            ValueError: as `Table`, or if the split is another one.
        """
        check_choice(("train", "val", "test") if self.test_share == 0 else ("train", "test"), split=split)
        columns = [Column.of_dict(each) for each in recorded] if recorded else self.columns
        x = self.values(columns)
        num = len(x)
        order = np.random.default_rng(self.split_seed).permutation(num)
        num_test = max(1, round(self.test_share * num))
        if num_test >= num:
            raise ValueError(f"{self.file} has {num} rows: too few to split into training and test data")
        rows = np.arange(num) if self.test_share == 0 else np.sort(order[:num_test] if split == "test" else order[num_test:])
        y = (
            None
            if self.label is None
            else torch.from_numpy(np.nan_to_num(self.label.numbers(self.read[self.label.name]), nan=-1)[rows]).long()
        )
        y_names = () if self.label is None else self.label.values
        shown = np.where(self.is_hidden(columns), np.nan, x)
        data = InMemory(torch.from_numpy(shown[rows]).float(), y, y_names, names=[self.names[row] for row in rows.tolist()])
        data.has_val = data.is_shared = self.test_share == 0
        data.truth = None if self.hidden is None else torch.from_numpy(x[rows]).float()
        return data

    def is_hidden(self, columns: Sequence[Column]) -> Bool[np.ndarray, "n d"]:
        """The cells of these columns that models do not see."""
        names = list(self.read)
        shape = len(self.read[names[0]]), len(names)
        hidden = np.zeros(shape, dtype=bool) if self.hidden is None else read_hidden(Path(self.hidden), shape)
        return hidden[:, [names.index(column.name) for column in columns]]

    def values(self, columns: Sequence[Column]) -> Float[np.ndarray, "n d"]:
        """Numbers of all rows, of columns that were found here or in another file.

        Raises:
            ValueError: if one is not there, or has a cell that it cannot have.
        """
        absent = [column.name for column in columns if column.name not in self.read]
        if absent:
            raise ValueError(f"{self.file} has no column {absent[0]!r}, which the run was trained on: it has {', '.join(self.read)}")
        return np.stack([column.numbers(self.read[column.name]) for column in columns], 1)

    @cached_property
    def names(self) -> list[str]:
        """Names of all rows: their ids, or "row 17", counted from 1.

        Raises:
            ValueError: if two rows have the same id, and the column was given.
        """
        named = self.id or next((name for name, (kind, _, _) in self.roles.items() if kind == "id"), None)
        if named is None:
            return [f"row {row + 1}" for row in range(len(next(iter(self.read.values()))))]
        ids = self.read[named].tolist()
        if len(set(ids)) < len(ids):
            seen: dict[str, int] = {}
            for row, name in enumerate(ids):
                if name in seen:
                    raise ValueError(f"data.id={named}: rows {seen[name] + 1} and {row + 1} have the same id, {name!r}")
                seen[name] = row
        return ids

    @rank_zero_only
    def tell(self) -> None:
        """Say of which kinds the columns are."""
        print(f"columns: {self.note}")


def is_id(name: str, cells: np.ndarray, inferred: str) -> bool:
    """True if a column numbers the rows: whole numbers in order, or unlike ones in a column of such a name."""
    if inferred not in ("count", "positive", "nonnegative", "id") or len(set(cells.tolist())) < len(cells):
        return False
    if inferred == "id" or name.lower() in ID_NAMES[:-1]:
        return True
    return cells.tolist() in ([str(row + start) for row in range(len(cells))] for start in (0, 1))


def as_word(kinds: Mapping[str, str]) -> str:
    """Kinds of columns as a word of a command line, which the shell and Hydra take as it is."""
    if all(PLAIN.fullmatch(name) for name in kinds):
        return f"'data.types={{{', '.join(f'{name}: {kind}' for name, kind in kinds.items())}}}'"
    text = json.dumps(kinds, ensure_ascii=False).replace("$", "\\u0024")  # or OmegaConf would look for ${...}
    inside = re.sub(r"(\\*)'", r"\1\1\\'", text)  # Hydra takes back the backslashes in front of a quote, and no others
    return shlex.quote(f"data.types='{inside}'")
