"""Lines of how far a long computation is."""

import logging

import pytest

from vaelab.metrics import progress


def test_a_line_says_what_the_whole_will_cost_and_others_follow(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    now = 100.0

    def work() -> float:
        return now

    monkeypatch.setattr(progress.time, "monotonic", work)
    caplog.set_level(logging.INFO, "vaelab.metrics")
    for _ in progress.progress("annealing", range(40)):
        now += 3.0
    assert caplog.messages == [
        "annealing: 2 of 40, 2 min left",  # 6 s for two of them: 114 s for the others
        "annealing: 12 of 40, 84 s left",
        "annealing: 22 of 40, 54 s left",
        "annealing: 32 of 40, 24 s left",
    ]


def test_what_is_quick_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "vaelab.metrics")
    assert list(progress.progress("squares", iter([1, 4, 9]), total=3)) == [1, 4, 9]
    assert not caplog.messages
