"""scripts/inpaint.py: completions of test data, from a run folder alone."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from forked_scripts import ROOT, command
from hydra import compose, initialize_config_dir
from PIL import Image
from small_runs import train_small
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from vaelab.applications import hidden
from vaelab.build import open_run
from vaelab.commands.inpaint import BATCH, inpaint_run

SHORT = ["accelerator=cpu", "num=5", "num_completions=3", "num_steps=4", "num_pseudo_gibbs=3", "num_samples=30", "num_pictured=4"]
QUICK = ["trainer.max_epochs=1", "evaluation.enabled=false", "evaluation.figures=false", "evaluation.report=false"]
FILES = {"results.json", "completions.npz", "completions.png"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_small(tmp_path_factory.mktemp("trained") / "run", *QUICK)


@pytest.fixture(scope="module")
def of_missing_values(tmp_path_factory: pytest.TempPathFactory) -> Path:
    transform = "data.transform={_target_:vaelab.data.Missing,share:0.5}"
    return train_small(tmp_path_factory.mktemp("missing") / "run", "missing=true", transform, "data.static_seed=0", "logger=csv", *QUICK)


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


def inpainted(run: Path | str, *overrides: str) -> None:
    """What the script does."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        inpaint_run(compose("inpaint", [f"run='{run}'", *SHORT, *overrides]))


def results(run: Path, name: str) -> dict[str, Any]:
    return json.loads((run / "inpainting" / name / "results.json").read_text())


def first_examples(run: Path, num: int) -> torch.Tensor:
    return next(iter(open_run(run).datamodule.batches("test")))[0][:num]


@pytest.mark.parametrize("method", ["pseudo_gibbs", "metropolis_within_gibbs", "importance_resampling"])
def test_what_is_left_behind(method: str, run: Path) -> None:
    """Arrays of the first test examples, numbers that are theirs, and a figure that TensorBoard shows too."""
    inpainted(run, f"method={method}")
    folder = run / "inpainting" / f"half_{method}"
    assert {path.name for path in folder.iterdir()} == FILES
    arrays = {name: torch.from_numpy(array) for name, array in np.load(folder / "completions.npz").items() if name != "names"}
    assert torch.equal(arrays["x"], first_examples(run, 5))
    data = open_run(run).datamodule
    data.setup("test")
    assert np.load(folder / "completions.npz")["names"].tolist() == [f"row {i}" for i in data.splits["test"].indices[:5].tolist()]
    assert torch.equal(arrays["hidden"], hidden("half", (1, 16, 16), 5))
    assert arrays["completions"].shape == (3, 5, 1, 16, 16)
    observed = ~arrays["hidden"]
    for values in (*arrays["completions"], arrays["mean"]):
        assert torch.equal(values[observed], arrays["x"][observed])
    found = results(run, folder.name)["found"]
    square = (arrays["mean"] - arrays["x"]).square()[arrays["hidden"]].reshape(5, -1).mean(1)
    assert found["rmse"] == pytest.approx(square.mean().sqrt().item(), rel=1e-5)
    assert found["rmse_std_error"] == pytest.approx(square.std().item() / 5**0.5 / 2 / found["rmse"], rel=1e-4)
    assert (found["num_examples"], found["hidden_share"]) == (5, 0.5)
    assert found["log_p_missing"] == pytest.approx(found["log_p_whole"] - found["log_p_observed"])
    assert ("acceptance_rate" in found) == (method == "metropolis_within_gibbs")
    assert results(run, folder.name)["options"]["num_steps"] == 4
    with Image.open(folder / "completions.png") as picture:
        assert min(picture.size) > 200
    events = EventAccumulator(str(run))
    events.Reload()
    assert f"inpainting/half_{method}" in events.Tags()["images"]


def test_errors_of_scaled_data_are_in_their_units(tmp_path: Path) -> None:
    """As the arrays of the file have them; images have one scale, by which they differ from those of what the model sees."""
    run = train_small(tmp_path / "run", "data.scale=standardize", "likelihood=gaussian", "trainer.max_epochs=1", "logger=csv", *QUICK)
    inpainted(run, "method=pseudo_gibbs")
    arrays, found = np.load(run / "inpainting" / "half_pseudo_gibbs" / "completions.npz"), results(run, "half_pseudo_gibbs")["found"]
    hidden = arrays["hidden"]
    of_mean, of_draws = ((arrays[name] - arrays["x"])[..., hidden] for name in ("mean", "completions"))
    assert found["rmse"] == pytest.approx(np.sqrt(np.square(of_mean).mean()), rel=1e-4)
    assert found["rmse_of_completions"] == pytest.approx(np.sqrt(np.square(of_draws).mean()), rel=1e-4)
    assert found["std"] == pytest.approx(np.sqrt(np.square(arrays["std"][hidden]).mean()), rel=1e-4)
    data = open_run(run).datamodule
    data.setup("test")
    assert found["rmse"] == pytest.approx(found["scaled_rmse"] * float(data.modality.scaling.scale), rel=1e-4)


def test_a_seed_repeats_itself(run: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        inpainted(run, "mask=random", f"seed={seed}", f"output={run}/inpainting/{name}")
    same, again, other = ((run / "inpainting" / name / "completions.npz").read_bytes() for name in "abc")
    assert same == again != other


def test_more_examples_than_a_batch_and_than_there_are(run: Path) -> None:
    inpainted(run, "num=1000", "method=importance_resampling", "num_pseudo_gibbs=0")
    arrays = np.load(run / "inpainting" / "half_importance_resampling" / "completions.npz")
    assert arrays["x"].shape[0] == arrays["mean"].shape[0] == arrays["completions"].shape[1] == 96 > BATCH
    assert np.array_equal(arrays["mean"][:, :, :8], arrays["x"][:, :, :8])


def test_masks_from_files(run: Path, tmp_path: Path) -> None:
    """A picture and an array of the same places; a name that is chosen; all hidden."""
    mask = np.zeros((16, 16), dtype=np.uint8)
    mask[3:7, 2:5] = 255
    Image.fromarray(mask).save(tmp_path / "window.png")
    np.save(tmp_path / "window.npy", mask)
    for suffix in ("png", "npy"):
        inpainted(run, f"mask='{tmp_path}/window.{suffix}'", "method=pseudo_gibbs", f"output={run}/inpainting/{suffix}")
        assert results(run, suffix)["found"]["hidden_share"] == 12 / 256
    inpainted(run, "mask=random", "missing_share=1", "method=pseudo_gibbs")
    found = results(run, "random_pseudo_gibbs")["found"]
    assert found["hidden_share"] == 1
    assert found["log_p_observed"] == pytest.approx(0, abs=3)  # of nothing


def test_values_that_the_data_miss_are_completed_and_not_judged(of_missing_values: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(of_missing_values, tmp_path / "run"))
    inpainted(run, "mask=box", "method=importance_resampling")
    arrays = {
        name: torch.from_numpy(array)
        for name, array in np.load(run / "inpainting/box_importance_resampling/completions.npz").items()
        if name != "names"
    }
    unknown = arrays["x"].isnan()
    assert 0.4 < unknown.double().mean().item() < 0.6
    assert torch.equal(arrays["hidden"], unknown | hidden("box", (1, 16, 16), 5))
    assert bool(arrays["completions"].isfinite().all())
    judged = hidden("box", (1, 16, 16), 5) & ~unknown
    square = (arrays["mean"] - arrays["x"]).square().where(judged, 0).flatten(1).sum(1) / judged.flatten(1).sum(1)
    assert results(run, "box_importance_resampling")["found"]["rmse"] == pytest.approx(square.mean().sqrt().item(), rel=1e-5)
    assert not any(run.glob("events.*"))


REFUSED = [
    (["method=gibbs"], "method=gibbs must be pseudo_gibbs, metropolis_within_gibbs or importance_resampling"),
    (["mask=quarter"], "mask=quarter is none of half, box and random, and no file"),
    (["mask='{small}'"], r"small.npy has shape \(3, 4\), but x has the space \(16, 16\)"),
    (["mask='{nothing}'"], "nothing.npy hides nothing, so there is nothing to complete"),
    (["mask=random", "missing_share=0"], r"missing_share=0 must lie in \(0, 1\]"),
    (["num_completions=0"], "num_completions=0 must be a whole number of at least 1"),
    (["num=2.5"], "num=2.5 must be a whole number of at least 1"),
    (["output='{run}'"], "is the folder of a run: give another, such as output="),
    (["num_pseudo_gibbs=0"], "num_pseudo_gibbs=0 must be at least 1"),
]


@pytest.mark.parametrize(("overrides", "message"), REFUSED, ids=lambda value: value[0] if isinstance(value, list) else "")
def test_what_cannot_be_completed_is_refused(overrides: list[str], message: str, run: Path, tmp_path: Path) -> None:
    masks = {"small": tmp_path / "small.npy", "nothing": tmp_path / "nothing.npy"}
    np.save(masks["small"], np.ones((3, 4)))
    np.save(masks["nothing"], np.zeros((16, 16)))
    with pytest.raises(ValueError, match=message):
        inpainted(run, *(override.format(**masks, run=run) for override in overrides))
    assert not (run / "inpainting").exists()


def test_runs_that_have_nothing_to_open(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no run folder"):
        inpainted(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"holds no checkpoints/\*.ckpt"):
        inpainted(tmp_path / "empty")


def test_what_a_user_types(run: Path) -> None:
    done = command("inpaint.py", f"run={run}", "mask=box", *SHORT)
    assert all(word in done.stdout for word in ("metropolis_within_gibbs, mask=box", "rmse", "log_p_missing", "±", "completions.png"))
    failed = command("inpaint.py", f"run={run}", "mask=quarter", *SHORT, check=False)
    assert failed.returncode != 0
    assert "Traceback" not in failed.stderr
    assert "mask=quarter is none of half, box and random" in failed.stderr


def test_pictures_of_ones_own_are_completed(run: Path, tmp_path: Path) -> None:
    """One, or all of a folder, as the data of the run are read; with their names."""
    pixels = np.random.default_rng(0).integers(0, 2, (2, 16, 16), np.uint8) * 255
    for name, values in zip("ab", pixels, strict=True):
        (tmp_path / "own").mkdir(exist_ok=True)
        Image.fromarray(values).save(tmp_path / "own" / f"{name}.png")
    for file, count in ((tmp_path / "own" / "a.png", 1), (tmp_path / "own", 2)):
        inpainted(run, f"input={file}", "method=pseudo_gibbs")
        arrays = np.load(run / "inpainting" / f"{file.stem}_half_pseudo_gibbs" / "completions.npz")
        assert arrays["names"].tolist() == [str(tmp_path / "own" / f"{name}.png") for name in "ab"[:count]]
        assert (arrays["x"][:, 0] * 255 == pixels[:count]).all()
    with pytest.raises(ValueError, match="input=nowhere is not there: give a picture, a folder of pictures, an array, or a table"):
        inpainted(run, "input=nowhere")
