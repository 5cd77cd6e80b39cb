"""Command lines that cannot be meant, and how they are answered: lines of all commands with a key, a dial or an option set to nonsense.

python tests/support/fuzz_lines.py <run folder of circles> [how many] [seed]

Prints the lines that are not answered in one sentence that names the key, and how many there are of each kind.
"""

import os
import random
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent))
os.environ["PYTHONPATH"] = str(Path(__file__).parent)

from forked_scripts import ROOT, command
from omegaconf import OmegaConf
from small_runs import QUICK, SMALL, composed

from vaelab.commands.cli import COMMANDS
from vaelab.runs.configs import flatten

NONSENSE = ("-1", "abc", "true", "[]", "{}", "null", "1.5", "1e999", "nan", "'a=b'", "[1,abc]", "no", "${oc.env:HOME}", "../..", "0")
# where text is as good as any other
SKIPPED = (
    r"hydra|paths|name$|sweep|download|run$|data_dir|folder|data\.name|callbacks\.progress|.*(filename|dirpath|save_dir)$|model\.\w+\."
)
OF_A_RUN = ("evaluate", "generate", "inpaint", "detect_anomalies")
# dials of `train` beside those of SMALL, whose keys are set to nonsense, too
DIALS = (
    "",
    "objective=iwae",
    "objective=geco objective.target=10",
    "objective=factor_tc",
    "objective=info_mmd",
    "objective=dip_ii",
    "prior=vamp prior.num_components=4 objective.kl=k1",
    "prior=mixture objective.kl=k1",
    "prior=flow objective.kl=k1",
    "posterior=iaf objective.kl=k1",
    "posterior=planar objective.kl=k1",
    "posterior=spline objective.kl=k1",
    "posterior=sylvester objective.kl=k1",
    "posterior=full_gaussian objective.kl=k1",
    "+schedule@objective.beta=cyclical",
    "scheduler=cosine optimizer=adamw logger=csv",
    "metrics@evaluation.metrics=[likelihood,latent]",
    "experiment=hvae_vampprior",
    "experiment=gumbel",
    "experiment=hyperspherical",
    "experiment=top_down_vae",
)
METRICS = "metrics=[likelihood,latent]"
WORDS = ("", "-1", "abc", "../..", "a=b", "[]", "val/elbo", "seed=", "seed>x", "--where", "--nothing", "5", "/dev/null", "nan")


class Line(NamedTuple):
    """A command line, and the words of which its answer must name one."""

    command: str
    words: list[str]
    named: tuple[str, ...]


def lines(run: str, how_many: int, seed: int) -> Iterator[Line]:
    """Command lines, each with one word of nonsense."""
    chance = random.Random(seed)
    starts = list(starts_of(run))
    configs = [composed(words, Path(), COMMANDS[name].config) for name, words in starts]
    values = [flatten(OmegaConf.to_container(config, resolve=False)) for config in configs]
    keys = [sorted(key for key in each if not re.match(SKIPPED, key)) for each in values]
    dials = sorted(path.name for path in (ROOT / "conf").glob("*/"))
    for _ in range(how_many):
        if chance.random() < 0.15:
            yield line_of_words(run, chance)
            continue
        i = chance.randrange(len(starts))
        (name, words), kind = starts[i], chance.random()
        key = chance.choice(keys[i])
        word = f"{key}={chance.choice([each for each in NONSENSE if each != str(values[i][key]).lower().replace('none', 'null')])}"
        if 0.7 < kind < 0.85:  # a typo
            word = f"{chance.choice(['', '+'])}{key[:-1]}x=1"
        elif kind >= 0.85:
            key = chance.choice(dials)
            word = f"{chance.choice(['', '', '+'])}{key}={chance.choice(['nothing', '5', 'true', 'null', '[]', ''])}"
        yield Line(
            name, [*[each for each in words if each.partition("=")[0].lstrip("+~") != key], word], (word.split("=")[0].lstrip("+"), key)
        )


def starts_of(run: str) -> Iterator[tuple[str, list[str]]]:
    """Commands, and their words before the nonsense."""
    for dial in DIALS:
        yield "train", [*dial.split(), *SMALL, *QUICK, "trainer.max_epochs=1"]
    yield "benchmark", [*SMALL, "benchmark.parts=[training]", "benchmark.rounds=1", "benchmark.epochs=1"]
    for name in OF_A_RUN:
        start = [f"run='{run}'", "accelerator=cpu", *([METRICS] if name == "evaluate" else ["num=2"])]
        yield from [(name, start)] * 3


def line_of_words(run: str, chance: random.Random) -> Line:
    """A line of a command that reads its words itself."""
    word = chance.choice(WORDS)
    name, words = chance.choice(
        [
            ("runs", ["list", word]),
            ("runs", ["list", run, "--where", word]),
            ("runs", ["show", word]),
            ("runs", ["diff", run, word]),
            ("runs", ["delete", run, "--where", word]),
            ("runs", ["rerun", word]),
            ("runs", [word]),
            ("docs", [word]),
            ("summarize", [word]),
            ("summarize", [run, "--metrics", word]),
            ("summarize", [run, "--baseline", word]),
            ("summarize", [run, "--results", word]),
            ("summarize", [run, "--format", word]),
        ]
    )
    return Line(name, words, (word or "''", *[each for each in words if each.startswith("--")], *words[:1]))


def answer(line: Line) -> tuple[str, str]:
    """The kind of answer, and its words."""
    with tempfile.TemporaryDirectory() as folder:
        done = command(f"{line.command}.py", *line.words, check=False, cwd=folder)
    if done.returncode == 0:
        return "accepted", done.stdout[-80:].replace("\n", " ")
    told = [
        each
        for each in done.stderr.splitlines()
        if each.strip() and not each.startswith(("Set the environment variable HYDRA", "warning:"))
    ]
    told = [each for each in told if not re.match(r"usage: | {10,}|Error executing job with overrides", each)]
    text = " | ".join(told)
    if "Traceback" in done.stderr:
        return "traceback", text[-300:]
    if len(told) != 1:
        return "several lines", text[:600]
    return ("sentence" if any(name in text for name in line.named) else "keyless"), text


if __name__ == "__main__":
    asked = list(lines(str(Path(sys.argv[1]).absolute()), *map(int, [*sys.argv[2:], 500, 0][:2])))
    kinds = Counter[str]()
    with ThreadPoolExecutor(2) as pool:
        for line, (kind, words) in zip(asked, pool.map(answer, asked), strict=True):
            kinds[kind] += 1
            if kind != "sentence" or "-v" in sys.argv:
                print(f"{kind:14}{line.command} {' '.join(line.words[-2:])}   {words}", flush=True)
    print(dict(kinds))
