"""The benchmark of stacks."""

import re
from pathlib import Path

from forked_scripts import command


def test_the_benchmark_of_stacks_prints_their_rates(tmp_path: Path) -> None:
    words = ["benchmark.stacked.models=[[16,4,2,4,3]]", "benchmark.stacked.rounds=1", "benchmark.stacked.seconds=0.01"]
    done = command("benchmark.py", "benchmark.parts=[stacked]", *words, f"hydra.run.dir={tmp_path}")
    single, together, times = re.findall(r"16-4-2, 4 +3 +([\d,]+) +([\d,]+) +([\d.]+)", done.stdout)[0]
    assert float(together.replace(",", "")) > 0
    assert float(single.replace(",", "")) > 0
    assert float(times) > 0
