"""Initial weights that keep the size of a signal: the gain against quadrature, then the variance through layers of each kind."""

import math
from functools import partial

import pytest
import torch
from scipy.integrate import quad
from torch import nn

from vaelab.networks import MLP, ConvEncoder, ConvLadder, DenseLadder, ResNetEncoder
from vaelab.networks.initial import gain, keep_signal

SLOPE = 0.2
ACTIVATIONS = {
    "identity": (nn.Identity, lambda u: u),
    "relu": (nn.ReLU, lambda u: max(u, 0)),
    "leaky_relu": (partial(nn.LeakyReLU, negative_slope=SLOPE), lambda u: u if u > 0 else SLOPE * u),
    "tanh": (nn.Tanh, math.tanh),
    "sigmoid": (nn.Sigmoid, lambda u: 1 / (1 + math.exp(-u))),
    "elu": (nn.ELU, lambda u: u if u > 0 else math.expm1(u)),
    "silu": (nn.SiLU, lambda u: u / (1 + math.exp(-u))),
    "softplus": (nn.Softplus, lambda u: math.log1p(math.exp(u))),
    "prelu": (nn.PReLU, lambda u: u if u > 0 else u / 4),
    "dropout": (partial(nn.Dropout, p=0.5), lambda u: u),  # which keeps the mean of what it lets through: in evaluation, all
}
every_activation = pytest.mark.parametrize(("activation", "function"), ACTIVATIONS.values(), ids=ACTIVATIONS.keys())


@every_activation
def test_gain(activation, function):
    """1 / gain^2 = E[phi(u)^2] with u ~ N(0, 1)."""
    square, _ = quad(lambda u: function(u) ** 2 * math.exp(-u * u / 2) / math.sqrt(2 * math.pi), -10, 10, points=[0])
    assert gain(activation) ** -2 == pytest.approx(square, rel=1e-5)


def test_gain_of_rectifiers_in_closed_form():
    assert gain(nn.ReLU) == pytest.approx(math.sqrt(2), rel=1e-6)
    assert gain(partial(nn.LeakyReLU, negative_slope=SLOPE)) == pytest.approx(math.sqrt(2 / (1 + SLOPE**2)), rel=1e-6)
    assert gain(nn.SELU) == pytest.approx(1, rel=1e-3)  # by the choice of its two constants (Klambauer et al., 2017)


def test_gain_draws_no_random_number():
    torch.manual_seed(0)
    gain(nn.RReLU)
    after = torch.rand(1)
    torch.manual_seed(0)
    assert torch.equal(after, torch.rand(1))


LAYERS = {
    "linear": (nn.Linear(600, 500), (600,)),
    "conv": (nn.Conv2d(60, 60, 3, padding=1), (60, 12, 12)),
    "conv_stride": (nn.Conv2d(60, 60, 3, stride=2, padding=1), (60, 12, 12)),
    "transposed": (nn.ConvTranspose2d(60, 40, 3, stride=2, padding=1, output_padding=1), (60, 12, 12)),
    "conv1d_stride": (nn.Conv1d(100, 100, 5, stride=2, padding=2), (100, 64)),
    "transposed1d": (nn.ConvTranspose1d(100, 60, 5, stride=2, padding=2, output_padding=1), (100, 64)),
    "without_bias": (nn.Conv2d(60, 60, 3, padding=1, bias=False), (60, 12, 12)),
}


@pytest.mark.parametrize("name", ["relu", "tanh", "sigmoid"])
@pytest.mark.parametrize(("layer", "shape"), LAYERS.values(), ids=LAYERS.keys())
def test_a_layer_keeps_the_variance(layer, shape, name):
    """Over weights and inputs phi(u), u ~ N(0, 1), an output has variance 1, away from the borders that padding darkens.

    3,000 weights at the least in each of 40 output channels: the variance is within 5 sqrt(2 / 40), and much closer where places differ.
    """
    activation, _ = ACTIVATIONS[name]
    keep_signal(layer, activation)
    out = layer(activation()(torch.randn(64, *shape)))
    inner = out if out.ndim == 2 else out[..., 1:-1, 1:-1]
    assert inner.square().mean().item() == pytest.approx(1, abs=5 * math.sqrt(2 / out.shape[1]) / 4)
    assert layer.bias is None or layer.bias.std().item() == pytest.approx(layer.weight.std().item(), rel=5 / math.sqrt(2 * len(layer.bias)))


@pytest.mark.parametrize("name", ["identity", "relu", "leaky_relu", "tanh", "sigmoid"])
def test_a_deep_perceptron_keeps_its_signal(name):
    """What arrives has the same size after 12 layers as after 2; with torch's own values, ReLU leaves 6^-10 of what depends on x.

    Of activations that grow faster than a line, such as SiLU, variance 1 is no stable point, whatever the weights.
    """
    activation, _ = ACTIVATIONS[name]

    def size(depth):
        network = MLP((256,), (1,), hidden=[256] * depth, activation=activation).eval()
        return network.layers[:-2](torch.randn(200, 256)).square().mean().item()

    assert 1 / 3 < size(12) / size(2) < 3


def test_a_gated_layer_is_h_times_sigmoid_of_g_and_keeps_the_variance():
    network = MLP((600,), (500,), hidden=[500], gated=True)
    x = torch.randn(64, 600)
    h, g = network.layers[1](x).chunk(2, dim=1)
    after = network.layers[:3](x)
    torch.testing.assert_close(after, h * g.sigmoid())
    # weights that follow have the gain of a sigmoid, whose square is that of the gate: variance 1 again
    follows = nn.Linear(500, 500)
    keep_signal(follows, nn.Sigmoid)
    gated = torch.randn(64, 500) * torch.randn(64, 500).sigmoid()
    assert follows(gated).square().mean().item() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("gated", [False, True])
def test_weights_that_another_function_fills(gated):
    network = MLP((50,), (40, 3), hidden=(20, 20), gated=gated, initial=nn.init.ones_)
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Linear)]
    assert len(layers) == 3
    for layer in layers:
        assert (layer.weight == 1).all()
        assert (layer.bias == 0).all()


@pytest.mark.parametrize(("hidden", "gated"), [([8, 0], False), ([-2], True)])
def test_widths_of_a_perceptron_that_are_refused(hidden, gated):
    with pytest.raises(ValueError, match="must be a whole number of at least 1"):
        MLP((4,), (3,), hidden=hidden, gated=gated)


def test_a_gated_perceptron_has_no_activation_besides():
    for activation in (nn.Tanh, partial(nn.LeakyReLU, 0.1)):
        with pytest.raises(ValueError, match="would not be used, because a gated layer has none: leave it out, or set gated=false"):
            MLP((4,), (3,), gated=True, activation=activation)


def test_the_last_layer_of_a_perceptron_and_one_without_hidden_layers_stay_as_torch_has_them():
    bound = 1 / math.sqrt(50)
    for network in (MLP((50,), (40, 3), hidden=()), MLP((7,), (40, 3), hidden=(50,))):
        last = network.layers[-2]
        assert 0.99 * bound < last.weight.abs().max() <= bound
        assert 0.9 * bound < last.bias.abs().max() <= bound


ENCODERS = {
    "mlp": partial(MLP, hidden=(64,)),
    "conv": partial(ConvEncoder, channels=(16, 32, 64)),
    "conv_batch_norm": partial(ConvEncoder, channels=(16, 32, 64), batch_norm=True),
    "resnet": partial(ResNetEncoder, channels=(16, 32), num_blocks=1),
}


@pytest.mark.parametrize("encoder", ENCODERS.values(), ids=ENCODERS.keys())
def test_features_of_a_ladder_depend_on_x(encoder):
    """At every rung the standard deviation over x ~ N(0, 1) is of the order of 1, whatever the encoder."""
    ladder = DenseLadder((1, 28, 28), [8, 8, 8, 8], encoder, hidden=128)
    with torch.no_grad():
        features = ladder.bottom_up(torch.randn(64, 1, 28, 28))
    for d in features:
        assert 0.2 < d.std(0).mean().item() < 2.5


def test_features_and_state_of_a_convolutional_ladder_keep_their_size():
    """They depend on x, and on z, as much at the coarsest place as at the finest; with torch's own values nothing of x arrives."""
    ladder = ConvLadder((1, 28, 28), (8,), (1, 2, 2), channels=32)
    h = None
    with torch.no_grad():
        for d in ladder.bottom_up(torch.randn(64, 1, 28, 28)):
            assert 0.4 < d.std(0).mean().item() < 2.5
        for rung in ladder.rungs:
            h = rung.join(h, torch.randn(64, *rung.z_shape))
            assert 0.4 < h.std(0).mean().item() < 2.5
