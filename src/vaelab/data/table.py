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
from jaxtyping import Bool, Float, Int
from lightning.pytorch.utilities import rank_zero_only

from vaelab.checks import check_choice
from vaelab.data.columns import ALIASES, CODED, LEFT_OUT, Column, Unseen, plain, shortened, to_number
from vaelab.data.hidden import read_hidden
from vaelab.data.inference import Summary, build_column, codes_have_decimal_comma, infer
from vaelab.data.memory import InMemory
from vaelab.data.row_names import Chosen, RowNames, Texts
from vaelab.data.table_files import Block, Kinds, TableFile, kinds_of, read_kinds, words_for_nothing

PLAIN = re.compile(r"[A-Za-z_]\w*", re.ASCII)
NUM_ODD = 20  # cells that are no value of their column, from which on the column is another one if all are
ID_NAMES = ("id", "index", "uuid", "key", "rowid", "row_id", "unnamed: 0")


class Table:
    """The rows of a csv, tsv or parquet file, x (N, D) in the units of the file, with codes for categories and NaN for what is missing.

    The kind of each column is inferred (see `vaelab.data.inference.infer`) or given; dates, ids, free text and columns of a single value
    are left out. Kinds are those of the whole file, categories those of training rows: another one is a missing value. Whatever has a scale
    is fitted to training rows by the model. Some rows of the file are in memory at a time, and of all of them the numbers, in 32 bits.

    Args:
        file: path of the table.
        y: name of a column that becomes the label y of each row, and is no part of x; None: there is none.
        id: name of a column that names the rows; None: the first that is inferred to be one, or there is none.
        types: a file of kinds, or a mapping in text, see `read_kinds`.
        columns: kinds by name, which come before those of `types`; a kind may also be "out": the column is left out.
        na: words that stand for a missing value, or one; see `words_for_nothing`.
        header: whether the first line names the columns; None: as `TableFile` finds.
        test_share: of the rows; 0: every split has all rows.
        split_seed: of the choice of test rows.
        missing: whether a category that no training row has is a missing value, or an error; None: it is if there is one.
        hidden: a file of cells that models do not see, which metrics hold against what is filled in; see `read_hidden`.

    Raises:
        ValueError: if the file cannot be read, or a cell cannot be what its column is, with its row and column.
    """

    def __init__(
        self,
        file: str,
        y: str | int | None = None,
        id: str | int | None = None,
        types: str | Mapping[str, Any] | None = None,
        columns: Mapping[str, Any] | None = None,
        na: str | float | Sequence[Any] = ("NA", "N/A", "NaN", "nan", "null", "NULL", "?"),
        header: bool | None = None,
        test_share: float = 0.1,
        split_seed: int = 0,
        missing: bool | None = None,
        hidden: str | None = None,
    ) -> None:
        if not 0 <= test_share < 1:
            raise ValueError(f"data.test_share={test_share} must lie between 0 and 1")
        self.file, self.types, self.given = Path(file), types, dict(columns or {})
        self.y, self.id = (None if name is None else str(name) for name in (y, id))  # 2019 is a number, until it is a name
        self.na, self.header, self.test_share, self.split_seed = words_for_nothing(na), header, test_share, split_seed
        self.missing, self.hidden = missing, hidden

    @cached_property
    def source(self) -> TableFile:
        """The file."""
        return TableFile(self.file, self.na, self.header)

    @cached_property
    def cells(self) -> dict[str, Summary]:
        """Summaries of the cells of all columns of the file, by name."""
        found = {name: Summary() for name in self.source.names}
        for block in self.source.blocks():
            for name, cells in block.items():
                found[name].add(cells)
        return found

    @cached_property
    def rows(self) -> dict[str, Int[np.ndarray, "_"]]:
        """The rows of "train" and "test", rising; of all splits, if there are no test rows of their own.

        Raises:
            ValueError: if there are too few.
        """
        num = next(iter(self.cells.values())).num
        if self.test_share == 0:
            return dict.fromkeys(("train", "val", "test"), np.arange(num))
        order, num_test = np.random.default_rng(self.split_seed).permutation(num), max(1, round(self.test_share * num))
        if num_test >= num:
            raise ValueError(f"{self.file} has {num} rows: too few to split into training and test data")
        return {"train": np.sort(order[num_test:]), "test": np.sort(order[:num_test])}

    @cached_property
    def roles(self) -> dict[str, tuple[str, list[str] | None, bool]]:
        """Kind of each column of the file, or why it is left out; its values, if they are given; and whether it has decimal commas."""
        names = self.source.names
        given: Kinds = {} if self.types is None else read_kinds(self.types, names)
        given |= kinds_of({name: kind for name, kind in self.given.items() if kind is not None}, names, "data.columns")
        for key, name in (("data.y", self.y), ("data.id", self.id)):
            if name is not None and name not in names:
                raise ValueError(f"{key}={name}: the table has no such column; it has {', '.join(names)}")
        roles: dict[str, tuple[str, list[str] | None, bool]] = {}
        for name, cells in self.cells.items():
            kind, values = given.get(name, (None, None))
            if kind == "out" or name == self.id:
                roles[name] = ("out" if kind == "out" else "id", None, False)
                continue
            inferred, comma = infer(name, cells) if kind is None or kind not in CODED else ("", codes_have_decimal_comma(name, cells))
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
        return tuple(build_column(name, self.cells[name], *role, self.rows["train"]) for name, role in kept.items())

    @cached_property
    def label(self) -> Column | None:
        """The column of y."""
        if self.y is None:
            return None
        kind, values, comma = self.roles[self.y]
        if kind not in CODED:
            raise ValueError(f"data.y={self.y} is {kind}: y must be a category; if its values are, set +data.columns.{self.y}=categorical")
        return build_column(self.y, self.cells[self.y], kind, values, comma)

    @property
    def found(self) -> dict[str, Any]:
        """Keys of a config that only the file tells, and their values."""
        kinds = [column.for_model for column in self.columns]
        return {
            "data.shape": [len(kinds)],
            "data.kinds": kinds,
            "missing": self.hidden is not None or any(map(self.has_holes, self.columns)),
            "num_classes": 0 if self.label is None else len(self.label.values),
        }

    def has_holes(self, column: Column) -> bool:
        """True if a cell of a column is empty, or has a category that no training row has, which is taken for missing."""
        cells = self.cells[column.name]
        known = set(column.values)
        is_known = column.kind not in CODED or all(plain(word, to_number(word, column.comma)) in known for word in cells.words)
        return not is_known or cells.count("") > 0

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
        given = {name for name, (_, values, _) in self.roles.items() if values}  # in an order of their own
        word = as_word({each.name: {each.kind: list(each.values)} if each.name in given else each.kind for each in self.columns})
        return word + f"\nleft out: {self.left_out}" * bool(self.left_out)

    def __call__(self, split: str, recorded: Sequence[Mapping[str, Any]] | None = None) -> InMemory:
        """The rows of "train", without the test rows, or "test".

        Args:
            split: which.
            recorded: columns of the run that the table was read for before, as `Column.as_dict` has them.

        Raises:
            ValueError: as `Table`, or if the split is another one.
        """
        check_choice(("train", "val", "test") if self.test_share == 0 else ("train", "test"), split=split)
        columns = [Column.of_dict(each) for each in recorded] if recorded else self.columns
        label, rows = self.label, self.rows[split]
        x, unseen = self.read([*columns, *([] if label is None else [label])], self.missing or (self.missing is None and not recorded))
        y = None if label is None else torch.from_numpy(np.nan_to_num(x[rows, -1], nan=-1)).long()
        truth = torch.from_numpy(x[rows, : len(columns)])
        hidden = None if self.hidden is None else torch.from_numpy(self.is_hidden(self.hidden, columns, len(x))[rows])
        shown = truth if hidden is None else truth.masked_fill(hidden, torch.nan)
        data = InMemory(shown, y, label.values if label else (), names=self.names(rows))
        mine = set(rows.tolist()) if unseen else ()
        data.note = noted([each for each in unseen if each.row - 1 in mine])
        data.has_val = data.is_shared = self.test_share == 0
        data.truth = None if hidden is None else truth
        return data

    def is_hidden(self, file: str, columns: Sequence[Column], num: int) -> Bool[np.ndarray, "n d"]:
        """The cells of these columns and of so many rows that models do not see."""
        names = list(self.source.names)
        return read_hidden(Path(file), (num, len(names)))[:, [names.index(column.name) for column in columns]]

    def read(self, columns: Sequence[Column], take_unseen: bool = False) -> tuple[Float[np.ndarray, "n d"], list[Unseen]]:
        """Numbers of all rows in 32 bits, of columns that were found here or in another file; and cells that are no value of their column.

        Args:
            columns: as many as there are numbers of a row.
            take_unseen: whether there may be such cells, which become NaN, as missing values.

        Raises:
            ValueError: if a column is not there, or has a cell that it cannot have.
        """
        found, unseen, start = bytearray(), list[Unseen](), 0
        check_columns(columns, self.source)
        for block in self.source.blocks():
            numbers = numbers_of(block, columns, start, unseen if take_unseen else None)
            found += numbers.astype(np.float32).tobytes()
            start += len(numbers)
        return np.frombuffer(found, np.float32).reshape(start, len(columns)), unseen

    @cached_property
    def named_by(self) -> str | None:
        """The column that names the rows: the one that was given, or the first that is inferred to be one."""
        return self.id or next((name for name, (kind, _, _) in self.roles.items() if kind == "id"), None)

    def names(self, rows: Int[np.ndarray, "n"]) -> Sequence[str]:
        """Names of rows: their ids, or "row 17", counted from 1.

        Raises:
            ValueError: if two rows of the file have the same id.
        """
        if self.named_by is None:
            return RowNames(rows + 1)
        ids = self.ids(self.named_by)
        same = ids.first_repeated()
        if same is not None:
            first, second = same
            raise ValueError(f"data.id={self.named_by}: rows {first + 1} and {second + 1} have the same id, {ids[first]!r}")
        return Chosen(ids, rows)

    def all_names(self, num: int) -> Sequence[str]:
        """Names of all rows, as `id` has them, if the file has such a column; they may be the same."""
        return self.ids(self.id) if self.id and self.id in self.source.names else RowNames(np.arange(num) + 1)

    def ids(self, name: str) -> Texts:
        """The cells of a column."""
        return Texts(block[name] for block in self.source.blocks())

    @rank_zero_only
    def tell(self) -> None:
        """Say of which kinds the columns are."""
        print(f"columns: {self.note}")


def is_id(name: str, cells: Summary, inferred: str) -> bool:
    """True if a column numbers the rows: whole numbers in order, or unlike ones in a column of such a name."""
    if inferred not in ("count", "positive", "nonnegative", "id"):
        return False
    return bool(cells.is_numbered) or ((inferred == "id" or name.lower() in ID_NAMES) and cells.are_different)


def check_columns(columns: Sequence[Column], file: TableFile) -> None:
    """Raise if a file lacks a column that a run was trained on.

    Raises:
        ValueError: if it does.
    """
    absent = [column.name for column in columns if column.name not in file.names]
    if absent:
        raise ValueError(f"{file.path} has no column {absent[0]!r}, which the run was trained on: it has {', '.join(file.names)}")


def numbers_of(block: Block, columns: Sequence[Column], start: int, unseen: list[Unseen] | None) -> Float[np.ndarray, "n d"]:
    """Numbers of a block of rows.

    Args:
        block: the cells of all columns of the file.
        columns: of x.
        start: how many rows there are before them.
        unseen: takes the cells that are none of the values of their columns, and then are NaN; None: there must be none.

    Raises:
        ValueError: if a column has a cell that it cannot have, or NUM_ODD cells or more, and none that it can have.
    """
    found = []
    for column in columns:
        cells, before = block[column.name], len(unseen or ())
        found.append(column.numbers(cells, start, unseen))
        if unseen and len(unseen) - before >= max(NUM_ODD, sum(map(bool, cells))):
            words = f"is none of its {len(column.values)} values ({shortened(column.values)}), and no other cell is one"
            raise ValueError(f"row {unseen[before].row}, column {column.name!r}: {unseen[before].cell!r} {words}")
    return np.stack(found, 1)


def noted(unseen: Sequence[Unseen]) -> str:
    """A line for a person about cells that are taken for missing; "" if there are none."""
    if not unseen:
        return ""
    row, column, cell = unseen[0]
    what = "1 cell has" if len(unseen) == 1 else f"{len(unseen)} cells have"
    where = f"row {row}, column {column!r}: {cell!r}"
    return f"{what} a value that no training row has, which counts as missing: {where}" + ", ..." * (len(unseen) > 1)


def as_word(kinds: Mapping[str, str | Mapping[str, Sequence[str]]]) -> str:
    """Kinds of columns as a word of a command line, which the shell and Hydra take as it is."""
    if all(PLAIN.fullmatch(name) and isinstance(kind, str) for name, kind in kinds.items()):
        return f"'data.types={{{', '.join(f'{name}: {kind}' for name, kind in kinds.items())}}}'"
    text = json.dumps(kinds, ensure_ascii=False).replace("$", "\\u0024")  # or OmegaConf would look for ${...}
    inside = re.sub(r"(\\*)'", r"\1\1\\'", text)  # Hydra takes back the backslashes in front of a quote, and no others
    return shlex.quote(f"data.types='{inside}'")
