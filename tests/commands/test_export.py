"""vaelab export: other programs compute what the model does, and what they wrote is read."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from small_runs import QUICK, composed, train_small

import vaelab
from vaelab.applications import LatentMoments
from vaelab.build import open_run
from vaelab.commands.encode import encode
from vaelab.commands.errors import in_words
from vaelab.commands.evaluate import evaluate_runs
from vaelab.commands.export import export
from vaelab.commands.export.onnx import largest_difference
from vaelab.commands.train import train
from vaelab.runs.folder import RunFolder

FEW = [*QUICK, "trainer.max_epochs=1", "evaluation.enabled=false", "logger=csv"]
LDM = [
    "data=circles",
    "data.size=16",
    "data.dataset.num_test=32",
    "trainer=cpu",
    "trainer.enable_progress_bar=false",
    "encoder=ldm",
    "decoder=ldm",
    "encoder.channels=[4,8]",
    "encoder.num_blocks=1",
    "encoder.norm_groups=2",
    "decoder.channels=[4,8]",
    "decoder.num_blocks=1",
    "decoder.norm_groups=2",
    "z_shape=[2,8,8]",
    "likelihood=laplace",
    "data.dataset.num_train=96",
    "data.val_size=32",
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_small(tmp_path_factory.mktemp("export") / "run", *FEW)


@pytest.fixture(scope="module")
def of_ldm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained_ldm(tmp_path_factory.mktemp("export_ldm") / "run")


def trained_ldm(folder: Path, *words: str) -> Path:
    train(composed([*LDM, *FEW, *words], folder))
    return folder


@pytest.fixture(scope="module")
def of_table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of vectors whose scale is undone."""
    folder = tmp_path_factory.mktemp("export_table")
    np.save(folder / "x.npy", np.random.default_rng(0).lognormal(2, 1, size=(300, 5)))
    words = ["data=array", f"data.file={folder / 'x.npy'}", "data.scale=log1p", "encoder=mlp", "decoder=mlp", "latent_dim=2", "trainer=cpu"]
    train(composed([*words, *FEW, "trainer.enable_progress_bar=false"], folder / "run"))
    return folder / "run"


def exported(run: Path, target: Path, kind: str, *words: str) -> Path:
    export(composed([f"run='{run}'", f"format={kind}", f"output='{target}'", "accelerator=cpu", *words], run, "export"))
    assert [path.name for path in target.parent.rglob("*.part")] == []
    return target


@pytest.mark.parametrize("run", ["trained", "of_table"])
def test_a_file_of_weights_and_config_is_opened_as_a_run_is(run: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(run)
    path = exported(folder, tmp_path / "new" / "model.safetensors", "safetensors")
    ours, theirs = vaelab.load(folder), vaelab.load(path)
    torch.testing.assert_close(theirs.state_dict(), ours.state_dict(), rtol=0, atol=0)
    assert (theirs.units is None) == (ours.units is None)
    for source, target in ((folder, "a.csv"), (path, "b.csv")):  # a command opens it, too, with the scale of the data
        encode(composed([f"run='{source}'", f"output='{tmp_path / target}'", "accelerator=cpu"], tmp_path, "encode"))
    assert (tmp_path / "a.csv").read_text() == (tmp_path / "b.csv").read_text()


@pytest.mark.parametrize("name", ["model.safetensors", "best.ckpt"])
def test_what_is_found_of_a_file_that_lies_alone_gets_a_folder_of_its_own(name: str, trained: Path, tmp_path: Path) -> None:
    if name == "best.ckpt":
        shutil.copy(trained / "checkpoints" / name, tmp_path)
    else:
        exported(trained, tmp_path / name, "safetensors")
    words = ["metrics=[reconstruction]", "metrics.reconstruction.features=none", "accelerator=cpu"]
    evaluate_runs(composed([f"run='{tmp_path / name}'", *words], tmp_path, "evaluate"))
    assert {path.name for path in tmp_path.iterdir()} == {name, f"{Path(name).stem}_results"}
    assert {"results.json", "report.html"} <= {path.name for path in (tmp_path / f"{Path(name).stem}_results").iterdir()}
    assert RunFolder.of_results(trained / "checkpoints" / "best.ckpt").path == trained


def test_a_damaged_and_a_foreign_file_are_refused(trained: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    path = exported(trained, tmp_path / "model.safetensors", "safetensors")
    path.write_bytes(path.read_bytes()[:-10])
    save_file({"x": torch.zeros(3)}, tmp_path / "foreign.safetensors")
    for each in (path, tmp_path / "foreign.safetensors"):
        with pytest.raises(ValueError, match=f"{each.name} cannot be read: it is damaged or was not written by vaelab export"):
            vaelab.load(each)


def test_a_config_in_a_file_of_weights_builds_no_stranger(trained: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    from vaelab.runs.files import CONFIG_IN_HEAD, read_checkpoint

    config = read_checkpoint(exported(trained, tmp_path / "model.safetensors", "safetensors"))["config"]
    config["model"]["_target_"] = "os.system"
    save_file({}, tmp_path / "evil.safetensors", {CONFIG_IN_HEAD: json.dumps(config)})
    with pytest.raises(ValueError, match=r"the stored config would run os\.system"):
        vaelab.load(tmp_path / "evil.safetensors")


@pytest.mark.parametrize("run", ["trained", "of_table"])
def test_onnxruntime_computes_what_the_model_does_in_the_units_of_the_data(
    run: str, tmp_path: Path, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    import onnxruntime

    folder = exported(request.getfixturevalue(run), tmp_path / "onnx", "onnx")
    opened = open_run(request.getfixturevalue(run))
    assert "[torch.onnx]" not in capsys.readouterr().out
    assert sorted(path.name for path in folder.iterdir()) == ["decoder.onnx", "encoder.onnx"]
    opened.datamodule.setup("test")
    stored = opened.datamodule.splits["test"].dataset.x[:5]
    x = stored.float() / 255 if stored.dtype == torch.uint8 else stored.float()
    encoder, decoder = (onnxruntime.InferenceSession(folder / f"{name}.onnx") for name in ("encoder", "decoder"))
    mean, scale = map(torch.from_numpy, encoder.run(["mean", "scale"], {"x": x.numpy()}))
    with torch.no_grad():
        q = opened.model.encode(opened.datamodule.modality.scale(stored))
        decoded = opened.datamodule.modality.unscale(opened.model.decode(q.mean).mean)
    torch.testing.assert_close(mean, q.mean, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(scale, q.stddev, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(torch.from_numpy(decoder.run(None, {"z": q.mean.numpy()})[0]), decoded, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("words", [["likelihood=gaussian"], ["model=m2", "objective=m2"]], ids=["cvae", "m2"])
def test_onnx_of_a_conditional_model_has_an_input_for_y(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Any label, and of a semi-supervised model -1 for one that is not known."""
    import onnxruntime

    x = np.random.default_rng(0).normal(size=(200, 5)).astype(np.float32)
    np.savez(tmp_path / "x.npz", x=x, y=np.arange(200) % 3)
    small = [
        "data=array",
        f"data.file={tmp_path / 'x.npz'}",
        "data.key=x",
        "data.y=y",
        "encoder=mlp",
        "decoder=mlp",
        "latent_dim=2",
        "trainer=cpu",
        "num_classes=3",
    ]
    train(composed([*small, *words, *FEW, "trainer.enable_progress_bar=false"], tmp_path / "run"))
    capsys.readouterr()
    folder = exported(tmp_path / "run", tmp_path / "onnx", "onnx")
    assert "x, y -> mean, scale; onnxruntime is at most" in capsys.readouterr().out
    model = vaelab.load(tmp_path / "run")
    encoder, decoder = (onnxruntime.InferenceSession(folder / f"{name}.onnx") for name in ("encoder", "decoder"))
    means = []
    for y in (torch.arange(5) % 3, torch.full((5,), -1 if model.recognises else 2)):
        mean, scale = map(torch.from_numpy, encoder.run(["mean", "scale"], {"x": x[:5], "y": y.numpy()}))
        decoded = torch.from_numpy(decoder.run(["x"], {"z": mean.numpy(), "y": y.numpy()})[0])
        with torch.no_grad():
            q = model.encode(torch.from_numpy(x[:5]), y)
            torch.testing.assert_close((mean, scale), (q.mean, q.stddev), rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(decoded, model.decode(q.mean, y).mean, rtol=1e-4, atol=1e-4)
        means.append(mean)
    assert not torch.equal(*means)


def test_diffusers_has_the_factors_of_the_latents(of_ldm: Path, tmp_path: Path) -> None:
    whole = json.loads((exported(of_ldm, tmp_path / "whole", "diffusers") / "config.json").read_text())
    each = json.loads((exported(of_ldm, tmp_path / "each", "diffusers", "per_channel=true") / "config.json").read_text())
    none = json.loads((exported(of_ldm, tmp_path / "none", "diffusers", "num=0") / "config.json").read_text())
    run = open_run(of_ldm)
    x, _ = run.datamodule.examples("train", 1000)
    q = run.model.encode(x)
    z = q.sample((500,)).double().flatten(0, 1)
    torch.testing.assert_close(whole["scaling_factor"], 1 / z.std().item(), rtol=0.01, atol=0)
    torch.testing.assert_close(whole["shift_factor"], z.mean().item(), rtol=0.01, atol=0.01)
    torch.testing.assert_close(torch.tensor(each["latents_std"]).double(), z.std((0, 2, 3)), rtol=0.01, atol=0)
    torch.testing.assert_close(torch.tensor(each["latents_mean"]).double(), z.mean((0, 2, 3)), rtol=0.01, atol=0.01)
    plain = {"scaling_factor": 1.0, "shift_factor": 0.0, "latents_mean": None, "latents_std": None}
    assert {name: none[name] for name in plain} == plain
    assert {name: each[name] for name in ("scaling_factor", "shift_factor")} == {"scaling_factor": 1.0, "shift_factor": 0.0}
    assert whole["latents_mean"] is None


def test_a_folder_of_diffusers_is_where_training_starts(of_ldm: Path, tmp_path: Path) -> None:
    folder = exported(of_ldm, tmp_path / "vae", "diffusers", "num=0")
    again = trained_ldm(tmp_path / "run", "seed=1", "optimizer.lr=0", f"pretrained={folder}")
    ours, theirs = vaelab.load(of_ldm), vaelab.load(again)
    for part in ("posterior", "likelihood"):
        torch.testing.assert_close(getattr(theirs, part).network.state_dict(), getattr(ours, part).network.state_dict(), rtol=0, atol=0)
    named = trained_ldm(tmp_path / "named", "optimizer.lr=0", f"pretrained={folder / 'diffusion_pytorch_model.safetensors'}")
    torch.testing.assert_close(vaelab.load(named).posterior.state_dict(), ours.posterior.state_dict(), rtol=0, atol=0)
    (folder / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"has no diffusion_pytorch_model\.safetensors"):
        trained_ldm(tmp_path / "no", f"pretrained={folder}")
    (folder / "config.json").write_text('{"_class_name": "UNet2DModel"}')
    with pytest.raises(ValueError, match="holds a UNet2DModel of diffusers"):
        trained_ldm(tmp_path / "no", f"pretrained={folder}")
    with pytest.raises(ValueError, match=r"holds several models: set pretrained=.*vae"):
        trained_ldm(tmp_path / "no", f"pretrained={tmp_path}")
    (folder / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ValueError, match="holds what another program wrote: only AutoencoderKL"):
        trained_ldm(tmp_path / "no", f"pretrained={folder}")


@pytest.mark.parametrize(
    ("kind", "target", "words"),
    [
        ("pickle", "x", "format=pickle"),
        ("safetensors", "x.bin", "must be a file that ends in .safetensors"),
        ("onnx", "x.safetensors", "must be a folder"),
        ("diffusers", "x", "networks of encoder=ldm decoder=ldm, but this model has MLP and MLP"),
    ],
)
def test_what_cannot_be_written_is_said_in_words(trained: Path, tmp_path: Path, kind: str, target: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        exported(trained, tmp_path / target, kind)


@pytest.mark.parametrize("kind", ["onnx", "diffusers"])
def test_the_folder_of_a_run_and_a_file_are_no_output(of_ldm: Path, tmp_path: Path, kind: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="is a file: give the name of a folder"):
        exported(of_ldm, tmp_path / "file", kind)
    with pytest.raises(ValueError, match="is the folder of a run: give another"):
        exported(of_ldm, of_ldm, kind)


def test_a_file_in_the_place_of_a_folder_is_said_in_words(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="File exists") as error:
        exported(trained, tmp_path / "file" / "model.safetensors", "safetensors")
    assert in_words(error.value) == f"cannot use {tmp_path / 'file'}: File exists; what was written before is kept"


def test_distances_to_what_onnxruntime_computes() -> None:
    """Also if one is NaN and comes last, or a shape is that of another batch."""

    class Session:
        def __init__(self, *values: np.ndarray) -> None:
            self.values = values

        def run(self, outputs: None, given: dict[str, np.ndarray]) -> list[np.ndarray]:
            return list(self.values)

    class Twice(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return x, 2 * x

    x = np.ones((3, 2), dtype=np.float32)
    given = {"x": torch.from_numpy(x)}
    assert largest_difference(Twice(), Session(x, 2 * x), given) == 0
    torch.testing.assert_close(largest_difference(Twice(), Session(x, 2.3 * x), given), torch.tensor(0.1))
    assert largest_difference(Twice(), Session(x, np.nan * x), given).isnan()
    assert largest_difference(Twice(), Session(x, 2 * x[:1]), given).isinf()


def test_moments_of_latents_are_those_of_a_mixture() -> None:
    """Two examples with N(-1, 1) and N(3, 4): mean 1, variance 2.5 of the noise and 4 of the means."""
    moments = LatentMoments()
    moments.add({"mean": torch.tensor([[-1.0]]), "scale": torch.tensor([[1.0]])})
    moments.add({"mean": torch.tensor([[3.0]]), "scale": torch.tensor([[2.0]])})
    torch.testing.assert_close(moments.mean, torch.tensor([1.0], dtype=torch.float64))
    torch.testing.assert_close(moments.std, torch.tensor([6.5**0.5], dtype=torch.float64))
    assert moments.factors() == pytest.approx({"scaling_factor": 6.5**-0.5, "shift_factor": 1})
    with pytest.raises(ValueError, match="a mean in closed form"):
        moments.add({"centre": torch.zeros(1, 1)})
