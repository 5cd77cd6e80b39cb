"""Tables in files: csv, tsv and parquet, as columns of text, and the files that say of which kinds their columns are."""

import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml  # type: ignore[import-untyped]

from vaelab.checks import check_choice
from vaelab.data.array_files import package

ENDINGS = (".csv", ".tsv", ".txt", ".parquet")


class Content(NamedTuple):
    """A table in a file.

    Args:
        columns: by name, in order, each an array of its cells as text without blanks around; "" where a value is missing.
        lines: of the file, that of the names among them, in cells as they stand there.
        has_header: whether the first line names the columns.
        separator: of the cells.
    """

    columns: dict[str, np.ndarray]
    lines: list[list[str]]
    has_header: bool
    separator: str


Kinds = dict[str, tuple[str, list[str] | None]]  # kind of each column by name, and its values in order, where they are given


def read_table(path: Path, na: Sequence[str], header: bool | None = None) -> Content:
    """The table in a file.

    Args:
        path: of a file that ends in .csv, .tsv, .txt or .parquet.
        na: words that stand for a missing value, besides nothing.
        header: whether the first line names the columns; None: it does if a cell of it is no number. Else they are called c1, c2, ...

    Raises:
        ValueError: if there is no such file, it is empty or damaged, rows have other numbers of cells than the first, or names are not
            different.
    """
    check_choice(ENDINGS, **{"the ending of data.file": path.suffix.lower()})
    if not path.is_file():
        raise ValueError(f"there is no file {path.absolute()}: set data.file to a table")
    lines, header, separator = lines_of_parquet(path) if path.suffix.lower() == ".parquet" else lines_of_text(path, header)
    rows = lines[int(header) :]
    if not rows:
        raise ValueError(f"{path} has no rows")
    names = [cell.strip() if header else "" for cell in lines[0]]
    names = [name or f"c{place + 1}" for place, name in enumerate(names)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{path} has more than one column {twice[0]!r}: give each a name of its own")
    missing = dict.fromkeys(na, "")
    columns = (np.array([missing.get(cell, cell) for cell in map(str.strip, cells)], dtype=object) for cells in zip(*rows, strict=True))
    return Content(dict(zip(names, columns, strict=True)), lines, header, separator)


def lines_of_text(path: Path, header: bool | None) -> tuple[list[list[str]], bool, str]:
    """Lines in cells of a file of text; whether the first names the columns; and the separator.

    Raises:
        ValueError: if it is empty, or rows have other numbers of cells than the first.
    """
    text = read_text(path)
    separator = "\t" if path.suffix.lower() == ".tsv" else separator_of(text)
    reader = csv.reader(opened(text), delimiter=separator)
    known: dict[str, str] = {}  # equal cells are one object: a million rows fit in memory
    rows, lines = list[list[str]](), list[int]()
    try:
        for row in reader:
            if row:
                rows.append([known.setdefault(cell, cell) for cell in row])
                lines.append(reader.line_num)
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: {error}") from error
    if header is None:
        header = any(not is_number(cell) for cell in rows[0])
    for number, (row, line) in enumerate(zip(rows, lines, strict=True)):
        if len(row) != len(rows[0]):
            raise ValueError(f"{path}: row {number + 1 - header} (line {line}) has {len(row)} cells, but the first line has {len(rows[0])}")
    return rows, header, separator


def lines_of_parquet(path: Path) -> tuple[list[list[str]], bool, str]:
    """Lines in cells of a parquet file, as `lines_of_text` has them.

    Raises:
        ValueError: if it cannot be read, or pyarrow is not installed.
    """
    reader = package("pyarrow.parquet", path, "pip install 'vaelab[tables]', or save the table as csv")
    try:
        columns = reader.read_table(path).to_pydict()
    except (ValueError, OSError) as error:
        raise ValueError(f"{path} cannot be read as parquet: {' '.join(str(error).split())[:200]}") from error

    def text(cell: Any) -> str:
        if cell is None or (isinstance(cell, float) and math.isnan(cell)):
            return ""
        return f"{cell:.15g}" if isinstance(cell, float) else str(cell)

    return [list(columns), *([text(cell) for cell in row] for row in zip(*columns.values(), strict=True))], True, ","


def opened(text: str) -> io.StringIO:
    """Text with whatever ends its lines, for a reader of csv."""
    return io.StringIO(text.replace("\r\n", "\n").replace("\r", "\n"), newline="")


def read_text(path: Path) -> str:
    """The text of a file, without a byte-order mark.

    Raises:
        ValueError: if it is not in UTF-8, or is empty.
    """
    data = path.read_bytes()
    try:
        text = data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ValueError(f"{path}, line {line}: the bytes are no UTF-8 text: save the file as UTF-8") from error
    if not text.strip():
        raise ValueError(f"{path} is empty")
    return text


def separator_of(text: str) -> str:
    """Separator of the cells of the first line: of a comma, a semicolon, a tab and a bar, the most frequent outside of quotes."""
    first = re.sub(r'"[^"]*"', "", re.split(r"[\r\n]", text.lstrip("\r\n"), maxsplit=1)[0])
    return max(",;\t|", key=first.count)


def is_number(cell: str) -> bool:
    """True if a cell is a number, or empty."""
    try:
        float(cell.strip().replace(",", ".") or 0)
    except ValueError:
        return False
    return True


def read_kinds(types: str | Mapping[str, Any], names: Sequence[str]) -> Kinds:
    """Kinds of columns from a file, or from a mapping, in text or not: {age: count, "net income": positive, grade: {ordinal: [low, high]}}.

    A csv file has a column `type`, and either a column `name`, or a row for each column of the table in its order, as HI-VAE's files have.
    A yaml file is such a mapping. Columns that it does not name are inferred.

    Raises:
        ValueError: if it is neither, or names columns that the table does not have.
    """
    if not isinstance(types, str):
        return kinds_of(types, names, "data.types")
    path = Path(types)
    if "{" in types and not path.is_file():
        return kinds_of(parsed(types, "data.types"), names, "data.types")
    if not path.is_file():
        raise ValueError(f"data.types={types}: there is no such file; it may also be a mapping such as {{age: count}}")
    text = read_text(path)
    if path.suffix.lower() in (".yaml", ".yml", ".json"):
        return kinds_of(parsed(text, types), names, types)
    rows = list(csv.DictReader(opened(text), delimiter=separator_of(text)))
    fields = {field.strip().lower(): field for field in (rows[0] if rows else {}) if field}
    if "type" not in fields:
        raise ValueError(f"data.types={types} has no column type: it has {', '.join(fields) or 'no rows'}")
    named = next((fields[field] for field in ("name", "column") if field in fields), None)
    kinds = [(row[fields["type"]] or "").strip() for row in rows]
    if named is not None:
        return kinds_of({(row[named] or "").strip(): kind for row, kind in zip(rows, kinds, strict=True)}, names, types)
    if len(kinds) != len(names):
        raise ValueError(f"data.types={types} has {len(kinds)} rows, but the table {len(names)} columns: add a column name, or the others")
    return kinds_of(dict(zip(names, kinds, strict=True)), names, types)


def parsed(text: str, where: str) -> Any:
    """YAML as plain types.

    Raises:
        ValueError: if it is none.
    """
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"{where} is no YAML: {' '.join(str(error).split())[:200]}") from error


def kinds_of(given: Any, names: Sequence[str], where: str) -> Kinds:
    """Kinds and values of columns, of a mapping that a person wrote.

    Raises:
        ValueError: if it is none, or names columns that there are not.
    """
    if not isinstance(given, Mapping):
        raise ValueError(f"{where} must map names of columns to kinds, such as {{age: count}}")
    given = {str(name): kind for name, kind in given.items()}
    unknown = [name for name in given if name not in names]
    if unknown:
        raise ValueError(f"{where} names the column {unknown[0]!r}, which the table does not have: it has {', '.join(names)}")
    found: Kinds = {}
    for name, kind in given.items():
        if isinstance(kind, Mapping) and len(kind) == 1:
            ((word, values),) = kind.items()
            found[name] = str(word), [str(value) for value in values]
        elif isinstance(kind, str):
            found[name] = kind, None
        else:
            raise ValueError(f"{where}: column {name!r} has the kind {kind!r}; write count, or {{ordinal: [low, middle, high]}}")
    return found
