"""Encoder and decoder of a trained model in the format of ONNX."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from vaelab import rng
from vaelab.applications import codes
from vaelab.build import OpenedRun
from vaelab.commands.pretrained import ADVICE
from vaelab.data.array_files import package
from vaelab.runs.files import write_bytes

TOLERANCE = 1e-4  # of what onnxruntime computes, relative to 1 and to the value
BATCHES = (1, 3, 7)  # that it is tried with


class Encoder(nn.Module):
    """x in the units of the data -> what `vaelab.applications.codes` gives of q(z | x), such as its mean and standard deviation."""

    def __init__(self, run: OpenedRun) -> None:
        super().__init__()
        self.model, self.scale = run.model, run.datamodule.modality.scale

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(codes(self.model, self.scale(x)).values())


class Decoder(nn.Module):
    """z -> E[x | z] in the units of the data."""

    def __init__(self, run: OpenedRun) -> None:
        super().__init__()
        self.model, self.unscale = run.model, run.datamodule.modality.unscale

    def forward(self, z: Tensor) -> Tensor:
        return self.unscale(self.model.decode(z).mean)


def write_onnx(run: OpenedRun, folder: Path, config: DictConfig) -> dict[Path, str]:
    """Write encoder.onnx and decoder.onnx, of any batch size; return their paths and what they hold.

    Raises:
        ValueError: if the model cannot be exported, onnxruntime computes something else, or a package is not installed.
    """
    for name in ("onnx", "onnxscript"):
        package(name, folder / "encoder.onnx", ADVICE)
    model = run.model.cpu()
    if model.num_classes:
        raise ValueError("this run is conditional on y, which format=onnx has no input for: export it with format=safetensors")
    with rng.fork(config.seed), torch.no_grad():
        z = model.p_z().sample((max(BATCHES),))
        x = run.datamodule.modality.unscale(model.decode(z).mean)
        names = list(codes(model, model.decode(z).mean))
    about = {}
    parts = (("encoder.onnx", Encoder(run), x, "x", names), ("decoder.onnx", Decoder(run), z, "z", ["x"]))
    for file, module, given, name, outputs in parts:
        about[folder / file] = write_checked(module, given, name, outputs, folder / file)
    return about


def write_checked(module: nn.Module, given: Tensor, name: str, outputs: list[str], path: Path) -> str:
    """Write a file, and compute with it what the module does; return how near they are.

    Args:
        module: from one tensor to one or several.
        given: what it is tried with, of the largest batch.
        name, outputs: of its input and its outputs.
        path: of the file.

    Raises:
        ValueError: if it cannot be exported, or onnxruntime computes something else.
    """
    onnxruntime = package("onnxruntime", path, ADVICE)
    try:
        with quiet():
            batch = torch.export.Dim("batch")
            program: Any = torch.onnx.export(
                module.eval(), (given[:2],), input_names=[name], output_names=outputs, dynamic_shapes=({0: batch},), dynamo=True
            )
            data = program.model_proto.SerializeToString()
        session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
        worst = torch.stack([largest_difference(module, session, name, given[:size]) for size in BATCHES]).max().item()
    except Exception as error:  # of torch.export, of what translates it, and of onnxruntime, of many kinds
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{path.name} cannot be written as ONNX ({reason}): export the run with format=safetensors") from error
    if not worst <= TOLERANCE:
        raise ValueError(f"{path.name} computes something else than the model: {worst:.1g} away; export the run with format=safetensors")
    write_bytes(data, path)
    return f"{name} -> {', '.join(outputs)}; onnxruntime is at most {worst:.1g} away at batches of {', '.join(map(str, BATCHES))}"


def largest_difference(module: nn.Module, session: Any, name: str, given: Tensor) -> Tensor:
    """The largest difference of what a session of onnxruntime and a module compute, relative to 1 + |value|: NaN where one is."""
    with torch.no_grad():
        expected = module(given)
    expected = expected if isinstance(expected, tuple) else (expected,)
    found = list(map(torch.from_numpy, session.run(None, {name: given.numpy()})))
    if any(mine.shape != theirs.shape for mine, theirs in zip(expected, found, strict=True)):
        return torch.tensor(torch.inf)
    return torch.stack([((mine - theirs).abs() / (1 + mine.abs())).max() for mine, theirs in zip(expected, found, strict=True)]).max()


@contextmanager
def quiet() -> Iterator[None]:
    """Inside, what the exporter says of its progress is not shown."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
