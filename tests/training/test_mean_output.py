"""callbacks.mean_output: the decoder starts at the mean of the data, and a run that goes on keeps what it has learned."""

from functools import partial
from pathlib import Path

import pytest
import torch
from small_runs import QUICK, SMALL, composed, same, train_small
from torch import nn

from vaelab.build import build_data
from vaelab.commands.train import train
from vaelab.likelihoods import Bernoulli
from vaelab.networks import MLP, ConvDecoder
from vaelab.training.callbacks import MeanOutput
from vaelab.training.callbacks.mean_output import last_bias, start_at

RUN = [*QUICK, "evaluation.enabled=false", "callbacks=[default,mean_output]"]


def test_a_perceptron_that_knows_nothing_of_z_gives_the_mean_of_each_value() -> None:
    likelihood, mean = Bernoulli(partial(MLP, hidden=[8]), (2,), (1, 4, 4)), torch.rand(1, 4, 4)
    mean[0, 0, :2] = torch.tensor([0.0, 1.0])
    start_at(likelihood.network, mean)
    with torch.no_grad():
        likelihood.network.layers[-2].weight.zero_()
        p_x = likelihood(torch.randn(3, 2))
    torch.testing.assert_close(p_x.mean, mean.clamp(0.001, 0.999).expand(3, -1, -1, -1))


def test_a_convolution_gives_the_mean_of_each_channel() -> None:
    likelihood, mean = Bernoulli(partial(ConvDecoder, channels=[4]), (2,), (3, 8, 8)), torch.rand(3, 8, 8)
    start_at(likelihood.network, mean)
    torch.testing.assert_close(last_bias(likelihood.network).sigmoid(), mean.mean((1, 2)))


def last(run: Path) -> dict[str, torch.Tensor]:
    return torch.load(run / "checkpoints/last.ckpt", weights_only=True)["state_dict"]


def run_of(folder: Path, *words: str) -> Path:
    train(composed(list(words), folder))
    return folder


def test_a_run_starts_there_and_draws_no_random_number_of_training(tmp_path: Path) -> None:
    """With a learning rate of almost 0: the biases are the logits of the data's mean, and the rest is as without the callback."""
    still = ["optimizer.lr=1e-12", "trainer.max_epochs=1"]
    with_it, without = last(train_small(tmp_path / "with", *RUN, *still)), last(train_small(tmp_path / "without", *RUN[:-1], *still))
    (name,) = [name for name in with_it if not torch.allclose(with_it[name], without[name], rtol=0, atol=1e-7)]
    datamodule = build_data(composed(SMALL, tmp_path))
    datamodule.setup("fit")
    x, _ = datamodule.examples("train", 10_000)
    torch.testing.assert_close(with_it[name].sigmoid(), x.mean(0).flatten().clamp(0.001, 0.999), rtol=0, atol=1e-6)


def test_batch_norm_remembers_nothing_of_it(tmp_path: Path) -> None:
    words = ["encoder=conv", "decoder=conv", "encoder.channels=[4]", "decoder.channels=[4]", "encoder.batch_norm=true"]
    still = ["optimizer.lr=1e-12", "trainer.max_epochs=1", "data.size=16"]
    small = [word for word in SMALL if "coder" not in word]
    with_it, without = (last(run_of(tmp_path / name, *small, *run, *still, *words)) for name, run in (("with", RUN), ("without", RUN[:-1])))
    assert any("running_mean" in name for name in with_it)
    for name in with_it:
        if "running" in name and "posterior" in name:
            torch.testing.assert_close(with_it[name], without[name])


def test_a_run_that_goes_on_is_left_alone(tmp_path: Path) -> None:
    straight = train_small(tmp_path / "straight", *RUN, "trainer.max_epochs=2")
    for epochs in (1, 2):
        train_small(tmp_path / "run", *RUN, f"trainer.max_epochs={epochs}", "existing=resume")
    assert same(last(straight), last(tmp_path / "run"))


def test_what_it_cannot_do_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"callbacks.mean_output is for likelihood=bernoulli, and not for \w+: leave it out"):
        train_small(tmp_path / "run", *RUN, "likelihood=gaussian")
    with pytest.raises(ValueError, match="num_images"):
        MeanOutput(num_images=0)
    with pytest.raises(ValueError, match="needs a decoder that ends with a linear layer or a convolution with biases"):
        last_bias(nn.Linear(2, 3, bias=False))
    with pytest.raises(ValueError, match="the decoder ends with 16 biases, and x has 18 values"):
        start_at(MLP((2,), (1, 4, 4), hidden=[]), torch.rand(2, 3, 3))
