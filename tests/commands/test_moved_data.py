"""Data that have moved, changed or are gone since a run was trained, from the command line."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from dataset_files import write_idx
from forked_scripts import command
from omegaconf import OmegaConf
from PIL import Image
from small_runs import QUICK, SMALL, composed

from vaelab.build import open_run
from vaelab.commands.train import train

SMALL_NETS = [word for word in SMALL if not word.startswith("data")]
EVALUATE = ["metrics.likelihood.num_samples=2", "accelerator=cpu", "again=true", "report=false"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pictures/ and a run on them."""
    top = tmp_path_factory.mktemp("moved")
    for i in range(40):
        (top / "pictures" / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((16, 16), 6 * i, np.uint8)).save(top / "pictures" / "ab"[i % 2] / f"{i}.png")
    words = ["data=folder", f"data.root={top / 'pictures'}", "data.size=16", "data.channels=1", "trainer.max_epochs=1"]
    train(composed([*SMALL_NETS, *QUICK, *words], top / "run"))
    return top


@pytest.fixture
def top(trained: Path, tmp_path: Path) -> Path:
    """A copy, whose pictures are where the run does not look for them, with one more."""
    copied = Path(shutil.copytree(trained, tmp_path / "top"))
    config = copied / "run" / ".hydra"
    shutil.rmtree(config, ignore_errors=True)
    for path in (copied / "run" / "checkpoints").glob("*.ckpt"):
        checkpoint = torch.load(path, weights_only=True)
        checkpoint["config"]["data"]["root"] = str(tmp_path / "gone")
        torch.save(checkpoint, path)
    Image.fromarray(np.full((16, 16), 255, np.uint8)).save(copied / "pictures" / "a" / "new.png")
    return copied


LINES = {
    "evaluate": ["evaluate.py", *EVALUATE],
    "generate": ["generate.py", "accelerator=cpu", "num=2"],
    "inpaint": ["inpaint.py", "accelerator=cpu", "num=2", "num_pictured=1", "num_steps=2", "num_samples=2", "num_pseudo_gibbs=1"],
    "detect_anomalies": ["detect_anomalies.py", "accelerator=cpu", "num_train=4", "num_samples=2", "num=4"],
    "resume": ["train.py", "trainer.max_epochs=2", "evaluation.enabled=false"],
}


@pytest.mark.parametrize("name", LINES)
def test_every_command_takes_the_new_place(name: str, top: Path) -> None:
    script, *words = LINES[name]
    run = f"{'resume' if name == 'resume' else 'run'}={top / 'run'}"
    words += [f"against={top / 'pictures' / 'b'}"] if name == "detect_anomalies" else []
    done = command(script, run, f"data.root={top / 'pictures'}", *words)
    assert "1 that are new since this run was trained" in done.stdout


def test_what_is_evaluated_is_what_was_recorded(trained: Path, top: Path) -> None:
    before = json.loads((trained / "run" / "results.json").read_text())["test"]
    words = [*EVALUATE, "metrics.likelihood.num_samples=4"]
    command("evaluate.py", f"run={top / 'run'}", f"data.root={top / 'pictures'}", *words)
    after = json.loads((top / "run" / "results.json").read_text())["test"]
    assert after["num_images"] == before["num_images"] == 4
    assert after["elbo"] == pytest.approx(before["elbo"], rel=1e-5)


def test_a_run_without_a_record_still_evaluates(top: Path) -> None:
    """As older ones: the data are split anew."""
    (top / "run" / "split.json").write_text(json.dumps({"split_seed": 0, "num_train": 3, "num_val": 1, "val_indices": [0]}))
    assert "new since" not in command("evaluate.py", f"run={top / 'run'}", f"data.root={top / 'pictures'}", *EVALUATE).stdout


def test_a_place_that_the_data_do_not_have_is_refused(top: Path) -> None:
    done = command("evaluate.py", f"run={top / 'run'}", "data.file=x", check=False)
    assert "data.file=x: the data of this run, folder, have no data.file; set data_dir=<folder>" in done.stderr
    done = command("evaluate.py", f"run={top / 'run'}", check=False)
    assert re.search(r"there is no folder .*gone: set data.root to a folder of pictures", done.stderr)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data/ in the format of MNIST, and a run on them that was allowed to download."""
    top = tmp_path_factory.mktemp("digits")
    words = ["data=mnist", f"paths.data_dir={write_idx(top / 'data')}", "data.val_size=30", "download=true", "trainer.max_epochs=1"]
    train(composed([*SMALL_NETS, *QUICK, *words], top / "run"))
    return top


@pytest.mark.parametrize(("name", "key"), [("evaluate", "paths.data_dir"), ("resume", "data_dir")])
def test_both_names_of_the_folder_of_data(name: str, key: str, digits: Path, tmp_path: Path) -> None:
    run, data = shutil.copytree(digits / "run", tmp_path / "run"), shutil.copytree(digits / "data", tmp_path / "moved")
    script, *words = LINES[name]
    line = [script, f"{'resume' if name == 'resume' else 'run'}={run}", f"{key}={data}", *words]
    command(*line)
    path = next(data.rglob("t10k-images*" if name == "evaluate" else "train-images*"))
    path.write_bytes(path.read_bytes()[:-1] + b"\x07")
    line = [word.replace("max_epochs=2", "max_epochs=3") for word in line]
    assert re.search(r"the (test|train) data are not those of this run", command(*line, check=False).stderr)


def test_a_stored_download_is_not_believed(digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is fetched by opening, resuming or repeating a run, unless the line says so."""
    asked = []
    monkeypatch.setattr("torchvision.datasets.MNIST.download", lambda self: asked.append(self.root))
    assert open_run(digits / "run").config.download is False
    opened = open_run(digits / "run", places={"paths.data_dir": str(tmp_path), "download": True})
    with pytest.raises(ValueError, match="could not be downloaded"):
        opened.datamodule.setup("test")
    assert asked == [str(tmp_path)]
    checkpoint = torch.load(digits / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    checkpoint["config"]["data"]["dataset"]["download"] = True
    checkpoint["config"]["paths"]["data_dir"] = str(tmp_path)
    run = Path(shutil.copytree(digits / "run", tmp_path / "run"))
    torch.save(checkpoint, run / "checkpoints" / "last.ckpt")
    with pytest.raises(ValueError, match="add download=true to fetch it"):
        open_run(run, "last").datamodule.setup("test")
    with pytest.raises(ValueError, match="add download=true to fetch it"):
        train(OmegaConf.merge(composed([*SMALL, f"resume={run}"], run)))
    assert len(asked) == 1
