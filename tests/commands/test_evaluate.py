"""scripts/evaluate.py: metrics from a run folder alone, added to what is known of the run."""

import json
import os
import re
import shutil
import subprocess
import threading
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch
from forked_scripts import ROOT, command
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from small_runs import train_small
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from vaelab.commands import evaluate as evaluation
from vaelab.metrics.data import Data
from vaelab.models import Model
from vaelab.runs.folder import RunFolder

SHORT = ["++metrics.likelihood.num_samples=3", "++metrics.likelihood.num_images=10"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_small(tmp_path_factory.mktemp("evaluate") / "run")


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


def evaluate(run: Path | str, *overrides: str, **metrics: dict[str, Any]) -> None:
    """What the script does, with metrics of this file beside those of conf/metrics."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = compose("evaluate", [f"run='{run}'", *SHORT, *overrides])
    assert isinstance(config, DictConfig)
    OmegaConf.set_struct(config, False)
    config.metrics = OmegaConf.merge(config.metrics, metrics) if "metrics=" not in "".join(overrides) else metrics
    evaluation.evaluate_runs(config)


def of_this_file(function: Any, **options: Any) -> dict[str, Any]:
    return {"_target_": f"{__name__}.{function.__name__}", "_partial_": True, **options}


def noise(model: Model, data: Data) -> dict[str, Any]:
    """A metric that is a random number, and that counts what it was given."""
    assert not model.training
    return {"noise": torch.rand(()).item(), "num_test": sum(len(x) for x, _ in data.batches("test", model.device))}


def broken(model: nn.Module, data: Data, why: str) -> dict[str, Any]:
    raise ValueError(why)


def killed(model: nn.Module, data: Data) -> dict[str, Any]:
    raise KeyboardInterrupt


def results(run: Path) -> dict[str, Any]:
    return json.loads((run / "results.json").read_text())


def test_what_a_metric_finds_is_added_to_what_was_known(run: Path) -> None:
    before = results(run)
    evaluate(run, noise=of_this_file(noise))
    after = results(run)
    assert after["test"]["num_test"] == 96
    assert after["test"].keys() == before["test"].keys() | {"noise", "num_test"}
    assert after["test"]["num_samples"] == 3
    assert after["test"]["elbo"] == pytest.approx(before["test"]["elbo"], rel=1e-5)  # the same seed, the same noise
    assert {key: value for key, value in after.items() if key not in ("test", "evaluations")} == {
        key: value for key, value in before.items() if key not in ("test", "evaluations")
    }
    how = after["evaluations"]["likelihood"]
    assert how["options"]["num_samples"] == 3
    assert how["seed"] == 0
    assert how["seconds"] >= 0
    assert not list(run.glob("*.tmp"))


def test_tensorboard_has_the_numbers_of_the_results_and_of_no_other_checkpoint(run: Path) -> None:
    evaluate(run, "metrics=[]", noise=of_this_file(noise))
    evaluate(run, "metrics=[]", "checkpoint=last", "seed=1", noise=of_this_file(noise))
    events = EventAccumulator(str(run)).Reload()
    (shown,) = events.Scalars("test/noise")
    assert (shown.step, shown.value) == (results(run)["steps"], pytest.approx(results(run)["test"]["noise"], rel=1e-6))
    assert {"test/elbo", "test/active_units"} <= set(events.Tags()["scalars"])
    assert not {"test/num_test", "test/elbo_std_error", "test/latent_dim"} & set(events.Tags()["scalars"])


def test_the_noise_of_a_metric_does_not_depend_on_the_others(run: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(run, tmp_path / "other"))
    evaluate(run, noise=of_this_file(noise))
    evaluate(other, "metrics=[]", noise=of_this_file(noise))
    assert results(run)["test"]["noise"] == results(other)["test"]["noise"]
    evaluate(other, "metrics=[]", "seed=1", noise=of_this_file(noise))
    assert results(run)["test"]["noise"] != results(other)["test"]["noise"]


def test_what_is_known_is_not_computed_again(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evaluate(run)
    first = results(run)["evaluations"]["likelihood"]["finished"]
    capsys.readouterr()
    evaluate(run)
    assert "known since" in capsys.readouterr().out
    assert results(run)["evaluations"]["likelihood"]["finished"] == first
    known = results(run)["test"]["num_samples"]
    evaluate(run, "metrics.likelihood.num_samples=4")
    assert results(run)["test"]["num_samples"] == 4
    assert f"likelihood: takes the place of what is known with num_samples={known}\n" in capsys.readouterr().out
    evaluate(run, "metrics.likelihood.num_samples=4", "again=true")
    assert "known since" not in capsys.readouterr().out


def test_the_numbers_at_the_end_of_training_are_those_of_the_metric(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = results(run)
    evaluate(run, "metrics.likelihood.num_samples=4", "metrics.likelihood.num_images=20")
    assert "likelihood: known since" in capsys.readouterr().out
    assert results(run) == before
    evaluate(run, "metrics.likelihood.num_samples=4", "metrics.likelihood.num_images=20", "again=true")
    assert results(run)["test"] == before["test"]
    assert results(run)["evaluations"]["likelihood"]["options"] == before["evaluations"]["likelihood"]["options"]


def test_a_metric_that_fails_after_training_does_not_stop_the_rest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quick = ["trainer.max_epochs=1", "evaluation.figures=false", "logger=csv"]
    run = train_small(tmp_path / "run", "metrics@evaluation.metrics=[udr,likelihood]", *quick)  # there is no other seed
    assert "could not be computed: udr: " in capsys.readouterr().out
    assert results(run)["evaluations"].keys() == {"likelihood"}


def test_what_cannot_be_computed_does_not_stop_the_rest(run: Path) -> None:
    with pytest.raises(ValueError, match=r"the rest is written(.|\n)*fail: no factors here"):
        evaluate(run, fail=of_this_file(broken, why="no factors here"), noise=of_this_file(noise))
    assert {"noise", "elbo"} <= results(run)["test"].keys()
    assert "fail" not in results(run)["evaluations"]


def test_an_interruption_loses_nothing_that_is_done(run: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        evaluate(run, noise=of_this_file(noise), stop=of_this_file(killed))
    assert results(run)["evaluations"].keys() == {"likelihood", "noise"}


def test_many_runs_at_once(trained: Path, tmp_path: Path) -> None:
    for name in ("a", "b/c"):
        shutil.copytree(trained, tmp_path / name)
    (tmp_path / "b" / "c" / "results.json").write_text("{")
    with pytest.raises(ValueError, match=r"b/c.*results.json cannot be read"):
        evaluate(f"{tmp_path}/**", "metrics=[]", noise=of_this_file(noise))
    assert "noise" in results(tmp_path / "a")["test"]
    with pytest.raises(ValueError, match=r"run=.*nothing\* matches no folder"):
        evaluate(f"{tmp_path}/nothing*")


def test_another_checkpoint_has_results_of_its_own(run: Path) -> None:
    before = results(run)
    evaluate(run, "checkpoint=last")
    assert results(run) == before
    other = json.loads((run / "results_last.json").read_text())
    assert other["checkpoint"] == "checkpoints/last.ckpt"
    assert other["test"]["num_samples"] == 3
    assert (run / "report_last.html").is_file()


def test_the_checkpoint_is_that_which_training_evaluated(tmp_path: Path) -> None:
    folder = train_small(tmp_path / "run", "evaluation.checkpoint=last", "trainer.max_epochs=1", "evaluation.figures=false")
    evaluate(folder, "metrics=[]", noise=of_this_file(noise))
    assert "noise" in results(folder)["test"]
    assert results(folder)["checkpoint"] == "checkpoints/last.ckpt"
    evaluate(folder, "checkpoint=best", "metrics=[]", noise=of_this_file(noise))
    assert (folder / "results_best.json").is_file()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["metrics.likelihood.num_samples=0"], r"metrics.likelihood.num_samples=0 must be a whole number of at least 1"),
        (["metrics.likelihood.num_images=0"], r"metrics.likelihood.num_images=0 must be a whole number of at least 1"),
        (["metrics.likelihood.num_samples=3.5"], r"metrics.likelihood.num_samples=3.5 must be a whole number of at least 1"),
        (["metrics=[]"], r"metrics=\[\] finds nothing out: choose some"),
        (["run=null"], r"run must be given: run=..."),
        (["checkpoint=first"], r"there is no .*first.ckpt: choose checkpoint=best or last"),
    ],
)
def test_bad_input_is_refused_in_words(run: Path, options: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate(run, *options)


class Page(HTMLParser):
    """What a page refers to, and what it says."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "action", "xlink:href")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_report_holds_everything_and_fetches_nothing(run: Path) -> None:
    evaluate(run)
    page = Page((run / "report.html").read_text())
    assert all(link.startswith(("data:", "#")) for link in page.links)
    assert sum(link.startswith("data:image/png") for link in page.links) == len(list((run / "figures").glob("*.png"))) >= 5
    shown = re.sub(r"\s+", " ", page.text)
    for expected in ("log_likelihood", "latent_dim: 2", "Training", f"{results(run)['test']['elbo']:.4g}"):
        assert expected in shown


@pytest.mark.skipif(not shutil.which("chromium") and "CI" not in os.environ, reason="needs chromium, which CI has")
def test_the_report_opens_in_a_browser_without_complaint(run: Path, tmp_path: Path) -> None:
    """Its content security policy forbids every request, and a browser says on its console what it has forbidden."""
    evaluate(run)
    picture = ROOT / "outputs" / "tests" / "report.png"  # kept, for people to look at
    picture.parent.mkdir(parents=True, exist_ok=True)
    picture.unlink(missing_ok=True)
    line = ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--window-size=1200,2400"]
    opened = subprocess.run(
        [*line, f"--user-data-dir={tmp_path / 'profile'}", f"--screenshot={picture}", (run / "report.html").as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "CONSOLE" not in opened.stderr
    assert picture.stat().st_size > 20_000  # it is not blank


def test_what_two_processes_add_at_once_is_all_there(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)

    def add(who: str) -> None:
        for i in range(50):
            run.add_results(Path("best.ckpt"), f"{who}{i}", {f"found_{who}{i}": i}, {"keys": [f"found_{who}{i}"]})

    both = [threading.Thread(target=add, args=(who,)) for who in "ab"]
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert len(run.results()["test"]) == 100


def test_weights_of_another_model_are_refused(run: Path) -> None:
    path = run / "checkpoints" / "best.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["config"]["latent_dim"] = 3
    torch.save(checkpoint, path)
    with pytest.raises(ValueError, match=r"the weights in .*best\.ckpt are not those of its model as .*: size mismatch"):
        evaluate(run)


def test_the_script_as_typed(run: Path, tmp_path: Path) -> None:
    done = command("evaluate.py", f"run={run}", *SHORT, cwd=tmp_path)
    assert "log_likelihood" in done.stdout
    assert "report.html" in done.stdout
    bad = command("evaluate.py", f"run={run}", "metrics=[nonsense]", check=False, cwd=tmp_path)
    assert bad.returncode != 0
    assert "metrics/nonsense" in bad.stderr
    assert not [path for path in tmp_path.iterdir() if path.name != "run"]  # no folder or log of Hydra's
