"""speed=auto: which setting is chosen, and that trying leaves a run as it is."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Trainer
from small_runs import QUICK, SMALL, composed, same, train_small

from vaelab import rng
from vaelab.build import build, build_data
from vaelab.runs.files import read_checkpoint
from vaelab.training import fastest
from vaelab.training.fastest import STANDARD, Setting, Steps, in_words, is_sound, measured, num_steps, values_of
from vaelab.training.speed import with_threads

CONV = ["encoder=conv", "decoder=conv", "encoder.channels=[4,8]", "decoder.channels=[4,8]"]
AUTO = [*QUICK, "evaluation.enabled=false", "trainer.max_epochs=1", "speed=auto", "speed.min_seconds=0"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "vaelab" / "speed.json"


def steps_of(folder: Path, *words: str) -> Steps:
    config = composed([*SMALL, *words], folder)
    torch.manual_seed(0)
    lit, data = build(config), build_data(config)
    data.setup("fit")
    return Steps(lit, len(data.splits["train"]), *data.examples("train", 32))


class Known(Steps):
    """Steps whose seconds are known: a setting's are the product of those of its parts."""

    def __init__(self, lit: Any, seconds: dict[str, float], losses: dict[str, float]) -> None:
        self.lit, self.known, self.losses = lit, seconds, losses

    def seconds(self, setting: Setting) -> float:
        words = in_words(setting)
        return self.known.get(words, torch.tensor([self.known.get(word, 1.0) for word in words.split(", ")]).prod().item())

    def loss(self, setting: Setting) -> float:
        if in_words(setting) == "compile":
            raise RuntimeError("there is no\ncompiler")
        return self.losses.get(in_words(setting), 100.0)


@pytest.fixture
def lit(tmp_path: Path) -> Any:
    return build(composed([*SMALL, *CONV], tmp_path))


@pytest.mark.parametrize(
    ("seconds", "losses", "chosen", "gain"),
    [
        ({"channels_last": 0.5, "threads=1": 0.8}, {}, {"channels_last": True, "threads": 1}, 2.5),
        ({"channels_last": 0.5, "threads=1": 1.2}, {}, {"channels_last": True}, 2),
        ({"channels_last": 0.5, "threads=1": 0.8, "channels_last, threads=1": 0.6}, {}, {"channels_last": True}, 2),
        ({"threads=1": 0.9, "threads=2": 0.8}, {}, {"threads": 2}, 1.25),
        ({"channels_last": 0.99, "threads=1": 0.99}, {}, {}, 1),
        ({"channels_last": 0.5, "threads=1": 0.8}, {"channels_last": 100.002}, {"threads": 1}, 1.25),
        ({"bf16": 0.5}, {"bf16": 100.9}, {"bf16": True}, 2),
        ({"bf16": 0.5}, {"bf16": 101.1}, {}, 1),
        ({"compile": 0.1, "threads=1": 0.5}, {}, {"threads": 1}, 2),
    ],
)
def test_the_fastest_of_those_with_the_same_loss_is_chosen(lit, seconds, losses, chosen, gain):
    with with_threads(4):
        found = measured(Known(lit, seconds, losses), ["channels_last", "threads", "bf16", "compile"])
    assert found["setting"] == STANDARD | chosen
    assert found["gain"] == pytest.approx(gain)


@pytest.mark.parametrize(("threads", "tried"), [(1, []), (2, [1]), (3, [1]), (8, [1, 4])])
def test_other_numbers_of_threads_are_tried(lit, threads, tried):
    with with_threads(threads):
        assert values_of("threads", lit) == tried


def test_convolutions_alone_have_a_memory_format(lit, tmp_path):
    assert values_of("channels_last", lit) == [True]
    assert values_of("channels_last", build(composed(SMALL, tmp_path))) == []


@pytest.mark.parametrize("words", [CONV, ["objective=factor_tc"], ["objective=iwae", "posterior=iaf"]], ids=["conv", "factor_tc", "iwae"])
def test_trying_changes_neither_weights_nor_generators(tmp_path, words):
    steps = steps_of(tmp_path, *words)
    before, generator = deepcopy(steps.lit.state_dict()), torch.get_rng_state()
    assert steps.seconds(STANDARD) > 0
    for setting in ({**STANDARD, "channels_last": True}, {**STANDARD, "threads": 2}):
        assert is_sound(steps, setting)
        assert steps.seconds(setting) > 0
        assert is_sound(steps, setting)  # also after its copy has been trained
    assert same(dict(steps.lit.state_dict()), dict(before))
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(weight.grad is None for weight in steps.lit.parameters())


def test_the_loss_is_that_of_training(tmp_path):
    steps = steps_of(tmp_path)
    with rng.fork(0):
        terms = steps.lit.objective(steps.lit.objective.draw(steps.lit.model, steps.x, steps.y), 0)
    assert steps.loss(STANDARD) == terms["loss"].item()


@pytest.mark.parametrize(
    ("options", "num"),
    [
        ({"max_epochs": 3}, 18),
        ({"max_epochs": 3, "max_steps": 10}, 10),
        ({"max_epochs": -1, "max_steps": 40}, 40),
        ({"max_epochs": -1}, float("inf")),
        ({"max_epochs": 2, "limit_train_batches": 4}, 8),
        ({"max_epochs": 2, "limit_train_batches": 0.5}, 6),
    ],
)
def test_steps_of_a_fit(tmp_path, options, num):
    data = build_data(composed(SMALL, tmp_path))  # 192 examples to train on, in batches of 32
    data.setup("fit")
    assert num_steps(Trainer(accelerator="cpu", logger=False, **options), data) == num


def speed_of(run: Path) -> dict[str, Any]:
    return read_checkpoint(run / "checkpoints/last.ckpt")["config"]["speed"]


def test_a_run_keeps_the_choice_and_the_next_one_takes_it(tmp_path, cache, capsys):
    words = [*CONV, *AUTO]
    train_small(tmp_path / "first", *words)
    (key, entry), *others = json.loads(cache.read_text()).items()
    assert not others
    assert entry["tried"].keys() == {"channels_last"}  # there is one thread
    assert speed_of(tmp_path / "first") == {**entry["setting"], "candidates": [], "min_seconds": 0}
    entry |= {"setting": {**STANDARD, "channels_last": True, "bf16": True}, "gain": 1.5}
    cache.write_text(json.dumps({key: entry, "damaged": {"setting": 1}}))
    train_small(tmp_path / "second", *words)
    assert "speed:        channels_last, bf16, 1.50 times standard\n" in capsys.readouterr().out
    assert speed_of(tmp_path / "second") == {**entry["setting"], "candidates": [], "min_seconds": 0}
    train_small(tmp_path / "second", *words, "existing=resume")
    assert "nothing is left to do" in capsys.readouterr().out
    train_small(tmp_path / "second", *words, "existing=resume", "trainer.max_epochs=2")
    assert "speed:" not in capsys.readouterr().out
    assert speed_of(tmp_path / "second")["bf16"]


def test_a_short_run_tries_nothing(tmp_path, cache, capsys):
    train_small(tmp_path / "run", *AUTO, "speed.min_seconds=60")
    assert "speed:        standard, because training takes less than 60 s\n" in capsys.readouterr().out
    assert not cache.exists()
    assert speed_of(tmp_path / "run") == {**STANDARD, "candidates": [], "min_seconds": 60}


@pytest.mark.parametrize("damage", ["a file in place of the folder", "no json", "a list"])
def test_a_cache_that_is_of_no_use_stops_nothing(tmp_path, cache, capsys, damage):
    if damage == "a file in place of the folder":
        cache.parent.parent.write_text("")
    else:
        cache.parent.mkdir(parents=True)
        cache.write_text({"no json": "{", "a list": "[]"}[damage])
    train_small(tmp_path / "run", *AUTO)
    printed = capsys.readouterr().out
    assert "speed:        standard" in printed
    assert printed.count("speed.json cannot be written") == (damage == "a file in place of the folder")


def test_an_unknown_candidate_is_refused_in_a_sentence(tmp_path):
    with pytest.raises(ValueError, match=r"speed\.candidates names fp8: there are channels_last, threads, compile, bf16"):
        train_small(tmp_path / "run", *AUTO, "speed.candidates=[threads,fp8]")


def test_weights_are_those_of_standard_where_that_is_chosen(tmp_path, monkeypatch):
    monkeypatch.setattr(fastest, "MIN_GAIN", 1e9)
    auto, plain = train_small(tmp_path / "auto", *CONV, *AUTO), train_small(tmp_path / "plain", *CONV, *AUTO, "speed=standard")
    states = [read_checkpoint(run / "checkpoints/last.ckpt")["state_dict"] for run in (auto, plain)]
    assert same(*states)
