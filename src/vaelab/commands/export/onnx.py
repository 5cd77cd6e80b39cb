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

    def forward(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, ...]:
        return tuple(codes(self.model, self.scale(x), y).values())


class Decoder(nn.Module):
    """z -> E[x | z] in the units of the data."""

    def __init__(self, run: OpenedRun) -> None:
        super().__init__()
        self.model, self.unscale = run.model, run.datamodule.modality.unscale

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return self.unscale(self.model.decode(z, y).mean)


def write_onnx(run: OpenedRun, folder: Path, config: DictConfig) -> dict[Path, str]:
    """Write encoder.onnx and decoder.onnx, of any batch size; return their paths and what they hold.

    Raises:
        ValueError: if the model cannot be exported, onnxruntime computes something else, or a package is not installed.
    """
    for name in ("onnx", "onnxscript"):
        package(name, folder / "encoder.onnx", ADVICE)
    model, num = run.model.cpu(), max(BATCHES)
    unknown = int(model.recognises)  # -1 is a label then, too
    y = torch.arange(num) % (model.num_classes + unknown) - unknown if model.num_classes else None
    with rng.fork(config.seed), torch.no_grad():
        p = model.p_z(y)
        z = p.sample() if p.batch_shape else p.sample((num,))
        x = model.decode(z, y).mean
        names = list(codes(model, x, y))
    label = {} if y is None else {"y": y}
    parts = (
        ("encoder.onnx", Encoder(run), {"x": run.datamodule.modality.unscale(x)} | label, names),
        ("decoder.onnx", Decoder(run), {"z": z} | label, ["x"]),
    )
    return {folder / file: write_checked(module, given, outputs, folder / file) for file, module, given, outputs in parts}


def write_checked(module: nn.Module, given: dict[str, Tensor], outputs: list[str], path: Path) -> str:
    """Write a file, and compute with it what the module does; return how near they are.

    Args:
        module: from tensors to one or several.
        given: what it is tried with by name, each of the largest batch.
        outputs: their names.
        path: of the file.

    Raises:
        ValueError: if it cannot be exported, or onnxruntime computes something else.
    """
    onnxruntime = package("onnxruntime", path, ADVICE)
    try:
        with quiet():
            batch = torch.export.Dim("batch")
            program: Any = torch.onnx.export(
                module.eval(),
                tuple(value[:2] for value in given.values()),
                input_names=list(given),
                output_names=outputs,
                dynamic_shapes=tuple({0: batch} for _ in given),
                dynamo=True,
            )
            data = program.model_proto.SerializeToString()
        session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
        batches = [{name: value[:size] for name, value in given.items()} for size in BATCHES]
        worst = torch.stack([largest_difference(module, session, each) for each in batches]).max().item()
    except Exception as error:  # of torch.export, of what translates it, and of onnxruntime, of many kinds
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{path.name} cannot be written as ONNX ({reason}): export the run with format=safetensors") from error
    if not worst <= TOLERANCE:
        raise ValueError(f"{path.name} computes something else than the model: {worst:.1g} away; export the run with format=safetensors")
    write_bytes(data, path)
    sizes = ", ".join(map(str, BATCHES))
    return f"{', '.join(given)} -> {', '.join(outputs)}; onnxruntime is at most {worst:.1g} away at batches of {sizes}"


def largest_difference(module: nn.Module, session: Any, given: dict[str, Tensor]) -> Tensor:
    """The largest difference of what a session of onnxruntime and a module compute, relative to 1 + |value|: NaN where one is."""
    with torch.no_grad():
        expected = module(*given.values())
    expected = expected if isinstance(expected, tuple) else (expected,)
    found = list(map(torch.from_numpy, session.run(None, {name: value.numpy() for name, value in given.items()})))
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
