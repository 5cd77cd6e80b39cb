"""Words of the command line that cannot be meant are refused with the key, the value and what to do."""

from pathlib import Path

import pytest
from forked_scripts import command
from hydra.errors import CompactHydraException
from omegaconf import OmegaConf
from small_runs import SMALL, composed

from vaelab.commands.errors import in_words
from vaelab.commands.overrides import check_first_names, check_words, default_of, where_written

CHOICES = {"optimizer": "adam", "trainer": "cpu", "data": "circles", "objective": "elbo", "callbacks": "default", "speed": "standard"}


def check(*words: str, name: str = "config") -> None:
    check_words(composed(list(words), Path(), name), name, words, CHOICES)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("+foo=1", "nothing uses foo: there are "),
        ("+latnet_dim=3", "nothing uses latnet_dim: did you mean latent_dim?"),
        ("+sede=7", "nothing uses sede: did you mean seed?"),
        ("+evaluation.figuers=false", "nothing uses evaluation.figuers: did you mean evaluation.figures?"),
        ("+evaluation.metrics.likelihod.num_samples=5", "did you mean evaluation.metrics.likelihood?"),
        ("+speed.bf1x=true", "nothing uses speed.bf1x: did you mean speed.bf16?"),
        ("+paths.data=x", "nothing uses paths.data: did you mean paths.data_dir?"),
        ("optimizer.lr=abc", "optimizer.lr=abc must be a number"),
        ("optimizer.lr=true", "optimizer.lr=true must be a number"),
        ("optimizer.lr={}", "optimizer.lr={} must be a number"),
        ("optimizer.lr=[1]", "optimizer.lr=[1] must be a number"),
        ("data.val_size=true", "data.val_size=true must be a number"),
        ("trainer.max_epochs=abc", "trainer.max_epochs=abc must be a whole number or null"),
        ("seed=abc", "seed=abc must be a number"),
        ("latent_dim=null", "latent_dim=null must be a number"),
        ("data.batch_size=null", "data.batch_size=null must be a whole number"),
        ("optimizer.lr=null", "optimizer.lr=null must be a number"),
        ("optimizer.betas=[0.9]", "optimizer.betas=[0.9] must be a list of 2, each a number"),
        ("encoder.hidden=[1,abc]", "encoder.hidden=[1, 'abc'] must be a list, each a whole number"),
        ("trainer.accumulate_grad_batches=1.5", "trainer.accumulate_grad_batches=1.5 must be a whole number"),
        ("trainer.limit_test_batches=true", "trainer.limit_test_batches=true must be a number or null"),
        ("evaluation.report=null", "evaluation.report=null must be true or false"),
        ("evaluation.metrics.likelihood.num_samples=no", "evaluation.metrics.likelihood.num_samples=no must be a whole number"),
        ("+evaluation.metrics.likelihood._targetx=1", "nothing uses evaluation.metrics.likelihood._targetx: there are "),
        ("data.transform=1.5", "data.transform=1.5 must be a part with a _target_ or null"),
        ("encoder._target_=5", "encoder._target_=5 must be the path of a class or function"),
        ("evaluation.figures=no", "evaluation.figures=no must be true or false"),
        ("speed.compile=1", "speed.compile=1 must be true or false"),
        ("missing=[]", "missing=[] must be true or false"),
        ("optimizer._target_=torch.optim.AdamW", "_target_=torch.optim.AdamW would be given the options of optimizer=adam: it must be"),
        ("objective._target_=vaelab.objectives.STL", "would be given the options of objective=elbo: it must be objective=stl"),
        ("pretrained=1.5", "pretrained=1.5 must be text: if it is a name, write pretrained='1.5'"),
        ("optimizer.lr=${name}", "optimizer.lr=shapes must be a number"),
        ("encoder.hidden=[${name}]", "encoder.hidden=['shapes'] must be a list, each a whole number"),
        ("paths.run_dir=x", "paths.run_dir=x follows hydra.run.dir: write hydra.run.dir=x"),
        ("existing=true", "existing=true must be text, such as refuse"),
        ("resume=true", "resume=true must be text: if it is a name, write resume='true'"),
    ],
)
def test_what_cannot_be_meant_is_refused(word: str, message: str) -> None:
    with pytest.raises(ValueError, match=r"^nothing uses|must be|follows") as refused:
        check(word)
    assert message in str(refused.value)


def test_commands_are_told_where_data_are_and_nothing_else_of_them() -> None:
    check("run=x", "data.root=y", "data_dir=x", name="inpaint")
    with pytest.raises(ValueError, match=r"nothing uses data\.size: there are cache, file, hidden, root"):
        check("run=x", "+data.size=3", name="inpaint")
    with pytest.raises(ValueError, match=r"data\.root=1 must be text"):
        check("run=x", "data.root=1", name="evaluate")


@pytest.mark.parametrize(
    "words",
    [
        ["optimizer.lr=1e-3", "optimizer.lr=1", "seed=0", "missing=true", "pretrained='1.5'", "data.val_size=0.1"],
        ["+schedule@objective.beta=linear"],
        ["objective.beta={_target_: vaelab.schedules.Linear, end: 1}"],
        [
            "callbacks.last.every_n_minutes=null",
            "trainer.max_epochs=null",
            "objective.capacity=null",
            "evaluation.metrics.likelihood.num_images=null",
            "trainer.devices=[0,1]",
        ],
        ["trainer.devices=auto", "trainer.deterministic=warn", "likelihood=gaussian", "likelihood.sigma=0.5", "trainer.max_epochs=-1"],
        ["+mine=3", "latent_dim=${mine}"],  # which another one refers to
        ["+callbacks.x={_target_: a.B, c: d}", "logger=csv", "metrics@evaluation.metrics=[likelihood,latent]"],
        ["experiment=vae_mnist"],
        ["optimizer._target_=torch.optim.Adam", "encoder._target_=mine.Network", "callbacks=[default,early_stopping]"],
        ["prior=vamp", "prior.low=null"],
        ["scheduler=plateau", "scheduler.monitor=train/loss", "scheduler.mode=min"],
        ["scheduler=cosine", "scheduler.num_steps=null", "+scheduler.interval=step"],
        ["encoder=mlp", "encoder.hidden=[${latent_dim}]"],
    ],
)
def test_what_can_be_meant_is_not(words: list[str]) -> None:
    check(*words)


EXPERIMENTS = Path(__file__).parents[2] / "conf/experiment"


@pytest.mark.parametrize("path", sorted(EXPERIMENTS.rglob("*.yaml")), ids=lambda path: path.stem)
def test_experiments_set_what_is_used(path: Path) -> None:
    check(f"experiment={path.relative_to(EXPERIMENTS).with_suffix('')}")


def test_defaults_are_found_through_what_a_yaml_is_based_on_and_refers_to() -> None:
    assert default_of("optimizer.lr", "config", CHOICES) == 1e-3
    assert default_of("trainer.log_every_n_steps", "config", CHOICES) == 50
    assert default_of("scheduler._target_", "config", {"scheduler": "none"}) is None  # a yaml of comments alone
    assert where_written("callbacks.collapse.patience") == "callbacks.collapse.patience"
    assert default_of("seed", "generate", {}) == 0
    assert default_of("no.such.key", "config", CHOICES) is None


@pytest.mark.parametrize(
    ("word", "name", "message"),
    [
        ("objectve=elbo", "config", "nothing uses objectve: did you mean objective?"),
        ("objective=5", "config", "objective=5 is no choice: choose one of beta_tc, "),
        ("+posterior=[]", "config", "posterior=[] is no choice: choose one of binary_spherical, categorical, "),
        ("encoder=null", "config", "encoder=null is no choice: choose one of conv, "),
        ("model=null", "config", "model=null is no choice: choose one of hvae, "),
        ("likelihood=gaussian", "generate", "nothing uses likelihood: there are "),
        ("callbacks=early_stopping", "config", "write callbacks=[default,early_stopping]"),
        ("resume=", "config", "resume= is empty: name something, or leave it out"),
        ("name=../../x", "config", "name=../../x leaves outputs/: another place is hydra.run.dir=<folder>"),
        ("resume=1.5", "config", "resume=1.5 must be text: if it is a name, write resume='1.5'"),
        ("resume={}", "config", "resume={} must be text: if it is a name, write resume='{}'"),
        ("sead=1", "generate", "nothing uses sead: did you mean seed?"),
    ],
)
def test_a_name_that_is_no_key_and_no_dial_is_refused_before_hydra_advises_to_add_it(word: str, name: str, message: str) -> None:
    with pytest.raises(ValueError, match=r"^nothing uses|is no choice|leaves out|must be text|is empty") as refused:
        check_first_names(["data=circles" if name == "config" else "run=x", word], name, [])
    assert message in str(refused.value)


def test_dials_of_ones_own_are_known(tmp_path: Path) -> None:
    (tmp_path / "flavour").mkdir()
    check_first_names(
        [
            "+flavour=sweet",
            "metrics@evaluation.metrics=[latent]",
            "+schedule@objective.beta=linear",
            "hydra.run.dir=x",
            "~callbacks.pictures",
            "-m",
        ],
        "config",
        [tmp_path],
    )
    check_first_names(["anything=1", "--config-name=mine"], "config", [])


def test_callbacks_of_ones_own_may_be_based_on_the_default_ones(tmp_path: Path) -> None:
    (tmp_path / "callbacks").mkdir()
    texts = {
        "based": "[default]",
        "of_root": "[/callbacks/default, _self_]",
        "through": "[_self_, based]",
        "alone": "[_self_]",
        "early": "[ema]",
    }
    for name, defaults in texts.items():
        (tmp_path / "callbacks" / f"{name}.yaml").write_text(f"defaults: {defaults}\n")
    for name in ("based", "of_root", "through"):
        check_first_names([f"callbacks={name}"], "config", [tmp_path])
    for name in ("alone", "early"):
        with pytest.raises(ValueError, match=rf"write callbacks=\[default,{name}\]"):
            check_first_names([f"callbacks={name}"], "config", [tmp_path])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["optimizer.lr=-1"], "optimizer.lr=-1 must be at least 0"),
        (["trainer.accelerator=gpu"], "trainer: No supported gpu backend found!"),
        (["+trainer.max_epoch=3"], "nothing uses trainer.max_epoch: did you mean trainer.max_epochs?"),
        (["optimizer._target_=torch.optim.Rprop"], "optimizer: Rprop.__init__() got an unexpected keyword argument 'betas'"),
        (["trainer.gradient_clip_val=abc"], "trainer.gradient_clip_val=abc must be a number or null"),
        (["+data.dataset.sise=3"], "nothing uses data.dataset.sise: did you mean data.dataset.size?"),
        (["latent_dim=${nothing}"], "latent_dim: Interpolation key 'nothing' not found"),
        (["scheduler=cosine", "+scheduler.foo=3"], "nothing uses scheduler.foo: there are optimizer, num_steps, warmup_steps, final"),
        (["callbacks.pictures.num_images=0"], "callbacks.pictures.num_images=0 must be a whole number of at least 1"),
        (["encoder._target_=mine.Net"], "encoder._target_=mine.Net: there is no mine.Net: is the folder of its module on the path"),
        (["optimizer.lr=nan"], "optimizer.lr=nan must be at least 0"),
        (["prior=vamp", "prior.num_components=0", "objective.kl=k1"], "prior.num_components=0 must be at least 1"),
    ],
)
def test_what_libraries_say_is_a_sentence_with_its_key(words: list[str], message: str, tmp_path: Path) -> None:
    small = [word for word in SMALL if word.partition("=")[0] not in (words[0].partition("=")[0], "trainer")]
    done = command("train.py", *small, *words, check=False, cwd=tmp_path)
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["optimizer.lx=3"], "nothing uses optimizer.lx=3: there are lr, betas, eps, weight_decay, fused"),
        (["optimizer.amsgrad=true"], "optimizer.amsgrad is not set: write +optimizer.amsgrad=true to add it"),
        (["encoder.activation.slope=1"], "nothing uses encoder.activation.slope=1: there are inplace"),
        (["callbacks.mine=1"], "nothing uses callbacks.mine=1: there are "),
        (["paths.output_dir=x"], "nothing uses paths.output_dir=x: there are data_dir, new_dir, run_dir"),
        (["optimizer.weight_deca=3"], "nothing uses optimizer.weight_deca=3: did you mean optimizer.weight_decay?"),
        (["model.prior.z_shape=3"], "model.prior.z_shape=3 is set where model.prior is written: prior.z_shape=3"),
        (["posterior.network.hidden=[3]"], "posterior.network.hidden=[3] is set where posterior.network is written: encoder.hidden=[3]"),
        (["data.name.x=3"], "nothing uses data.name.x=3: data.name has no keys"),
        (["prior=vmap"], "prior=vmap is no choice: did you mean prior=vamp?"),
        (["+schedule@objective.beta=steps"], "schedule=steps is no choice: there are cyclical, linear, sigmoid"),
        (["schedule@objective.beta=linear"], "schedule@objective.beta is not set: write +schedule@objective.beta=linear to add it"),
        (["+likelihood=gaussian"], "likelihood is a dial that is set already: write likelihood=<choice>, without +"),
        (["+optimizer.lr=3"], "optimizer.lr is there already: write optimizer.lr=3, without +"),
        (["optimizer.lr=1,2"], "optimizer.lr=1,2 has a comma: a list is optimizer.lr=[1,2], and -m tries one value after the other"),
        (["optimizer.lr=[1,"], "optimizer.lr=[1, cannot be read: put quotes around text that has brackets"),
        (["~optimizer.lx"], "~optimizer.lx removes what is not there"),
    ],
)
def test_a_word_that_hydra_cannot_compose_is_answered_in_a_sentence(words: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(CompactHydraException) as refused:
        composed(words, tmp_path)
    said = in_words(refused.value)
    assert said is not None
    assert said.startswith(message)
    assert "\n" not in said


@pytest.mark.parametrize(
    "message",
    [
        "`ModelCheckpoint(monitor='x')` could not find the monitored key in the returned metrics: ['train/lr', 'val/bound']. HINT: Did",
        "Early stopping conditioned on metric `x` which is not available. Pass in one of: `train/lr`, `val/bound`",
        "ReduceLROnPlateau conditioned on metric x which is not available. Available metrics are: ['train/lr', 'val/bound'].",
    ],
)
def test_a_metric_that_nothing_logs_is_named_with_its_key(message: str) -> None:
    config = OmegaConf.create({"a": {"best": {"monitor": "x"}, "other": {"monitor": "val/bound"}}})
    assert in_words(RuntimeError(message), config) == "a.best.monitor=x is no metric of this run: there are train/lr, val/bound"
    assert in_words(RuntimeError(message)) is None


def test_the_command_line_prints_that_sentence_alone(tmp_path: Path) -> None:
    done = command("train.py", "optimizer.weight_deca=3", "-m", "seed=1,2", check=False, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "nothing uses optimizer.weight_deca=3: did you mean optimizer.weight_decay?\n")
    done = command("train.py", "-m", "seed=1,2", "--what", check=False, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "there is no option --what: --help says what there is\n")
    done = command("train.py", *SMALL, "seed=-1", check=False, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "seed=-1 must be a whole number of at least 0\n")


def test_a_sanity_check_before_training_is_no_error(tmp_path: Path) -> None:
    command(
        "train.py", *SMALL, "trainer.max_epochs=1", "trainer.num_sanity_val_steps=2", "evaluation.figures=false", "logger=[]", cwd=tmp_path
    )
