"""The model of images per second against devices, and the benchmark that measures what goes into it."""

import re
from pathlib import Path

import pytest
from forked_scripts import command
from small_runs import SMALL

from vaelab.benchmark.scaling import Link, all_reduce_seconds, step_seconds


def test_a_ring_of_four_by_hand() -> None:
    """Six messages of 25 bytes over 100 bytes a second, each 0.5 s late: 6 (0.25 + 0.5)."""
    assert all_reduce_seconds(4, 100, Link(bytes_per_second=100, latency=0.5)) == pytest.approx(4.5)


def test_one_device_reduces_nothing() -> None:
    assert step_seconds(1, 0.2, 1e9, Link(1.0, 1.0)) == (0.2, 0.2)


def test_bandwidth_alone_bounds_the_ring_and_latency_does_not() -> None:
    """Each device sends less than two copies of the gradients, whatever the number of devices."""
    times = [all_reduce_seconds(num, 100, Link(100, 0.0)) for num in (2, 8, 64, 10**6)]
    assert times == sorted(times)
    assert times[-1] == pytest.approx(2.0, rel=1e-5)
    assert times[-1] < 2
    assert all_reduce_seconds(1001, 100, Link(1e30, 0.1)) == pytest.approx(200)


@pytest.mark.parametrize(("alone", "best"), [(1.0, 1.5), (4.0, 4.0)])
def test_a_step_is_hidden_behind_the_ring_or_the_ring_behind_the_step(alone: float, best: float) -> None:
    assert step_seconds(4, alone, 100, Link(100, 0.0)) == pytest.approx((alone + 1.5, best))


def test_the_benchmark_measures_what_a_user_would_type(tmp_path: Path) -> None:
    words = [word for word in SMALL if not word.startswith(("hydra.", "trainer."))]
    done = command(
        "benchmark.py", *words, "benchmark.parts=[scaling]", "benchmark.rounds=1", "benchmark.epochs=1", f"hydra.run.dir={tmp_path}"
    )
    found = {int(num): rest for num, rest in re.findall(r"^ (\d+) +(.*)$", done.stdout, flags=re.MULTILINE)}
    assert found.keys() == {1, 2, 4, 8, 16, 32, 64}
    measured = dict(re.findall(r"devices=(\d): ([\d,]+) images/s", done.stdout))
    assert all(measured[str(num)] in found[num] for num in (1, 2))
