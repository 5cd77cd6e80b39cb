"""A decoder that starts at the mean of the data."""

from typing import Any

import torch
from jaxtyping import Float
from lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.distributions import Independent

from vaelab import rng
from vaelab.checks import check_whole
from vaelab.distributions import Bernoulli
from vaelab.training.fsdp import whole
from vaelab.training.lit import LitVAE

LEAST = 0.001  # probability that a pixel is 1 at the start, and that it is 0


class MeanOutput(Callback):
    """Sets the biases of the decoder's last layer so that p(x_i = 1 | z) is near the mean of x_i before the first step.

    b_i = logit(min(max(mean of x_i, .001), .999)), as in the code of Burda et al. (2016, https://arxiv.org/abs/1509.00519). Without it, a
    decoder learns the mean first. Meanwhile it does not use z, and the KL turns dimensions of z off that are not used again.

    Args:
        num_images: training examples that the mean is taken of, in each process.

    Raises:
        ValueError: if num_images is below 1, the likelihood is not Bernoulli, or the decoder's last layer has no biases for x.
    """

    def __init__(self, num_images: int = 10_000) -> None:
        check_whole(1, num_images=num_images)
        self.num_images = num_images

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.global_step > 0:  # a run that goes on has learned its biases
            return
        assert isinstance(pl_module, LitVAE)
        was_training = pl_module.training
        pl_module.eval()  # batch-norm must not remember these two examples
        with rng.fork(seed=0), torch.no_grad(), whole(trainer):
            x, y = trainer.datamodule.examples("train", self.num_images, pl_module.device)  # type: ignore[attr-defined]
            p_x = pl_module.objective.draw(pl_module.model, x[:2], y[:2]).p_x
            while isinstance(p_x, Independent):
                p_x = p_x.base_dist
            if not isinstance(p_x, Bernoulli):
                raise ValueError(f"callbacks.mean_output is for likelihood=bernoulli, and not for {type(p_x).__name__}: leave it out")
            likelihood: Any = pl_module.model.likelihood
            start_at(likelihood.network, trainer.strategy.reduce(x.nanmean(0), reduce_op="mean"))
        pl_module.train(was_training)


def start_at(network: nn.Module, mean: Float[Tensor, "..."]) -> None:
    """Sets the biases of a network's last layer to logit(mean), for a network whose outputs are logits.

    A convolution has a bias for each channel, which gets the mean of its pixels.

    Raises:
        ValueError: if there are no biases, or they belong neither to the values of x nor to its channels.
    """
    bias = last_bias(network)
    values = mean.flatten() if bias.numel() == mean.numel() else mean.reshape(len(mean), -1).mean(1)
    if bias.numel() != values.numel():
        raise ValueError(
            f"callbacks.mean_output: the decoder ends with {bias.numel()} biases, and x has {mean.numel()} values: leave it out"
        )
    with torch.no_grad():
        bias.copy_(values.clamp(LEAST, 1 - LEAST).logit())


def last_bias(network: nn.Module) -> Tensor:
    """The biases of the last linear layer or convolution of a network.

    Raises:
        ValueError: if it has none.
    """
    kinds = nn.Linear | nn.Conv1d | nn.Conv2d | nn.ConvTranspose1d | nn.ConvTranspose2d
    layers = [layer for layer in network.modules() if isinstance(layer, kinds)]
    if not layers or layers[-1].bias is None:
        raise ValueError("callbacks.mean_output needs a decoder that ends with a linear layer or a convolution with biases: leave it out")
    return layers[-1].bias
