"""A trained model as a folder that `AutoencoderKL.from_pretrained` of diffusers opens."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from vaelab.applications import LatentMoments, codes
from vaelab.build import OpenedRun
from vaelab.commands.pretrained import ADVICE, WEIGHTS
from vaelab.data.array_files import package
from vaelab.models.autoencoder_kl import to_autoencoder_kl
from vaelab.runs.files import write_bytes, write_json


def write_diffusers(run: OpenedRun, folder: Path, config: DictConfig) -> dict[Path, str]:
    """Write config.json and the weights; return their paths and what they hold.

    Raises:
        ValueError: if AutoencoderKL cannot hold the model, the data are not there, or safetensors is not installed.
    """
    files = package("safetensors.torch", folder / WEIGHTS, ADVICE)
    described, weights = to_autoencoder_kl(run.model)
    if run.datamodule.modality.scaling is not None:
        raise ValueError("a folder of diffusers has no place for data.scale: train on pictures without one")
    described |= factors(run, config.num, config.per_channel)
    write_bytes(files.save(weights, {"format": "pt"}), folder / WEIGHTS)
    write_json(described, folder / "config.json")
    found = {name: described[name] for name in ("scaling_factor", "shift_factor", "latents_mean", "latents_std") if described[name]}
    said = ", ".join(f"{name}={value:.5g}" if isinstance(value, float) else f"{name} of each channel" for name, value in found.items())
    num = sum(value.numel() for value in weights.values())
    return {folder / WEIGHTS: f"{num:,} weights", folder / "config.json": f"of AutoencoderKL: {said}"}


def factors(run: OpenedRun, num: int, per_channel: bool) -> dict[str, Any]:
    """Numbers by which other programs give latents mean 0 and standard deviation 1.

    z is seen as (z - shift_factor) scaling_factor, or, of each channel, (z - latents_mean) scaling_factor / latents_std. Some programs
    apply both, so only one of the two is ever more than nothing.
    """
    nothing = {"scaling_factor": 1.0, "shift_factor": 0.0, "latents_mean": None, "latents_std": None}
    if not num:
        return nothing
    try:
        x, y = run.datamodule.examples("train", num, run.model.device)
    except (ValueError, OSError, RuntimeError) as error:
        raise ValueError(f"latents cannot be measured, because the data cannot be read: {error}; num=0 leaves the factors out") from error
    moments, size = LatentMoments(), run.datamodule.eval_batch_size
    for part in zip(x.split(size), y.split(size), strict=True):
        moments.add(codes(run.model, *part))
    if per_channel:
        return nothing | {"latents_mean": moments.mean.tolist(), "latents_std": moments.std.tolist()}
    return nothing | moments.factors()
