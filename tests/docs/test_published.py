"""Published numbers and ours: the page is what the yamls and results say, and each row has a line that can be typed."""

import json
import re
from pathlib import Path

import published
import pytest
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
    assert results["line"] == row.line
    assert [run["seed"] for run in results["runs"]] == row.seeds[: len(results["runs"])]
    assert row.numbers.keys() <= results["runs"][0].keys()


@pytest.mark.parametrize(
    ("ours", "verdict"), [(-86.76, "yes"), (-86.3, "yes"), (-87.26, "yes"), (-87.36, "**no**, by 0.10"), (-86.0, "**no**, by 0.26")]
)
def test_near_enough_or_by_how_much_not(ours: float, verdict: str) -> None:
    assert Number(-86.76, 0.5).verdict(ours) == verdict
    assert Number(None, 0.5).verdict(ours) == ""


def test_mean_and_deviation_over_seeds() -> None:
    assert mean_of([1.0, 2.0, 6.0], within=0.5) == "3.00 ± 2.65 (3 seeds)"
    assert mean_of([1.0], within=0.02) == "1.000"


def test_a_row_is_trained_collected_and_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published, "ROOT", tmp_path)
    one = row(seeds=[0, 1], words=["data=mnist"])
    assert one.line == "vaelab train -m experiment=published/vae seed=0,1 data=mnist"
    with pytest.raises(SystemExit, match="outputs/published/vae has no run with results: train it first"):
        published.collect(one)
    for seed, value in enumerate((-86.5, -87.5)):
        folder = tmp_path / f"outputs/published/vae/seed={seed}"
        folder.mkdir(parents=True)
        results = {
            "test": {"log_likelihood": value, "elbo": -90},
            "seed": seed,
            "epochs": 3,
            "steps": 1500,
            "train_time_s": 120,
            "threads": 1,
        }
        about = {"device": "cpu", "git_commit": "0", "versions": {}, "finished": "2026-01-31T10:00:00"}
        (folder / "results.json").write_text(json.dumps({**results, **about}))
    published.collect(one)
    text = page([one, row(seeds=[5])])
    assert "| -86.76 ± 0.5 | -87.00 ± 0.71 (2 seeds) | yes |" in text
    assert "log p(x) -86.50; log p(x) -87.50 (seeds 0, 1); 3 epochs or 1,500 steps, 2 minutes of training each, cpu, 2026-01-31." in text
    assert not re.search(r"\n{3}", text)
