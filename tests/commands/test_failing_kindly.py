"""Whatever a user can put right is said in one message, and nothing that was computed is lost."""

import re
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from dataset_files import write_idx
from forked_scripts import ROOT, command
from hydra.errors import HydraException
from PIL import Image
from small_runs import QUICK, SMALL, composed, train_small

from vaelab.commands.old_words import check_old_words


def test_data_outside_the_support_of_the_likelihood(tmp_path: Path) -> None:
    from vaelab.commands.train import train

    write_idx(tmp_path)
    options = ["data=mnist", "likelihood=bernoulli", f"paths.data_dir={tmp_path}", "data.val_size=50", "trainer=debug"]
    with pytest.raises(ValueError, match=r"Bernoulli expects x in \{0, 1\}.*e\.g\. 0\.498.*likelihood=gaussian"):
        train(composed(options, tmp_path / "run"))
    assert not list((tmp_path / "run").rglob("*.ckpt"))


def test_data_of_another_shape_than_the_config(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data\.shape says \[1, 28, 28\], but the train data have shape \[1, 16, 16\]"):
        train_small(tmp_path, "data.shape=[1,28,28]")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("objective.betta=4", "betta"),
        ("prior=vmap", "standard_normal"),
        ("objective.kl=k9", "choose analytic, k1, k2 or k3"),
        ("+data.foo=1", "nothing uses data.foo"),
        ("+schedule=linear", r"\+schedule@objective.beta=<schedule>"),
        ("data=folder", "data.root must be given: data.root=..."),
        ("resume=nowhere", "there is no run folder"),
        ("+objective.gama=1", "unexpected keyword argument 'gama'"),
        ("evaluation.checkpoint=bset", "evaluation.checkpoint=bset must be best or last"),
        ("evaluation.metrics.likelihood.num_samples=0", "evaluation.metrics.likelihood.num_samples=0 must be a whole number of at least 1"),
        ("seed=-1", "seed=-1 must be a whole number of at least 0"),
        ("trainer.precision=64-true", "trainer.precision=64-true: data and probabilities are float32"),
        ("z_shape=3", "z_shape=3 must be a list of whole numbers, such as z_shape="),
        ("num_classes=1.5", "num_classes=1.5 must be a whole number of at least 0"),
        ("latent_dim=0", "latent_dim=0 must be a whole number of at least 1"),
        ("encoder.channels=[]", "must name at least one layer"),
        ("data.val_size=0", "leaves nothing to validate or to train on: there are 40000 training examples"),
    ],
)
def test_a_wrong_option_is_named(override: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vaelab.commands.train import train

    monkeypatch.chdir(tmp_path)
    with pytest.raises((ValueError, HydraException), match=message):
        train(composed([override], tmp_path / "run"))
    assert not list(tmp_path.rglob("*.ckpt"))
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("override", ["objective.num_samples=2.5", "data.batch_size=2.5"])
def test_half_a_number_is_refused(override: str, tmp_path: Path) -> None:
    """On the command line: in this process the tests' type checker would say it first."""
    done = command("train.py", override, check=False, cwd=tmp_path)
    assert override in done.stderr
    assert "whole number" in done.stderr


@pytest.mark.parametrize(
    ("script", "words", "now"),
    [
        ("train", ["-m", "evaluation.num_samples=5,10"], "evaluation.metrics.likelihood.num_samples=5,10"),
        ("train", ["+evaluation.chunk_size=5"], "evaluation.metrics.likelihood.chunk_size=5"),
        ("evaluate", ["run=x", "num_images=null"], "metrics.likelihood.num_images=null"),
        ("generate", ["run=x", "folder=pictures"], "output=pictures"),
        ("generate", ["file=a.png", "run=x"], "input=a.png"),
        ("inpaint", ["run=x", "name=mine"], "output=mine"),
        ("detect_anomalies", ["run=x", "num_images=10"], "num=10"),
        ("summarize", ["outputs", "--output", "summary"], "output=summary"),
    ],
)
def test_a_key_that_has_moved_is_named_with_its_new_one_at_once(script: str, words: list[str], now: str, tmp_path: Path) -> None:
    program = (
        "import atexit, runpy, sys; atexit.register(lambda: print('HEAVY' if 'torch' in sys.modules else 'LIGHT'));"
        f"sys.argv = {[f'{script}.py', *words]}; runpy.run_path('{ROOT}/scripts/{script}.py', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (2, "LIGHT\n")
    assert re.fullmatch(rf"vaelab {script}: [\w.-]+=? is now {now.split('=')[0]}=: type {now}\n", done.stderr)
    assert not any(tmp_path.iterdir())


def test_what_another_option_takes_is_no_old_word() -> None:
    check_old_words("generate", ["run=x", "--config-dir", "folder", "paths.file=x", "what=file"])


def test_a_module_that_is_not_on_the_path_is_said(tmp_path: Path) -> None:
    done = command("train.py", *SMALL, "prior._target_=my_parts.Prior", check=False, cwd=tmp_path)
    assert "there is no my_parts.Prior: is the folder of its module on the path, as in PYTHONPATH=. vaelab ...?" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_function_that_is_called_at_once_and_not_later_is_said(tmp_path: Path) -> None:
    done = command("train.py", *SMALL, "encoder.initial={_target_:torch.nn.init.xavier_uniform_}", check=False, cwd=tmp_path)
    assert (
        "xavier_uniform_() missing 1 required positional argument: 'tensor'; give the argument, or, to call the function later"
        in done.stderr
    )


def test_a_key_that_has_moved_is_named_where_a_file_sets_it(tmp_path: Path) -> None:
    from vaelab.commands.train import train

    with pytest.raises(ValueError, match=r"evaluation\.num_images= is now evaluation\.metrics\.likelihood\.num_images="):
        train(composed([*SMALL, "+evaluation.num_images=5"], tmp_path))


def test_the_command_line_shows_a_message_and_no_traceback(tmp_path: Path) -> None:
    done = command("train.py", "data=mnist", check=False, cwd=tmp_path)
    assert done.returncode != 0
    assert f"MNIST is not in {tmp_path}/data/MNIST/raw: add download=true" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("script", ["evaluate.py", "generate.py"])
def test_a_run_folder_must_be_given_and_exist(script: str, tmp_path: Path) -> None:
    from vaelab.commands.evaluate import evaluate_runs
    from vaelab.commands.generate import generate

    function = {"evaluate.py": evaluate_runs, "generate.py": generate}[script]
    with pytest.raises(ValueError, match=r"run must be given: run=\.\.\."):
        function(composed([], tmp_path, script.removesuffix(".py")))
    done = command(script, "run=nowhere", check=False, cwd=tmp_path)
    assert "there is no run folder" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_unreadable_picture_is_named(tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for i in range(12):
        Image.new("RGB", (20, 20), (20 * i, 0, 0)).save(pictures / f"{i:02}.png")
    (pictures / "07.png").write_bytes((pictures / "07.png").read_bytes()[:40])
    options = ["data=folder", f"data.root={pictures}", "data.size=16", "trainer=debug"]
    from vaelab.commands.train import train

    with pytest.raises(ValueError, match=r"07\.png is not a readable picture"):
        train(composed(options, tmp_path / "run"))


def test_a_loss_that_is_not_finite_stops_with_its_step_and_keeps_the_last_good_checkpoint(tmp_path: Path) -> None:
    run = train_small(tmp_path / "run", "trainer.max_epochs=1", "evaluation.enabled=false", "evaluation.figures=false")
    before = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    poison = "+callbacks.poison={_target_: nan_callback.PoisonAt, step: 8}"
    environment = {"PYTHONPATH": str(ROOT / "tests" / "support"), "PATH": ""}
    done = command("train.py", f"resume={run}", "trainer.max_epochs=3", poison, check=False, env=environment)
    assert done.returncode != 0
    assert "training stopped at step 8 of epoch 1 because the loss is not finite (loss=nan" in done.stderr
    assert "Traceback" not in done.stderr
    after = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert after["global_step"] == before["global_step"] == 6
    assert all(torch.equal(after["state_dict"][key], before["state_dict"][key]) for key in before["state_dict"])


def test_a_truncated_checkpoint(tmp_path: Path) -> None:
    from vaelab.build import load

    run = train_small(tmp_path / "run", "trainer.max_epochs=1", "evaluation.enabled=false", "evaluation.figures=false")
    path = run / "checkpoints" / "best.ckpt"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"best\.ckpt cannot be read: it is damaged"):
        load(run)
    assert load(run, "last").encode(torch.zeros(1, 1, 16, 16)).event_shape == (2,)


def test_a_foreign_checkpoint(tmp_path: Path) -> None:
    from vaelab.build import load

    torch.save({"weights": torch.zeros(3)}, tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match=r"other\.ckpt was not written by vaelab"):
        load(tmp_path / "other.ckpt")
    (tmp_path / "text.ckpt").write_text("hello")
    with pytest.raises(ValueError, match=r"text\.ckpt cannot be read"):
        load(tmp_path / "text.ckpt")


@pytest.mark.parametrize(
    "target",
    ["pathlib.Path.touch", "vaelab.data.images.Path.touch", "vaelab.commands.train.write_json", "torch.nn.modules.module.torch.save"],
)
def test_a_checkpoint_cannot_run_what_it_likes(target: str, tmp_path: Path) -> None:
    """The stored config names classes; only the parts of models and data are built unasked, and not what they import."""
    from vaelab.build import load

    run = train_small(tmp_path / "run", "trainer.max_epochs=1", "evaluation.enabled=false", "evaluation.figures=false")
    path = run / "checkpoints" / "best.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["config"]["encoder"]["activation"] = {"_target_": target, "_args_": [str(tmp_path / "evil")]}
    torch.save(checkpoint, path)
    with pytest.raises(ValueError, match=rf"would run {re.escape(target)}.*trust=true"):
        load(run)
    assert not (tmp_path / "evil").exists()


def test_a_run_folder_that_is_removed_while_the_run_trains_is_said_and_stays_removed(tmp_path: Path) -> None:
    words = ["hydra.run.dir=run", "+callbacks.remover={_target_: removing_callback.Remover, folder: run}"]
    environment = {"PYTHONPATH": str(ROOT / "tests" / "support"), "PATH": ""}
    done = command("train.py", *SMALL, *QUICK, *words, check=False, env=environment, cwd=tmp_path)
    assert f"{tmp_path}/run was removed or renamed while the run worked in it: start it again" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


def let_no_file_grow() -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))


def test_a_full_disk_is_named_and_what_was_written_is_kept(tmp_path: Path) -> None:
    """No file may grow beyond 400 kB: the first checkpoint of a larger model does not fit."""
    done = command(
        "train.py", *SMALL, "encoder.hidden=[2000]", f"hydra.run.dir={tmp_path / 'run'}", check=False, preexec_fn=let_no_file_grow
    )
    assert done.returncode != 0
    assert f"cannot write to {tmp_path / 'run'}: File too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "run" / "metrics.csv").stat().st_size > 0


def test_an_output_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = command("train.py", *SMALL, f"hydra.run.dir={tmp_path / 'file' / 'run'}", check=False)
    assert done.returncode != 0
    assert f"cannot use {tmp_path / 'file' / 'run'}: Not a directory" in done.stderr
    assert "Traceback" not in done.stderr
