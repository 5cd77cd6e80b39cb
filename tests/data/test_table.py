"""Tables as they are found: what is inferred of their columns, how their cells become numbers and back, and what is refused in words."""

import csv
import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.csv
import pyarrow.parquet
import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser

from vaelab.data import DataModule, Table
from vaelab.data.columns import Column
from vaelab.data.record import check_record
from vaelab.data.table_files import TableFile, with_cells

NUM = 60


def written(path: Path, columns: dict[str, Any], separator: str = ",", encoding: str = "utf-8", newline: str = "\n") -> str:
    """A file of these columns."""
    lines = [separator.join(map(str, row)) for row in (columns, *zip(*columns.values(), strict=True))]
    path.write_bytes((newline.join(lines) + newline).encode(encoding))
    return str(path)


def of_all_kinds(**others: Any) -> dict[str, Any]:
    draw = np.random.default_rng(0)
    return {
        "key": [f"p{i:03}" for i in range(NUM)],
        "height": np.round(draw.normal(0, 10, NUM), 3),
        "net income": np.round(draw.lognormal(9, 1, NUM), 2),
        "rain": np.round(draw.lognormal(0, 1, NUM), 2) * (draw.random(NUM) < 0.5),
        "größe.cm": draw.poisson(170, NUM),
        "grade": draw.integers(1, 5, NUM),
        "colour": draw.choice(["red", "green", "blue"], NUM),
        '"smoker"': draw.choice(["yes", "no"], NUM),
        "day": [f"2026-01-{1 + i % 28:02}" for i in range(NUM)],
        "same": ["x"] * NUM,
        "nothing": [""] * NUM,
        "remark": [f"remark {i // 2}, at length"[: 9 + i % 9].replace(",", ":") for i in range(NUM)],
        **others,
    }


KINDS = {
    "height": "real",
    "net income": "positive",
    "rain": "nonnegative",
    "größe.cm": "count",
    "grade": "ordinal",
    "colour": "categorical",
    "smoker": "binary",
}


def test_kinds_are_inferred(tmp_path):
    table = Table(written(tmp_path / "a.csv", of_all_kinds()))
    assert {column.name: column.kind for column in table.columns} == KINDS
    assert table.found == {
        "data.shape": [7],
        "data.kinds": ["real", "positive", "nonnegative", "count", ["ordinal", 4], ["categorical", 3], "binary"],
        "missing": False,
        "num_classes": 0,
    }
    assert {name: table.roles[name][0] for name in ("key", "day", "same", "nothing", "remark")} == {
        "key": "id",
        "day": "date",
        "same": "constant",
        "nothing": "empty",
        "remark": "text",
    }
    assert table.left_out == "key (id); day (date); same (constant); nothing (empty); remark (text)"


def test_rows_are_examples_with_their_names(tmp_path):
    table = Table(written(tmp_path / "a.csv", of_all_kinds()), y="colour")
    train, test = table("train"), table("test")
    assert (len(train), len(test)) == (54, 6)
    assert not set(train.names) & set(test.names)
    given = of_all_kinds()
    for split in (train, test):
        for name, x, y in zip(split.names, split.x, split.y, strict=True):
            row = given["key"].index(name)
            assert x[0].item() == pytest.approx(given["height"][row])
            assert split.y_names[y] == given["colour"][row]
            assert x[4].item() == given["grade"][row] - 1
    assert train.x.shape == (54, 6)
    assert table.found["num_classes"] == 3


def test_the_printed_line_can_be_pasted_back(tmp_path):
    """Through the shell and Hydra, with names of all sorts, and for plain names without quotes."""
    columns = of_all_kinds(**{"$HOME ${x} 'a' \\": np.arange(NUM) % 7})
    file = written(tmp_path / "a.csv", columns)
    table = Table(file)
    for chosen, given in (
        (columns, {}),
        ({"age": columns["grade"], "b_2": columns["height"]}, {}),
        ({"age": ["no", "it's", "yes"] * 20, "b_2": columns["height"]}, {"age": {"ordinal": ["yes", "no", "it's"]}}),
    ):
        table = Table(written(tmp_path / "b.csv", chosen), columns=given)
        (word,) = shlex.split(table.note.splitlines()[0])
        override = OverridesParser.create().parse_override(word)
        assert override.key_or_group == "data.types"
        assert "$" not in word
        again = Table(str(tmp_path / "b.csv"), types=override.value())
        assert again.columns == table.columns


def test_empty_cells_and_words_for_nothing_are_missing(tmp_path):
    columns = of_all_kinds()
    columns["height"] = ["", "NA", "?", *columns["height"][3:]]
    table = Table(written(tmp_path / "a.csv", columns))
    assert table.found["missing"]
    x = torch.cat([table("train").x, table("test").x])
    assert x.isnan().sum() == x[:, 0].isnan().sum() == 3
    assert Table(written(tmp_path / "a.csv", columns), na=["NA"], types={"height": "categorical"}).columns[0].values[-1] == "?"


@pytest.mark.parametrize("na", ["-999", -999, [-999, "NA"], [None, float("nan"), "-999"]], ids=repr)
def test_words_for_nothing_as_a_command_line_has_them(na, tmp_path):
    table = Table(written(tmp_path / "a.csv", {"a": [-999, *range(1, NUM)], "b": range(NUM)}), na=na, columns={"b": "real"})
    assert table.columns[0].kind == "count"
    assert torch.cat([table("train").x, table("test").x])[:, 0].isnan().sum() == 1


def test_a_column_whose_name_is_a_number(tmp_path):
    file = written(tmp_path / "a.csv", {"2019": [i % 3 for i in range(NUM)], "b": [i / 7 for i in range(NUM)], "2": list("abcdef") * 10})
    table = Table(file, y=2019, id=2)  # as a command line reads them
    assert (table.label.name, [column.name for column in table.columns]) == ("2019", ["b"])


@pytest.mark.parametrize("num_empty", [1, 30])
def test_a_column_with_holes_names_no_rows(num_empty, tmp_path):
    remarks = [""] * num_empty + [f"remark {i}" for i in range(num_empty, NUM)]
    table = Table(written(tmp_path / "a.csv", {"a": [i / 7 for i in range(NUM)], "remark": remarks}))
    assert table.left_out == "remark (text)"
    assert table("train").names[0].startswith("row ")


REAL, COUNT, POSITIVE = (Column("a", kind) for kind in ("real", "count", "positive"))


@pytest.mark.parametrize("column", [REAL, COUNT, POSITIVE, Column("a", "ordinal", ("a", "1")), Column("a", "binary", ("1", "a"))], ids=str)
def test_cells_and_back(column):
    cells = ["a", "1", "a"] if column.values else ["3", "41", "7"]
    assert column.cells(column.numbers(cells)) == cells
    assert np.isnan(column.numbers([""])).all()
    assert Column.of_dict(json.loads(json.dumps(column.as_dict()))) == column


@pytest.mark.parametrize(
    "options",
    [
        {"separator": ";"},
        {"separator": "\t"},
        {"separator": "|"},
        {"encoding": "utf-8-sig"},
        {"encoding": "utf-16"},
        {"newline": "\r"},
        {"newline": "\r\n"},
    ],
    ids=str,
)
def test_files_of_other_programs(options, tmp_path):
    expected = Table(written(tmp_path / "a.csv", of_all_kinds()))
    found = Table(written(tmp_path / "b.csv", of_all_kinds(), **options))
    assert found.columns == expected.columns
    assert torch.equal(found("train").x, expected("train").x)


def test_parquet_is_as_csv(tmp_path):
    file = written(tmp_path / "a.csv", of_all_kinds())
    pyarrow.parquet.write_table(pyarrow.csv.read_csv(file), tmp_path / "a.parquet")
    found, expected = Table(str(tmp_path / "a.parquet")), Table(file)
    assert found.columns == expected.columns
    assert torch.equal(found("train").x, expected("train").x)


def test_a_table_without_names_has_names(tmp_path):
    (tmp_path / "a.csv").write_text("".join(f"{i % 7},{i / 7:.3f},{'ab'[i % 2]}\n".replace("a", "0").replace("b", "1") for i in range(100)))
    table = Table(str(tmp_path / "a.csv"))
    assert [(each.name, each.kind) for each in table.columns] == [("c1", "ordinal"), ("c2", "nonnegative"), ("c3", "binary")]
    assert len(table("train")) + len(table("test")) == 100


def test_decimal_commas(tmp_path):
    columns = {"a": [f"{i / 8:.3f}".replace(".", ",") for i in range(NUM)], "b": [i % 3 for i in range(NUM)]}
    table = Table(written(tmp_path / "a.csv", columns, ";"))
    assert table.columns[0] == Column("a", "nonnegative", comma=True)
    x = torch.cat([table("train").x, table("test").x])[:, 0].sort().values
    torch.testing.assert_close(x, torch.arange(NUM) / 8)
    assert table.columns[0].cells(np.array([1.5])) == ["1,5"]
    doses = Table(written(tmp_path / "b.csv", {"a": range(NUM), "b": ["0,5", "1,5"] * 30, "c": ["0,5", "2,5", "10"] * 20}, ";"))
    assert Table(str(tmp_path / "b.csv"), columns={"c": "ordinal"}).columns[-1].values == ("0.5", "2.5", "10")  # by size
    given = Table(str(tmp_path / "b.csv"), columns={"c": {"ordinal": ["10", "0,5", 2.5]}})
    for column, cells in ((doses.columns[-2], ["0,5", "1,5"]), (given.columns[-1], ["10", "0,5", "2,5"])):
        assert column.cells(column.numbers(cells)) == cells


@pytest.mark.parametrize(
    "text", ["type,dim\rcount,1\rcat,3\r", "name,type\nb,cat\na,count\n", "\ufefftype\ncount\ncategorical\n"], ids=repr
)
def test_files_of_kinds(text, tmp_path):
    file = written(tmp_path / "a.csv", {"a": [i % 5 for i in range(NUM)], "b": [i % 3 for i in range(NUM)]})
    (tmp_path / "types.csv").write_text(text, newline="")
    table = Table(file, types=str(tmp_path / "types.csv"))
    assert [column.kind for column in table.columns] == ["count", "categorical"]


def test_kinds_and_their_order_can_be_given(tmp_path):
    file = written(tmp_path / "a.csv", {"size": ["mid", "low", "high"] * 20, "b": [i % 3 for i in range(NUM)], "c": range(NUM)})
    (tmp_path / "types.yaml").write_text("size: {ordinal: [low, mid, high]}\nb: real\n")
    table = Table(file, types=str(tmp_path / "types.yaml"), columns={"c": "out", "b": "categorical"})
    assert table.columns == (Column("size", "ordinal", ("low", "mid", "high")), Column("b", "categorical", ("0", "1", "2")))
    file = written(tmp_path / "a.csv", {"a": ["yes", "no"] * 30, "b": [i / 7 for i in range(NUM)]})
    assert Table(file, types="{a: {ordinal: [no, yes]}}").columns[0] == Column("a", "ordinal", ("no", "yes"))


def test_a_table_is_not_scaled(tmp_path):
    table = Table(written(tmp_path / "a.csv", of_all_kinds()))
    with pytest.raises(ValueError, match=r"data.scale=standardize would scale the codes of categories, too"):
        DataModule(table, shape=[7], scale="standardize")


def test_the_columns_of_a_run_are_those_it_was_trained_on(tmp_path):
    """A file in which a column looks like another kind, or has fewer categories, is read as it was then."""
    table = Table(written(tmp_path / "a.csv", of_all_kinds()))
    data = DataModule(table, shape=[7], batch_size=10, val_size=10)
    data.setup("fit")
    record = json.loads(json.dumps(data.record()))
    assert check_record(record) == record
    other = of_all_kinds()
    other["colour"], other["grade"] = np.where(other["colour"] == "red", "blue", other["colour"]), np.full(NUM, 2)
    later = Table(written(tmp_path / "b.csv", other))
    x = later("train", recorded=record["columns"]).x
    assert x.shape == (54, 7)
    assert set(x[:, 5].tolist()) == {0.0, 1.0}  # blue, green
    assert set(x[:, 4].tolist()) == {1.0}
    del other["rain"]
    with pytest.raises(ValueError, match="no column 'rain', which the run was trained on"):
        Table(written(tmp_path / "b.csv", other))("train", recorded=record["columns"])
    other = of_all_kinds()
    other["colour"][7] = "mauve"
    with pytest.raises(ValueError, match=r"row 8, column 'colour': 'mauve' is none of its 3 values \(blue, green, red\)"):
        Table(written(tmp_path / "b.csv", other))("train", recorded=record["columns"])


NUMBERS = [str(i / 4) for i in range(NUM)]


def changed(row: int, cell: str) -> dict[str, list[str]]:
    return {"a": [*NUMBERS[: row - 1], cell, *NUMBERS[row:]], "b": [str(i % 7) for i in range(NUM)]}


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        (changed(9, "inf"), {}, "row 9, column 'a': 'inf' is not finite"),
        (changed(9, "-1e999"), {}, "row 9, column 'a': '-1e999' is not finite"),
        (changed(9, '"1,5"'), {}, r"row 9, column 'a': '1,5' has a decimal comma, but other rows have a decimal point"),
        (changed(9, "none"), {}, "row 9, column 'a': 'none' is no number, but almost all of this column are: .* add it to data.na"),
        (changed(9, "1_000"), {}, "row 9, column 'a': '1_000' is no number"),
        (changed(9, "-3"), {"columns": {"a": "positive"}}, "row 9, column 'a': '-3' is negative, which no nonnegative is"),
        (changed(9, "-3"), {"columns": {"a": "count"}}, "row 9, column 'a': '-3' is negative, which no count is"),
        (changed(9, "3"), {"columns": {"a": "count"}}, r"row 2 \(and \d+ more rows\), column 'a': '0.25' is no whole number"),
        (changed(9, "1"), {"columns": {"a": "integer"}}, r"data.columns.a=integer is unknown: choose real, positive"),
        (changed(9, "1"), {"columns": {"z": "count"}}, "data.columns names the column 'z', which the table does not have: it has a, b"),
        (changed(9, "1"), {"columns": {"a": "binary"}}, "column 'a' cannot be binary: it has 59 values"),
        (changed(9, "1"), {"columns": {"a": 3}}, "column 'a' has the kind 3; write count, or"),
        (changed(9, "1"), {"columns": {"b": {"ordinal": 3}}}, "column 'b' has the kind {'ordinal': 3}; write count, or"),
        (changed(9, "1"), {"columns": {"b": {"ordinal": [1, 2, "1.0"]}}}, "data.columns.b: ordinal has the value '1' twice"),
        (changed(9, "1e39"), {}, "row 9, column 'a': '1e39' is too large for 32 bits: divide the column"),
        ({"a": ["1e-60", *NUMBERS[1:]], "b": NUMBERS}, {}, "row 1, column 'a': '1e-60' is too small for 32 bits: multiply the column"),
        (changed(9, "1"), {"types": "none.csv"}, "data.types=none.csv: there is no such file"),
        (changed(9, "1"), {"types": "{a: [}"}, "data.types is no YAML"),
        (changed(9, "1"), {"y": "c"}, "data.y=c: the table has no such column; it has a, b"),
        (changed(9, "1"), {"y": "a"}, "data.y=a is nonnegative: y must be a category"),
        (changed(9, "2.25"), {"id": "a"}, "data.id=a: rows 9 and 10 have the same id, '2.25'"),
        (changed(9, "1"), {"test_share": 1.0}, r"data.test_share=1.0 must lie between 0 and 1"),
        ({"a": ["1", "1"], "b": ["", ""]}, {}, r"has no column that a model can be shown: a \(constant\); b \(empty\)"),
        ({"a": ["x"]}, {}, "has no column that a model can be shown"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else None,
)
def test_bad_cells_are_named(columns, options, message, tmp_path):
    file = written(tmp_path / "a.csv", columns)
    with pytest.raises(ValueError, match=message):
        Table(file, **options)("train")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "a.csv is empty"),
        ("a.csv", b" \n\n", "a.csv is empty"),
        ("a.csv", b"a,b\n", "a.csv has no rows"),
        ("a.csv", b"a,b\n1,2\n1\n", r"row 2 \(line 3\) has 1 cells, but the first line has 2"),
        ("a.csv", b"a,b\n1,2\n1,2,3\n", r"row 2 \(line 3\) has 3 cells, but the first line has 2"),
        ("a.csv", b"a,b,c\n1,2\n1,3\n", r"row 1 \(line 2\) has 2 cells, but the first line has 3"),
        ("a.csv", b'a,b\n1,2\n3,"4\n5,6\n', "a quote is not closed in the row that begins with '3,"),
        ("a.csv", b"a,a\n1,2\n1,3\n", "has more than one column 'a'"),
        ("a.csv", "a,b\nü,2\n".encode("latin-1"), "line 2: the bytes are no UTF-8 text"),
        ("a.xlsx", b"x", "the ending of data.file=.xlsx is unknown: choose .csv, .tsv, .txt or .parquet"),
        ("a.parquet", b"x", "cannot be read as parquet"),
        ("b.csv", None, "there is no file .*b.csv: set data.file to a table"),
    ],
    ids=str,
)
def test_bad_files_are_refused_in_words(name, content, message, tmp_path):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        Table(str(tmp_path / name))("train")


def test_a_row_or_a_column_may_be_all_missing(tmp_path):
    columns = of_all_kinds()
    for name in [name for name in columns if name not in ("key", "same")]:
        columns[name] = ["", *columns[name][1:]]
    table = Table(written(tmp_path / "a.csv", columns))
    x = torch.cat([table("train").x, table("test").x])
    assert x.isnan().all(1).sum() == 1
    assert x.isnan().any(1).sum() == 1


def with_a_rare_colour(rows: Any, **others: Any) -> dict[str, Any]:
    """A table in which some rows have a colour of their own."""
    columns = of_all_kinds(**others)
    columns["colour"] = [*columns["colour"]]
    for row in rows:
        columns["colour"][row] = "mauve"
    return columns


def test_categories_are_those_of_training_rows(tmp_path):
    """Test rows are not looked at: what they alone have is missing, so that missing values follow, and it is told."""
    file = written(tmp_path / "a.csv", of_all_kinds())
    test, train = Table(file).rows["test"], Table(file).rows["train"]
    rare = Table(written(tmp_path / "b.csv", with_a_rare_colour(test[2:4])))
    assert rare.columns == Table(file).columns
    assert (Table(file).found["missing"], rare.found["missing"]) == (False, True)
    assert (rare("train").note, len(rare("test"))) == ("", 6)
    told = f"2 cells have a value that no training row has, which counts as missing: row {test[2] + 1}, column 'colour': 'mauve', ..."
    assert rare("test").note == told
    assert rare("test").x[:, 5].isnan().tolist() == [False, False, True, True, False, False]
    assert not rare("train").x.isnan().any()
    sentence = f"row {test[2] + 1} .and 1 more rows., column 'colour': 'mauve' is none of its 3 values .* missing=true, which takes it"
    with pytest.raises(ValueError, match=sentence):
        Table(str(tmp_path / "b.csv"), missing=False)("test")
    assert "mauve" in Table(written(tmp_path / "b.csv", with_a_rare_colour(train[:1]))).columns[5].values
    kinds = {"colour": {"categorical": ["red", "green", "blue"]}}
    with pytest.raises(ValueError, match=f"row {test[2] + 1}, column 'colour': 'mauve' is none of its 3 values"):
        Table(written(tmp_path / "b.csv", with_a_rare_colour(test[2:3])), types=kinds)("train")


def test_a_column_of_other_words_altogether_is_refused(tmp_path):
    """Categories that are spelled in another way are no missing values."""
    record = [column.as_dict() for column in Table(written(tmp_path / "a.csv", of_all_kinds())).columns]
    other = of_all_kinds()
    other["colour"] = [colour.upper() for colour in other["colour"]]
    with pytest.raises(ValueError, match=r"row 1, column 'colour': '\w+' is none of its 3 values \(.*\), and no other cell is one"):
        Table(written(tmp_path / "b.csv", other), missing=True)("train", recorded=record)


@pytest.mark.parametrize("changes", [{}, {"height": [f"{i / 8:.3f}".replace(".", ",") for i in range(NUM)]}], ids=["points", "commas"])
def test_many_different_cells_are_not_kept(changes, tmp_path, monkeypatch):
    """What is inferred with few words in memory, of small blocks, is what is inferred with all."""
    file = written(tmp_path / "a.csv", of_all_kinds(**changes), ";")
    table = Table(file)
    x, names = table("train").x, list(table("train").names)
    monkeypatch.setattr("vaelab.data.inference.MOST_WORDS", 12)
    monkeypatch.setattr(TableFile.blocks, "__defaults__", (7,))
    again = Table(file)
    assert again.cells["height"].has_more
    assert again.roles == table.roles
    assert again.columns == table.columns
    assert torch.equal(again("train").x, x)
    assert list(again("train").names) == names


def test_an_empty_cell_behind_many_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr("vaelab.data.inference.MOST_WORDS", 12)
    monkeypatch.setattr(TableFile.blocks, "__defaults__", (7,))
    table = Table(written(tmp_path / "a.csv", {"a": [i / 7 for i in range(NUM - 1)] + [""], "b": [i / 3 for i in range(NUM)]}))
    assert (table.roles["a"][0], table.found["missing"]) == ("nonnegative", True)
    assert torch.cat([table("train").x, table("test").x]).isnan().sum() == 1


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("1,5", "row 55, column 'a': '1,5' has a decimal comma, but other rows have a decimal point"),
        ("none", "row 55, column 'a': 'none' is no number, but almost all of this column are"),
        ("inf", "row 55, column 'a': 'inf' is not finite"),
    ],
)
def test_bad_cells_behind_many_are_named(cell, message, tmp_path, monkeypatch):
    monkeypatch.setattr("vaelab.data.inference.MOST_WORDS", 12)
    monkeypatch.setattr(TableFile.blocks, "__defaults__", (7,))
    with pytest.raises(ValueError, match=message):
        Table(written(tmp_path / "a.csv", changed(55, cell), ";"))("train")
    with pytest.raises(ValueError, match="column 'a' cannot be categorical: it has more than 12 values"):
        Table(str(tmp_path / "a.csv"), columns={"a": "categorical"})("train")


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_lines_keep_their_characters(separator):
    """Cells that are replaced are read back; the others are what they were."""
    draw = np.random.default_rng(0)
    cells = np.array(["", "a", '"x"', f'"a{separator}b"', '" q"" "', " ", '"l\nm"', "1.5"], dtype=object)
    for end in ("\n", "\r\n", "\r", ""):
        for _ in range(50):
            parts = ["b", *draw.choice(cells, 4).tolist()]
            text, new = separator.join(parts) + end, str(draw.choice(np.array(["z", "3,5", 'a"b', f"x{separator}"], dtype=object)))
            assert with_cells(text, {}, separator) == text
            (row,) = csv.reader(with_cells(text, {2: new}, separator).splitlines(keepends=True), delimiter=separator)
            (before,) = csv.reader(text.splitlines(keepends=True), delimiter=separator)
            assert row == [*before[:2], new, *before[3:]]
