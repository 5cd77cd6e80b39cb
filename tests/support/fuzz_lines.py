"""Command lines that cannot be meant, and how they are answered: lines of each command with a key or a dial set to nonsense.

python tests/support/fuzz_lines.py <run folder of circles> [how many] [seed]

Prints the lines that end in a traceback, those that are accepted, and how many there are of each kind.
"""

import os
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
os.environ["PYTHONPATH"] = str(Path(__file__).parent)

from forked_scripts import ROOT, command
from small_runs import QUICK, SMALL, composed

from vaelab.commands.cli import COMMANDS
from vaelab.runs.configs import flatten

NONSENSE = ("-1", "abc", "true", "[]", "{}", "null", "1.5", "1e999", "nan", "'a=b'", "[1,abc]", "no", "${oc.env:HOME}", "../..")
SKIPPED = ("hydra", "paths", "name", "sweep", "download", "run", "data.name", "callbacks.progress")  # where text is as good as any other
COMMANDS_OF_A_RUN = ("evaluate", "generate", "inpaint", "detect_anomalies")
FEW = ["num_images=2"]


def lines(run: str, how_many: int, seed: int) -> Iterator[list[str]]:
    """Command lines, each with one word of nonsense."""
    chance = random.Random(seed)
    keys = {
        name: [key for key in flatten(composed(words, Path(), COMMANDS[name].config)) if not key.startswith(SKIPPED)]
        for name, words in starts(run).items()
    }
    dials = [path.name for path in (ROOT / "conf").glob("*/")]
    for _ in range(how_many):
        name = chance.choice(["train", "train", *COMMANDS_OF_A_RUN])
        kind = chance.random()
        if kind < 0.7:
            key = chance.choice(keys[name])
            word = f"{key}={chance.choice(NONSENSE)}"
        elif kind < 0.85:
            key = chance.choice(keys[name])
            word = f"{chance.choice(['', '+'])}{key[:-1]}x=1"  # a typo
        else:
            key = chance.choice(dials)
            word = f"{key}={chance.choice(['nothing', '5', 'true'])}"
        words = [each for each in starts(run)[name] if each.partition("=")[0].lstrip("+~") != key]
        yield [name, *words, word]


def starts(run: str) -> dict[str, list[str]]:
    """The words of each command before the nonsense."""
    return {"train": [*SMALL, *QUICK, "trainer.max_epochs=1"]} | {
        name: [f"run='{run}'", "accelerator=cpu", *(FEW if name != "evaluate" else [])] for name in COMMANDS_OF_A_RUN
    }


def answer(line: list[str]) -> tuple[str, str]:
    """The kind of answer, and its last words."""
    with tempfile.TemporaryDirectory() as folder:
        done = command(f"{line[0]}.py", *line[1:], check=False, cwd=folder)
    if done.returncode == 0:
        return "accepted", ""
    told = [each for each in done.stderr.splitlines() if each.strip() and "HYDRA_FULL_ERROR" not in each]
    return "traceback" if "Traceback" in done.stderr else "said", (told or [""])[-1][-160:]


if __name__ == "__main__":
    asked = list(lines(str(Path(sys.argv[1]).absolute()), *map(int, [*sys.argv[2:], 500, 0][:2])))
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(answer, asked))
    for line, (kind, words) in zip(asked, answers, strict=True):
        if kind != "said":
            print(f"{kind:10} {line[0]} {line[-1]}   {words}")
    print(Counter(kind for kind, _ in answers))
