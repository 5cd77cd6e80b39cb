"""Published numbers and ours: the page is what the yamls and results say, and each row has a line that can be typed."""

import json
import re
import shutil
import subprocess
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import published
import pytest
import yaml
from published import Number, Row, mean_of, page, rows

ROWS = rows()


def row(**changed: object) -> Row:
    given = {
        "paper": "Kingma (2014)",
        "url": "https://arxiv.org",
        "place": "table 9",
        "hours": 1,
        "numbers": {"log_likelihood": Number(-86.76, 0.5)},
    }
    return Row(name="vae", **{**given, **changed})


def test_the_page_is_up_to_date() -> None:
    assert (published.ROOT / "docs/papers.md").read_text() == page(ROWS), "run python tests/support/published.py"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_row_says_what_its_yaml_trains(row: Row) -> None:
    text = (published.ROOT / f"conf/experiment/published/{row.name}.yaml").read_text()
    assert text.startswith("# @package _global_\n")
    assert f"\nname: {row.name}\n" in text
    assert row.url.startswith("https://")
    assert all(0 < number.within < 5 for number in row.numbers.values())


@pytest.mark.parametrize("path", sorted((published.ROOT / "docs/published").glob("*.json")), ids=lambda path: path.stem)
def test_results_are_those_of_a_row_that_is_still_the_same(path: Path) -> None:
    (row,) = [row for row in ROWS if row.name == path.stem]
    results = json.loads(path.read_text())
    assert (results["line"], results["yaml"]) == (row.line, row.digest), "train again, or put the yaml back"
    assert [run["seed"] for run in results["runs"]] == row.seeds[: len(results["runs"])]
    assert all(row.numbers.keys() <= run.keys() for run in results["runs"])
    assert bool(results["runs"]) != ("curve" in results)


def test_the_digest_is_of_all_that_the_yaml_builds_on() -> None:
    row = next(row for row in ROWS if row.name == "not_miwae_white_linear")
    texts = published.said_by(published.ROOT / f"conf/experiment/published/{row.name}.yaml")
    assert [text["name"] for text in texts] == ["not_miwae_white_linear", "not_miwae_wine", "not_miwae"]
    assert not any("published" in text for text in texts)
    (dreg,) = [row for row in ROWS if row.name == "dreg_k5_200_epochs"]
    names = [text["name"] for text in published.said_by(published.ROOT / f"conf/experiment/published/{dreg.name}.yaml")]
    assert names == ["dreg_k5_200_epochs", "iwae_k5_200_epochs"]


@pytest.mark.parametrize(
    ("ours", "verdict"), [(-86.76, "yes"), (-86.3, "yes"), (-87.26, "yes"), (-87.36, "**no**, by 0.10"), (-86.0, "**no**, by 0.26")]
)
def test_near_enough_or_by_how_much_not(ours: float, verdict: str) -> None:
    assert Number(-86.76, 0.5).verdict(ours) == verdict
    assert Number(None, 0.5).verdict(ours) == ""


def test_mean_and_deviation_over_seeds() -> None:
    assert mean_of([1.0, 2.0, 6.0], within=0.5, num_seeds=3) == "3.00 ± 2.65 (3 seeds)"
    assert mean_of([1.0, 2.0, 6.0], within=0.5, num_seeds=5) == "3.00 ± 2.65 (3 of 5 seeds)"
    assert mean_of([1.0], within=0.02, num_seeds=1) == "1.000"
    assert mean_of([1.0], within=0.02, num_seeds=3) == "1.000 (1 of 3 seeds)"


@pytest.fixture
def linear(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Row:
    """The row linear_vae, in a copy of the repository that has no runs."""
    conf = published.ROOT / "conf"
    monkeypatch.setattr(published, "ROOT", tmp_path)
    (tmp_path / "conf").symlink_to(conf)
    return published.row_of(conf / "experiment/published/linear_vae.yaml")


@cache
def protocol(*words: str) -> dict[str, Any]:
    """The config of linear_vae, with words that change it."""
    return published.composed(published.row_of(published.ROOT / "conf/experiment/published/linear_vae.yaml"), list(words))


def write_run(of: Row, seed: int, *words: str, value: float = -10.5, folder: str = "", **changed: object) -> Path:
    """A run as `vaelab train` leaves it, of the row's protocol and words that change it."""
    run = published.ROOT / "outputs/published" / of.name / (folder or f"seed={seed}")
    (run / ".hydra").mkdir(parents=True)
    config = {**protocol(*words), "seed": seed}
    (run / ".hydra/config.yaml").write_text(yaml.safe_dump(config))
    results = {
        "test": {"log_likelihood": value, "elbo": -90.0},
        "val": {"elbo": -90.0},
        "evaluations": {"likelihood": {"options": {"chunk_size": None, **config["evaluation"]["metrics"]["likelihood"]}, "seed": seed}},
        "checkpoint": "checkpoints/best.ckpt",
        "seed": seed,
        "epochs": 3,
        "steps": 1500,
        "train_time_s": 120,
        "threads": 1,
        "device": "cpu",
        "git_commit": "0",
        "versions": {},
        "finished": "2026-01-31T10:00:00",
    }
    (run / "results.json").write_text(json.dumps({**results, **changed}))
    return run


def test_a_row_is_collected_and_written(linear: Row, capsys: pytest.CaptureFixture[str]) -> None:
    assert linear.line == "vaelab train -m experiment=published/linear_vae seed=0,1,2"
    with pytest.raises(SystemExit, match="outputs/published/linear_vae has no run with results: train it first"):
        published.collect(linear)
    write_run(linear, 1, value=-10.4151)
    published.collect(linear)
    assert "no results of seed 0, 2 yet" in capsys.readouterr().out
    assert "| -10.4151 (1 of 3 seeds) | yes |" in page([linear])
    with pytest.raises(SystemExit, match=r"linear_vae\.json does not tell elbo, which the row asks for: make published NAME=linear_vae"):
        page([replace(linear, numbers={"elbo": Number(-10.0, 0.5)})])
    write_run(linear, 0, value=-10.4149)
    write_run(linear, 2, value=-10.4150)
    published.collect(linear)
    text = page([linear, row(seeds=[5])])
    assert "| -10.4144 ± 0.001 | -10.4150 ± 0.0001 (3 seeds) | yes |" in text
    found = "log p(x) -10.4149; log p(x) -10.4151; log p(x) -10.4150 (seeds 0, 1, 2); 3 epochs or 1,500 steps, 2 minutes of training each"
    assert f"{found}, cpu, 2026-01-31." in text
    assert not re.search(r"\n{3}", text)


def test_a_row_against_another_is_the_difference_seed_by_seed(linear: Row) -> None:
    other = row(seeds=[0, 1, 2], against="linear_vae", numbers={"log_likelihood": Number(0.28, 0.28)})
    other.file.parent.mkdir(parents=True)
    found = {"device": "cpu", "finished": "2026-01-31"}
    runs = [{"seed": seed, "log_likelihood": -10.0, "epochs": 3, "steps": 9, "train_time_s": 60} for seed in (0, 1, 2)]
    other.file.write_text(json.dumps({"line": other.line, "runs": runs, **found}))
    assert (other.runs, page([other]).count("Not run yet")) == ([], 1)
    for seed, value in ((2, -10.5), (1, -10.1)):  # in the order in which they end
        write_run(linear, seed, value=value)
    published.collect(linear)
    assert other.values("log_likelihood") == pytest.approx([0.1, 0.5])
    text = page([other])
    assert "table 9: log p(x), how far above linear_vae | 0.28 ± 0.28 | 0.30 ± 0.28 (2 of 3 seeds) | yes |" in text


def test_of_a_run_that_is_not_finished_the_page_shows_how_it_began(linear: Row) -> None:
    run = write_run(linear, 0, "data.shape=[7]")  # which a run that goes on has stored, read off its data
    (run / "results.json").unlink()
    lines = ["step,epoch,train/elbo,val/elbo", *(f"{9 * epoch + 8},{epoch},,{-20 + epoch / 2}" for epoch in range(6)), "57,6,-8.5,"]
    (run / "metrics.csv").write_text("\n".join(lines) + "\n")
    published.collect(linear)
    assert (linear.runs, linear.found["curve"]) == ([], {"1": -20.0, "2": -19.5, "4": -18.5, "6": -17.5})
    assert page([linear]).endswith("* linear_vae (seed 0): 1: -20.0, 2: -19.5, 4: -18.5, 6: -17.5\n")
    found = linear.found
    linear.file.write_text(json.dumps({**found, "runs": [{"seed": 0}]}))
    with pytest.raises(SystemExit, match="has results, and outputs/published/linear_vae no run that is finished: nothing was written"):
        published.collect(linear)
    linear.file.unlink()
    write_run(linear, 0, "trainer.max_steps=200", folder="run")
    (run / "metrics.csv").unlink()
    with pytest.raises(SystemExit, match="max_steps: 200, now 10000"):
        published.collect(linear)


@pytest.mark.parametrize(
    ("words", "changed", "message"),
    [
        (["trainer.max_steps=200"], {}, "max_steps: 200, now 10000"),
        (["encoder.hidden=[8]"], {}, r"encoder.hidden: \[8\], now \[\]"),
        (["evaluation.checkpoint=last"], {}, "checkpoint: last, now None"),
        ([], {"evaluations": {"likelihood": {"options": {"num_samples": 10, "num_images": None}}}}, "num_samples: 10, now 1000"),
        ([], {"evaluations": {}}, "num_samples: None, now 1000"),
    ],
    ids=str,
)
def test_runs_of_another_protocol_write_no_row(linear: Row, words: list[str], changed: dict[str, object], message: str) -> None:
    write_run(linear, 0)
    write_run(linear, 1, *words, **changed)
    with pytest.raises(SystemExit, match=message):
        published.collect(linear)
    assert not linear.file.exists()


def test_a_seed_counts_once_and_runs_that_are_not_finished_do_not(linear: Row) -> None:
    write_run(linear, 1, "paths.data_dir=elsewhere", "trainer.enable_progress_bar=false")
    half = write_run(linear, 0)
    results = json.loads((half / "results.json").read_text())
    (half / "results.json").write_text(json.dumps({key: value for key, value in results.items() if key != "val"}))
    published.collect(linear)
    assert [run["seed"] for run in linear.runs] == [1]
    again = write_run(linear, 1, folder="again")
    with pytest.raises(SystemExit, match="several runs of one seed"):
        published.collect(linear)
    shutil.rmtree(again)
    write_run(linear, 7)
    with pytest.raises(SystemExit, match=r"seed 7 is none of the row's \[0, 1, 2\]"):
        published.collect(linear)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trainer.max_steps=200"], "max_steps: 10000, now 200"),
        (["evaluation.metrics.likelihood.num_samples=10"], "num_samples: 1000, now 10"),
        (["seed=7"], "seed: 0, now 7"),
        (["hydra.sweep.dir=elsewhere"], "the runs of a row are in outputs/published/linear_vae"),
        (["encoder.no=1"], "encoder.no=1: Could not override"),
        (["trainer.max_steps=1,2"], "trainer.max_steps=1,2: "),
    ],
)
def test_words_that_change_the_protocol_are_refused_before_training(linear: Row, words: list[str], message: str) -> None:
    with pytest.raises(SystemExit, match=message):
        published.train(linear, words)


def test_words_that_say_where_and_how_are_handed_on(linear: Row, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = []
    monkeypatch.setattr(subprocess, "run", lambda line, cwd: lines.append(line) or subprocess.CompletedProcess(line, returncode=3))
    words = ["paths.data_dir=/my data", "download=true", "launcher=local", "hydra.launcher.n_jobs=2"]
    with pytest.raises(SystemExit, match="linear_vae: a run failed"):
        published.train(linear, words)
    assert lines[0][-4:] == words


def test_a_yaml_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    for text in (
        "name: mine\n",
        "published: {paper: [\n",
        "published: {numbers: {fid: {value: 3, within: 1}}}\n",
        "published: {numbers: 3}\n",
    ):
        path.write_text(text)
        with pytest.raises(SystemExit, match=r"mine\.yaml: `published` cannot be read: \w+Error"):
            published.row_of(path)
