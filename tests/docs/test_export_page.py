"""The page about exports: its commands run as they are written."""

import re
import shlex
from pathlib import Path

import pytest
import torch
from forked_scripts import ROOT, command

import vaelab

PAGE = (ROOT / "docs" / "export.md").read_text()
COMMANDS = re.findall(r"^vaelab (.*)$", PAGE, re.MULTILINE)
QUICK = {
    "train": [
        "trainer=cpu",
        "trainer.max_steps=2",
        "data.dataset.num_train=96",
        "data.val_size=32",
        "evaluation.enabled=false",
        "logger=csv",
    ],
    "export": ["accelerator=cpu"],
    "encode": ["accelerator=cpu"],
}


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    told = ""
    for line in COMMANDS:
        script, *words = shlex.split(line)
        told += command(f"{script}.py", *words, *QUICK[script], cwd=tmp_path).stdout
    assert "encoder.onnx   x -> mean, scale; onnxruntime is at most" in told
    assert vaelab.load("circles.safetensors").decode(vaelab.load("circles").prior(None).sample((2,))).mean.shape == (2, 1, 32, 32)
    assert sorted(path.name for path in Path("vae").iterdir()) == ["config.json", "diffusion_pytorch_model.safetensors"]
    code = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)[1]  # the one before it needs diffusers
    found: dict[str, torch.Tensor] = {"torch": torch}
    exec(code, found)
    assert found["z"].shape == (64, 4, 8, 8)
    assert abs(found["normed"].mean()) < 0.01
    assert abs(found["normed"].std() - 1) < 0.01
