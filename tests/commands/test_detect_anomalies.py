"""scripts/detect_anomalies.py: anomalies among test data, from a run folder alone."""

import csv
import json
import multiprocessing
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dataset_files import write_idx
from forked_scripts import ROOT, command
from hydra import compose, initialize_config_dir
from PIL import Image
from small_runs import SMALL, composed, train_small
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from vaelab import build
from vaelab.applications.detection import detection
from vaelab.commands import train as training
from vaelab.commands.anomalies import detect_anomalies, scoring
from vaelab.commands.anomalies.outcome import extremes
from vaelab.commands.anomalies.parts import find_parts
from vaelab.data import mnist
from vaelab.data.modality import to_float
from vaelab.runs.folder import RunFolder

SHORT = ["accelerator=cpu", "num_train=20", "num_samples=3", "num_pictured=4"]
SCORES = ["negative_log_likelihood", "negative_elbo", "distortion", "rate", "kl_to_aggregate", "typicality", "complexity_ratio"]
QUICK = ["trainer.max_epochs=1", "evaluation.enabled=false", "evaluation.figures=false", "evaluation.report=false"]
# a run of a second on digits
DIGITS = [option for option in SMALL if not option.startswith(("data=", "data.size", "data.dataset"))]
DIGITS += ["data=mnist_binarized", *QUICK]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where data are: stand-ins of MNIST, with 60 test images, and of KMNIST, with 40."""
    root = write_idx(tmp_path_factory.mktemp("data"))
    return write_idx(root, "KMNIST", num_test=40)


def train(folder: Path, root: Path, *overrides: str) -> Path:
    training.train(composed([*DIGITS, f"paths.data_dir={root}", *overrides], folder))
    return folder


@pytest.fixture(scope="module")
def of_three_classes(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Path:
    run = train(tmp_path_factory.mktemp("classes") / "run", root, "data.classes=[1,3,8]")
    detect(run)
    return run


@pytest.fixture(scope="module")
def of_all_classes(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Path:
    return train(tmp_path_factory.mktemp("all") / "run", root, "logger=csv")


@pytest.fixture(scope="module")
def discs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_small(tmp_path_factory.mktemp("discs") / "discs", "data.classes={radius: [0, 1]}", "logger=csv", *QUICK)


@pytest.fixture
def run(of_three_classes: Path, tmp_path: Path) -> Path:
    """That has been searched with the options in SHORT."""
    return Path(shutil.copytree(of_three_classes, tmp_path / "run"))


def detect(run: Path | str, *overrides: str) -> None:
    """What the script does."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        detect_anomalies(compose("detect_anomalies", [f"run='{run}'", *SHORT, *overrides]))


def table(run: Path, name: str = "other_classes") -> list[dict[str, str]]:
    with (run / "anomalies" / name / "scores.csv").open() as file:
        return list(csv.DictReader(file))


def results(run: Path, name: str = "other_classes") -> dict[str, Any]:
    return json.loads((run / "anomalies" / name / "results.json").read_text())


def test_other_classes_are_anomalies(run: Path, root: Path) -> None:
    """Each test image has one line, with its class; the rest of the folder says and shows what the lines say."""
    rows = table(run)
    assert list(rows[0]) == ["data", "index", "name", "y", "is_anomaly", "checksum", *SCORES]
    labels = mnist(str(root), "test").y
    assert sorted(int(row["index"]) for row in rows) == list(range(60))
    assert all(int(row["y"]) == labels[int(row["index"])] for row in rows)
    assert all((row["is_anomaly"] == "0") == (int(row["y"]) in (1, 3, 8)) for row in rows)
    found = results(run)
    assert (found["normal"], found["anomalies"]) == ("18 of mnist_binarized [1, 3, 8]", "42 of other classes")
    assert found["scores"].keys() == set(SCORES)
    is_anomaly = torch.tensor([row["is_anomaly"] == "1" for row in rows])
    for name, report in found["scores"].items():
        values = torch.tensor([float(row[name]) for row in rows], dtype=torch.float64)
        assert report["auroc"] == detection(values, is_anomaly)["auroc"]
    assert {path.name for path in (run / "anomalies" / "other_classes").iterdir()} == {
        ".lock",
        "scores.csv",
        "results.json",
        "scores.png",
        "most_and_least_anomalous.png",
    }
    events = EventAccumulator(str(run))
    events.Reload()
    assert {f"anomalies/other_classes/{name}" for name in ("scores", "most_and_least_anomalous")} <= set(events.Tags()["images"])


def test_numbers_are_those_of_the_model(run: Path) -> None:
    """The rate has a closed form: each line has that of the example of its index."""
    opened = build.open_run(run)
    opened.datamodule.setup("test")
    split = opened.datamodule.splits["test"]
    of_row = {index: i for i, index in enumerate(split.indices.tolist())}
    for row in table(run):
        x, _ = split[torch.tensor([of_row[int(row["index"])]])]
        q = opened.model.encode(to_float(x))
        rate = torch.distributions.kl_divergence(q.base_dist, torch.distributions.Normal(0.0, 1.0)).sum().item()
        assert float(row["rate"]) == pytest.approx(rate, rel=1e-3, abs=1e-4)


def test_the_extremes_are_those_of_the_scores(run: Path) -> None:
    opened = build.open_run(run)
    config = composed([f"run={run}", *SHORT], run, "detect_anomalies")
    _, part = find_parts(opened, config)
    scores = scoring.read_scores(run / "anomalies" / "other_classes" / "scores.csv", part)["distortion"]
    high, low = extremes(part, scores, opened, config)
    assert high.scores.tolist() == scores.sort(descending=True).values[:4].tolist()
    assert low.scores.tolist() == scores.sort().values[:4].tolist()
    x = to_float(part.split[torch.arange(len(part.split))][0])
    assert torch.equal(high.x[0], x[scores.argmax()])
    assert torch.equal(low.x[0], x[scores.argmin()])
    torch.testing.assert_close(high.reconstructions, opened.model.reconstruct(high.x))


def test_a_killed_search_goes_on_where_it_was(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a file that ends within a line of the third batch of anomalies: the first two are kept, and all becomes what it would have."""
    monkeypatch.setattr(scoring, "BATCH", 10)
    detect(run, f"output={run}/anomalies/killed")
    path = run / "anomalies" / "killed" / "scores.csv"
    lines, whole = path.read_text().splitlines(), results(run, "killed")
    path.write_text("\n".join([*lines[: 1 + 18 + 20], lines[39][:30]]))
    (path.parent / "results.json").write_text(json.dumps({"options": whole["options"]}))
    detect(run, f"output={run}/anomalies/killed")
    assert path.read_text().splitlines() == lines
    assert results(run, "killed")["scores"] == whole["scores"]


def test_what_is_known_is_kept(run: Path) -> None:
    """A mark in the file survives a search of fewer images and then one of more."""
    path = run / "anomalies" / "other_classes" / "scores.csv"
    lines = path.read_text().splitlines()
    lines = [*lines[:11], *lines[19:29]]  # ten of each
    lines[1] = ",".join([*lines[1].split(",")[:-1], "123456"])
    path.write_text("\n".join([*lines, ""]))
    detect(run, "num=5")
    assert path.read_text().splitlines() == lines
    assert results(run)["normal"].startswith("5 of")
    detect(run)
    assert path.read_text().splitlines()[: len(lines)] == lines
    assert sorted(int(row["index"]) for row in table(run)) == list(range(60))


def test_scores_found_otherwise_are_not_overwritten(run: Path) -> None:
    before = table(run)
    with pytest.raises(ValueError, match=r"other_classes holds scores found with num_samples=3: choose output=<another>"):
        detect(run, "num_samples=4")
    assert table(run) == before
    detect(run, "num_samples=4", f"output={run}/anomalies/more", "num=5")
    assert len(table(run, "more")) == 10
    model = run / "checkpoints" / "best.ckpt"
    model.write_bytes((run / "checkpoints" / "last.ckpt").read_bytes() + b" ")
    with pytest.raises(ValueError, match=r"holds scores found with checkpoint=best.ckpt \w+: choose"):
        detect(run)


def test_what_else_is_at_work_or_broken_is_said(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = run / "anomalies" / "other_classes"
    taken = multiprocessing.get_context("fork").Process(target=detect, args=(run,))
    with RunFolder(folder).claim():
        taken.start()
        taken.join()
    assert f"another process is at work in {folder}" in capfd.readouterr().err
    (folder / "results.json").write_text("{")
    with pytest.raises(ValueError, match=r"results.json cannot be read \(.*\): remove its folder, or choose output="):
        detect(run)


def test_one_dataset_against_another(of_all_classes: Path, tmp_path: Path) -> None:
    """The other is seen through the transform of the run: its pixels are 0 or 1; a run without TensorBoard has files alone."""
    run = Path(shutil.copytree(of_all_classes, tmp_path / "run"))
    detect(run, "against=kmnist", "pictured=kl_to_aggregate")
    rows = table(run, "kmnist")
    assert [row["data"] for row in rows] == ["mnist_binarized"] * 60 + ["kmnist"] * 40
    config = composed(["against=kmnist", f"run={run}"], run, "detect_anomalies")
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        _, part = find_parts(build.open_run(run), config)
    assert to_float(part.split[torch.arange(40)][0]).unique().tolist() == [0.0, 1.0]
    assert not any(run.glob("events.*"))


def test_a_folder_of_pictures_and_another_run(of_all_classes: Path, tmp_path: Path) -> None:
    """All pictures below the folder, whatever their size; the test data of the run."""
    run = Path(shutil.copytree(of_all_classes, tmp_path / "run"))
    for i in range(7):
        (tmp_path / "pictures" / f"{i % 2}").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30 + i), (30 * i, 0, 99)).save(tmp_path / "pictures" / f"{i % 2}" / f"{i}.png")
    detect(run, f"against={tmp_path / 'pictures'}")
    anomalies = {row["index"]: row["name"] for row in table(run, "pictures") if row["is_anomaly"] == "1"}
    assert sorted(anomalies) == [str(i) for i in range(7)]
    assert sorted(anomalies.values()) == sorted(str(path) for path in (tmp_path / "pictures").rglob("*.png"))
    assert {row["name"] for row in table(run, "pictures") if row["is_anomaly"] == "0"} == {f"row {i}" for i in range(60)}
    Image.new("RGB", (40, 30), (1, 200, 99)).save(tmp_path / "pictures" / "0" / "0.png")
    with pytest.raises(ValueError, match=r"scores.csv holds scores of other examples than 7 of pictures: choose output=<another>"):
        detect(run, f"against={tmp_path / 'pictures'}")
    other = train_small(tmp_path / "discs", "data.size=28", "data.dataset.num_test=30", "logger=csv", *QUICK)
    detect(run, f"against={other}", f"background={of_all_classes}")
    rows = table(run, "discs")
    assert sum(row["is_anomaly"] == "1" for row in rows) == 30
    assert all(len(row["y"].split()) == 3 for row in rows if row["is_anomaly"] == "1")  # factors
    ratios = np.array([float(row["likelihood_ratio"]) for row in rows])  # of the same model, with other noise: symmetric around 0
    assert 0 < abs(ratios.mean()) < 4 * ratios.std(ddof=1) / len(ratios) ** 0.5


def test_a_single_new_picture_stands_among_the_normal_ones(
    of_all_classes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """There is no ROC curve of one example: its scores, and the share of normal examples whose score is lower."""
    run, path = Path(shutil.copytree(of_all_classes, tmp_path / "run")), tmp_path / "strange.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (28, 28), np.uint8)).save(path)
    detect(run, f"against={path}")
    rows, found = table(run, "strange.png"), results(run, "strange.png")
    (row,) = [row for row in rows if row["is_anomaly"] == "1"]
    assert row["name"] == found["name"] == str(path)
    for name in SCORES:
        below = np.mean([float(other[name]) < float(row[name]) for other in rows if other["is_anomaly"] == "0"])
        assert found["scores"][name] == {"score": float(row[name]), "share_below": below}
    assert f"{path}: its scores, and how many of the 60 of mnist_binarized are below" in capsys.readouterr().out


def test_scores_of_an_older_file_go_on_without_names(run: Path) -> None:
    path = run / "anomalies" / "other_classes" / "scores.csv"
    whole = table(run)
    rows = [[value for name, value in row.items() if name != "name"] for row in whole]
    header = [name for name in whole[0] if name != "name"]
    with path.open("w") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows[:25]])
    detect(run)
    again = [[*row.values()] for row in table(run)]
    assert [row[:5] for row in again] == [row[:5] for row in rows]  # the details; the noise of scores is that of another batch
    assert all(len(row) == len(header) for row in again)


def test_values_of_factors_can_be_normal(discs: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(discs, tmp_path / "run"))
    detect(run)
    assert {row["y"].split()[2] for row in table(run) if row["is_anomaly"] == "0"} == {"0", "1"}
    assert not {row["y"].split()[2] for row in table(run) if row["is_anomaly"] == "1"} & {"0", "1"}


def test_what_8_bits_cannot_hold_has_no_complexity_ratio(tmp_path: Path) -> None:
    """Images of which half is missing."""
    missing = ["missing=true", "data.transform={_target_:vaelab.data.Missing,share:0.5}", "data.static_seed=0"]
    run = train_small(tmp_path / "run", "data.classes={radius: [0, 1]}", "logger=csv", *missing, *QUICK)
    detect(run, "num=10")
    assert results(run)["scores"].keys() == set(SCORES) - {"complexity_ratio"}
    assert (run / "anomalies" / "other_classes" / "most_and_least_anomalous.png").is_file()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], "trained on all of mnist_binarized, so that none of it is an anomaly: choose other data, such as against=kmnist, or a run"),
        (["against=mnist"], "against=mnist are the test data of the run itself"),
        (["against=circles"], r"the run is of data of shape \[1, 28, 28\], but against=circles has shape \[1, 32, 32\]"),
        (["against=nothing"], r"against=nothing is neither a folder nor a choice of conf/data \(array, .*kmnist"),
        (["against=folder"], "against=folder is neither a folder nor a choice of conf/data"),
        (["against={empty}"], "is a folder without pictures: looked for "),
        (["against=kmnist", "num=0"], "num=0 must be a whole number of at least 2"),
        (["against=kmnist", "num=true"], "num=True must be a whole number of at least 2"),
        (["against=kmnist", "output={discs}"], r"output=.*discs is the folder of a run: give another, such as output=.*discs/mine"),
        (["against=kmnist", "output={discs}/metrics.csv"], "metrics.csv is a file: give the name of a folder"),
        (["against=kmnist", "output=7"], "output=7 must be text"),
        (["against=kmnist", "pictured=entropy"], "pictured=entropy is none of the scores of this model: negative_log_likelihood, "),
        (["against=kmnist", "background=nowhere"], "there is no run folder"),
        (["against=kmnist", "background={discs}"], r"data of shape \[1, 28, 28\], but background=.*discs of \[1, 16, 16\]"),
    ],
)
def test_what_cannot_be_found_out_is_refused_before_it_is_scored(
    overrides: list[str], message: str, of_all_classes: Path, discs: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(of_all_classes, tmp_path / "run"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=message):
        detect(run, *(override.format(empty=tmp_path / "empty", discs=discs) for override in overrides))
    assert not list(run.rglob("scores.csv"))


def test_runs_that_know_no_anomaly_are_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no example has class \[11\]: there are 0 \(0 - zero\), 1 \(1 - one\)"):
        train(tmp_path / "unknown", root, "data.classes=[11]")
    run = train(tmp_path / "all", root, "data.classes=[0,1,2,3,4,5,6,7,8,9]")
    with pytest.raises(ValueError, match=r"are all classes, so that none of it is an anomaly"):
        detect(run)
    run = train(tmp_path / "conditional", root, "num_classes=10", "data.classes=[1,2]")
    with pytest.raises(ValueError, match=r"is shown y \(num_classes=10\): anomalies are found by a model with num_classes=0"):
        detect(run)


def test_what_a_user_types(of_all_classes: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(of_all_classes, tmp_path / "run"))
    done = command("detect_anomalies.py", f"run={run}", "against=kmnist", *SHORT)
    assert "anomalies: 40 of kmnist; normal: 60 of mnist_binarized" in done.stdout
    assert all(name in done.stdout for name in [*SCORES, "AUROC", "AUPR", "FPR at 95 % TPR", "AUPR 0.400", "kmnist/scores.csv"])
    assert "Warning" not in done.stderr
