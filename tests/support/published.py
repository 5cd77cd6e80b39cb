"""Published numbers and ours: runs the lines, and writes docs/papers.md.

python tests/support/published.py                              writes docs/papers.md
python tests/support/published.py --list                       the rows, and the hours that they take
python tests/support/published.py iwae_k1 [word ...]           trains, writes docs/published/iwae_k1.json and docs/papers.md

What was published, and how near is near enough, stands in conf/experiment/published/<name>.yaml, as `published`; what we got, in
docs/published/<name>.json. Words go to `vaelab train`, as paths.data_dir=... does; those that change the protocol are refused, and so are
runs of another one. Trained runs are in outputs/published/<name>; the same line again goes on with what is missing.
"""

import argparse
import hashlib
import json
import math
import signal
import statistics
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from hydra.utils import instantiate
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from vaelab.runs.configs import Use, differences
from vaelab.runs.folder import RunFolder

ROOT = Path(__file__).parents[2]
NAMES = {
    "log_likelihood": "log p(x)",
    "elbo": "ELBO",
    "active_units": "active units",
    "imputation_rmse": "RMSE",
    "imputation_rmse_of_expected": "RMSE",
}


@dataclass(frozen=True)
class Number:
    """What was published of one quantity of results.json, None if it was not, and how far from it still agrees."""

    value: float | None
    within: float

    @property
    def shown(self) -> str:
        return "not published" if self.value is None else f"{self.value:g} ± {self.within:g}"

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
    against: str = ""  # another row: the number is how far ours lies above its, seed by seed
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
        return results_file(self.name)

    @property
    def digest(self) -> str:
        """Of what the row's yaml, and those that it builds on, say of model, data and training: other results are not the row's."""
        texts = said_by(ROOT / "conf/experiment/published" / f"{self.name}.yaml")
        return hashlib.sha256(json.dumps(texts, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def cited(self) -> str:
        return f"[{self.paper}]({self.url})"

    @property
    def found(self) -> dict[str, Any]:
        """What we got, and where; {}: nothing yet."""
        return json.loads(self.file.read_text()) if self.file.exists() else {}

    @property
    def runs(self) -> list[dict[str, Any]]:
        """What we got of each seed; of a row against another, of the seeds that both have."""
        runs = self.found.get("runs", [])
        return [run for run in runs if run["seed"] in self.others] if self.against else runs

    @property
    def others(self) -> dict[int, dict[str, Any]]:
        """What the row that this one is compared with got of each seed."""
        file = results_file(self.against)
        return {run["seed"]: run for run in json.loads(file.read_text())["runs"]} if self.against and file.exists() else {}

    def values(self, number: str) -> list[float]:
        """Ours of each seed, or its difference from the other row's.

        Raises:
            SystemExit: if the results are from before the row asked for this number.
        """
        for name, runs in ((self.name, self.runs), (self.against, list(self.others.values()))):
            if any(number not in run for run in runs):
                raise SystemExit(f"{results_file(name)} does not tell {number}, which the row asks for: make published NAME={name}")
        return [run[number] - (self.others[run["seed"]][number] if self.against else 0) for run in self.runs]

    def name_of(self, number: str) -> str:
        """What the values are, in words."""
        return f"{NAMES[number]}, how far above {self.against}" if self.against else NAMES[number]


def said_by(path: Path) -> list[dict[str, Any]]:
    """What an experiment's yaml says without `published`, and then those of the experiments in its defaults."""
    said = yaml.safe_load(path.read_text())
    said.pop("published", None)
    names = [each.removeprefix("/experiment/") for each in said.get("defaults", []) if isinstance(each, str)]
    others = [ROOT / "conf/experiment" / f"{name}.yaml" for name in names]
    return [said, *(text for other in others if other.exists() for text in said_by(other))]


def results_file(name: str) -> Path:
    """Where what we got of a row is written."""
    return ROOT / "docs" / "published" / f"{name}.json"


def rows() -> list[Row]:
    """All experiments of conf/experiment/published, in the order of their papers.

    Raises:
        SystemExit: if one cannot be read, or is compared with a row that there is not.
    """
    found = sorted((row_of(path) for path in (ROOT / "conf/experiment/published").glob("*.yaml")), key=lambda row: (row.paper, row.name))
    names = [row.name for row in found]
    for row in found:
        if row.against and row.against not in names:
            raise SystemExit(f"{row.name}: against: {row.against} is none of {', '.join(names)}")
    return found


def row_of(path: Path) -> Row:
    try:
        said = yaml.safe_load(path.read_text())["published"]
        numbers = {name: Number(**instantiate(number)) for name, number in said.pop("numbers").items()}
        unknown = numbers.keys() - NAMES.keys()
        if unknown:
            raise ValueError(f"{', '.join(sorted(unknown))} of numbers is none of {', '.join(NAMES)}")
        return Row(name=path.stem, numbers=numbers, **said)
    except (yaml.YAMLError, HydraException, AttributeError, KeyError, TypeError, ValueError) as error:
        raise SystemExit(f"{path}: `published` cannot be read: {type(error).__name__}: {error}") from None


def composed(row: Row, words: list[str]) -> dict[str, Any]:
    """The config of the row's first seed, and of further words.

    Raises:
        SystemExit: if there is no such config.
    """
    try:
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            config = compose("config", [f"experiment=published/{row.name}", f"seed={row.seeds[0]}", *row.words, *words])
    except (HydraException, OmegaConfBaseException) as error:
        raise SystemExit(f"{' '.join(words) or row.name}: {error}") from None
    return OmegaConf.to_container(config, resolve=False)  # type: ignore[return-value]


def changes(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What two configs compute or evaluate in another way, as "trainer.max_steps: 200, now 10000"."""
    return differences(with_evaluation(before, now), with_evaluation(now, now), Use.SWEEP)


def with_evaluation(config: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """A config that is compared with another: how it is evaluated counts.

    The folder of a file of data of the same name does not count, and neither does a shape that a run has read off its data.
    """
    evaluated = {name: config["evaluation"].get(name) for name in ("enabled", "checkpoint", "metrics")}
    data, theirs = dict(config["data"]), other["data"]
    if data.get("file") and theirs.get("file") and Path(data["file"]).name == Path(theirs["file"]).name:
        data["file"] = theirs["file"]
    if theirs.get("shape") is None:
        data["shape"] = None
    return {**config, "data": data, "evaluated": evaluated}


def train(row: Row, words: list[str]) -> None:
    """Train and evaluate all seeds, or those that are missing.

    Raises:
        SystemExit: if words change the protocol, or the folder of the runs, or a run fails.
    """
    folder = f"outputs/published/{row.name}"
    if any(word.lstrip("+~").startswith(("hydra.sweep", "hydra.run", "hydra.mode", "resume=")) for word in words):
        raise SystemExit(f"{' '.join(words)}: the runs of a row are in {folder}")
    found = changes(composed(row, []), composed(row, words))
    if found:
        raise SystemExit(
            f"{' '.join(words)} changes the protocol of {row.name}, and the number would not be the row's:\n  {but_few(found)}\n"
            f"To try it, type {row.line} {' '.join(words)}"
        )
    line = ["-m", "vaelab", "train", "-m", f"experiment=published/{row.name}", f"seed={','.join(map(str, row.seeds))}", *row.words]
    line += [f"hydra.sweep.dir={folder}", "trainer.enable_progress_bar=false", *words]
    if subprocess.run([sys.executable, *line], cwd=ROOT).returncode:
        raise SystemExit(f"{row.name}: a run failed, see above; the same line again goes on with what is missing")


def but_few(changes: list[str]) -> str:
    """The first of many changes, one a line."""
    return "\n  ".join([*changes[:8], *["..."] * (len(changes) > 8)])


def collect(row: Row) -> None:
    """Write what the runs found to docs/published.

    Of a row whose runs are not finished, this is the validation ELBO of the first seed so far.

    Raises:
        SystemExit: if nothing was trained, a run is not of the row's protocol, or was evaluated in another way.
    """
    runs, protocol = [], composed(row, [])
    folders = sorted((ROOT / "outputs/published" / row.name).glob("*/.hydra"))
    for run in [RunFolder(folder.parent) for folder in folders]:
        if not run.is_finished:
            continue
        results = run.results()
        check_protocol(row, run, protocol)
        test = {name: results["test"][name] for name in row.numbers}
        runs.append({"seed": results["seed"], **test, **{name: results[name] for name in ("epochs", "steps", "train_time_s", "threads")}})
    if not runs:
        begun = [RunFolder(folder.parent) for folder in folders]
        write_curve(row, [run for run in begun if run.config["seed"] == row.seeds[0]], protocol)
        return
    runs.sort(key=lambda run: row.seeds.index(run["seed"]))
    seeds = [run["seed"] for run in runs]
    if len(set(seeds)) < len(seeds):
        raise SystemExit(f"outputs/published/{row.name} has several runs of one seed, of {seeds}: move all but one away")
    missing = [str(seed) for seed in row.seeds if seed not in seeds]
    if missing:
        print(f"{row.name}: no results of seed {', '.join(missing)} yet; the same line again trains them")
    about = {name: results[name] for name in ("device", "git_commit", "versions")} | {"finished": results["finished"][:10]}
    write_results(row, {"line": row.line, "yaml": row.digest, "runs": runs, **about})


def write_results(row: Row, results: dict[str, Any]) -> None:
    row.file.parent.mkdir(parents=True, exist_ok=True)
    row.file.write_text(json.dumps(results, indent=1) + "\n")


def write_curve(row: Row, begun: list[RunFolder], protocol: dict[str, Any]) -> None:
    """Write the validation ELBO of a run that is not finished after 1, 2, 4, ... epochs, and after its last.

    Raises:
        SystemExit: if there is no such run, or it is not of the row's protocol.
    """
    if row.found.get("runs"):
        raise SystemExit(f"{row.file} has results, and outputs/published/{row.name} no run that is finished: nothing was written")
    curves = begun[0].curves() if begun else {}
    if "val/elbo" not in curves:
        raise SystemExit(f"outputs/published/{row.name} has no run with results: train it first")
    refuse(row, begun[0], changes(begun[0].config, {**protocol, "seed": row.seeds[0]}))
    epochs = dict(curves["epoch"])
    elbo = {1 + int(epochs[step]): value for step, value in curves["val/elbo"] if step in epochs}
    shown = [epoch for epoch in elbo if epoch & (epoch - 1) == 0 or epoch == max(elbo)]
    write_results(
        row, {"line": row.line, "yaml": row.digest, "runs": [], "seed": row.seeds[0], "curve": {str(epoch): elbo[epoch] for epoch in shown}}
    )


def check_protocol(row: Row, run: RunFolder, protocol: dict[str, Any]) -> None:
    """Raise if a run is not of the row's protocol, by the config that it has stored, or was evaluated in another way.

    Raises:
        SystemExit: if it is not, or was.
    """
    results = run.results()
    if results["seed"] not in row.seeds:
        raise SystemExit(f"{run}: seed {results['seed']} is none of the row's {row.seeds}: move it away")
    found = changes(run.config, {**protocol, "seed": results["seed"]})
    for metric, options in protocol["evaluation"]["metrics"].items():
        # `vaelab evaluate` with other options writes another number into the same results
        how = results["evaluations"].get(metric, {}).get("options", {})
        wanted = {key: value for key, value in options.items() if key != "_partial_" and "${" not in str(value)}
        found += differences({metric: {key: how.get(key) for key in wanted}}, {metric: wanted}, Use.SWEEP)
    refuse(row, run, found)


def refuse(row: Row, run: RunFolder, found: list[str]) -> None:
    """Raise if a run differs from the row's protocol.

    Raises:
        SystemExit: if there is a difference.
    """
    if found:
        raise SystemExit(f"{run} is not a run of today's protocol of {row.name}:\n  {but_few(found)}\nMove it away, and train again")


def table(some: list[Row]) -> list[str]:
    """Lines of a Markdown table: paper, what, published, ours, within or not, and where its line is."""
    lines = ["| paper | what | published | ours | within | line |", "|---|---|---|---|---|---|"]
    for row in some:
        for name, number in row.numbers.items():
            values = row.values(name)
            what = f"{row.place}: {row.name_of(name)}"
            cells = [
                row.cited,
                what,
                number.shown,
                mean_of(values, number.within, len(row.seeds)),
                number.verdict(statistics.fmean(values)),
            ]
            lines.append(f"| {' | '.join(cells)} | [{row.name}](#{row.name}) |")
    return lines


def rounded(value: float, within: float) -> str:
    """A number with one digit more than its tolerance."""
    return f"{value:.{max(0, 1 - math.floor(math.log10(within)))}f}"


def mean_of(values: list[float], within: float, num_seeds: int) -> str:
    """Mean and standard deviation over seeds, or the one value, and how many of the row's seeds these are."""
    seeds = f"{len(values)} seeds" if len(values) == num_seeds else f"{len(values)} of {num_seeds} seeds"
    spread = f" ± {rounded(statistics.stdev(values), within)}" if len(values) > 1 else ""
    return f"{rounded(statistics.fmean(values), within)}{spread}" + f" ({seeds})" * (num_seeds > 1)


HEAD = """# Published numbers, and ours

Each row is a number that somebody published, and what one line of vaelab gets with the protocol of the paper; one that was
not published is there to compare others with. The number after ± is the tolerance, which was fixed before the run. log p(x) is in nats
for each example, and is a lower bound from importance samples. `make published NAME=linear_vae` goes from nothing to a
row; `make published LIST=1` says how long each takes.
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
        published = ", ".join(f"{row.name_of(name)} {number.shown}" for name, number in row.numbers.items())
        lines.append(f"| {row.cited} | {row.place} | {published} | {row.hours:g} | `{row.line}` |")
    begun = [row for row in unseen if "curve" in row.found]
    if begun:
        lines += ["", "Some of these were begun. Their validation ELBO, after so many epochs:", ""]
    for row in begun:
        curve = ", ".join(f"{epoch}: {elbo:.1f}" for epoch, elbo in row.found["curve"].items())
        lines.append(f"* {row.name} (seed {row.found['seed']}): {curve}")
    return "\n".join(lines).rstrip() + "\n"


def told(row: Row) -> str:
    """One sentence on what the runs found, how long they took and where."""
    runs = row.runs
    numbers = "; ".join(
        ", ".join(f"{NAMES[name]} {rounded(run[name], number.within)}" for name, number in row.numbers.items()) for run in runs
    )
    of = f" ({'seeds' if len(runs) > 1 else 'seed'} {', '.join(str(run['seed']) for run in runs)})" if len(row.seeds) > 1 else ""
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
    given = parser.parse_intermixed_args()
    some = rows()
    if given.list:
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # whoever reads may stop, as `head` does
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
