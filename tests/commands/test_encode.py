"""vaelab encode: the numbers of q(z | x) in a file, in the order of the data, in every format."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_runs import QUICK, SMALL, composed, train_small

from vaelab.applications import codes
from vaelab.build import build_model, open_run
from vaelab.commands.encode import encode
from vaelab.commands.train import train


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_small(tmp_path_factory.mktemp("encode") / "run", *QUICK, "trainer.max_epochs=1", "evaluation.enabled=false", "logger=csv")


def encoded(run: Path, target: Path, *words: str) -> dict[str, Any]:
    """The columns that are written."""
    encode(composed([f"run='{run}'", f"output='{target}'", "accelerator=cpu", *words], run, "encode"))
    assert [path.name for path in target.parent.iterdir() if path.name.startswith(".")] == []
    if target.suffix == ".npz":
        return dict(np.load(target))
    if target.suffix == ".parquet":
        import pyarrow.parquet

        return {name: np.array(column) for name, column in pyarrow.parquet.read_table(target).to_pydict().items()}
    names, *rows = list(csv.reader(target.read_text().splitlines(), delimiter="\t" if target.suffix == ".tsv" else ","))
    return {name: np.array(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}


def numbers(found: dict[str, Any], name: str) -> torch.Tensor:
    return torch.from_numpy(np.stack([found[f"{name}_{place}"].astype(np.float32) for place in range(2)], 1))


@pytest.mark.parametrize("ending", ["csv", "tsv", "npz", "parquet"])
def test_the_numbers_are_those_of_the_posterior_in_the_order_of_the_data(trained: Path, tmp_path: Path, ending: str) -> None:
    found, run = encoded(trained, tmp_path / "new" / f"codes.{ending}"), open_run(trained)
    assert list(found) == ["name", "split", "x", "y", "radius", "mean_0", "mean_1", "scale_0", "scale_1"]
    run.datamodule.setup("test")
    data = run.datamodule.splits["test"].dataset
    q = run.model.encode(data.x.float() / 255)
    torch.testing.assert_close(numbers(found, "mean"), q.mean.detach(), rtol=1e-5, atol=1e-6)  # other batches
    torch.testing.assert_close(numbers(found, "scale"), q.stddev.detach(), rtol=1e-5, atol=1e-6)
    assert found["name"].tolist() == [f"row {row}" for row in range(96)]
    assert set(found["split"]) == {"test"}
    assert found["radius"].astype(int).tolist() == data.y[:, 2].tolist()


def test_all_splits_with_samples_and_log_px(trained: Path, tmp_path: Path) -> None:
    found = encoded(trained, tmp_path / "codes.npz", "split=all", "num=2", "num_samples=50")
    assert list(found)[-6:] == ["sample_1_0", "sample_1_1", "sample_2_0", "sample_2_1", "log_px", "effective_sample_size"]
    assert {name: int((found["split"] == name).sum()) for name in ("train", "val", "test")} == {"train": 192, "val": 64, "test": 96}
    standard = (torch.cat([numbers(found, "sample_1"), numbers(found, "sample_2")]) - numbers(found, "mean").repeat(2, 1)) / numbers(
        found, "scale"
    ).repeat(2, 1)
    assert abs(standard.mean()) < 5 / len(standard) ** 0.5
    assert abs(standard.square().mean() - 1) < 5 * (2 / standard.numel()) ** 0.5
    assert (found["log_px"] < 0).all()
    assert ((found["effective_sample_size"] >= 1) & (found["effective_sample_size"] <= 50.001)).all()
    again = encoded(trained, tmp_path / "again.npz", "split=all", "num=2", "num_samples=50")
    assert all(np.array_equal(found[name], again[name]) for name in found)


def test_an_array_of_ones_own(trained: Path, tmp_path: Path) -> None:
    run = open_run(trained)
    run.datamodule.setup("test")
    x = run.datamodule.splits["test"].dataset.x[:7]
    np.save(tmp_path / "new.npy", x.numpy())
    found = encoded(trained, tmp_path / "codes.npz", f"input='{tmp_path / 'new.npy'}'")
    assert list(found) == ["name", "split", "mean_0", "mean_1", "scale_0", "scale_1"]
    torch.testing.assert_close(numbers(found, "mean"), codes(run.model, x.float() / 255)["mean"])
    assert set(found["split"]) == {"new"}


def test_a_table_keeps_the_ids_of_its_rows_and_its_classes(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    rows = [[f"patient {row}", f"{draw.normal():.3f}", f"{draw.normal():.3f}", "ab"[row % 2]] for row in range(60)]
    with (tmp_path / "my.csv").open("w") as file:
        csv.writer(file).writerows([["id", "height", "weight", "ward"], *rows])
    words = ["data=table", f"data.file={tmp_path / 'my.csv'}", "data.y=ward", "encoder.hidden=[8]", "decoder.hidden=[8]", "latent_dim=2"]
    short = [*QUICK, "trainer=cpu", "trainer.max_epochs=1", "evaluation.enabled=false", "logger=csv", "trainer.enable_progress_bar=false"]
    train(composed([*words, *short], tmp_path / "run"))
    found = encoded(tmp_path / "run", tmp_path / "codes.csv", "split=all")
    assert sorted(found["name"].tolist()) == sorted(row[0] for row in rows)
    assert dict(zip(found["name"], found["y"], strict=True)) == {row[0]: row[3] for row in rows}
    with pytest.raises(ValueError, match=r"conditional on y, and an example has none: give the class of all with y=<class>"):
        encoded(tmp_path / "run", tmp_path / "new.csv", f"input='{tmp_path / 'my.csv'}'")
    assert not (tmp_path / "new.csv").exists()
    of_file = encoded(tmp_path / "run", tmp_path / "new.csv", f"input='{tmp_path / 'my.csv'}'", "y=1")
    assert of_file["name"].tolist() == [row[0] for row in rows]


@pytest.mark.parametrize(
    ("posterior", "known"),
    [
        *((name, ["mean", "scale"]) for name in ("gaussian", "full_gaussian", "laplace", "hyperspherical")),
        *((name, ["mean", "scale"]) for name in ("categorical", "straight_through", "gumbel")),
        ("vector_quantized", ["index", "mean"]),
        *((name, ["centre"]) for name in ("planar", "sylvester", "iaf", "spline")),
    ],
)
def test_every_posterior_has_codes(tmp_path: Path, posterior: str, known: list[str]) -> None:
    more = ["posterior.num_codes=8", "prior=uniform_codes", "z_shape=[4,2]"] if posterior == "vector_quantized" else []
    model = build_model(composed([*SMALL, f"posterior={posterior}", *more], tmp_path)).eval()
    found = codes(model, torch.rand(5, 1, 16, 16), num=1)
    assert list(found) == [*known, "sample_1"]
    assert all(len(value) == 5 and value.isfinite().all() for value in found.values())
    if posterior in ("categorical", "straight_through", "gumbel"):  # z holds logarithms of codes in the last of these
        torch.testing.assert_close(found["sample_1"].sum(-1), torch.ones(found["sample_1"].shape[:-1]))


def test_a_folder_of_tensors_is_the_rows_of_a_file_in_shards(trained: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    folder = tmp_path / "new" / "latents"
    words = ["split=all", "num=1", "num_samples=3", "shard=100"]
    encode(composed([f"run='{trained}'", f"output='{folder}'", "accelerator=cpu", *words], trained, "encode"))
    manifest, flat = json.loads((folder / "manifest.json").read_text()), encoded(trained, tmp_path / "codes.npz", *words)
    assert [shard["num"] for shard in manifest["shards"]] == [100, 100, 100, 52]
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        ["manifest.json", "rows.csv", *(shard["file"] for shard in manifest["shards"])]
    )
    shards = [load_file(folder / shard["file"]) for shard in manifest["shards"]]
    whole = {name: torch.cat([shard[name] for shard in shards]) for name in shards[0]}
    assert {name: list(value.shape[1:]) for name, value in whole.items()} == {
        name: each["shape"] for name, each in manifest["tensors"].items()
    }
    for name in ("mean", "scale", "sample_1"):
        torch.testing.assert_close(whole[name], numbers(flat, name), rtol=0, atol=0)
    np.testing.assert_array_equal(whole["log_px"].numpy(), flat["log_px"])
    names, *rows = list(csv.reader((folder / "rows.csv").read_text().splitlines()))
    assert names == ["name", "split", "x", "y", "radius"]
    assert [row[:2] for row in rows] == [list(pair) for pair in zip(flat["name"].tolist(), flat["split"].tolist(), strict=True)]
    z, spread = whole["mean"].double(), whole["scale"].double()
    std = (z.var(0, correction=0) + spread.square().mean(0)).sqrt()
    assert manifest["latents"]["mean"] == pytest.approx(z.mean(0).tolist(), rel=1e-6)
    assert manifest["latents"]["std"] == pytest.approx(std.tolist(), rel=1e-6)
    shift = z.mean()
    scale = (spread.square().mean() + (z - shift).square().mean()).sqrt()
    assert manifest["latents"]["scaling_factor"] == pytest.approx(1 / scale.item(), rel=1e-6)
    assert manifest["latents"]["shift_factor"] == pytest.approx(shift.item(), rel=1e-6)
    with pytest.raises(ValueError, match="holds files already"):
        encoded(trained, folder)


def test_indices_of_codes_are_whole_numbers(tmp_path: Path) -> None:
    from vaelab.commands.encode import flattened

    model = build_model(composed([*SMALL, "posterior=fsq", "posterior.levels=[3,2]", "prior=uniform_codes", "z_shape=[2,5]"], tmp_path))
    x = torch.rand(4, 1, 16, 16)
    found = codes(model.eval(), x)
    assert found["index"].shape == (4, 5)
    torch.testing.assert_close(model.posterior.decode_indices(found["index"]), found["mean"])
    columns = flattened(found)
    assert list(columns)[:6] == ["index_0", "index_1", "index_2", "index_3", "index_4", "mean_0"]
    assert columns["index_0"].dtype == np.int64


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["shard=0"], "shard=0 must be a whole number of at least 1"),
        (["output=codes.txt"], "output=codes.txt must end in .csv, .tsv, .npz, .parquet"),
        (["split=training"], "split=training is unknown: choose train, val, test or all"),
        (["num=-1"], "num=-1 must be a whole number of at least 0"),
        (["y=cat"], "y=cat: this run is not conditional on y"),
        (["input=nothing.npy"], "input=nothing.npy is not there"),
    ],
)
def test_bad_input_is_one_sentence(trained: Path, tmp_path: Path, words: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message.replace(".", r"\.")):
        encoded(trained, tmp_path / "codes.csv", *words)
    assert not (tmp_path / "codes.csv").exists()
