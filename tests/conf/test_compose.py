"""Every yaml composes and builds; the command line answers without importing anything heavy."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from forked_scripts import ROOT
from hydra.utils import instantiate
from omegaconf import OmegaConf
from small_runs import composed
from torch.distributions import Distribution

from vaelab.build import check_used
from vaelab.commands.cli import COMMANDS, let_threads_wait_briefly, main, with_quotes
from vaelab.commands.composing import compose
from vaelab.commands.help import help_of_one

GROUPS = {
    folder.name: sorted(path.stem for path in folder.glob("*.yaml")) for folder in sorted((ROOT / "conf").iterdir()) if folder.is_dir()
}
PARTS = [f"{group}={choice}" for group in ("encoder", "decoder", "posterior", "likelihood", "prior") for choice in GROUPS[group]]
ELSEWHERE = ("schedule", "experiment", "metrics", "model")
DIALS = {group: choices for group, choices in GROUPS.items() if group not in ELSEWHERE}
# what a choice needs beside it
NEEDS = {
    "data=folder": ["data.root=somewhere"],
    "data=array": ["data.file=x.npy", "data.shape=[3]"],
    "data=table": ["data.file=somewhere", "data.shape=[3]"],
    "likelihood=mixed": [f"data.kinds=[{','.join(256 * ['real'])}]"],
    "objective=geco": ["objective.target=10"],
    "prior=conditional_gaussian": ["num_classes=3"],
    "prior=uniform_codes": ["posterior=vector_quantized"],
    "prior=autoregressive_codes": ["posterior=vector_quantized"],
    "prior=transformer_codes": ["posterior=vector_quantized"],
    "posterior=fsq": [f"posterior.levels=[{','.join(16 * ['2'])}]"],
}
# Command lines that turn all dials at once, until each choice has had its turn: a config takes a third of a second. A model is turned
# alone, because some do without other dials.
LINES = [[f"model={choice}"] for choice in GROUPS["model"]] + [
    [f"{dial}={choices[turn]}" for dial, choices in DIALS.items() if turn < len(choices)] for turn in range(max(map(len, DIALS.values())))
]


@pytest.mark.parametrize("line", LINES, ids=" ".join)
def test_every_choice_of_every_dial_composes_and_resolves(line: list[str], tmp_path: Path) -> None:
    config = composed([*line, *[word for choice in line for word in NEEDS.get(choice, []) if "posterior" not in word]], tmp_path)
    config.paths.new_dir = "outputs"
    resolved = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    assert resolved["model"]["_target_"].startswith("vaelab.models.")
    sees_x = resolved["model"].get("posterior") or resolved["model"]["ladder"]
    assert sees_x["in_shape"] == resolved["data"]["shape"]


@pytest.mark.parametrize("group", ["posterior", "likelihood"])
def test_a_family_holds_nothing_that_all_families_are_given(group: str) -> None:
    shared = OmegaConf.load(ROOT / "conf" / f"_{group}.yaml").keys() - {"_target_"}
    assert shared == {"network", "in_shape", "event_shape", "num_classes"}
    repeated = {choice: shared & OmegaConf.load(ROOT / "conf" / group / f"{choice}.yaml").keys() for choice in GROUPS[group]}
    assert not any(repeated.values()), repeated


def test_debugging_limits_the_evaluation_too_and_the_command_line_wins(tmp_path: Path) -> None:
    def num_images(*overrides: str) -> int:
        return composed(list(overrides), tmp_path).evaluation.metrics.likelihood.num_images

    assert num_images("trainer=debug") < num_images() / 10
    assert num_images("trainer=debug", "evaluation.metrics.likelihood.num_images=7") == 7


@pytest.mark.parametrize("metric", GROUPS["metrics"])
def test_every_metric_composes_and_can_be_called(metric: str, tmp_path: Path) -> None:
    config = composed([f"metrics=[{metric}]", "run=somewhere"], tmp_path, "evaluate")
    assert callable(instantiate(config.metrics, _convert_="all")[metric])


@pytest.mark.parametrize("dials", PARTS)
def test_every_part_builds_a_model(dials: str, tmp_path: Path) -> None:
    import torch

    from vaelab.build import build

    z_shape = {"resnet": [4, 2, 2], "ldm": [4, 4, 4], "hierarchical": [4, 2, 2]}.get(dials.partition("=")[2], [16])
    small = ["data.size=16", f"z_shape={z_shape}", "encoder.channels=[4,4,4]", "decoder.channels=[4,4,4]"]
    small = small[:2] if "mlp" in dials else [*small, f"{dials.split('=')[0]}.norm_groups=2"] if "ldm" in dials else small
    if "conv1d" in dials:
        other = "decoder" if "encoder" in dials else "encoder"
        small = ["data.shape=[2,17]", *small[1:2], f"{other}=mlp", f"{dials.split('=')[0]}.channels=[4,4,4]"]
    lit = build(composed([dials, *small, *NEEDS.get(dials, [])], tmp_path))
    p_x = lit.model.decode(torch.zeros(3, *z_shape), torch.zeros(3))
    assert isinstance(p_x, Distribution)
    assert p_x.event_shape == ((2, 17) if "conv1d" in dials else (1, 16, 16))


@pytest.mark.parametrize("schedule", GROUPS["schedule"])
@pytest.mark.parametrize("weight", ["beta", "capacity"])
def test_a_schedule_can_stand_for_a_weight(schedule: str, weight: str, tmp_path: Path) -> None:
    objective = instantiate(composed([f"+schedule@objective.{weight}={schedule}", f"objective.{weight}.end=3"], tmp_path).objective)
    assert getattr(objective, weight)(2999) == pytest.approx(3, abs=0.05)


@pytest.mark.parametrize("name", GROUPS["experiment"])
def test_an_experiment_is_a_page_with_its_command_and_what_was_seen(name: str) -> None:
    text = (ROOT / "conf" / "experiment" / f"{name}.yaml").read_text()
    assert text.startswith("# @package _global_\n")
    assert f"experiment={name}" in text
    assert "Seen:" in text
    assert f"\nname: {name}\n" in text


def test_data_bring_the_likelihood_that_fits_and_the_command_line_wins(tmp_path: Path) -> None:
    def likelihood(*overrides: str) -> str:
        return composed(list(overrides), tmp_path).likelihood._target_.rpartition(".")[2]

    assert likelihood() == likelihood("data=mnist_binarized") == "Bernoulli"
    assert likelihood("data=mnist") == likelihood("experiment=vae_mnist", "data=mnist") == "Gaussian"
    assert likelihood("data=mnist", "likelihood=bernoulli") == "Bernoulli"


def test_encoders_are_shown_logarithms_of_counts(tmp_path: Path) -> None:
    """Whichever encoder is chosen, unless the command line says otherwise."""

    def shown(*overrides: str) -> str:
        return composed(list(overrides), tmp_path).encoder.input

    assert shown() == shown("likelihood=gaussian", "encoder=mlp") == "none"
    for likelihood in ("poisson", "negative_binomial"):
        for encoder in ("mlp", "conv", "resnet"):
            assert shown(f"likelihood={likelihood}", f"encoder={encoder}") == "log1p"
    assert shown("likelihood=poisson", "encoder.input=standardize") == "standardize"


def test_a_dial_that_the_model_does_not_use_is_refused(tmp_path: Path) -> None:
    from vaelab.build import build

    config = composed([], tmp_path)
    config.model = {"_target_": "vaelab.models.VAE", "posterior": "${posterior}", "likelihood": "${likelihood}", "prior": None}
    with pytest.raises(ValueError, match=r"prior=vaelab\.priors\.StandardNormal is not used by model=vaelab\.models\.VAE: remove it"):
        build(config)


@pytest.mark.parametrize(
    ("script", "argument"),
    [("train", "--help"), ("train", "--cfg=job"), ("evaluate", "--help"), ("generate", "--help"), ("benchmark", "--help")],
)
def test_help_and_config_are_shown_without_importing_torch(script: str, argument: str) -> None:
    program = (
        "import atexit, runpy, sys; heavy = {'torch', 'lightning', 'matplotlib'};"
        "atexit.register(lambda: print('HEAVY' if heavy & set(sys.modules) else 'LIGHT'));"
        f"sys.argv = ['{script}.py', '{argument}']; runpy.run_path('scripts/{script}.py', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False, timeout=60)
    assert done.stdout.rstrip().endswith("LIGHT"), done.stdout + done.stderr


def test_help_lists_the_dials_and_their_choices(capsys: pytest.CaptureFixture[str]) -> None:
    told = help_of_one("train", "config", []).splitlines()
    listed = {dial[1]: i for i, line in enumerate(told) if (dial := re.match(r"  ([\w@.]+)=", line))}
    for group, names in GROUPS.items():
        if group != "schedule":  # which is no dial of its own
            (start,) = [i for dial, i in listed.items() if dial.partition("@")[0] == group]
            words = " ".join(told[start : min((i for i in listed.values() if i > start), default=None)])
            assert set(names) <= set(re.findall(r"\w+", words)), group


@pytest.mark.parametrize(("command", "config"), [(name, each.config) for name, each in COMMANDS.items() if each.config])
def test_help_fits_a_terminal(command: str, config: str) -> None:
    told = help_of_one(command, config, [])
    assert max(map(len, told.splitlines())) <= 80
    assert " _" not in told
    assert f"  vaelab {command} " in told  # an example
    assert "seed=0 " in told


def test_help_lists_yamls_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "objective").mkdir()
    (tmp_path / "objective" / "mine.yaml").touch()
    for words in (["--config-dir", str(tmp_path)], [f"--config-dir={tmp_path}"]):
        assert "mine" in re.findall(r"\w+", help_of_one("train", "config", words))


def test_a_config_is_composed_from_python(tmp_path: Path) -> None:
    (tmp_path / "objective").mkdir()
    (tmp_path / "objective" / "mine.yaml").write_text("_target_: vaelab.objectives.IWAE\nnum_samples: 7\n")
    config = compose("data=circles", "objective=mine", config_dir=tmp_path)
    assert config.objective.num_samples == 7
    stored = OmegaConf.to_container(config, resolve=False)
    assert re.fullmatch(r"outputs/circles/\d{4}(-\d\d){2}_\d\d(-\d\d){2}", stored["paths"]["run_dir"])  # no part of it is read again
    assert compose("paths.run_dir=here").paths.run_dir == "here"
    assert compose("run=x", config_name="evaluate").run == "x"


def test_the_commands_are_listed_a_line_each(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["--help"], ["-h"]):
        monkeypatch.setattr(sys, "argv", ["vaelab", *words])
        assert main() == 0
        lines = capsys.readouterr().out.splitlines()
        assert max(map(len, lines)) <= 80
        assert [line.split()[0] for line in lines if line.startswith("  ")] == list(COMMANDS)


def test_a_command_that_does_not_exist_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["vaelab", "trian"])
    assert main() == 2
    assert capsys.readouterr().err.startswith("vaelab: trian is no command: choose one of train, evaluate")


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("run=outputs/sweeps/x/objective.beta=4,seed=1", "run='outputs/sweeps/x/objective.beta=4,seed=1'"),
        ("+pretrained=a=b", "+pretrained='a=b'"),
        ("run='a=b'", "run='a=b'"),
        ("callbacks={x: {a=b}}", "callbacks={x: {a=b}}"),
        ("objective.beta=4", "objective.beta=4"),
        ("--config-dir=a=b", "--config-dir=a=b"),
    ],
)
def test_a_folder_of_a_sweep_needs_no_quotes(word: str, expected: str) -> None:
    assert with_quotes(word) == expected


def test_pages_of_the_documentation_are_printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for words, code in ((["own_parts"], 0), ([], 0), (["nothing"], 2)):
        monkeypatch.setattr(sys, "argv", ["vaelab", "docs", *words])
        assert main() == code
    told = capsys.readouterr()
    assert told.out.startswith((ROOT / "docs" / "own_parts.md").read_text())
    assert "  clusters  " in told.out
    pages = ", ".join(sorted(path.stem for path in (ROOT / "docs").glob("*.md")))
    assert told.err == f"vaelab docs: there is no page nothing: choose one of {pages}\n"


def test_pictures_that_are_not_square_are_one_key() -> None:
    folder = ["data=folder", "data.root=x"]
    check_used(composed([*folder, "data.shape=[3,20,28]"], Path()))
    with pytest.raises(ValueError, match=r"data\.size=\[20,28\] must be a number; else set data\.shape=\[3,20,28\]"):
        check_used(composed([*folder, "data.size=[20,28]"], Path()))


@pytest.mark.parametrize(("given", "count"), [({}, "10000"), ({"GOMP_SPINCOUNT": "5"}, "5"), ({"OMP_WAIT_POLICY": "active"}, None)])
def test_threads_wait_briefly_unless_the_environment_says_otherwise(monkeypatch, given, count):
    monkeypatch.setattr(os, "environ", dict(given))
    let_threads_wait_briefly()
    assert os.environ.get("GOMP_SPINCOUNT") == count
