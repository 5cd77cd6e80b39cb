"""The table over run folders: its statistics by hand, what it calls a setting, what it refuses to compare, and what it says of the rest."""

import csv
import io
import json
import math
import random
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

T_2 = 4.302652729749464  # 0.95 sqrt(2 / (1 - 0.95^2)): Student's t of two degrees of freedom has a closed form
CONFIG = {
    "data": {"_target_": "vaelab.data.DataModule", "name": "circles", "batch_size": 32, "size": 16, "root": "${paths.data_dir}"},
    "prior": {"_target_": "vaelab.priors.StandardNormal", "z_shape": "${z_shape}"},
    "objective": {"_target_": "vaelab.objectives.ELBO", "beta": 1.0, "kl": "analytic"},
    "callbacks": {"progress": {"refresh_rate": 4}},
    "trainer": {"_target_": "lightning.Trainer", "max_epochs": 5, "accelerator": "cpu"},
    "latent_dim": 2,
    "z_shape": ["${latent_dim}"],
    "missing": False,
}


def write_run(
    folder: Path,
    seed: int | None = 0,
    values: dict[str, Any] | None = None,
    test: dict[str, Any] | None = None,
    choices: dict[str, str] | None = None,
    overrides: tuple[str, ...] = (),
    **results: Any,
) -> Path:
    """A run folder with dotted values of its config and metrics of its test."""
    config = json.loads(json.dumps(CONFIG)) | {"seed": seed, "paths": {"run_dir": str(folder), "data_dir": "data"}}
    for key, value in (values or {}).items():
        *path, last = key.split(".")
        node = config
        for name in path:
            node = node[name]
        node[last] = value
    hydra = {"runtime": {"choices": choices or {}, "cwd": str(folder.parent)}, "overrides": {"task": list(overrides)}}
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    (folder / ".hydra" / "hydra.yaml").write_text(yaml.safe_dump({"hydra": hydra}))
    record = {"test": {"elbo": -90.0} if test is None else test, "checkpoint": "checkpoints/best.ckpt", **results}
    (folder / "results.json").write_text(json.dumps(record))
    return folder


def write_sweep(folder: Path, key: str, elbos: dict[Any, list[float]]) -> Path:
    """Runs of several values of a key, with seeds 0, 1, ..."""
    for value, row in elbos.items():
        for seed, elbo in enumerate(row):
            write_run(folder / f"{value}_{seed}", seed, {key: value}, {"elbo": elbo, "rate": 10.0 + seed, "distortion": -elbo - 10 - seed})
    return folder


def summary_of(*folders: Path, **options: Any):
    from vaelab.runs.summary import summarize

    return summarize([str(folder) for folder in folders], **options)


def columns_of(folder: Path) -> dict[str, list[str]]:
    """The columns of the table of a folder, from top to bottom."""
    summary = summary_of(folder)
    return {column: [setting.values[i] for setting in summary.settings] for i, column in enumerate(summary.columns)}


# Statistics.


def test_the_interval_of_two_values_by_hand() -> None:
    """Student's t of one degree of freedom is tan(0.95 pi / 2), and s = |a - b| / sqrt(2)."""
    from vaelab.runs.summary import student_interval

    mean, std, half_width, num_values = student_interval([-90.0, -94.0])
    assert (mean, num_values) == (-92.0, 2)
    assert std == pytest.approx(math.sqrt(8), rel=1e-14)
    assert half_width == pytest.approx(2 * math.tan(0.95 * math.pi / 2), rel=1e-10)


def test_the_interval_holds_the_mean_as_often_as_it_says() -> None:
    from vaelab.runs.summary import student_interval

    generator, trials, held = random.Random(0), 4000, 0
    for _ in range(trials):
        found = student_interval([generator.gauss(-90, 2) for _ in range(3)])
        held += abs(found.mean + 90) < found.half_width
    assert held / trials == pytest.approx(0.95, abs=3 * math.sqrt(0.95 * 0.05 / trials))


def test_three_seeds_by_hand(tmp_path: Path) -> None:
    """Mean -93; squared deviations 9, 1, 16, over n - 1 = 2: s^2 = 13; half the interval t_2 s / sqrt(3)."""
    summary = summary_of(write_sweep(tmp_path, "objective.beta", {1.0: [-90.0, -92.0, -97.0]}))
    (setting,) = summary.settings
    mean, std, half_width, num_values = setting.interval("elbo")
    assert mean == pytest.approx(-93.0, rel=1e-15)
    assert std == pytest.approx(math.sqrt(13), rel=1e-14)
    assert half_width == pytest.approx(T_2 * math.sqrt(13 / 3), rel=1e-12)
    assert num_values == 3
    assert setting.interval("log_likelihood") is None


def test_one_value_has_no_interval_and_none_is_refused() -> None:
    from vaelab.runs.summary import student_interval

    found = student_interval([-90.0])
    assert found.mean == -90.0
    assert math.isnan(found.std)
    assert math.isnan(found.half_width)
    with pytest.raises(ValueError, match="no mean of no values"):
        student_interval([])


def test_a_value_that_is_not_finite_is_named_and_never_the_best(tmp_path: Path) -> None:
    from vaelab.runs.summary import markdown

    summary = summary_of(write_sweep(tmp_path, "objective.beta", {1.0: [-90.0, -92.0], 4.0: [-80.0, math.nan], 8.0: [-95.0, -95.0]}))
    assert [math.isnan(setting.interval("elbo").mean) for setting in summary.settings] == [False, True, False]
    assert summary.best("elbo") == [summary.settings[0]]
    assert any(note.startswith("elbo is nan in ") and note.endswith("4.0_1") for note in summary.notes)
    assert "| 4 | 2 | nan |" in markdown(summary)


def test_a_metric_that_some_seeds_lack_is_counted_apart(tmp_path: Path) -> None:
    from vaelab.runs.summary import markdown

    for seed, mig in enumerate([0.25, 0.75, None]):
        write_run(tmp_path / str(seed), seed, test={"elbo": -90.0, "mig": mig})
    summary = summary_of(tmp_path, metrics=["elbo", "mig"])
    assert summary.settings[0].interval("mig").num_values == 2
    assert summary.settings[0].interval("mig").mean == 0.5
    assert "(0.35, n=2)" in markdown(summary)


# Comparisons.


def test_paired_differences_by_hand(tmp_path: Path) -> None:
    """What seeds have in common cancels: each run of beta = 4 is 1, 2 and 6 nats below that of beta = 1, whatever the seed did to both."""
    summary = summary_of(write_sweep(tmp_path, "objective.beta", {1.0: [-90.0, -70.0, -110.0], 4.0: [-91.0, -72.0, -116.0]}))
    best, other = summary.settings
    assert summary.best("elbo") == [best]
    mean, std, half_width, num_values = summary.difference(other, "elbo")
    assert mean == pytest.approx(-3.0, rel=1e-14)
    assert std == pytest.approx(math.sqrt(7), rel=1e-13)  # (4 + 1 + 9) / 2
    assert half_width == pytest.approx(T_2 * math.sqrt(7 / 3), rel=1e-12)
    assert num_values == 3
    assert half_width < 0.5 * other.interval("elbo").half_width
    assert summary.difference(best, "elbo") is None


def test_only_shared_seeds_are_paired(tmp_path: Path) -> None:
    for beta, seed, elbo in ((1.0, 0, -90.0), (1.0, 1, -80.0), (4.0, 1, -85.0), (4.0, 2, -300.0), (8.0, 5, -99.0), (9.0, None, -99.0)):
        write_run(tmp_path / f"{beta}_{seed}", seed, {"objective.beta": beta}, {"elbo": elbo})
    summary = summary_of(tmp_path)
    assert [summary.difference(setting, "elbo") for setting in summary.settings[2:]] == [None, None]
    change = summary.difference(summary.settings[1], "elbo")
    assert (change.mean, change.num_values) == (-5.0, 1)
    assert math.isnan(change.half_width)


def test_differences_to_a_baseline(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path, "objective.beta", {0.1: [-95.0, -97.0], 1.0: [-90.0, -91.0], 4.0: [-92.0, -94.0]})
    for name in ("objective.beta=0.1", "beta=0.10", "beta=1e-1"):
        summary = summary_of(folder, baseline=name)
        assert [summary.label(setting) for setting in summary.baselines] == ["objective.beta=0.1"]
        assert [change and change.mean for change in (summary.difference(each, "elbo") for each in summary.settings)] == [None, 5.5, 3.0]
        assert summary.difference(summary.settings[1], "rate").mean == 0.0  # a baseline is compared in every metric


def test_each_metric_knows_which_direction_is_better(tmp_path: Path) -> None:
    from vaelab.runs.summary.table import direction

    better_high = ("elbo", "val/elbo", "log_likelihood_ais", "knn_accuracy", "linear_probe_r2", "mig", "factor_vae_score", "recall_pixels")
    better_low = ("fid", "distortion", "bits_per_dim", "frechet_distance_pixels", "kernel_distance_classifier")
    assert [direction(name) for name in better_high] == [1] * len(better_high)
    assert [direction(name) for name in better_low] == [-1] * len(better_low)
    assert [direction(name) for name in ("rate", "train_time_s", "elbo_local_steps", "majority_accuracy", "frechet_pixels_of_train")] == [
        0
    ] * 5
    summary = summary_of(write_sweep(tmp_path, "objective.beta", {1.0: [-90.0], 4.0: [-80.0]}))
    assert summary.best("elbo") == summary.best("distortion") == [summary.settings[1]]
    assert summary.best("rate") == []


def test_equal_means_are_all_the_best_and_one_setting_is_none(tmp_path: Path) -> None:
    tie = summary_of(write_sweep(tmp_path / "tie", "objective.beta", {1.0: [-90.0], 4.0: [-90.0], 8.0: [-91.0]}))
    assert tie.best("elbo") == tie.settings[:2]
    alone = summary_of(write_run(tmp_path / "alone"))
    assert alone.best("elbo") == []
    assert alone.columns == []


def test_different_data_are_pointed_out_and_have_a_best_each(tmp_path: Path) -> None:
    for data, elbos in (("circles", (-90.0, -80.0)), ("shapes", (-40.0, -30.0))):
        for beta, elbo in zip((1.0, 4.0), elbos, strict=True):
            write_run(tmp_path / f"{data}_{beta}", 0, {"data.name": data, "objective.beta": beta}, {"elbo": elbo}, {"data": data})
    summary = summary_of(tmp_path)
    assert summary.columns == ["data", "objective.beta"]
    assert [setting.values for setting in summary.best("elbo")] == [("circles", "4"), ("shapes", "4")]
    assert [note for note in summary.notes if "not comparable" in note] == [
        "not comparable are rows that differ in data (all): the best is marked among those that agree"
    ]
    summary = summary_of(tmp_path, baseline="beta=1")
    assert [change and change.mean for change in (summary.difference(each, "elbo") for each in summary.settings)] == [
        None,
        10.0,
        None,
        10.0,
    ]


def test_what_concerns_training_alone_leaves_data_comparable(tmp_path: Path) -> None:
    write_run(tmp_path / "a", values={"data.batch_size": 32})
    write_run(tmp_path / "b", values={"data.batch_size": 64}, test={"elbo": -80.0})
    summary = summary_of(tmp_path)
    assert summary.notes == []
    assert summary.best("elbo") == [summary.settings[1]]


@pytest.mark.parametrize(
    ("difference", "concerned"),
    [
        ({"num_samples": 5000}, {"log_likelihood"}),
        ({"num_images_log_likelihood": 10}, {"log_likelihood"}),
        ({"bits_per_dim": None}, {"elbo", "distortion", "log_likelihood"}),
        ({"checkpoint": "checkpoints/last.ckpt"}, {"elbo", "distortion", "log_likelihood", "mig"}),
        ({"evaluations": {"mig": {"options": {"num_bins": 10, "batch_size": 7}, "keys": ["mig"]}}}, {"mig"}),
        ({"evaluations": {"mig": {"options": {"num_bins": 20, "batch_size": 7}, "keys": ["mig"]}}}, set()),
    ],
)
def test_what_was_evaluated_otherwise_has_no_best(difference: dict[str, Any], concerned: set[str], tmp_path: Path) -> None:
    values = {"elbo": -90.0, "distortion": 80.0, "log_likelihood": -88.0, "mig": 0.3}
    how = {"checkpoint": "checkpoints/best.ckpt", "evaluations": {"mig": {"options": {"num_bins": 20}, "keys": ["mig"]}}}
    usual = {"bits_per_dim": 0.5, "num_samples": 100, "num_images_log_likelihood": 1000}
    for name, beta, changed in (("a", 1.0, {}), ("b", 4.0, difference)):
        test = {**values, **usual, **{key: value for key, value in changed.items() if key in usual}}
        results = {**how, **{key: value for key, value in changed.items() if key in how}}
        write_run(tmp_path / name, values={"objective.beta": beta}, test=test, **results)
    summary = summary_of(tmp_path, metrics=list(values))
    assert {metric for metric in values if not summary.best(metric)} == concerned
    assert any("not comparable" in note for note in summary.notes) == bool(concerned)


def test_evaluation_of_the_same_run_in_two_ways_is_not_averaged(tmp_path: Path) -> None:
    for seed, samples in ((0, 100), (1, 100), (2, 5000)):
        write_run(tmp_path / str(seed), seed, test={"log_likelihood": -90.0, "num_samples": samples})
    assert columns_of(tmp_path) == {"evaluation.num_samples": ["100", "5000"]}
    assert [len(setting.runs) for setting in summary_of(tmp_path).settings] == [2, 1]


# Settings.


def test_only_what_differs_is_a_column_and_seeds_paths_and_bars_are_not(tmp_path: Path) -> None:
    write_run(tmp_path / "a", 0)
    immaterial = {"callbacks.progress.refresh_rate": 1, "trainer.accelerator": "gpu", "data.eval_batch_size": 7}
    write_run(tmp_path / "b", 1, immaterial, overrides=("seed=1", "trainer=gpu"))
    write_run(tmp_path / "c", 0, {"objective.beta": 4, "latent_dim": 8})
    write_run(tmp_path / "d", 0, {"objective.beta": 10})
    summary = summary_of(tmp_path)
    assert summary.columns == ["objective.beta", "latent_dim"]  # z_shape and the prior's follow from latent_dim
    assert [setting.values for setting in summary.settings] == [("1", "2"), ("4", "8"), ("10", "2")]  # by size, not by letters
    assert [len(setting.runs) for setting in summary.settings] == [2, 1, 1]


def test_the_same_number_is_the_same_setting_however_it_was_written(tmp_path: Path) -> None:
    for i, value in enumerate((2, 2.0, "${latent_dim}")):
        write_run(tmp_path / str(i), i, {"objective.beta": value})
    (setting,) = summary_of(tmp_path).settings
    assert len(setting.runs) == 3


def test_interpolations_are_shown_resolved(tmp_path: Path) -> None:
    write_run(tmp_path / "a", values={"objective.beta": "${latent_dim}"})
    write_run(tmp_path / "b", values={"objective.beta": "${hydra:job.num}"})
    assert columns_of(tmp_path) == {"objective.beta": ["2", "${hydra:job.num}"]}


VAMP = {"_target_": "vaelab.priors.VampPrior", "num_components": 500}


def test_a_part_is_named_by_its_choice_and_its_options_only_where_they_differ(tmp_path: Path) -> None:
    write_run(tmp_path / "a", choices={"prior": "standard_normal"})
    write_run(tmp_path / "b", values={"prior": VAMP}, choices={"prior": "vamp"})
    assert columns_of(tmp_path) == {"prior": ["standard_normal", "vamp"]}
    write_run(tmp_path / "c", values={"prior": VAMP | {"num_components": 20}}, choices={"prior": "vamp"})
    assert columns_of(tmp_path) == {"prior": ["standard_normal", "vamp", "vamp"], "prior.num_components": ["—", "20", "500"]}


def test_a_part_is_named_by_its_class_if_no_choice_is_known(tmp_path: Path) -> None:
    write_run(tmp_path / "a", choices={"prior": "standard_normal"})
    write_run(tmp_path / "b", values={"prior": VAMP})
    assert columns_of(tmp_path) == {"prior": ["StandardNormal", "VampPrior"]}


def test_an_option_that_was_typed_is_shown(tmp_path: Path) -> None:
    write_run(tmp_path / "a", choices={"prior": "standard_normal"}, overrides=("data=circles",))
    write_run(tmp_path / "b", values={"prior": VAMP}, choices={"prior": "vamp"}, overrides=("prior=vamp", "prior.num_components=500"))
    assert columns_of(tmp_path) == {"prior": ["standard_normal", "vamp"], "prior.num_components": ["—", "500"]}


def test_one_part_under_two_names_is_one_part(tmp_path: Path) -> None:
    write_run(tmp_path / "a", 0, choices={"objective": "elbo"})
    write_run(tmp_path / "b", 1, choices={"objective": "my_elbo"})
    assert columns_of(tmp_path) == {}


def test_a_schedule_stands_where_the_number_would(tmp_path: Path) -> None:
    schedule = {"_target_": "vaelab.schedules.Linear", "start": 0.0, "end": 1.0}
    write_run(tmp_path / "a")
    write_run(tmp_path / "b", values={"objective.beta": schedule}, choices={"schedule@objective.beta": "linear"})
    assert columns_of(tmp_path) == {"objective.beta": ["1", "linear"]}


def test_experiments_are_named_and_what_they_set_is_not(tmp_path: Path) -> None:
    for name, values in (("vae", {}), ("beta_vae", {"objective.beta": 4, "latent_dim": 10})):
        for epochs in (5, 6):
            write_run(tmp_path / f"{name}_{epochs}", values={**values, "trainer.max_epochs": epochs}, choices={"experiment": name})
    assert columns_of(tmp_path) == {"experiment": ["beta_vae", "beta_vae", "vae", "vae"], "trainer.max_epochs": ["5", "6", "5", "6"]}
    write_run(tmp_path / "none", values={"latent_dim": 3})
    assert columns_of(tmp_path).keys() == {"objective.beta", "latent_dim", "trainer.max_epochs"}


def test_absolute_paths_are_never_shown(tmp_path: Path) -> None:
    from vaelab.runs.summary import comma_separated, latex, markdown

    for name in ("cats", "dogs"):
        write_run(tmp_path / name, values={"data.root": f"/secret/home/pictures/{name}"})
    assert columns_of(tmp_path) == {"data.root": ["cats", "dogs"]}
    summary = summary_of(tmp_path)
    for text in (comma_separated(summary), latex(summary), markdown(summary)):
        assert "secret" not in text
        assert str(tmp_path) not in text


def test_pretrained_runs_are_settings_and_not_folders(tmp_path: Path) -> None:
    """Two seeds of two models, on each of which a prior was fitted."""
    for beta in (1, 4):
        for seed in (0, 1):
            first = write_run(tmp_path / "first" / f"{beta}_{seed}", seed, {"objective.beta": beta})
            where = str(first) if seed else f"../first/{beta}_{seed}"
            write_run(tmp_path / "second" / f"{beta}_{seed}", seed, {"pretrained": where, "prior": VAMP})
    assert columns_of(tmp_path / "second") == {"pretrained.objective.beta": ["1", "4"]}
    assert [len(setting.runs) for setting in summary_of(tmp_path / "second").settings] == [2, 2]


def test_the_later_of_two_equal_runs_counts(tmp_path: Path) -> None:
    write_run(tmp_path / "a", 0, test={"elbo": -90.0}, finished="2026-11-21T10:00:00+00:00")
    write_run(tmp_path / "b", 0, test={"elbo": -80.0}, finished="2026-11-21T10:30:00+01:00")  # half an hour before a
    write_run(tmp_path / "c", 1, test={"elbo": -70.0}, finished="2026-11-21T09:00:00+00:00")
    summary = summary_of(tmp_path)
    assert summary.settings[0].interval("elbo").mean == -80.0
    assert f"left out, because a later run has the same setting and seed: {summary_name(tmp_path, 'b')}" in summary.notes


def summary_name(folder: Path, name: str) -> Path:
    return Path(folder.name, name)


# Folders.


def test_what_scripts_leave_in_a_run_is_no_run(tmp_path: Path) -> None:
    """Unless a folder that is no run is called so."""
    from vaelab.runs.find import find_runs

    run = write_run(tmp_path / "inpainting" / "run")
    for name in ("anomalies/kmnist", "inpainting/half"):
        (run / name).mkdir(parents=True)
        (run / name / "results.json").write_text("{}")
    assert [found.path for found in find_runs([str(tmp_path)])] == [run]


def test_a_run_that_its_search_gave_up_has_not_failed(tmp_path: Path) -> None:
    write_run(tmp_path / "good")
    for i in range(2):
        pruned = write_run(tmp_path / f"pruned{i}")
        (pruned / "results.json").unlink()
        (pruned / "pruned.txt").touch()
    assert [reason for _, reason in summary_of(tmp_path).unfinished] == ["pruned by its search"] * 2


def test_runs_are_found_below_folders_by_globs_and_once(tmp_path: Path) -> None:
    from vaelab.runs.find import find_runs

    sweep = write_sweep(tmp_path / "sweeps" / "x", "objective.beta", {1.0: [-90.0], 4.0: [-80.0]})
    (sweep / "1.0_0" / "resumed" / "later" / ".hydra").mkdir(parents=True)
    (sweep / "1.0_0" / "resumed" / "later" / ".hydra" / "config.yaml").touch()
    (sweep / ".hydra").mkdir()  # of a script that started the runs below its own folder
    (sweep / ".hydra" / "config.yaml").touch()
    expected = {sweep / "1.0_0", sweep / "4.0_0"}
    assert {run.path for run in find_runs([str(tmp_path)])} == expected
    assert sorted(run.path for run in find_runs([str(tmp_path), str(sweep), str(sweep / "*_0")])) == sorted(expected)
    assert [run.name for run in find_runs([str(sweep / "4.0_0")])] == ["4.0_0"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('{"test": {"elbo": -9', r"results\.json cannot be read \(.*line 1 column 21"),
        ("[1, 2]", r"results\.json cannot be read \(it is no mapping\)"),
        ('{"test": 3}', r"results\.json cannot be read \(it was not written by vaelab"),
        ('{"test": {"elbo": -90}, "evaluations": [1]}', r"results\.json cannot be read \(it was not written by vaelab"),
        ('{"test": {"elbo": -90}, "finished": 12}', "Invalid isoformat string: '12'"),
        ('{"test": null, "val": {"elbo": -90.0}}', "it was not evaluated on test data"),
        ('{"test": {"accuracy_of_cats": 0.5}}', "it has no elbo"),
        ('{"test": {"elbo": -90}, "finished": "noon"}', "noon"),
        (None, "no results.json: it failed, was stopped, or is still running"),
    ],
)
def test_a_run_that_is_not_in_the_table_is_listed_with_its_reason(content: str | None, reason: str, tmp_path: Path) -> None:
    from vaelab.runs.summary import latex, markdown

    write_run(tmp_path / "good")
    bad = write_run(tmp_path / "bad", 1)
    (bad / "results.json").unlink() if content is None else (bad / "results.json").write_text(content)
    summary = summary_of(tmp_path)
    assert [run.name for run in summary.runs] == [str(summary_name(tmp_path, "good"))]
    ((name, found),) = summary.unfinished
    assert name == str(summary_name(tmp_path, "bad"))
    assert re.match(reason, found) or reason in found
    assert found in markdown(summary)
    assert found in latex(summary)


@pytest.mark.parametrize("text", ["a: [", "- a", "\x00"])
def test_a_broken_config(text: str, tmp_path: Path) -> None:
    write_run(tmp_path / "good")
    (write_run(tmp_path / "bad", 1) / ".hydra" / "config.yaml").write_text(text)
    assert ".hydra/config.yaml cannot be read" in summary_of(tmp_path).unfinished[0].reason


def test_results_without_a_config(tmp_path: Path) -> None:
    write_run(tmp_path / "good")
    (write_run(tmp_path / "bad", 1) / ".hydra" / "config.yaml").unlink()
    assert "neither .hydra/config.yaml nor a checkpoint" in summary_of(tmp_path).unfinished[0].reason


def test_what_cannot_be_summarized_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    sweep = write_sweep(tmp_path / "sweep", "objective.beta", {1.0: [-90.0], 4.0: [-80.0]})
    unfinished = write_run(tmp_path / "unfinished")
    (unfinished / "results.json").unlink()
    validated = write_run(tmp_path / "validated", test={}, val={"elbo": -90.0})
    both = write_run(tmp_path / "both" / "a", values={"objective.beta": 1, "latent_dim": 3}).parent
    write_run(both / "b", values={"objective.beta": 1, "latent_dim": 4})
    write_run(both / "c", values={"objective.beta": 2, "latent_dim": 4})
    cases: list[tuple[Path, dict[str, Any], str]] = [
        (tmp_path / "nowhere", {}, "there is no folder .*nowhere"),
        (tmp_path / "*.zip", {}, r"there is no folder .*\*\.zip"),
        (sweep / "1.0_0" / "results.json", {}, "there is no folder .*results.json"),
        (tmp_path / "empty", {}, "there is no run folder in .*empty"),
        (unfinished, {}, r"no run is finished; unfinished: no results\.json"),
        (validated, {}, "no run was evaluated on test data: .*choose --metrics from val/elbo"),
        (sweep, {"metrics": ["elbow"]}, "no run has the metric elbow; nearest are elbo$"),
        (sweep, {"metrics": ["zzz"]}, "no run has the metric zzz; there are elbo, rate, distortion"),
        (sweep, {"baseline": "prior=vamp"}, r"prior is none of the columns that differ \(objective.beta\)"),
        (sweep, {"baseline": "beta=3"}, "is none of the settings: objective.beta=1; objective.beta=4"),
        (both, {"baseline": "beta=1"}, "is 2 settings; say which: objective.beta=1, latent_dim=3; objective.beta=1, latent_dim=4"),
    ]
    for folder, options, message in cases:
        with pytest.raises(ValueError, match=message) as raised:
            summary_of(folder, **options)
        assert "\n" not in str(raised.value)


def test_metrics_are_chosen_by_name_and_pattern(tmp_path: Path) -> None:
    test = {
        "elbo": -90.0,
        "elbo_std_error": 0.5,
        "dci_completeness": 0.4,
        "dci_disentanglement": 0.5,
        "num_images": 7,
        "spectrum": [1.0, 2.0],
    }
    write_run(tmp_path / "a", test=test, val={"elbo": -95.0}, num_parameters=33)
    assert summary_of(tmp_path).metrics == ["elbo"]
    assert summary_of(tmp_path).notes == ["not shown: dci_completeness, dci_disentanglement, val/elbo, num_parameters (see --metrics)"]
    assert summary_of(tmp_path, metrics=["dci_*", "val/elbo", "dci_completeness"]).metrics == [
        "dci_completeness",
        "dci_disentanglement",
        "val/elbo",
    ]
    assert summary_of(tmp_path, metrics=["*"]).notes == []


def test_another_file_of_results(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a")
    (run / "results_last.json").write_text(json.dumps({"test": {"elbo": -70.0}, "checkpoint": "checkpoints/last.ckpt"}))
    summary = summary_of(tmp_path, results="results_last.json")
    assert summary.settings[0].interval("elbo").mean == -70.0


# Formats.


@pytest.fixture
def sweep(tmp_path: Path):
    """-93 ± 8.96 (3.61) and -97 ± 0 (0), 4 below in the mean."""
    return summary_of(write_sweep(tmp_path, "objective.beta", {1.0: [-90.0, -92.0, -97.0], 4.0: [-97.0, -97.0, -97.0]}), metrics=["elbo"])


def test_markdown(sweep) -> None:
    from vaelab.runs.summary import markdown

    lines = markdown(sweep).splitlines()
    assert lines[2:6] == [
        "| objective.beta | seeds | elbo ↑ |",
        "| --- | ---: | ---: |",
        "| 1 | 3 | **-93.0** ± 9.0 (3.6) |",
        "| 4 | 3 | -97.0 ± 0.0 (0.0) |",
    ]
    assert "| 4 | 3 | -4.0 ± 9.0 (3.6) |" in lines
    assert "mean ± half of the 95% Student t interval (standard deviation), over seeds" in markdown(sweep)


def test_latex(sweep) -> None:
    from vaelab.runs.summary import latex

    text = latex(sweep)
    assert r"objective.beta & seeds & elbo $\uparrow$ \\" in text
    assert r"$1$ & $3$ & $\mathbf{-93.0} \pm 9.0$ (3.6) \\" in text
    assert text.count(r"\begin{tabular}{lrr}") == text.count(r"\end{tabular}") == 2


def test_latex_escapes_its_own_characters() -> None:
    from vaelab.runs.summary.formats import LATEX

    assert r"a_b & 50% of $x #1 {z} ~^\ — <|>[".translate(LATEX) == (
        r"a\_b \& 50\% of \$x \#1 \{z\} \textasciitilde{}\textasciicircum{}\textbackslash{} -- \textless{}\textbar{}\textgreater{}{[}"
    )


def test_csv_holds_every_number_in_full(sweep) -> None:
    from vaelab.runs.summary import comma_separated

    first, second = csv.DictReader(io.StringIO(comma_separated(sweep)))
    assert (first["objective.beta"], first["seeds"], second["elbo_difference_num_seeds"]) == ("1", "0 1 2", "3")
    assert float(first["elbo_std"]) == sweep.settings[0].interval("elbo").std
    assert float(second["elbo_difference"]) == sweep.difference(sweep.settings[1], "elbo").mean == -4.0
    assert first["elbo_difference"] == ""


def printed(summary, width: int = 80, terminal: bool = True) -> list[str]:
    from rich.console import Console

    from vaelab.runs.summary import print_summary

    console = Console(file=io.StringIO(), width=width, force_terminal=terminal, color_system=None, highlight=False)
    print_summary(summary, console)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]


@pytest.mark.parametrize(("width", "terminal"), [(80, False), (48, True)])
def test_text_tells_the_best_without_colours(width: int, terminal: bool, sweep) -> None:
    text = " ".join(" ".join(printed(sweep, width, terminal)).split())
    assert "6 runs of 2 settings on circles" in text
    assert "1 3 * -93.0 ± 9.0 (3.6) 4 3 -97.0 ± 0.0 (0.0)" in text


def test_a_table_too_wide_for_the_terminal_is_continued_below_with_its_settings(tmp_path: Path) -> None:
    test = dict.fromkeys(("mig", "dci_disentanglement", "dci_completeness", "dci_informativeness", "factor_vae_score"), 0.5)
    for beta in (1, 4):
        write_run(tmp_path / str(beta), values={"objective.beta": beta}, test=test)
    lines = printed(summary_of(tmp_path, metrics=["*"]))
    assert max(map(len, lines)) <= 80
    headers = [line.split() for line in lines if line.startswith("objective.beta")]
    assert [name for header in headers for name in header if name not in ("objective.beta", "seeds", "↑")] == [*test]
    assert len(headers) > 1
    assert sum(line.split()[:1] == ["4"] for line in lines) == len(headers)


def test_settings_too_wide_for_the_terminal_are_listed_and_numbered(tmp_path: Path) -> None:
    """Each without what it shares with most of the others."""
    for i in (1, 2, 3):
        values = {"objective.beta": i, "objective.kl": "k3" if i == 3 else "analytic", "trainer.max_epochs": 7 if i == 2 else 5}
        write_run(tmp_path / str(i), values=values, test={"elbo": -80.0 - i})
    lines = printed(summary_of(tmp_path), width=70)
    assert max(map(len, lines)) <= 70
    assert [" ".join(line.split()) for line in lines[:10]] == [
        "3 runs of 3 settings on circles",
        "objective.kl=analytic, trainer.max_epochs=5, unless said otherwise",
        "1 objective.beta=1",
        "2 objective.beta=2, trainer.max_epochs=7",
        "3 objective.beta=3, objective.kl=k3",
        "",
        "seeds elbo ↑",
        "1 1 * -81",
        "2 1 -82",
        "3 1 -83",
    ]


def test_runs_left_out_for_one_reason_share_a_line(tmp_path: Path) -> None:
    write_run(tmp_path / "good")
    for name in "ab":
        write_run(tmp_path / name, 1, test={})
    names = ", ".join(str(summary_name(tmp_path, name)) for name in "ab")
    assert printed(summary_of(tmp_path), width=400)[-2:] == ["not in the table", f"it was not evaluated on test data: {names}"]


def test_a_single_run_has_the_standard_error_or_the_interval_of_its_examples(tmp_path: Path) -> None:
    from vaelab.runs.summary import markdown

    test = {"elbo": -90.123, "elbo_std_error": 0.456, "mig": 0.31, "mig_ci": [0.3, 0.34], "active_units": 4, "rates": [1.0, 3.0]}
    text = markdown(summary_of(write_run(tmp_path / "a", test=test), metrics=["*"]))
    assert "| seeds | elbo ↑ | mig ↑ | active_units |" in text
    assert "| 1 | -90.12 (se 0.46) | 0.310 (0.300 to 0.340) | 4 |" in text
    assert "a single seed has no interval; se: standard error over the test examples" in text
    write_run(tmp_path / "b", 1, test=test | {"elbo": -92.123})
    assert "| 2 | -91.1 ± 12.7 (1.4) |" in markdown(summary_of(tmp_path))


def test_another_evaluation_of_the_likelihood_leaves_active_units_comparable(tmp_path: Path) -> None:
    how = {"likelihood": {"options": {"num_samples": 1000}, "keys": ["elbo", "active_units", "accuracy"]}}
    write_run(tmp_path / "a", values={"objective.beta": 1}, test={"accuracy": 0.5}, evaluations=how)
    write_run(tmp_path / "b", values={"objective.beta": 4}, test={"accuracy": 0.6})
    summary = summary_of(tmp_path)
    assert summary.notes == []
    assert summary.best("accuracy") == [summary.settings[1]]


def test_the_best_run_is_that_of_the_validation_data_or_of_the_metric_that_was_asked_for(tmp_path: Path) -> None:
    from vaelab.runs.summary import markdown

    for name, beta, val, test in (("a", 1.0, -91.0, -90.0), ("b", 1.0, -93.0, -97.0), ("c", 4.0, -95.0, -80.0)):
        write_run(tmp_path / name, "abc".index(name), {"objective.beta": beta}, {"elbo": test, "distortion": -test}, val={"elbo": val})
    summary = summary_of(tmp_path)
    assert [run.name for run in summary.best_runs("val/elbo")] == [str(summary_name(tmp_path, "a"))]
    assert f"- best run by val/elbo, -91: `{summary_name(tmp_path, 'a')}`" in markdown(summary).splitlines()
    assert f"best run by val/elbo, -91: {summary_name(tmp_path, 'a')}" in printed(summary, 400)
    assert f"best run by distortion, 80: {summary_name(tmp_path, 'c')}" in printed(summary_of(tmp_path, metrics=["distortion"]), 400)
    searched = summary_of(tmp_path, leading=["val/elbo", "distortion"])
    assert searched.metrics == ["val/elbo", "distortion", "elbo"]
    assert [searched.best_runs(metric)[0].name[-1] for metric in searched.leading] == ["a", "c"]


def test_of_runs_that_cannot_be_compared_each_kind_has_a_best_if_there_are_two(tmp_path: Path) -> None:
    for name, data, elbo in (("a", "circles", -90.0), ("b", "circles", math.nan), ("c", "shapes", -40.0), ("d", "shapes", -30.0)):
        write_run(tmp_path / name, 0, {"data.name": data, "objective.beta": elbo}, {"elbo": elbo}, {"data": data})
    assert [run.name[-1] for run in summary_of(tmp_path).best_runs("elbo")] == ["d"]


# Charts.


def test_parallel_coordinates_of_means_over_seeds(tmp_path: Path) -> None:
    """Betas of 1, 10 and 100 lie evenly on a logarithmic axis, words in their order; the best of -96, -90.5 and -93 is the last line.

    Where two lines meet, each is so much higher as it is better.
    """
    from vaelab.figures.charts.parallel import SPREAD
    from vaelab.runs.summary.output import draw_summary

    for beta, kl, elbos in ((1.0, "k1", (-95.0, -97.0)), (10.0, "analytic", (-90.0, -91.0)), (100.0, "k1", (-93.0,))):
        for seed, elbo in enumerate(elbos):
            write_run(tmp_path / f"{beta}_{seed}", seed, {"objective.beta": beta, "objective.kl": kl}, {"elbo": elbo})
    figures = draw_summary(summary_of(tmp_path))
    (axis,) = figures["parallel_coordinates"].axes
    assert [label.get_text() for label in axis.get_xticklabels()] == ["objective.beta", "objective.kl", "elbo ↑"]
    lines = [line.get_ydata().tolist() for line in axis.lines if len(line.get_xdata()) == 3]
    assert lines == [pytest.approx(each) for each in ([0, 1 - SPREAD / 2, 0], [1, 1, 3 / 5.5], [0.5, SPREAD / 2, 1])]
    written = {text.get_text() for text in axis.texts}
    assert written == {"1", "10", "100", "analytic", "k1", "-96", "-93", "-90.5"}


@pytest.mark.parametrize("values", [{"objective.beta": 4.0}, {"objective.beta": 4.0, "data.name": "shapes"}])
def test_parallel_coordinates_need_parameters_and_runs_that_can_be_compared(values: dict[str, Any], tmp_path: Path) -> None:
    from vaelab.runs.summary.output import draw_summary

    write_run(tmp_path / "a", values=values)
    for i, beta in enumerate((1.0, 2.0)):
        write_run(tmp_path / f"b{i}", values={"objective.beta": beta})
    assert "parallel_coordinates" not in draw_summary(summary_of(tmp_path))


def test_the_rate_distortion_plane_has_every_run_and_lines_of_equal_elbo(tmp_path: Path) -> None:
    from vaelab.runs.summary.output import draw_summary

    summary = summary_of(write_sweep(tmp_path, "objective.beta", {0.1: [-95.0, -97.0], 1.0: [-90.0, -91.0], 10.0: [-92.0, -94.0]}))
    (axis,) = draw_summary(summary)["rate_distortion"].axes
    lines = [line for line in axis.lines if hasattr(line, "get_slope") and line.get_slope() is not None]
    assert len(lines) >= 3
    assert all(line.get_slope() == -1 for line in lines)
    named = {text.get_text(): text.xy for text in axis.texts}
    for text, (rate, distortion) in named.items():
        if text.startswith("ELBO"):
            assert -(rate + distortion) == pytest.approx(float(text.removeprefix("ELBO ").replace("−", "-")))
    assert named[r"$\beta$ = 0.1"] == pytest.approx((10.5, (95 - 10 + 97 - 11) / 2))
    drawn = {tuple(line.get_xydata()[0]) for line in axis.lines if len(line.get_xydata()) == 1}
    assert drawn >= {(run.metrics["rate"], run.metrics["distortion"]) for run in summary.runs}
    (curve,) = [line for line in axis.lines if len(line.get_xydata()) == 3]  # joined in the order of beta
    assert curve.get_xydata().tolist() == [[10.5, 85.5], [10.5, 80.0], [10.5, 82.5]]


def test_rates_and_distortions_of_different_data_have_a_plane_each(tmp_path: Path) -> None:
    from vaelab.runs.summary.output import draw_summary

    for i, data in enumerate(("circles", "shapes")):
        write_run(tmp_path / data, 0, {"data.name": data}, {"rate": 5.0 + i, "distortion": 80.0 - i}, {"data": data})
    assert [axis.get_title() for axis in draw_summary(summary_of(tmp_path))["rate_distortion"].axes] == ["data=circles", "data=shapes"]


def test_metrics_are_drawn_along_a_sweep_and_else_one_below_the_other(tmp_path: Path) -> None:
    from vaelab.runs.summary.output import draw_summary

    swept = summary_of(write_sweep(tmp_path / "a", "objective.beta", {0.1: [-95.0, -97.0], 1.0: [-90.0], 10.0: [-92.0, math.nan]}))
    along = draw_summary(swept)["metrics"].axes[0]
    assert (along.get_xscale(), along.get_xlabel(), along.get_title()) == ("log", "objective.beta", "elbo ↑")
    (means,) = [line for line in along.lines if line.get_marker() == "o" and len(line.get_xdata()) == 2]
    assert means.get_ydata().tolist() == [-96.0, -90.0]  # no place for what is not finite
    words = summary_of(write_sweep(tmp_path / "b", "objective.kl", {"analytic": [-95.0, -97.0], "k1": [-90.0, -91.0]}))
    below = draw_summary(words)["metrics"].axes[0]
    assert [label.get_text() for label in below.get_yticklabels()] == ["kl=analytic", "kl=k1"]


def test_what_a_written_summary_is_made_of(tmp_path: Path, sweep) -> None:
    from vaelab.runs.summary import comma_separated, write_summary

    paths = write_summary(sweep, tmp_path / "new" / "folder")
    names = ["summary.csv", "summary.md", "summary.tex", "metrics.png", "rate_distortion.png", "summary.html"]
    assert [path.name for path in paths] == names
    assert paths[0].read_text() == comma_separated(sweep)
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths[3:5])
    page = paths[5].read_text()
    assert page.count("data:image/png") == 2
    assert page.count("<tr>") == 2 * (1 + len(sweep.settings))
    with pytest.raises(ValueError, match=r"cannot write to .*summary\.csv.*: "):
        write_summary(sweep, paths[0] / "below")
