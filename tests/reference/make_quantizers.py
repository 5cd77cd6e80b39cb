"""Writes quantizers.json: what vector-quantize-pytorch makes of fixed tensors, for tests/mathematics/test_quantizers_reference.py.

Each case has inputs x (batch, places, D), weights w, and what comes of them: outputs, indices, the auxiliary loss, and gradients of
sum(w * outputs) + loss. Options that differ from the package's defaults are named where they are set.
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from vector_quantize_pytorch import FSQ, LFQ, ResidualVQ, SimVQ, VectorQuantize

FILE = Path(__file__).parent / "quantizers.json"
SHAPE = (2, 6)  # examples and places


def case(outputs: Tensor, indices: Tensor, loss: Tensor, x: Tensor, **parameters: Tensor) -> dict[str, Any]:
    """Everything of a case as lists."""
    w = torch.randn_like(outputs)
    gradients = torch.autograd.grad((w * outputs).sum() + loss, [x, *parameters.values()], allow_unused=True)
    named = {f"gradient_{name}": value for name, value in zip(["x", *parameters], gradients, strict=True) if value is not None}
    values = {"x": x, "w": w, "outputs": outputs, "indices": indices, "loss": loss, **parameters, **named}
    return {name: value.detach().tolist() for name, value in values.items()}


def inputs(dim: int, scale: float = 1.0) -> Tensor:
    return (scale * torch.randn(*SHAPE, dim)).requires_grad_()


def fsq(levels: list[int]) -> dict[str, Any]:
    x = inputs(len(levels))
    outputs, indices = FSQ(levels).double()(x)
    return case(outputs, indices, torch.zeros(()), x)


def bits(dim: int, spherical: bool, temperature: float, commitment: float) -> dict[str, Any]:
    x = inputs(dim)
    quantizer = LFQ(dim=dim, spherical=spherical, commitment_loss_weight=commitment, force_quantization_f32=False).double().train()
    (outputs, indices, loss), parts = quantizer(x, inv_temperature=1 / temperature, return_loss_breakdown=True)
    entropies = {"sample_entropy": parts.per_sample_entropy.item(), "batch_entropy": parts.batch_entropy.item()}
    return {**case(outputs, indices, loss, x), **entropies, "commitment": commitment, "entropy": 0.1, "temperature": temperature}


def simvq(rotation_trick: bool) -> dict[str, Any]:
    x, quantizer = inputs(4), SimVQ(dim=4, codebook_size=7, rotation_trick=rotation_trick).double()
    outputs, indices, loss = quantizer(x)
    return {**case(outputs, indices, loss, x, transform=quantizer.code_transform.weight), "frozen": quantizer.frozen_codebook.tolist()}


def vq(**options: Any) -> dict[str, Any]:
    """A codebook that is learned by gradients: ema_update=False, learnable_codebook=True."""
    x, quantizer = inputs(4), VectorQuantize(dim=4, codebook_size=7, ema_update=False, learnable_codebook=True, **options).double()
    quantizer._codebook.embed.data.normal_()
    outputs, indices, loss = quantizer(x)
    found = case(outputs, indices, loss.sum(), x, codebook=quantizer._codebook.embed)
    return {**found, **{name: found[name][0] for name in ("codebook", "gradient_codebook") if name in found}}


def residual() -> dict[str, Any]:
    """quant_grad_frac=1: gradients pass from one quantiser to the next; else they are as many times too large as there are quantisers."""
    x = inputs(4, 2.0)
    quantizer = ResidualVQ(
        dim=4, codebook_size=7, num_quantizers=3, quant_grad_frac=1.0, rotation_trick=False, commitment_weight=0.0
    ).double()
    for layer in quantizer.layers:
        layer._codebook.embed.normal_()
    outputs, indices, _ = quantizer(x, freeze_codebook=True)
    return {**case(outputs, indices, torch.zeros(()), x), "codebooks": quantizer.codebooks.tolist()}


def main() -> None:
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    cases = {
        **{f"fsq_{'_'.join(map(str, levels))}": fsq(levels) for levels in ([8, 6, 5], [8, 5, 5, 5], [5, 3])},
        "lookup_free": bits(5, spherical=False, temperature=4.0, commitment=0.25),
        "binary_spherical": bits(5, spherical=True, temperature=0.5, commitment=0.0),
        "simvq_straight_through": simvq(rotation_trick=False),
        "simvq_rotation": simvq(rotation_trick=True),
        "vq_straight_through": vq(rotation_trick=False),
        "vq_rotation": vq(rotation_trick=True),
        "vq_diveq": vq(directional_reparam=True, directional_reparam_variance=0.0, threshold_ema_dead_code=1e-12),
        "residual": residual(),
    }
    FILE.write_text(json.dumps(cases))
    print(f"{FILE.name}: {len(cases)} cases, {FILE.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
