"""Every network: (B, *in_shape) -> (B, *out_shape) at any size, and nothing else. A new network is one new line below."""

from copy import deepcopy
from functools import partial
from math import prod

import pytest
import torch
from torch import nn

from vaelab import networks
from vaelab.networks import MLP, Conv1dDecoder, Conv1dEncoder, ConvDecoder, ConvEncoder, ResNetDecoder, ResNetEncoder

ENCODERS = {
    "mlp": partial(MLP, hidden=[8, 6]),
    "mlp_linear": partial(MLP, hidden=[]),
    "mlp_tanh": partial(MLP, hidden=[8], activation=nn.Tanh),
    "mlp_gated": partial(MLP, hidden=[8, 6], gated=True),
    "mlp_xavier": partial(MLP, hidden=[8], initial=nn.init.xavier_uniform_),
    "mlp_log1p": partial(MLP, hidden=[8], input="log1p"),
    "mlp_standardize": partial(MLP, hidden=[8], input="standardize"),
    "conv": partial(ConvEncoder, channels=[4, 6, 8], hidden=[8]),
    "conv_standardize": partial(ConvEncoder, channels=[4, 6, 8], input="standardize"),
    "conv_batch_norm": partial(ConvEncoder, channels=[4, 6, 8], batch_norm=True),
    "conv_one_layer": partial(ConvEncoder, channels=[4]),
    "conv_strides": partial(ConvEncoder, channels=[4, 6, 6], kernel_size=5, strides=[1, 3, 2], hidden=[8], gated=True),
    "conv_deep": partial(ConvEncoder, channels=[4, 4, 6, 6, 8, 8], activation=nn.LeakyReLU),
    "conv1d": partial(Conv1dEncoder, channels=[4, 6, 8], hidden=[8]),
    "conv1d_wide": partial(Conv1dEncoder, channels=[4, 6], kernel_size=9, input="log1p"),
    "conv1d_batch_norm": partial(Conv1dEncoder, channels=[4, 6, 8], kernel_size=3, batch_norm=True),
    "conv1d_deep": partial(Conv1dEncoder, channels=[4, 4, 6, 6, 8, 8], activation=nn.LeakyReLU),
    "resnet": partial(ResNetEncoder, channels=[8, 12], num_blocks=2),
    "resnet_log1p": partial(ResNetEncoder, channels=[8, 12], num_blocks=2, input="log1p"),
    "resnet_one_layer": partial(ResNetEncoder, channels=[4], num_blocks=0, activation=nn.LeakyReLU),
}
DECODERS = {
    "mlp": partial(MLP, hidden=[8, 6]),
    "mlp_linear": partial(MLP, hidden=[]),
    "mlp_tanh": partial(MLP, hidden=[8], activation=nn.Tanh),
    "mlp_gated": partial(MLP, hidden=[8, 6], gated=True),
    "conv": partial(ConvDecoder, channels=[4, 6, 8], hidden=[8]),
    "conv_batch_norm": partial(ConvDecoder, channels=[4, 6, 8], batch_norm=True),
    "conv_one_layer": partial(ConvDecoder, channels=[4]),
    "conv_strides": partial(ConvDecoder, channels=[4, 6, 6], kernel_size=5, strides=[1, 3, 2], hidden=[8], gated=True),
    "conv_deep": partial(ConvDecoder, channels=[4, 4, 6, 6, 8, 8], activation=nn.LeakyReLU),
    "conv1d": partial(Conv1dDecoder, channels=[4, 6, 8], hidden=[8]),
    "conv1d_wide": partial(Conv1dDecoder, channels=[4, 6], kernel_size=9),
    "conv1d_batch_norm": partial(Conv1dDecoder, channels=[4, 6, 8], kernel_size=3, batch_norm=True),
    "conv1d_deep": partial(Conv1dDecoder, channels=[4, 4, 6, 6, 8, 8], activation=nn.LeakyReLU),
    "resnet": partial(ResNetDecoder, channels=[8, 12], num_blocks=2),
    "resnet_one_layer": partial(ResNetDecoder, channels=[4], num_blocks=0, activation=nn.LeakyReLU),
}
IMAGES = [(c, h, w) for c in (1, 2, 3) for h, w in ((28, 28), (32, 32), (64, 64), (33, 47), (5, 3), (28, 20), (1, 1))]
SOME_IMAGES = [(1, 28, 28), (3, 5, 3), (2, 33, 47)]

encoders = pytest.mark.parametrize("encoder", ENCODERS.values(), ids=ENCODERS.keys())
decoders = pytest.mark.parametrize("decoder", DECODERS.values(), ids=DECODERS.keys())
every = pytest.mark.parametrize(
    ("network", "encodes"),
    [*((e, True) for e in ENCODERS.values()), *((d, False) for d in DECODERS.values())],
    ids=[*(f"encoder_{name}" for name in ENCODERS), *(f"decoder_{name}" for name in DECODERS)],
)
images = pytest.mark.parametrize("image", IMAGES, ids=lambda image: "x".join(map(str, image)))
some_images = pytest.mark.parametrize("image", SOME_IMAGES, ids=lambda image: "x".join(map(str, image)))


def seen(network, image):
    """The shape of x that a network takes: its pixels in a row are a series."""
    return (image[0], prod(image[1:])) if network.func in (Conv1dEncoder, Conv1dDecoder) else image


def shapes(network, encodes, image):
    """in_shape and out_shape of a network with two parameters of a 4-dimensional latent, or of each pixel."""
    x_shape = seen(network, image)
    return (x_shape, (2, 4)) if encodes else ((4,), (2, *x_shape))


def test_every_network_is_tested():
    tested = {factory.func for factory in (*ENCODERS.values(), *DECODERS.values())}
    ladders = {networks.ConvLadder, networks.DenseLadder}  # see mathematics/test_hierarchy.py
    others = {networks.LDMEncoder, networks.LDMDecoder, networks.CausalTransformer}  # see test_autoencoder_kl.py, test_quantizers.py
    assert tested | ladders | others == {getattr(networks, name) for name in networks.__all__}


@images
@encoders
def test_encoder_shapes(encoder, image):
    x_shape = seen(encoder, image)
    network = encoder(in_shape=x_shape, out_shape=(2, 4))
    out = network(torch.rand(3, *x_shape))
    assert out.shape == (3, 2, 4)
    assert out.isfinite().all()


@images
@decoders
def test_decoder_shapes(decoder, image):
    x_shape = seen(decoder, image)
    network = decoder(in_shape=(4,), out_shape=(2, *x_shape))
    out = network(torch.randn(3, 4))
    assert out.shape == (3, 2, *x_shape)
    assert out.isfinite().all()


@pytest.mark.parametrize("z_shape", [(1,), (7,), (4, 3, 3), (2, 3)], ids=str)
@pytest.mark.parametrize("num_params", [(), (1,), (2,), (3, 2)], ids=str)
def test_latents_may_have_any_shape(num_params, z_shape):
    image = (2, 9, 6)
    keep_space = (ResNetEncoder, ResNetDecoder)  # so a latent with another space is refused, see below
    for encoder in (e for e in ENCODERS.values() if e.func not in keep_space):
        x_shape = seen(encoder, image)
        assert encoder(in_shape=x_shape, out_shape=(*num_params, *z_shape))(torch.rand(3, *x_shape)).shape == (3, *num_params, *z_shape)
    for decoder in (d for d in DECODERS.values() if d.func not in keep_space):
        x_shape = seen(decoder, image)
        assert decoder(in_shape=z_shape, out_shape=(*num_params, *x_shape))(torch.rand(3, *z_shape)).shape == (3, *num_params, *x_shape)


@pytest.mark.parametrize("image", [(1, 28, 28), (3, 33, 47), (2, 5, 3), (1, 1, 1)], ids=str)
def test_residual_networks_keep_space(image, double):
    """Latents of ceil(H / 4) x ceil(W / 4) places; a pixel reaches none that is far away, nor a place a pixel that is."""
    _, height, width = image
    z_shape = (5, -(-height // 4), -(-width // 4))
    encoder = ResNetEncoder(image, (2, *z_shape), channels=[4, 8], num_blocks=1, activation=nn.Tanh)  # which hides nothing
    decoder = ResNetDecoder(z_shape, (3, *image), channels=[4, 8], num_blocks=1, activation=nn.Tanh)
    x, z = torch.rand(2, *image), torch.randn(2, *z_shape)
    assert encoder(x).shape == (2, 2, *z_shape)
    assert decoder(z).shape == (2, 3, *image)
    for network, given in ((encoder, x), (decoder, z)):
        other = given.clone()
        other[..., 0, 0] += 1
        moved = (network(other) != network(given)).flatten(0, 2).any(0)
        assert moved[0, 0]
        if height > 20:
            assert not moved[-1].any()
            assert not moved[:, -1].any()


@pytest.mark.parametrize("z_shape", [(5, 8, 7), (5, 7, 8), (5, 1, 1)], ids=str)
def test_residual_networks_say_which_space_fits(z_shape):
    message = r"turns 28 x 20 pixels into 7 x 5 places, but z has . x .: set z_shape=\[5,7,5\], or another number of channels"
    with pytest.raises(ValueError, match=message):
        ResNetEncoder((1, 28, 20), (1, *z_shape), channels=[4, 8])
    with pytest.raises(ValueError, match=message):
        ResNetDecoder(z_shape, (1, 28, 20), channels=[4, 8])


@every
def test_lists_of_the_caller_stay_as_they_were(network, encodes):
    options = {key: value for key, value in network.keywords.items() if isinstance(value, list)}
    before = deepcopy(options)
    in_shape, out_shape = map(list, shapes(network, encodes, (3, 5, 3)))
    built = network(in_shape=in_shape, out_shape=out_shape)
    built(torch.rand(2, *in_shape))
    assert (in_shape, out_shape) == tuple(map(list, shapes(network, encodes, (3, 5, 3))))
    assert options == before


@some_images
@every
def test_gradients_reach_every_parameter(network, encodes, image):
    in_shape, out_shape = shapes(network, encodes, image)
    built = network(in_shape=in_shape, out_shape=out_shape)
    out = built(torch.randn(16, *in_shape))
    (out * torch.randn(out.shape)).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in built.parameters())


@some_images
@every
def test_every_input_reaches_the_output(network, encodes, image):
    in_shape, out_shape = shapes(network, encodes, image)
    x = torch.randn(16, *in_shape, requires_grad=True)
    out = network(in_shape=in_shape, out_shape=out_shape)(x)
    (out * torch.randn(out.shape)).sum().backward()
    assert x.grad.any(0).all()


@some_images
@every
def test_examples_do_not_see_each_other(network, encodes, image, double):
    """Outside batch-norm's training, which is about seeing each other."""
    in_shape, out_shape = shapes(network, encodes, image)
    built = network(in_shape=in_shape, out_shape=out_shape).eval()
    x = torch.randn(4, *in_shape)
    alone = torch.cat([built(example[None]) for example in x])
    torch.testing.assert_close(built(x), alone, rtol=1e-10, atol=1e-12)


@some_images
@every
def test_state_dict_round_trip(network, encodes, image):
    in_shape, out_shape = shapes(network, encodes, image)
    one, other = (network(in_shape=in_shape, out_shape=out_shape) for _ in range(2))
    one(torch.randn(8, *in_shape))  # moves the averages of batch-norm
    x = torch.randn(3, *in_shape)
    assert not torch.equal(one.eval()(x), other.eval()(x))
    other.load_state_dict(one.state_dict())
    assert torch.equal(one(x), other(x))


def test_batch_norm_has_the_only_bias():
    """A bias before batch-norm would be subtracted again."""
    for family, encodes in ((ConvEncoder, True), (ConvDecoder, False), (Conv1dEncoder, True), (Conv1dDecoder, False)):
        network = partial(family, channels=(4, 6), batch_norm=True)
        in_shape, out_shape = shapes(network, encodes, (1, 8, 8))
        built = network(in_shape=in_shape, out_shape=out_shape)
        assert sum(isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) for module in built.modules()) == 2
        assert all(block[0].bias is None for block in built.blocks)


def test_number_of_parameters_of_an_mlp():
    built = MLP(in_shape=(2, 3), out_shape=(2, 4), hidden=(5, 7))
    widths = [prod((2, 3)), 5, 7, prod((2, 4))]
    expected = sum(a * b + b for a, b in zip(widths[:-1], widths[1:], strict=True))
    assert sum(parameter.numel() for parameter in built.parameters()) == expected


def test_gated_convolutions_are_h_times_sigmoid_of_g_and_those_of_sylvester_flows():
    """Encoder and decoder of van den Berg et al. (2018), of z of 64 numbers: the weights of each of their layers, h and g."""
    options = {"kernel_size": 5, "strides": [1, 2, 1, 2, 1], "gated": True}
    encoder = ConvEncoder((1, 28, 28), (2, 64), channels=[32, 32, 64, 64, 64], hidden=[256], **options)
    decoder = ConvDecoder((64,), (1, 1, 28, 28), channels=[32, 32, 32, 64, 64], **options)
    x, z = torch.rand(3, 1, 28, 28), torch.randn(3, 64)
    h, g = nn.functional.conv2d(x, encoder.blocks[0][0].weight, encoder.blocks[0][0].bias, padding=2).chunk(2, dim=1)
    torch.testing.assert_close(encoder.blocks[0](x), h * g.sigmoid())
    sides = zip(encoder.blocks, (1, 32, 32, 64, 64), (28, 28, 14, 14, 7), strict=True)
    shapes = [block(torch.zeros(1, c, side, side)).shape[1:] for block, c, side in sides]
    assert shapes == [(32, 28, 28), (32, 14, 14), (64, 14, 14), (64, 7, 7), (64, 7, 7)]
    h, g = decoder.stem[:3](z).chunk(2, dim=1)
    torch.testing.assert_close(decoder.stem(z), h * g.sigmoid())

    def weights(layers):  # (inputs, outputs, kernel): h and g have a bias each
        return sum(2 * (c_in * c_out * k * k + c_out) for c_in, c_out, k in layers)

    encoded = weights([(1, 32, 5), (32, 32, 5), (32, 64, 5), (64, 64, 5), (64, 64, 5), (64, 256, 7)]) + 257 * 128
    assert sum(each.numel() for each in encoder.parameters()) == encoded
    # from z to 7 x 7 places theirs has one bias for a channel, and ours one for a place; the last of theirs sees 1 x 1, ours 5 x 5
    decoded = weights([(64, 64, 7), (64, 64, 5), (64, 32, 5), (32, 32, 5), (32, 32, 5), (32, 32, 5)]) + 2 * 64 * 48 + 25 * 32 + 1
    assert sum(each.numel() for each in decoder.parameters()) == decoded


@pytest.mark.parametrize("side", range(1, 20))
@pytest.mark.parametrize("strides", [1, 3, [1, 2], [4, 1], [5, 5]], ids=str)
def test_images_of_every_size_come_back_as_large(strides, side):
    options = {"channels": [2, 3], "kernel_size": 5, "strides": strides}
    z = ConvEncoder((2, side, side + 3), (4,), **options)(torch.randn(2, 2, side, side + 3))
    assert ConvDecoder((4,), (1, 2, side, side + 3), **options)(z).shape == (2, 1, 2, side, side + 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strides": [2, 2, 2]}, r"strides=\[2, 2, 2\] must be one number, or one for each of the 2 layers of channels"),
        ({"strides": 0}, r"strides=\[0, 0\] must be a whole number of at least 1"),
        ({"strides": [1, 4]}, "kernel_size=3 must be an odd number of at least 5"),
        ({"kernel_size": 4}, "kernel_size=4 must be an odd number of at least 3"),
        ({"kernel_size": 1}, "kernel_size=1 must be an odd number of at least 3"),
        ({"gated": True, "activation": nn.Tanh}, "activation=Tanh would not be used, because a gated layer has none"),
        ({"channels": []}, "must name at least one layer"),
    ],
    ids=str,
)
def test_options_of_convolutions_that_are_refused(options, message):
    for build in (partial(ConvEncoder, (1, 8, 8), (4,)), partial(ConvDecoder, (4,), (1, 8, 8))):
        with pytest.raises(ValueError, match=message):
            build(**{"channels": [4, 4], **options})


@pytest.mark.parametrize("shape", [(784,), (1, 1, 28, 28), ()], ids=str)
def test_convolutions_encode_only_images(shape):
    with pytest.raises(ValueError, match=r"in_shape = \(channels, height, width\), but got .*; use encoder=mlp decoder=mlp"):
        ConvEncoder(in_shape=shape, out_shape=(2, 4))


@pytest.mark.parametrize("shape", [(784,), (1,), ()], ids=str)
def test_convolutions_decode_only_images(shape):
    with pytest.raises(ValueError, match=r"out_shape = \(channels, height, width\), but got .*; use encoder=mlp decoder=mlp"):
        ConvDecoder(in_shape=(4,), out_shape=shape)


@pytest.mark.parametrize("times", [*range(1, 20), 127, 128, 129, 1000])
def test_series_of_every_length_come_back_as_long(times):
    z = Conv1dEncoder((3, times), (4,), channels=[4, 6, 8])(torch.randn(2, 3, times))
    assert Conv1dDecoder((4,), (2, 3, times), channels=[4, 6, 8])(z).shape == (2, 2, 3, times)


@pytest.mark.parametrize(("shape", "advice"), [((784,), "mlp"), ((1, 8, 8), "conv"), ((), "mlp")])
def test_convolutions_along_time_want_series(shape, advice):
    for build in (partial(Conv1dEncoder, shape, (4,)), partial(Conv1dDecoder, (4,), shape[:1])):
        advice = advice if build.func is Conv1dEncoder else "mlp"
        with pytest.raises(ValueError, match=rf"_shape = \(channels, times\), but got .*; use encoder={advice} decoder={advice}$"):
            build()
    with pytest.raises(ValueError, match=r"in_shape = \(channels, height, width\), but got .*; use encoder=conv1d decoder=conv1d"):
        ConvEncoder(in_shape=(2, 9), out_shape=(2, 4))
    for size in (1, 4):
        with pytest.raises(ValueError, match=f"kernel_size={size} must be an odd number of at least 3"):
            Conv1dEncoder((1, 9), (4,), kernel_size=size)
