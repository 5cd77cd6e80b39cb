"""A table from a file to a run, and holes in another file filled in: `vaelab train data=table`, and `vaelab impute`."""

import csv
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from small_runs import composed
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from vaelab.build import open_run
from vaelab.commands.impute import impute
from vaelab.commands.train import train

QUICK = [
    "trainer.max_epochs=2",
    "evaluation.figures=false",
    "evaluation.report=false",
    "logger=[csv,tensorboard]",
    "trainer.enable_progress_bar=false",
]
NUM = 200


def rows(seed: int, share: float = 0.2) -> list[list[str]]:
    """A table of which a share of the cells is missing; the last column is text."""
    draw = np.random.default_rng(seed)
    z = draw.normal(size=NUM)
    columns = [
        [f"{1e4 + 100 * value:.2f}" for value in z],
        [str(count) for count in draw.poisson(np.exp(3 + 0.5 * z))],
        list(np.where(z > 0, "high, very", "low")),
        [("a", "b", "c")[code] for code in draw.integers(3, size=NUM)],
    ]
    hidden = draw.random((NUM, 4)) < share
    cells = [[("" if hidden[i, j] else columns[j][i]) for j in range(4)] for i in range(NUM)]
    return [["net income", "visits", "level", "ward"], *(row for row in cells)]


def written(path: Path, table: list[list[str]]) -> str:
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(table)
    return str(path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tables")
    file = written(folder / "my.csv", rows(0))
    small = ["encoder.hidden=[16]", "decoder.hidden=[16]", "latent_dim=2", "data.batch_size=32", "trainer=cpu", *QUICK]
    train(composed(["data=table", f"data.file={file}", *small], folder / "run"))
    return folder / "run"


def imputed(run: Path, source: str, target: Path, *words: str) -> list[list[str]]:
    impute(composed([f"run='{run}'", f"input={source}", f"output={target}", "num_samples=50", "accelerator=cpu", *words], run, "impute"))
    return list(csv.reader(target.read_text().splitlines()))


def test_a_run_knows_its_columns_and_begins_with_their_scales(trained: Path) -> None:
    run = open_run(trained)
    assert [column["kind"] for column in run.datamodule.recorded["columns"]] == ["positive", "count", "binary", "categorical"]
    assert run.model.missing
    run.datamodule.setup("fit")
    x = run.datamodule.splits["train"].dataset.x[run.datamodule.splits["train"].indices]
    torch.testing.assert_close(run.model.likelihood.mean[0], x[:, 0].log().nanmean())
    assert run.model.log_likelihood(x[:5], num_samples=10).isfinite().all()


def test_columns_are_pictured_while_training(trained: Path) -> None:
    events = EventAccumulator(str(trained), size_guidance={"images": 0}).Reload()
    assert events.Tags()["images"] == ["marginals"]
    assert [image.width > 500 for image in events.Images("marginals")] == [True]  # after the last of two epochs


def test_only_what_is_missing_is_filled_in(trained: Path, tmp_path: Path) -> None:
    table = rows(1)
    table[5] = ["", "", "", ""]
    source = written(tmp_path / "holes.csv", [[*row, "note" if i == 0 else "" if i == 3 else "as it is"] for i, row in enumerate(table)])
    found = imputed(trained, source, tmp_path / "new" / "filled.csv", "num=2")
    given = list(csv.reader(Path(source).read_text().splitlines()))
    kinds = [float, int, {"low", "high, very"}.__contains__, {"a", "b", "c"}.__contains__]
    for before, after in zip(given, found, strict=True):
        assert before[4] == after[4]
        for cell, now, kind in zip(before[:4], after[:4], kinds, strict=True):
            assert now == cell or (cell == "" and kind(now) is not False)
    spread = list(csv.DictReader((tmp_path / "new" / "filled_spread.csv").read_text().splitlines()))
    assert len(spread) == sum(cell == "" for row in given[1:] for cell in row[:4])
    assert all(float(row["spread"]) >= 0 and found[int(row["row"])][given[0].index(row["column"])] == row["guess"] for row in spread)
    first, second = (list(csv.reader((tmp_path / "new" / f"filled_{i}.csv").read_text().splitlines())) for i in (1, 2))
    assert first != second
    assert all(cell in ("", now) for before, after in zip(given, first, strict=True) for cell, now in zip(before, after, strict=True))


def test_what_cannot_be_filled_in_is_said(trained: Path, tmp_path: Path) -> None:
    table = rows(1)
    source = written(tmp_path / "holes.csv", table)
    for words, message in (
        ([source, source], "is the input: choose another name"),
        ([source, "x.xlsx"], "must be a csv or tsv file"),
        (["nothing.csv", "x.csv"], "input=nothing.csv is not there: give a table"),
        ([source, f"{source}/x.csv"], r"holes.csv/x.csv lies in .*holes.csv, which is no folder"),
    ):
        with pytest.raises(ValueError, match=message):
            imputed(trained, words[0], Path(words[1]))
    for name, words in (("filled_spread.csv", []), ("filled_1.csv", ["num=1"])):
        other = written(tmp_path / name, table)
        with pytest.raises(ValueError, match=f"output=.*filled.csv writes {name} too, which is the input: choose another name"):
            imputed(trained, other, tmp_path / "filled.csv", *words)
        assert list(csv.reader(Path(other).read_text().splitlines())) == table
        Path(other).unlink()
    with pytest.raises(ValueError, match="is the data of the run: choose another name"):
        imputed(trained, source, trained.parent / "my.csv")
    table[7] = ["", "3" + 38 * "0", "low", "a"]
    with pytest.raises(ValueError, match=r"log p\(x\) is NaN where x is up to 3e\+38: such values are too far from the training data"):
        imputed(trained, written(tmp_path / "holes.csv", table), tmp_path / "filled.csv")
    table[7][1] = "-3"
    with pytest.raises(ValueError, match="row 7, column 'visits': '-3' is negative, which no count is"):
        imputed(trained, written(tmp_path / "holes.csv", table), tmp_path / "filled.csv")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["holes.csv"]
    with pytest.raises(ValueError, match="has no column 'ward', which the run was trained on"):
        imputed(trained, written(tmp_path / "holes.csv", [row[:3] for row in table]), tmp_path / "filled.csv")


def test_all_other_characters_stay(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Line ends, quotes, blanks, a mark at the beginning, blank lines; and a category that no training row has, which is told."""
    lines = [
        "\ufeff",
        '"net income",visits,level, note ,ward',
        '10000.50,"3","high, very","a ""note""",a',
        "",
        ' 9990 ,,low,"two\r\nlines",b',
        "9990, NA ,low,,mauve",
    ]
    source = tmp_path / "holes.csv"
    source.write_bytes("\r\n".join(lines).encode())
    imputed(trained, str(source), tmp_path / "filled.csv", "num=1")
    assert "1 cell has a value that no training row has, which counts as missing: row 3, column 'ward': 'mauve'" in capsys.readouterr().out
    for name in ("filled.csv", "filled_1.csv"):
        found = (tmp_path / name).read_bytes().decode()
        first, second = (int(cell) for cell in re.search(r" 9990 ,(\d+),.*9990,(\d+),", found, re.DOTALL).groups())  # type: ignore[union-attr]
        expected = "\r\n".join(lines).replace(" 9990 ,,", f" 9990 ,{first},").replace(" NA ", str(second))
        assert found == expected


def test_tabs_become_what_the_ending_says(trained: Path, tmp_path: Path) -> None:
    table = rows(1)[:20]
    with (tmp_path / "holes.tsv").open("w") as file:
        csv.writer(file, delimiter="\t").writerows(table)
    found = imputed(trained, str(tmp_path / "holes.tsv"), tmp_path / "filled.csv")
    assert all(cell in ("", now) for before, after in zip(table, found, strict=True) for cell, now in zip(before, after, strict=True))


def test_a_file_is_filled_in_block_by_block(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = rows(1)
    whole = imputed(trained, written(tmp_path / "holes.csv", table), tmp_path / "filled.csv")
    monkeypatch.setattr("vaelab.commands.impute.BLOCK", 7)
    full = [table[0], *(row for row in whole[1:15])]  # blocks in which nothing is missing
    assert imputed(trained, written(tmp_path / "full.csv", full), tmp_path / "same.csv") == full
    parts = imputed(trained, str(tmp_path / "holes.csv"), tmp_path / "parts.csv")
    assert len(whole) == len(parts) == len(table)
    assert all(
        cell in ("", now) and now for before, after in zip(table, parts, strict=True) for cell, now in zip(before, after, strict=True)
    )
    numbers = [row["row"] for row in csv.DictReader((tmp_path / "parts_spread.csv").open())]
    assert numbers == [str(row) for row, cells in enumerate(table) for cell in cells if not cell]
