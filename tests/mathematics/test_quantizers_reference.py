"""Outputs, indices, losses and gradients of quantisers are those of vector-quantize-pytorch, on fixed tensors.

The numbers are in tests/reference/quantizers.json, which `make reference` writes.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vaelab import posteriors
from vaelab.objectives import VQ

CASES: dict[str, dict[str, Any]] = json.loads((Path(__file__).parents[1] / "reference" / "quantizers.json").read_text())


def as_given(in_shape: tuple[int, ...], out_shape: tuple[int, ...]) -> nn.Module:
    """A network that does nothing: z_e is x."""
    return nn.Unflatten(0, (-1, 1))


def tensors(name: str) -> dict[str, Tensor]:
    """The case, with the D numbers of a code before the places of an example."""
    found = {key: torch.tensor(value) for key, value in CASES[name].items()}
    return found | {key: found[key].movedim(-1, 1) for key in ("x", "w", "outputs", "gradient_x")}


def quantizer(family: Any, case: dict[str, Tensor], **options: Any) -> Any:
    shape = tuple(case["x"].shape[1:])
    return family(as_given, shape, shape, **options).eval()


def check(posterior: Any, case: dict[str, Tensor], weights: dict[str, float], reverse_bits: bool = False, **parameters: Tensor) -> None:
    """With losses that are means over places and numbers, and not sums over the event."""
    x = case["x"].requires_grad_()
    q = posterior(x)
    torch.testing.assert_close(q.rsample(), case["outputs"])
    indices = case["indices"]
    if reverse_bits:  # there the first number is the highest bit
        num = x.shape[1]
        indices = sum(((indices >> d) & 1) << (num - 1 - d) for d in range(num))
    assert torch.equal(q.indices, indices)
    losses = q.losses()
    loss = sum((weights[name] * value for name, value in losses.items()), torch.zeros(()))
    gradients = torch.autograd.grad((case["w"] * q.rsample()).sum() + loss, [x, *parameters.values()])
    for name, gradient in zip(["x", *parameters], gradients, strict=True):
        torch.testing.assert_close(gradient, case[f"gradient_{name}"])
    if losses:
        torch.testing.assert_close(loss.detach() * weights.get("in_all", 1.0), case["loss"])


@pytest.mark.parametrize("levels", [(8, 6, 5), (8, 5, 5, 5), (5, 3)], ids=str)
def test_fsq(levels, double):
    case = tensors("fsq_" + "_".join(map(str, levels)))
    check(quantizer(posteriors.FSQ, case, levels=levels), case, {})


@pytest.mark.parametrize("name", ["lookup_free", "binary_spherical"])
@pytest.mark.parametrize("entropy", ["exact", "factorised"])
def test_bits(name, entropy, double):
    """The entropy of each choice is the same in both ways; that of all choices is theirs if exact, and not smaller if factorised.

    Theirs is not multiplied by the temperature.
    """
    case = tensors(name)
    family = {"lookup_free": posteriors.LookupFree, "binary_spherical": posteriors.BinarySpherical}[name]
    posterior = quantizer(family, case, entropy=entropy, temperature=case["temperature"].item())
    dim, places = case["x"].shape[1:]
    unit = places * (case["temperature"] if name == "binary_spherical" else 1)
    if entropy == "exact":
        weights = {"entropy": 0.1 / unit, "commitment": case["commitment"].item() / (dim * places)}
        check(posterior, case, weights, reverse_bits=True)
    each = case["sample_entropy"]
    of_all = each - posterior(case["x"]).losses()["entropy"] / unit
    if entropy == "exact":
        torch.testing.assert_close(of_all, case["batch_entropy"])
    else:
        assert of_all > case["batch_entropy"]


@pytest.mark.parametrize("estimator", ["straight_through", "rotation"])
def test_simvq(estimator, double):
    case = tensors(f"simvq_{estimator}")
    posterior = quantizer(posteriors.SimVQ, case, num_codes=len(case["frozen"]), estimator=estimator)
    posterior.frozen.copy_(case["frozen"])
    posterior.transform.weight.data.copy_(case["transform"])
    share = 1 / case["x"][0].numel()
    check(posterior, case, {"codebook": share, "commitment": 0.25 * share}, transform=posterior.transform.weight)


@pytest.mark.parametrize("estimator", ["straight_through", "rotation", "diveq"])
def test_vector_quantized(estimator, double):
    """Theirs is one square for codes and encoder; ours are two, each with a weight: equal gradients, and twice the sum."""
    case = tensors(f"vq_{estimator}")
    posterior = quantizer(posteriors.VectorQuantized, case, num_codes=len(case["codebook"]), estimator=estimator, update="gradient")
    posterior.codebook.data.copy_(case["codebook"])
    share = 1 / case["x"][0].numel()
    check(posterior, case, {"codebook": share, "commitment": share, "in_all": 0.5}, codebook=posterior.codebook)


def test_residual(double):
    """To the precision of float32, in which theirs computes what is left over."""
    case = tensors("residual")
    depth, num_codes, _ = case["codebooks"].shape
    posterior = quantizer(posteriors.Residual, case, depth=depth, quantizer=lambda **given: codes_of(num_codes, **given))
    for part, codebook in zip(posterior.quantizers, case["codebooks"], strict=True):
        part.codebook.copy_(codebook)
    x = case["x"].requires_grad_()
    q = posterior(x)
    gradient = torch.autograd.grad((case["w"] * q.rsample()).sum(), x)[0]
    assert torch.equal(q.indices, case["indices"])
    torch.testing.assert_close(q.rsample().float(), case["outputs"].float())
    torch.testing.assert_close(gradient.float(), case["gradient_x"].float())


def codes_of(num_codes: int, **given: Any) -> posteriors.VectorQuantized:
    return posteriors.VectorQuantized(num_codes=num_codes, **given)


def test_the_weights_of_the_objective_are_those_of_the_papers():
    assert (VQ().commitment, VQ().entropy) == (0.25, 0.1)
