"""vaelab generate: figures, and the same numbers as the functions of the model in files of every format."""

import csv
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from small_runs import QUICK, composed, train_small

from vaelab import rng
from vaelab.applications import interpolate, traverse
from vaelab.build import open_run
from vaelab.commands.generate import generate
from vaelab.commands.generated import joined
from vaelab.commands.train import train

SHORT = [*QUICK, "trainer.max_epochs=1", "evaluation.enabled=false", "logger=csv"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_small(tmp_path_factory.mktemp("generate") / "run", *SHORT)


@pytest.fixture(scope="module")
def of_table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that is conditional on the ward, three quarters of which are a."""
    draw, folder = np.random.default_rng(0), tmp_path_factory.mktemp("table")
    rows = [
        [f"{draw.normal():.3f}".replace(".", ","), str(draw.poisson(400)), ["left", "right", "both"][draw.integers(3)]] for _ in range(80)
    ]
    with (folder / "my.csv").open("w") as file:
        csv.writer(file).writerows([["name", "visits", "side", "ward"], *([*row, "aaab"[i % 4]] for i, row in enumerate(rows))])
    words = ["data=table", f"data.file={folder / 'my.csv'}", "data.y=ward", "encoder.hidden=[8]", "decoder.hidden=[8]", "latent_dim=2"]
    train(composed([*words, *SHORT, "trainer=cpu", "trainer.enable_progress_bar=false"], folder / "run"))
    return folder / "run"


def generated(run: Path, target: Path | None, *words: str) -> Any:
    """The columns that are written."""
    output = [f"output='{target}'"] if target else []
    generate(composed([f"run='{run}'", "accelerator=cpu", *output, *words], run, "generate"))
    if target is None or target.suffix in ("", ".png"):
        return None
    assert [path.name for path in target.parent.iterdir() if path.name.startswith(".")] == []
    if target.suffix == ".npy":
        return {"x": np.load(target)}
    if target.suffix == ".npz":
        return dict(np.load(target))
    if target.suffix == ".parquet":
        import pyarrow.parquet

        return {name: np.array(column) for name, column in pyarrow.parquet.read_table(target).to_pydict().items()}
    names, *rows = list(csv.reader(target.read_text().splitlines(), delimiter="\t" if target.suffix == ".tsv" else ","))
    return {name: np.array(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}


@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet", "npz", "npy"])
def test_samples_are_those_of_the_model_in_every_format(trained: Path, tmp_path: Path, ending: str) -> None:
    """More than a batch of them, so that batches are put together."""
    found, model = generated(trained, tmp_path / "new" / f"x.{ending}", "what=samples", "num=501", "seed=3"), open_run(trained).model
    with rng.fork(3):
        x = torch.cat([model.sample(num, mean=True) for num in (500, 1)])
    if "x" in found:
        np.testing.assert_array_equal(found["x"], x.numpy())
    else:
        assert list(found)[:2] == ["row_0_column_0", "row_0_column_1"]
        np.testing.assert_array_equal(np.stack(list(found.values()), 1).astype(np.float32), x.flatten(1).numpy())


def test_draws_are_black_and_white_where_means_are_not(trained: Path, tmp_path: Path) -> None:
    drawn = generated(trained, tmp_path / "x.npy", "what=samples", "num=5", "mean=false")["x"]
    assert set(np.unique(drawn)) == {0, 1}


def test_reconstructions_come_in_the_order_of_the_data(trained: Path, tmp_path: Path) -> None:
    found, run = generated(trained, tmp_path / "x.npz", "what=reconstructions"), open_run(trained)
    run.datamodule.setup("test")
    data = run.datamodule.splits["test"].dataset
    torch.testing.assert_close(torch.from_numpy(found["x"]), run.model.reconstruct(data.x.float() / 255))
    assert found["name"].tolist() == [f"row {row}" for row in range(96)]
    np.testing.assert_array_equal(found["radius"], data.y[:, 2])


def test_walks_lead_from_each_input_to_the_next(trained: Path, tmp_path: Path) -> None:
    run = open_run(trained)
    run.datamodule.setup("test")
    x = run.datamodule.splits["test"].dataset.x[:3]
    np.save(tmp_path / "three.npy", x.numpy())
    found = generated(trained, tmp_path / "x.npz", "what=interpolations", f"input='{tmp_path / 'three.npy'}'", "num_steps=5")
    x = x.float() / 255
    torch.testing.assert_close(torch.from_numpy(found["x"]), interpolate(run.model, x[:2], x[1:], 5).flatten(0, 1))
    assert found["t"].tolist() == 2 * [0, 0.25, 0.5, 0.75, 1]
    assert found["from"].tolist() == 5 * ["row 0"] + 5 * ["row 1"]
    assert found["to"].tolist() == 5 * ["row 1"] + 5 * ["row 2"]
    found = generated(trained, tmp_path / "x.npz", "what=traversals", f"input='{tmp_path / 'three.npy'}'", "num_steps=3", "num=2")
    torch.testing.assert_close(torch.from_numpy(found["x"][6:]), traverse(run.model, x[1:2], torch.arange(2), 3).flatten(0, 1))
    assert found["dim"].tolist() == 2 * [0, 0, 0, 1, 1, 1]
    assert found["value"].tolist() == 4 * [-2.5, 0, 2.5]
    np.save(tmp_path / "one.npy", run.datamodule.splits["test"].dataset.x[:1].numpy())
    with pytest.raises(ValueError, match="from one example to another, but there is one alone"):
        generated(trained, tmp_path / "y.npz", "what=interpolations", f"input='{tmp_path / 'one.npy'}'")
    assert not (tmp_path / "y.npz").exists()


def test_a_folder_takes_a_picture_of_each(trained: Path, tmp_path: Path) -> None:
    x = generated(trained, tmp_path / "x.npy", "what=samples", "num=3")["x"]
    generated(trained, tmp_path / "pictures", "what=samples", "num=3")
    for number in range(3):
        with Image.open(tmp_path / "pictures" / f"{number:06}.png") as picture:
            np.testing.assert_array_equal(np.asarray(picture), np.round(255 * x[number, 0]))
    with pytest.raises(ValueError, match="pictures holds files already: give the name of a new folder"):
        generated(trained, tmp_path / "pictures", "what=samples")


def test_rows_of_a_table_are_as_those_of_its_file(of_table: Path, tmp_path: Path) -> None:
    """Words, whole counts, decimal commas, and the label under its name, as often as in the data; a column called name stays."""
    found = generated(of_table, tmp_path / "x.csv", "what=samples", "num=2000")
    assert list(found) == ["ward", "name", "visits", "side"]
    assert set(found["side"]) == {"left", "right", "both"}
    assert abs((found["ward"] == "a").mean() - 0.75) < 0.1  # of 72 training rows, whatever the split
    assert all("." not in cell for cell in found["name"])
    assert all(cell.isdigit() for cell in found["visits"])
    typed = generated(of_table, tmp_path / "x.parquet", "what=samples", "num=3", "y=b")
    assert typed["ward"].tolist() == ["b", "b", "b"]
    assert (typed["visits"].dtype.kind, typed["name"].dtype.kind, typed["side"].dtype.kind) == ("i", "f", "U")
    again = generated(of_table, tmp_path / "y.csv", "what=reconstructions", f"input='{tmp_path / 'x.csv'}'", "y=1")
    assert list(again) == ["name_", "ward", "name", "visits", "side"]
    assert set(again["ward"]) == {"b"}
    assert again["name_"][:2].tolist() == ["row 1", "row 2"]
    generated(of_table, tmp_path / "x.png", "what=samples")
    with Image.open(tmp_path / "x.png") as picture:
        assert min(picture.size) > 200


def test_figures_of_one_kind(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generated(trained, tmp_path / "x.png", "what=traversals", "num=2")
    assert [path.name for path in tmp_path.iterdir()] == ["x.png"]
    generated(trained, None, "what=reconstructions")
    assert capsys.readouterr().out.endswith("reconstructions.png\n")
    assert [path.name for path in (trained / "figures").iterdir()] == ["reconstructions.png"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["what=pictures"], "what=pictures is unknown: choose figures, samples, reconstructions, interpolations or traversals"),
        (["what=samples", "output=x.txt"], "output=x.txt must end in .csv, .tsv, .npz, .parquet, .npy"),
        (["what=figures", "output=x.csv"], "output=x.csv: what=figures draws several pictures: give a folder, or choose what=samples"),
        (["what=figures", "output='{run}'"], "is the folder of a run"),
        (["what=samples", "num=0"], "num=0 must be a whole number of at least 1"),
        (["what=samples", "num_steps=1"], "num_steps=1 must be a whole number of at least 2"),
        (["what=samples", "y=3", "output=x.csv"], "y=3: this run is not conditional on y (num_classes=0), and knows no classes"),
        (["what=samples", "input=x.npy"], "input=x.npy is not used by what=samples, which are drawn from the prior"),
        (["what=samples", "mean=maybe"], "mean=maybe must be true or false"),
        (["what=reconstructions", "mean=false"], "mean=false is not used by what=reconstructions, which is of E[x | z]: leave it out"),
        (["what=reconstructions", "input=nothing.npy"], "input=nothing.npy is not there"),
    ],
)
def test_bad_input_is_one_sentence(trained: Path, words: list[str], message: str) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011
        generated(trained, None, *(word.format(run=trained) for word in words))
    assert message in str(error.value)


def test_columns_of_one_name_are_kept_apart() -> None:
    name, label, x = (np.array([text]) for text in "abc")
    assert joined(joined({"name": name}, {"name": label}), {"x": x}) == {"name_": name, "name": label, "x": x}


def test_a_run_without_a_record_of_its_columns(of_table: Path, tmp_path: Path) -> None:
    """Its split.json was removed, as a message says."""
    copytree(of_table, tmp_path / "run")
    (tmp_path / "run" / "split.json").unlink()
    for words in (["what=samples", "num=3", "y=a"], ["what=reconstructions", f"input='{of_table.parent / 'my.csv'}'", "y=a"]):
        found, expected = (generated(run, tmp_path / "x.csv", *words) for run in (tmp_path / "run", of_table))
        assert list(found) == list(expected)


def test_the_input_is_not_written_over(trained: Path, tmp_path: Path) -> None:
    for name in ("x.npz", "x.npy"):
        generated(trained, tmp_path / name, "what=samples", "num=3")
        before = (tmp_path / name).read_bytes()
        with pytest.raises(ValueError, match=f"{name} is the input: choose another name"):
            generated(trained, tmp_path / name, "what=reconstructions", f"input='{tmp_path / name}'")
        assert (tmp_path / name).read_bytes() == before


def test_classes_of_a_conditional_run(of_table: Path, tmp_path: Path) -> None:
    for words, message in (
        (["what=samples", "y=c"], "y=c is no class: there are a, b"),
        (["what=samples", "y=2"], "y=2 is no class: there are a, b"),
        (["what=samples", "mean=true"], "categories have no mean"),
        (["what=reconstructions", f"input='{of_table.parent / 'my.csv'}'"], "give the class of all with y=<class>"),
    ):
        with pytest.raises(ValueError, match=message):
            generated(of_table, tmp_path / "x.csv", *words)
    assert not (tmp_path / "x.csv").exists()
    with pytest.raises(ValueError, match=r"a folder takes images, but these are rows: give a file, such as .*x.csv"):
        generated(of_table, tmp_path / "x", "what=samples")
    with pytest.raises(ValueError, match="there is no figure of traversals of this run, because rows are not pictured"):
        generated(of_table, None, "what=traversals")
    of_class = generated(of_table, tmp_path / "x.csv", "what=interpolations", "y=a", "num=2", "num_steps=2")
    assert of_class["ward"].tolist() == 4 * ["a"]
    assert len({*of_class["from"], *of_class["to"]}) == 4
