"""Every experiment trains; a run leaves what it promises; what is looked at does not change what is learned."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from dataset_files import write_idx
from forked_scripts import ROOT, command
from omegaconf import OmegaConf
from PIL import Image
from small_runs import QUICK, SMALL, composed, train_small
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

CONF = ROOT / "conf" / "experiment"
EXPERIMENTS = sorted(path.relative_to(CONF).with_suffix("").as_posix() for path in CONF.rglob("*.yaml"))


def weights(run: Path, name: str = "last") -> dict[str, torch.Tensor]:
    return torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True)["state_dict"]


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def write_pictures(folder: Path, count: int = 40) -> None:
    """Plain red pictures of two classes."""
    for i in range(count):
        (folder / f"class{i % 2}").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 24), (6 * i, 0, 0)).save(folder / f"class{i % 2}" / f"{i}.png")


def two_batches(experiment: str, data: Path, run: Path, *overrides: str) -> dict:
    """Trains an experiment for two batches, on files that stand in for its data; returns its results."""
    from vaelab.commands.train import train

    config = composed(
        [
            f"experiment={experiment}",
            f"paths.data_dir={data}",
            "trainer.accelerator=cpu",
            "trainer.max_epochs=1",
            "trainer.limit_train_batches=2",
            "trainer.limit_val_batches=1",
            "trainer.enable_progress_bar=false",
            "data.batch_size=8",
            "data.eval_batch_size=16",
            "data.val_size=16",
            "evaluation.metrics.likelihood.num_samples=2",
            "evaluation.metrics.likelihood.num_images=4",
            "evaluation.figures=false",  # which tests/figures draws of each kind of model
            "evaluation.report=false",
            *overrides,
        ],
        run,
    )
    if "num_train" in config.data.dataset:
        config.data.dataset.num_train, config.data.dataset.num_test = 64, 32
    if "imputation" in config.evaluation.metrics:
        config.evaluation.metrics.imputation.num_samples = 20
    if config.data.num_labelled is not None:
        config.data.num_labelled = 20
    train(config)
    return json.loads((run / "results.json").read_text())


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_trains_two_batches_without_a_download(experiment: str, tmp_path: Path) -> None:
    data, overrides = write_idx(tmp_path / "data"), []
    text = (CONF / f"{experiment}.yaml").read_text()
    for base in re.findall(r"- /experiment/(\w+)", text):
        text += (CONF / f"{base}.yaml").read_text()
    if "override /data: folder" in text:
        write_pictures(tmp_path / "pictures")
        overrides = [f"data.root={tmp_path / 'pictures'}"]
    if "override /data: array" in text:
        np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(100, 11)).astype("float32"))
        overrides = [f"data.file={tmp_path / 'x.npy'}"]
    if "override /data: table" in text:
        (tmp_path / "x.csv").write_text("a,b\n" + "".join(f"{i / 7:.3f},{'xy'[i % 2]}\n" for i in range(100)))
        (tmp_path / "hidden.csv").write_text("1,1\n2,2\n")
        overrides = [f"data.file={tmp_path / 'x.csv'}", f"data.hidden={tmp_path / 'hidden.csv'}"]
    (first,) = re.findall(r"pretrained: \?\?\? .*experiment=(\w+)", text) or [None]
    if first is not None:
        two_batches(first, data, tmp_path / "first")
        overrides = [f"pretrained={tmp_path / 'first'}"]
    results = two_batches(experiment, data, tmp_path / "run", *overrides)
    assert results["steps"] == 2
    assert results["test"]["elbo"] == pytest.approx(-results["test"]["rate"] - results["test"]["distortion"])
    assert results["test"]["log_likelihood"] is not None


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, made by the command that a user types."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    options = [option for option in SMALL if option != "trainer.enable_progress_bar=false"]
    done = command("train.py", *options, f"hydra.run.dir={folder}")
    assert "tensorboard --logdir" in done.stdout
    assert folder.name in done.stdout
    return folder


def test_a_run_leaves_its_config_checkpoints_and_figures(finished: Path) -> None:
    assert (finished / ".hydra" / "config.yaml").is_file()
    assert "latent_dim=2" in (finished / ".hydra" / "overrides.yaml").read_text()
    for name in ("best", "last"):
        checkpoint = torch.load(finished / "checkpoints" / f"{name}.ckpt", weights_only=True)
        assert checkpoint["config"]["latent_dim"] == 2
    figures = {path.stem for path in (finished / "figures").glob("*.png")}
    interpolated = {"interpolations", "spherical_interpolations", "traversals", "manifold", "latent_space"}
    assert figures == {"reconstructions", "samples", "nearest_training_images"} | interpolated
    assert (finished / "figures" / "moving_traversals.gif").is_file()
    assert (finished / "report.html").is_file()
    for path in (finished / "figures").glob("*.png"):
        with Image.open(path) as picture:
            assert min(picture.size) >= 200


def test_results_say_what_was_measured_and_where_it_came_from(finished: Path) -> None:
    results = json.loads((finished / "results.json").read_text())
    test = results["test"]
    assert test["elbo"] == pytest.approx(-test["rate"] - test["distortion"])
    assert test["log_likelihood"] > test["elbo"] - 3 * (test["elbo_std_error"] + test["log_likelihood_std_error"])
    assert test["num_samples"] == 4
    assert test["num_images"] == 96
    assert test["num_images_log_likelihood"] == 20
    assert 1 <= test["effective_sample_size"] <= 4
    assert test["bits_per_dim"] == pytest.approx(-test["log_likelihood"] / (256 * torch.tensor(2.0).log().item()), rel=1e-6)
    assert 0 <= test["active_units"] <= test["latent_dim"] == 2
    assert results["seed"] == 0
    assert {"git_commit", "git_dirty", "versions", "device", "wall_time_s", "peak_memory_mib"} <= results.keys()


def test_metrics_csv_has_training_and_validation_side_by_side(finished: Path) -> None:
    rows = list(csv.DictReader((finished / "metrics.csv").open()))
    trained = [row for row in rows if row["train/loss"]]
    assert [int(row["step"]) for row in trained] == [2, 5, 8, 11]  # 6 steps an epoch, logged every 3
    validated = [row for row in rows if row["val/elbo"]]
    assert [int(row["step"]) for row in validated] == [5, 11]
    for row in validated:
        assert float(row["val/elbo"]) == pytest.approx(-float(row["val/rate"]) - float(row["val/distortion"]), rel=1e-5)
    assert sum(bool(row["test/elbo"]) for row in rows) == 1


def test_tensorboard_has_scalars_layout_images_projector_and_hparams(finished: Path) -> None:
    events = EventAccumulator(str(finished), size_guidance={"scalars": 0, "images": 0, "tensors": 0})
    events.Reload()
    assert {"train/elbo", "val/elbo", "train/rate", "val/rate", "test/elbo", "train/images_per_second"} <= set(events.Tags()["scalars"])
    shown = {f"figures/{path.stem}" for path in (finished / "figures").iterdir()}
    assert set(events.Tags()["images"]) == {"reconstructions", "samples", "traversals"} | shown
    assert "custom_scalars__config__" in events.Tags()["tensors"]
    start = HParamsPluginData.FromString(events.PluginTagToContent("hparams")["_hparams_/session_start_info"])
    assert start.session_start_info.hparams["latent_dim"].number_value == 2
    assert start.session_start_info.hparams["objective.beta"].number_value == 1.0
    assert start.session_start_info.hparams["objective"].string_value == "ELBO"
    assert not any(name.endswith(("_target_", "_partial_")) for name in start.session_start_info.hparams)
    assert "epoch" not in events.Tags()["scalars"]
    assert (finished / "projector_config.pbtxt").is_file()
    (metadata,) = (finished / "projector").rglob("metadata.tsv")
    assert metadata.read_text().splitlines()[0].split("\t") == ["x", "y", "radius"]


def test_evaluate_and_generate_need_only_the_run_folder(finished: Path, tmp_path: Path) -> None:
    results = json.loads((finished / "results.json").read_text())["test"]
    command(
        "evaluate.py", f"run={finished}", "metrics.likelihood.num_samples=4", "metrics.likelihood.num_images=20", "again=true", cwd=tmp_path
    )
    again = json.loads((finished / "results.json").read_text())["test"]
    assert (finished / "report.html").is_file()
    assert again["rate"] == pytest.approx(results["rate"], rel=1e-5)
    assert again["log_likelihood"] == pytest.approx(results["log_likelihood"], rel=1e-5)  # the same seed, the same noise
    command("generate.py", f"run={finished}", "output=pictures", cwd=tmp_path)
    assert {path.stem for path in (tmp_path / "pictures").glob("*.png")} >= {"samples", "manifold"}
    assert [path.name for path in tmp_path.iterdir()] == ["pictures"]  # no folder or log of Hydra's


@pytest.mark.parametrize("data", ["circles", "folder", "freyfaces", "mnist", "mnist_binarized"])
def test_a_run_on_any_data_can_be_opened_again(data: str, tmp_path: Path) -> None:
    """And is stored as it was composed: interpolations stay, so that paths.data_dir can be another one tomorrow."""
    from vaelab.build import open_run
    from vaelab.commands.train import train

    write_idx(tmp_path)
    (tmp_path / "FreyFaces").mkdir()
    np.save(tmp_path / "FreyFaces" / "faces.npy", np.random.default_rng(0).integers(0, 256, (1965, 28, 20), dtype=np.uint8))
    write_pictures(tmp_path / "pictures")
    options = [f"data={data}", f"paths.data_dir={tmp_path}", "encoder=mlp", "decoder=mlp", "trainer=debug", "data.val_size=30"]
    options += [
        "evaluation.metrics.likelihood.num_samples=2",
        "evaluation.metrics.likelihood.num_images=4",
        "trainer.enable_progress_bar=false",
        "data.batch_size=8",
    ]
    options += [f"data.root={tmp_path / 'pictures'}", "data.size=16", "data.val_size=10"] if data == "folder" else []
    options += [] if data in ("circles", "folder") else QUICK  # pictures of one channel and of three
    config = composed(options, tmp_path / "run")
    before = OmegaConf.to_container(config, resolve=False)
    train(config)
    opened = open_run(tmp_path / "run")
    assert OmegaConf.to_container(opened.config, resolve=False) == before | {"speed": dict(opened.config.speed)}
    (x, y), *_ = opened.datamodule.batches("test")
    assert opened.model.reconstruct(x, y).shape == x.shape
    assert len(list((tmp_path / "run" / "figures").glob("*.png"))) == (7 if data in ("circles", "folder") else 0)


def test_an_old_run_is_read_with_its_own_config(finished: Path) -> None:
    from vaelab.build import load

    model = load(finished)  # built with 32 hidden units and 2 latents, which are not the defaults of today
    assert model.encode(torch.zeros(1, 1, 16, 16)).event_shape == (2,)


def test_the_split_is_recorded_and_is_that_of_the_seed(finished: Path, tmp_path: Path) -> None:
    split = json.loads((finished / "split.json").read_text())
    other = json.loads((train_small(tmp_path / "run", *QUICK, "seed=5", "evaluation.enabled=false") / "split.json").read_text())
    assert all(split[part] == other[part] for part in ("split_seed", "train", "val"))
    assert split["val"]["num"] == len(set(split["val"]["indices"])) == 64
    assert split["train"]["num"] == 192
    assert (split["test"]["num"], "test" in other) == (96, False)  # test data are read when they are asked for


def test_evaluation_and_pictures_do_not_change_the_weights(tmp_path: Path) -> None:
    plain = train_small(
        tmp_path / "a", "~callbacks.pictures", "~callbacks.first_batch", "evaluation.enabled=false", "evaluation.figures=false"
    )
    full = train_small(tmp_path / "b", "callbacks.pictures.every_n_epochs=1")
    rarely = train_small(
        tmp_path / "c", "trainer.check_val_every_n_epoch=2", "~callbacks.best", "evaluation.checkpoint=last", "evaluation.figures=false"
    )
    assert same(weights(plain), weights(full))
    assert same(weights(plain), weights(rarely))


def test_limits_of_batches_hold_after_training_and_not_when_the_run_is_opened(tmp_path: Path) -> None:
    """96 test images in five batches, and 64 validation images in four; the rate has no noise."""
    from vaelab.build import open_run

    limits = ["trainer.limit_val_batches=0.5", "trainer.limit_test_batches=2", "data.eval_batch_size=20"]
    run = train_small(tmp_path / "run", *limits, *QUICK, "evaluation.checkpoint=last")
    results = json.loads((run / "results.json").read_text())
    assert results["test"]["num_images"] == 20 + 19
    rates = [float(row["val/rate"]) for row in csv.DictReader((run / "metrics.csv").open()) if row["val/rate"]]
    assert results["val"]["rate"] == pytest.approx(rates[-1], rel=1e-5)
    assert sum(len(x) for x, _ in open_run(run).datamodule.batches("test")) == 96


def test_an_early_end_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is a million nats better than the first validation."""
    stop = ["callbacks=[default,early_stopping]", "callbacks.early_stopping.patience=2", "callbacks.early_stopping.min_delta=1e6"]
    train_small(tmp_path / "run", *QUICK, *stop, "trainer.max_epochs=9")
    assert "a callback ended training in epoch 3 of 9" in capsys.readouterr().out


def test_seed_0_is_a_seed(tmp_path: Path) -> None:
    runs = [
        train_small(tmp_path / name, *QUICK, f"seed={seed}", "evaluation.enabled=false") for name, seed in (("a", 0), ("b", 0), ("c", 1))
    ]
    assert same(weights(runs[0]), weights(runs[1]))
    assert not same(weights(runs[0]), weights(runs[2]))


def test_a_small_vae_learns_circles(tmp_path: Path) -> None:
    """Far better than the best model without latents, whose distortion is the entropy of the mean image."""
    from vaelab.data import circles

    mean = circles("train", size=16, num_train=2048, num_test=96).x.double().div(255).mean(0)
    without_latents = torch.distributions.Bernoulli(mean.clamp(1e-6, 1 - 1e-6)).entropy().sum().item()
    wide = ["encoder.hidden=[128]", "decoder.hidden=[128]"]
    train_small(tmp_path / "run", *QUICK, *wide, "data.dataset.num_train=2048", "trainer.max_epochs=15")
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert -results["test"]["elbo"] < 0.6 * without_latents
    assert results["test"]["active_units"] == 2
