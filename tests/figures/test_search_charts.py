"""What is drawn of a search."""

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from vaelab.figures.charts.search import search_charts


def study(directions: list[str], values: list[list[float] | None]) -> optuna.Study:
    """Trials with these values; None is a trial that failed."""
    found = optuna.create_study(directions=directions)
    for each in values:
        found.add_trial(create_trial(values=each, state=TrialState.FAIL if each is None else TrialState.COMPLETE))
    return found


@pytest.mark.parametrize(("first", "steps"), [("maximize", "steps-pre"), ("minimize", "steps-post")])
def test_the_pareto_front_is_what_no_other_trial_beats_in_both(first: str, steps: str) -> None:
    """Of (1, 1), (2, 2) and (3, 3) each is best at something if the second is minimised; (2, 3) and (1.5, 2.5) are worse than (2, 2)."""
    sign = 1 if first == "maximize" else -1
    points = [[2.0, 3.0], [3.0, 3.0], None, [1.0, 1.0], [1.5, 2.5], [2.0, 2.0]]
    searched = study([first, "minimize"], [None if point is None else [sign * point[0], point[1]] for point in points])
    (axis,) = search_charts(searched, ["test/mig", "val/rate"])["pareto_front"].axes
    others, front = axis.lines
    assert sorted(others.get_xydata().tolist()) == sorted([[sign * 2.0, 3.0], [sign * 1.5, 2.5]])
    assert front.get_xydata().tolist() == [[sign * x, x] for x in (1.0, 2.0, 3.0)][::sign]
    assert front.get_drawstyle() == steps
    assert {text.get_text(): tuple(text.xy) for text in axis.texts} == {"3": (sign, 1.0), "5": (sign * 2, 2.0), "1": (sign * 3, 3.0)}
    assert (axis.get_xlabel(), axis.get_ylabel()) == (f"test/mig {'↑' if sign > 0 else '↓'}", "val/rate ↓")


def test_the_history_holds_the_best_so_far_of_each_metric() -> None:
    searched = study(["maximize", "minimize"], [[1.0, 1.0], [3.0, 2.0], None, [2.0, 0.5]])
    first, second = search_charts(searched, ["a", "b"])["history"].axes
    assert [axis.lines[1].get_xydata().tolist() for axis in (first, second)] == [
        [[0, 1.0], [1, 3.0], [3, 3.0]],
        [[0, 1.0], [1, 1.0], [3, 0.5]],
    ]


def test_a_search_without_a_complete_trial_has_no_charts() -> None:
    assert search_charts(study(["maximize"], [None]), ["val/elbo"]) == {}
    assert set(search_charts(study(["maximize"], [[1.0]]), ["val/elbo"])) == {"history"}
