"""Writes autoencoder_kl.json: what AutoencoderKL makes of fixed weights and pictures, for tests/contracts/test_autoencoder_kl.py."""

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL

FILE = Path(__file__).parent / "autoencoder_kl.json"
CASES = {
    "grey, attention": {"channels": 1, "block_out_channels": [8, 16], "mid_block_add_attention": True, "size": [8, 8]},
    "colour, no attention, three resolutions": {
        "channels": 3,
        "block_out_channels": [4, 8, 8],
        "mid_block_add_attention": False,
        "size": [8, 12],
    },
}


def waves(name: str, shape: torch.Size) -> torch.Tensor:
    """Numbers like weights that depend on a name and a shape alone: the test makes the same."""
    numbers = torch.arange(1, shape.numel() + 1, dtype=torch.float64)
    return (numbers * (1 + sum(map(ord, name)) % 97) * 0.7).sin().reshape(shape) / max(1, shape[1:].numel()) ** 0.5


def case(channels: int, size: list[int], **options: Any) -> dict[str, Any]:
    num = len(options["block_out_channels"])
    model = AutoencoderKL(
        in_channels=channels,
        out_channels=channels,
        down_block_types=["DownEncoderBlock2D"] * num,
        up_block_types=["UpDecoderBlock2D"] * num,
        layers_per_block=1,
        latent_channels=2,
        norm_num_groups=4,
        **options,
    ).double()
    model.load_state_dict({name: waves(name, value.shape) for name, value in model.state_dict().items()})
    x = (waves("x", torch.Size([2, channels, *size])) + 1) / 2
    with torch.no_grad():
        q = model.encode(2 * x - 1).latent_dist
        decoded = (model.decode(q.mean).sample + 1) / 2
    found = {"x": x, "mean": q.mean, "std": q.std, "decoded": decoded}
    return {
        "config": {name: value for name, value in model.config.items() if not name.startswith("_")},
        "shapes": {name: list(value.shape) for name, value in model.state_dict().items()},
        **{name: value.tolist() for name, value in found.items()},
    }


if __name__ == "__main__":
    FILE.write_text(json.dumps({name: case(**options) for name, options in CASES.items()}) + "\n")
