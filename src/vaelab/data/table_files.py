"""Tables in files: csv, tsv and parquet, as blocks of text, and the files that say of which kinds their columns are."""

import csv
import io
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import yaml  # type: ignore[import-untyped]

from vaelab.checks import check_choice
from vaelab.data.array_files import package

ENDINGS = (".csv", ".tsv", ".txt", ".parquet")


BLOCK = 8192  # rows that are read at a time
Block = dict[str, list[str]]  # the cells of some rows by column, without blanks around; "" where a value is missing
Kinds = dict[str, tuple[str, list[str] | None]]  # kind of each column by name, and its values in order, where they are given


class Record(NamedTuple):
    """A line of a file of text, or several where a cell has a line break.

    Args:
        cells: as they stand there, without quotes.
        text: all of it, with quotes and its end.
        line: of the file, the last one, from 1.
    """

    cells: list[str]  # none of a blank line
    text: str
    line: int


class TableFile:
    """A table in a file, of which some rows are in memory at a time.

    Args:
        path: of a file that ends in .csv, .tsv, .txt or .parquet.
        na: words that stand for a missing value, besides nothing.
        header: whether the first line names the columns; None: it does if a cell of it is no number. Else they are called c1, c2, ...

    Raises:
        ValueError: if there is no such file, it is empty or damaged, or names of columns are not different.
    """

    def __init__(self, path: Path, na: Sequence[str], header: bool | None = None) -> None:
        check_choice(ENDINGS, **{"the ending of data.file": path.suffix.lower()})
        if not path.is_file():
            raise ValueError(f"there is no file {path.absolute()}: set data.file to a table")
        self.path, self.missing, self.has_header, self.separator = path, dict.fromkeys(na, ""), True, ","
        if path.suffix.lower() == ".parquet":
            first = parquet_file(path).schema_arrow.names
        else:
            self.encoding = encoding_of(path)
            self.separator = "\t" if path.suffix.lower() == ".tsv" else separator_of(first_line(path, self.encoding))
            first = next((record.cells for record in records(path, self.encoding, self.separator) if record.cells), [])
            self.has_header = any(not is_number(cell) for cell in first) if header is None else header
        self.names = [(cell.strip() if self.has_header else "") or f"c{place + 1}" for place, cell in enumerate(first)]
        twice = sorted({name for name in self.names if self.names.count(name) > 1})
        if twice:
            raise ValueError(f"{path} has more than one column {twice[0]!r}: give each a name of its own")

    def records(self) -> Iterator[Record]:
        """All lines of a file of text, that of the names and blank ones among them.

        Raises:
            ValueError: if a row has another number of cells than the first.
        """
        row = -int(self.has_header)
        for record in records(self.path, self.encoding, self.separator):
            if record.cells:
                row += 1
                if len(record.cells) != len(self.names):
                    where = f"{self.path}: row {row} (line {record.line})"
                    raise ValueError(f"{where} has {len(record.cells)} cells, but the first line has {len(self.names)}")
            yield record

    def blocks(self, size: int = BLOCK) -> Iterator[Block]:
        """The rows in blocks.

        Raises:
            ValueError: as `records`, or if there is no row.
        """
        found = False
        if self.path.suffix.lower() == ".parquet":
            parts: Iterator[Sequence[Sequence[str]]] = columns_of_parquet(self.path, size)
        else:
            rows = islice((record.cells for record in self.records() if record.cells), int(self.has_header), None)
            parts = (list(zip(*part, strict=True)) for part in iter(lambda: list(islice(rows, size)), []))
        for columns in parts:
            found = True
            yield self.block(columns)
        if not found:
            raise ValueError(f"{self.path} has no rows")

    def block(self, columns: Sequence[Sequence[str]]) -> Block:
        """Some rows, of the cells of all columns as they stand in the file."""
        pairs = zip(self.names, columns, strict=True)
        return {name: [self.missing.get(cell, cell) for cell in map(str.strip, cells)] for name, cells in pairs}


def with_cells(text: str, cells: Mapping[int, str], separator: str) -> str:
    """The text of a line of csv with some cells replaced, by their place; all others are what they were, character by character.

    >>> with_cells('1,"a, b", ?,\r\n', {2: "3,5", 3: "x"}, ",")
    '1,"a, b","3,5",x\r\n'
    """
    line = text.rstrip("\r\n")
    mark = re.escape(separator)
    parts = re.findall(rf'("(?:[^"]|"")*"[^{mark}]*|[^{mark}]*)(?:{mark}|$)', line, re.DOTALL)
    parts = parts[: len(parts) - (not line.endswith(separator))]  # another empty one is found at the end
    for place, cell in cells.items():
        special = any(mark in cell for mark in (separator, '"', "\n", "\r"))
        parts[place] = '"' + cell.replace('"', '""') + '"' if special else cell
    return separator.join(parts) + text[len(line) :]


def records(path: Path, encoding: str, separator: str) -> Iterator[Record]:
    """The lines of a file of text, whatever ends them.

    Raises:
        ValueError: if it cannot be read, or its last cell has a quote that is not closed, behind which all rows are lost.
    """
    taken, text = list[str](), ""

    def lines(file: Iterable[str]) -> Iterator[str]:
        for line in file:
            taken.append(line)
            yield line

    with path.open(encoding=encoding, newline="") as file:
        reader = csv.reader(lines(file), delimiter=separator)
        try:
            for cells in reader:
                text = "".join(taken)
                yield Record(cells, text, reader.line_num)
                taken.clear()
        except csv.Error as error:
            raise ValueError(f"{path}, line {reader.line_num}: {error}") from error
        except UnicodeDecodeError as error:
            raise not_text(path) from error
    try:
        list(csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True))
    except csv.Error as error:
        if "unexpected end" in str(error):
            raise ValueError(f"{path}: a quote is not closed in the row that begins with {text[:40]!r}") from error


def parquet_file(path: Path) -> Any:
    """A parquet file, opened.

    Raises:
        ValueError: if it cannot be read, or pyarrow is not installed.
    """
    reader = package("pyarrow.parquet", path, "pip install 'vaelab[tables]', or save the table as csv")
    try:
        return reader.ParquetFile(path)
    except (ValueError, OSError) as error:
        raise ValueError(f"{path} cannot be read as parquet: {' '.join(str(error).split())[:200]}") from error


def columns_of_parquet(path: Path, size: int) -> Iterator[list[list[str]]]:
    """The cells of a parquet file by column, some rows at a time."""

    def text(cell: Any) -> str:
        if cell is None or (isinstance(cell, float) and math.isnan(cell)):
            return ""
        return f"{cell:.15g}" if isinstance(cell, float) else str(cell)

    for batch in parquet_file(path).iter_batches(size):
        yield [list(map(text, column.to_pylist())) for column in batch.columns]


def opened(text: str) -> io.StringIO:
    """Text with whatever ends its lines, for a reader of csv."""
    return io.StringIO(text.replace("\r\n", "\n").replace("\r", "\n"), newline="")


def encoding_of(path: Path) -> str:
    """The encoding of a file of text, by the mark at its beginning; UTF-8 if there is none."""
    with path.open("rb") as file:
        mark = file.read(3)
    return "utf-16" if mark[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig" if mark == b"\xef\xbb\xbf" else "utf-8"


def first_line(path: Path, encoding: str) -> str:
    """The first line of a file that is not blank.

    Raises:
        ValueError: if there is none.
    """
    try:
        with path.open(encoding=encoding, newline="") as file:
            found = next((line for line in file if line.strip()), "")
    except UnicodeDecodeError as error:
        raise not_text(path) from error
    if not found:
        raise ValueError(f"{path} is empty")
    return found


def not_text(path: Path) -> ValueError:
    """An error that says in which line the bytes are no UTF-8."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return ValueError(f"{path}, line {number}: the bytes are no UTF-8 text: save the file as UTF-8")
    return ValueError(f"{path} is no text in UTF-16")


def read_text(path: Path) -> str:
    """The text of a small file, without a byte-order mark.

    Raises:
        ValueError: if it is not in UTF-8, or is empty.
    """
    first_line(path, encoding_of(path))
    try:
        return path.read_bytes().decode(encoding_of(path))
    except UnicodeDecodeError as error:
        raise not_text(path) from error


def separator_of(text: str) -> str:
    """Separator of the cells of the first line: of a comma, a semicolon, a tab and a bar, the most frequent outside of quotes."""
    first = re.sub(r'"[^"]*"', "", re.split(r"[\r\n]", text.lstrip("\r\n"), maxsplit=1)[0])
    return max(",;\t|", key=first.count)


def words_for_nothing(given: str | float | Sequence[Any]) -> tuple[str, ...]:
    """Words that stand for a missing value, as cells have them; a command line makes numbers and None of some.

    >>> words_for_nothing([-999, None, "none"])
    ('-999', 'null', 'NULL', 'none')
    """
    words = [given] if isinstance(given, str) or not isinstance(given, Sequence) else given
    found = [(str(word), "NaN", "NAN") if word != word else ("null", "NULL") if word is None else (str(word),) for word in words]
    return tuple(spelling for spellings in found for spelling in spellings)


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
    """YAML whose scalars stay text: no and yes are words.

    Raises:
        ValueError: if it is none.
    """
    try:
        return yaml.load(text, Loader=yaml.BaseLoader)
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
        values = next(iter(kind.values())) if isinstance(kind, Mapping) and len(kind) == 1 else None
        if isinstance(kind, Mapping) and isinstance(values, Sequence) and not isinstance(values, str):
            found[name] = str(next(iter(kind))), [str(value) for value in values]
        elif isinstance(kind, str):
            found[name] = kind, None
        else:
            raise ValueError(f"{where}: column {name!r} has the kind {kind!r}; write count, or {{ordinal: [low, middle, high]}}")
    return found
