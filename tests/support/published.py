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

    @property
    def shown(self) -> str:
        return "" if self.value is None else f"{self.value:g} ± {self.within:g}"

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
    numbers: dict[str, Number]  # by the name in results.json
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
    def cited(self) -> str:
        return f"[{self.paper}]({self.url})"

    @property
    def found(self) -> dict[str, Any]:
        """What we got, and where; {}: nothing yet."""
        return json.loads(self.file.read_text()) if self.file.exists() else {}

    @property
    def runs(self) -> list[dict[str, Any]]:
        """What we got of each seed."""
        return self.found.get("runs", [])


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
    row.file.parent.mkdir(parents=True, exist_ok=True)
    row.file.write_text(json.dumps({"line": row.line, "runs": runs, **about}, indent=1) + "\n")


def table(some: list[Row]) -> list[str]:
    """Lines of a Markdown table: paper, what, published, ours, within or not, and where its line is."""
    lines = ["| paper | what | published | ours | within | line |", "|---|---|---|---|---|---|"]
    for row in some:
        for name, number in row.numbers.items():
            values = [run[name] for run in row.runs]
            what = f"{row.place}: {NAMES[name]}"
            cells = [row.cited, what, number.shown, mean_of(values, number.within), number.verdict(statistics.fmean(values))]
            lines.append(f"| {' | '.join(cells)} | [{row.name}](#{row.name}) |")
    return lines


def rounded(value: float, within: float) -> str:
    """A number with one digit more than its tolerance."""
    return f"{value:.{max(0, 1 - math.floor(math.log10(within)))}f}"


def mean_of(values: list[float], within: float) -> str:
    """Mean and standard deviation over seeds, or the one value."""
    if len(values) == 1:
        return rounded(values[0], within)
    return f"{rounded(statistics.fmean(values), within)} ± {rounded(statistics.stdev(values), within)} ({len(values)} seeds)"


HEAD = """# Published numbers, and ours

Each row is a number that somebody published, and what one line of vaelab gets with the protocol of the paper. What is behind ± in
`published` is how near counts as the same; it was written down before the run. log p(x) is in nats for an example, and a lower bound from
importance samples. `make published NAME=linear_vae` goes from nothing to a row; `make published LIST=1` says how long each takes.
"""


def page(some: list[Row]) -> str:
    """The text of docs/papers.md."""
    seen, unseen = [row for row in some if row.runs], [row for row in some if not row.runs]
    lines = [HEAD, *table(seen), ""]
    for row in seen:
        source = f" {row.source}" if row.source else ""
        lines += [f"## {row.name}", "", f"{row.cited}: {row.place}.{source}", "", "```bash", row.line, "```", "", f"Seen: {told(row)}", ""]
        lines += [row.differs.strip(), ""] if row.differs else []
    if unseen:
        lines += ["## Not run yet", "", "Protocols that wait for a longer run, or a GPU. Their yamls say what is not as in the paper.", ""]
        lines += ["| paper | what | published | hours of one core | line |", "|---|---|---|---|---|"]
    for row in unseen:
        published = ", ".join(f"{NAMES[name]} {number.shown}" for name, number in row.numbers.items())
        lines.append(f"| {row.cited} | {row.place} | {published} | {row.hours:g} | `{row.line}` |")
    return "\n".join(lines).rstrip() + "\n"


def told(row: Row) -> str:
    """One sentence on what the runs found, how long they took and where."""
    runs = row.runs
    numbers = "; ".join(
        ", ".join(f"{NAMES[name]} {rounded(run[name], number.within)}" for name, number in row.numbers.items()) for run in runs
    )
    of = f" (seeds {', '.join(str(run['seed']) for run in runs)})" if len(runs) > 1 else ""
    minutes = statistics.fmean(run["train_time_s"] for run in runs) / 60
    about = row.found
    length = f"{runs[0]['epochs']:,} epochs or {runs[0]['steps']:,} steps, {minutes:,.0f} minutes of training each"
    return f"{numbers}{of}; {length}, {about['device']}, {about['finished']}."


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
            print(f"{row.name:26} {row.hours:6.1f} h  {'seen' if row.runs else '    '}  {row.paper}: {row.place}")
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
