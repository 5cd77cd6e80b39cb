"""Published numbers and ours: runs the lines, and writes docs/papers.md.

python tests/support/published.py                              writes docs/papers.md
python tests/support/published.py --list                       the rows, and the hours that they take
python tests/support/published.py iwae_k1 [word ...]           trains, writes docs/published/iwae_k1.json and docs/papers.md

What was published, and how near is near enough, stands in conf/experiment/published/<name>.yaml, as `published`; what we got, in
docs/published/<name>.json. Words go to `vaelab train`, as paths.data_dir=... does. Trained runs are in outputs/published/<name>; the same
line again goes on with what is missing.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from hydra.utils import instantiate

ROOT = Path(__file__).parents[2]
NAMES = {"log_likelihood": "log p(x)", "active_units": "active units", "imputation_rmse": "RMSE"}


@dataclass(frozen=True)
class Number:
    """What was published of one quantity of results.json, None if it was not, and how far from it still agrees."""

    value: float | None
    within: float

    def verdict(self, ours: float) -> str:
        """Whether ours is near enough, or by how much it is not."""
        if self.value is None:
            return ""
        too_far = abs(ours - self.value) - self.within
        return "yes" if too_far <= 0 else f"**no**, by {rounded(too_far, self.within)}"


@dataclass(frozen=True)
class Row:
    """One experiment: what a paper did and got."""

    name: str
    paper: str
    url: str
    place: str  # in the paper, and what it is
    hours: float  # of one core, for all seeds
    numbers: dict[str, Number]  # by the name in results.json; none: only the protocol is here
    seeds: list[int] = field(default_factory=lambda: [0])
    words: list[str] = field(default_factory=list)  # of the command line
    source: str = ""  # of the value, where it is not the paper
    differs: str = ""  # from the protocol of the paper, and why the number differs if it does

    @property
    def line(self) -> str:
        """The command that trains it, as a user types it."""
        seeds = ",".join(map(str, self.seeds))
        return " ".join(
            ["vaelab train", *["-m"] * (len(self.seeds) > 1), f"experiment=published/{self.name}", f"seed={seeds}", *self.words]
        )

    @property
    def file(self) -> Path:
        return ROOT / "docs" / "published" / f"{self.name}.json"

    @property
    def found(self) -> dict[str, Any] | None:
        """What we got, or None."""
        return json.loads(self.file.read_text()) if self.file.exists() else None


def rows() -> list[Row]:
    """All experiments of conf/experiment/published, in the order of their papers."""
    return sorted((row_of(path) for path in (ROOT / "conf/experiment/published").glob("*.yaml")), key=lambda row: (row.paper, row.name))


def row_of(path: Path) -> Row:
    said = yaml.safe_load(path.read_text())["published"]
    numbers = {name: Number(**instantiate(number)) for name, number in said.pop("numbers").items()}
    return Row(name=path.stem, numbers=numbers, **said)


def train(row: Row, words: list[str]) -> None:
    """Train and evaluate all seeds, or those that are missing."""
    folder = f"outputs/published/{row.name}"
    line = ["-m", "vaelab", "train", "-m", f"experiment=published/{row.name}", f"seed={','.join(map(str, row.seeds))}", *row.words]
    line += [f"hydra.sweep.dir={folder}", "trainer.enable_progress_bar=false", *words]
    subprocess.run([sys.executable, *line], cwd=ROOT, check=True)


def collect(row: Row) -> None:
    """Write what the runs found to docs/published."""
    runs = []
    for path in sorted((ROOT / "outputs/published" / row.name).glob("*/results.json")):
        results = json.loads(path.read_text())
        test = {name: results["test"][name] for name in row.numbers}
        runs.append({"seed": results["seed"], **test, **{name: results[name] for name in ("epochs", "steps", "train_time_s", "threads")}})
    if not runs:
        raise SystemExit(f"outputs/published/{row.name} has no run with results: train it first")
    about = {name: results[name] for name in ("device", "git_commit", "versions")} | {"finished": results["finished"][:10]}
    row.file.parent.mkdir(exist_ok=True)
    row.file.write_text(json.dumps({"line": row.line, "runs": runs, **about}, indent=1) + "\n")


def table(some: list[Row]) -> list[str]:
    """Lines of a Markdown table: paper, what, line, published, ours, within or not."""
    lines = ["| paper | what | published | ours | within | line |", "|---|---|---|---|---|---|"]
    for row in some:
        found = row.found
        for name, number in row.numbers.items():
            ours, verdict = "not run", ""
            if found is not None:
                values = [run[name] for run in found["runs"]]
                ours = mean_of(values, number.within)
                verdict = number.verdict(statistics.fmean(values))
            what = f"{row.place}: {NAMES[name]}"
            published = "" if number.value is None else f"{rounded(number.value, number.within)} ± {number.within:g}"
            lines.append(f"| [{row.paper}]({row.url}) | {what} | {published} | {ours} | {verdict} | [{row.name}](#{row.name}) |")
    return lines


def rounded(value: float, within: float) -> str:
    """A number with one digit more than its tolerance."""
    return f"{value:.{max(0, 1 - math.floor(math.log10(within)))}f}"


def mean_of(values: list[float], within: float) -> str:
    """Mean and standard deviation over seeds, or the one value."""
    if len(values) == 1:
        return rounded(values[0], within)
    return f"{rounded(statistics.fmean(values), within)} ± {rounded(statistics.stdev(values), within)} ({len(values)} seeds)"


def page(some: list[Row]) -> str:
    """docs/papers.md."""
    with_numbers, without = [row for row in some if row.numbers], [row for row in some if not row.numbers]
    lines = [
        "# Published numbers, and ours",
        "",
        "Each row is a number that somebody published, and what one line of vaelab gets with the protocol of the paper. `published` has behind",
        "± how near counts as the same; it was written down before the run. log p(x) is in nats for an example, and a bound from importance",
        "samples. `make published NAME=linear_vae` goes from nothing to a row of this table; `make published LIST=1` says how long each takes.",
        "",
        *table(with_numbers),
        "",
        "Below, each with its line, its time, and what is not as in the paper.",
        "",
    ]
    for row in with_numbers:
        lines += [f"## {row.name}", "", f"{row.place}, [{row.paper}]({row.url}).{' ' + row.source if row.source else ''}", ""]
        lines += ["```bash", row.line, "```", ""]
        found = row.found
        if found is None:
            lines += [f"Not run; about {row.hours:g} hours of one core.", ""]
        else:
            runs = found["runs"]
            each = "; ".join(", ".join(f"{NAMES[name]} {run[name]:.4g}" for name in row.numbers) + f" (seed {run['seed']})" for run in runs)
            time = statistics.fmean(run["train_time_s"] for run in runs) / 60
            lines += [
                f"Seen: {each}; {runs[0]['epochs']:,} epochs, {time:,.0f} minutes of training each, {found['device']}, {found['finished']}.",
                "",
            ]
        if row.differs:
            lines += [row.differs.strip(), ""]
    if without:
        lines += ["## Protocols for a GPU", "", "Their lines are here, and their numbers are not.", ""]
        lines += [
            f"* {row.place}, [{row.paper}]({row.url}), about {row.hours:g} hours: `{row.line}`. {row.differs.strip()}" for row in without
        ] + [""]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?", help="of conf/experiment/published")
    parser.add_argument("words", nargs="*", help="for vaelab train")
    parser.add_argument("--list", action="store_true", help="the rows, and the hours of one core that they take")
    parser.add_argument("--collect", action="store_true", help="do not train: take the runs that are there")
    given = parser.parse_args()
    some = rows()
    if given.list:
        for row in some:
            state = "" if row.numbers else "for a GPU"
            print(f"{row.name:28} {row.hours:6.1f} h  {state if row.found is None else 'done'}  {row.place}, {row.paper}")
        return
    if given.name:
        named = {row.name: row for row in some}
        if given.name not in named:
            raise SystemExit(f"NAME={given.name} is none of {', '.join(named)}")
        if not given.collect:
            train(named[given.name], given.words)
        collect(named[given.name])
    (ROOT / "docs/papers.md").write_text(page(some))


if __name__ == "__main__":
    main()
