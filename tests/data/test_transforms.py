"""Transforms of x: binary draws and noise, and whose randomness they take."""

import math

import pytest
import torch

from vaelab.data import Binarize, DataModule, Dequantize, InMemory

LEVELS = torch.linspace(0, 255, 64).round().to(torch.uint8).reshape(1, 8, 8)  # 64 pixels from black to white


def equal_images(split):
    """2,000 (test: 600) times one image."""
    num_images = {"train": 2000, "test": 600}[split]
    return InMemory(LEVELS.expand(num_images, 1, 8, 8), torch.arange(num_images))


def module(**options):
    return DataModule(**{"dataset": equal_images, "shape": [1, 8, 8], "val_size": 600, "transform": Binarize()} | options)


def images(data, split):
    return torch.cat([x for x, _ in data.batches(split)])


def assert_mean_is_the_pixel(x):
    """A pixel is 1 as often as it is bright, within 4.5 standard errors of 64 pixels."""
    p = LEVELS.float() / 255
    standard_error = (p * (1 - p) / len(x)).sqrt()
    assert ((x.mean(0) - p).abs() <= 4.5 * standard_error).all()


def test_data_without_a_transform_are_what_they_are():
    data = module(transform=None)
    for split in ("train", "val", "test"):
        x = images(data, split)
        assert torch.equal(x, (LEVELS.float() / 255).expand(x.shape))


def test_binarize_draws_with_the_probability_of_the_pixel():
    x = Binarize()(torch.tensor([0.0, 0.25, 1.0]).expand(10_000, 3))
    assert ((x == 0) | (x == 1)).all()
    assert (x[:, 0] == 0).all()
    assert (x[:, 2] == 1).all()
    assert abs(x[:, 1].mean() - 0.25) < 4 * (0.25 * 0.75 / 10_000) ** 0.5


def test_binarize_draws_from_the_generator_it_is_given():
    x, before = torch.rand(3, 4), torch.get_rng_state()
    one, two = (Binarize()(x, generator=torch.Generator().manual_seed(4)) for _ in range(2))
    assert torch.equal(one, two)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("static_seed", [None, 0, 5])
@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_mean_of_binary_images_is_the_grey_image(split, static_seed):
    x = images(module(static_seed=static_seed), split)
    assert ((x == 0) | (x == 1)).all()
    assert_mean_is_the_pixel(x)
    assert len(x.flatten(1).unique(dim=0)) > 0.99 * len(x)  # every image has a draw of its own


def test_training_images_are_drawn_anew_in_every_pass():
    data = module()
    first, second = images(data, "train"), images(data, "train")
    assert (first != second).flatten(1).any(1).all()
    p = LEVELS.float() / 255  # two independent draws differ with probability 2 p (1 - p)
    assert ((first != second).float().mean(0) - 2 * p * (1 - p)).abs().max() < 0.06


def test_training_draws_follow_the_generator_that_trains():
    data = module()
    torch.manual_seed(1)
    first = images(data, "train")
    torch.manual_seed(1)
    assert torch.equal(images(data, "train"), first)


@pytest.mark.parametrize("split", ["val", "test"])
def test_evaluation_images_are_drawn_once_and_for_all(split):
    data = module(eval_batch_size=500)
    first = images(data, split)
    torch.manual_seed(99)
    assert torch.equal(images(data, split), first)
    assert torch.equal(images(module(eval_batch_size=3), split), first)
    assert torch.equal(images(module(seed=8, batch_size=7, static_seed=3), split), first)
    assert not torch.equal(images(module(split_seed=1), split), first)


def test_validation_and_test_draws_differ():
    """Example i of one is not example i of the other."""
    data = module()
    data.setup("fit")
    data.setup("test")
    val, test = images(data, "val"), images(data, "test")
    same_index = data.splits["val"].indices
    both = same_index < len(test)
    assert both.any()
    assert (val[both] != test[same_index[both]]).flatten(1).any(1).all()


@pytest.mark.parametrize("split", ["val", "test"])
def test_evaluation_draws_leave_the_generator_that_trains_alone(split):
    before = torch.get_rng_state()
    images(module(), split)
    assert torch.equal(torch.get_rng_state(), before)


def test_static_training_images_are_drawn_once_and_for_all():
    def train(**options):
        return images(module(**options), "train")

    first, before = train(static_seed=3), torch.get_rng_state()
    assert torch.equal(train(static_seed=3, batch_size=33), first)
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(train(static_seed=4), first)
    assert torch.equal(train(static_seed=0), train(static_seed=0))  # seed 0 is a seed
    assert not torch.equal(train(static_seed=0), first)


def test_a_static_draw_belongs_to_its_image_in_any_order():
    def by_index(seed):
        batches = list(module(static_seed=3, seed=seed).batches("train"))
        x, y = (torch.cat(parts) for parts in zip(*batches, strict=True))
        return x[y.argsort()]

    assert torch.equal(by_index(0), by_index(1))


def test_real_numbers_can_be_binarised_too():
    x = torch.rand(50, 3)
    data = module(dataset=lambda split: InMemory(x), shape=[3], val_size=10)
    for split in ("train", "val", "test"):
        out = images(data, split)
        assert ((out == 0) | (out == 1)).all()


def test_dequantized_images_keep_their_levels():
    """256 x lies between the level and the next one, in every split; each image has a draw of its own."""
    data = module(transform=Dequantize())
    for split in ("train", "val", "test"):
        x = images(data, split)
        share = 256 * x.double() - LEVELS
        assert ((share > -1e-4) & (share < 1 + 1e-4)).all()
        assert ((share.mean(0) - 0.5).abs() < 5 / math.sqrt(12 * len(x))).all()
        assert ((x > 0) & (x < 1)).all()
        assert len(x.flatten(1).unique(dim=0)) == len(x)
