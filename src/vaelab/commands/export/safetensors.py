"""A trained model in one file of weights, with its config in the head of the file."""

import json
from pathlib import Path

from omegaconf import DictConfig

from vaelab.build import OpenedRun
from vaelab.commands.pretrained import ADVICE
from vaelab.data.array_files import package
from vaelab.runs.files import CONFIG_IN_HEAD, read_checkpoint, write_bytes


def write_safetensors(run: OpenedRun, target: Path, config: DictConfig) -> dict[Path, str]:
    """Write the weights, the scaling of the data, and the config that builds the model; return the path and what it holds.

    Raises:
        ValueError: if safetensors is not installed.
    """
    files = package("safetensors.torch", target, ADVICE)
    checkpoint = read_checkpoint(run.checkpoint)
    tensors = {name: value.contiguous().clone() for name, value in checkpoint["state_dict"].items()}
    scaling = run.datamodule.modality.scaling
    if scaling is not None:
        tensors |= {f"scaling.{name}": value.contiguous().clone() for name, value in scaling.state_dict().items()}
    write_bytes(files.save(tensors, {"format": "pt", CONFIG_IN_HEAD: json.dumps(checkpoint["config"])}), target)
    num = sum(value.numel() for value in run.model.state_dict().values())
    return {target: f"{num:,} numbers, and the config; vaelab.load({str(target)!r}) opens it"}
