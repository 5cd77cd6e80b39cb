"""Rendered data: what the factors say is what the picture shows."""

import itertools
from math import pi, prod

import pytest
import torch

from vaelab.data import Rendered, circles, shapes

DATASETS = {"shapes": shapes, "circles": circles}
FACTORS = {
    "shapes": {"shape": 3, "scale": 6, "orientation": 40, "x": 32, "y": 32},
    "circles": {"x": 32, "y": 32, "radius": 16},
}
SIZES = [16, 28, 32, 64]

every_dataset = pytest.mark.parametrize("name", DATASETS)
every_size = pytest.mark.parametrize("size", SIZES)
every_shape = pytest.mark.parametrize("shape", [0, 1, 2], ids=["square", "ellipse", "heart"])


def make(name, split="train", num_train=50, num_test=20, **options):
    return DATASETS[name](split, num_train=num_train, num_test=num_test, **options)


def ends(name, orientations=range(40)):
    """The factor indices with every factor at one of its ends; a shape in every orientation."""
    values = [(0, size - 1) for size in FACTORS[name].values()]
    if name == "shapes":
        values[0], values[2] = range(3), orientations
    return torch.tensor(list(itertools.product(*values)))


def area(images):
    """In units of the image."""
    return (images > 0).float().mean((1, 2, 3))


def centroid(images):
    """x and y in the unit square."""
    inside = (images[:, 0] > 0).float()
    centres = (torch.arange(images.shape[-1]) + 0.5) / images.shape[-1]
    total = inside.sum((1, 2))
    return (inside.sum(1) * centres).sum(1) / total, (inside.sum(2) * centres).sum(1) / total


@every_size
@every_dataset
def test_images(name, size):
    data = make(name, size=size)
    assert data.x.shape == (50, 1, size, size)
    assert data.x.dtype == torch.uint8
    assert set(data.render(ends(name)).unique().tolist()) == {0, 255}
    assert data.y.shape == (50, len(FACTORS[name]))


@every_dataset
def test_factors_are_named_and_counted(name):
    data = make(name)
    assert dict(zip(data.factor_names, data.factor_sizes, strict=True)) == FACTORS[name]
    assert data.y_names == data.factor_names
    assert (data.y >= 0).all()
    assert (data.y < torch.tensor(data.factor_sizes)).all()


@every_dataset
def test_an_index_is_a_point_of_the_grid(name):
    """A bijection, in which the last factor varies fastest."""
    data = make(name)
    sizes = torch.tensor(data.factor_sizes)
    index = torch.arange(prod(data.factor_sizes))
    factors = data.factors(index)
    strides = sizes.flip(0).cumprod(0).flip(0) // sizes
    assert torch.equal((factors * strides).sum(1), index)
    assert (factors >= 0).all()
    assert (factors < sizes).all()
    assert torch.equal(factors[: sizes[-1], -1], torch.arange(sizes[-1]))
    assert not factors[: sizes[-1], :-1].any()


@every_dataset
def test_nothing_leaves_the_image(name):
    """Rendered finely, with every factor at its ends, not even the outermost pixels are reached."""
    data = make(name, num_train=1, num_test=1, size=128)
    for factors in ends(name).split(128):
        images = data.render(factors)
        for border in (images[..., 0, :], images[..., -1, :], images[..., :, 0], images[..., :, -1]):
            assert not border.any()


@every_size
@every_dataset
def test_nothing_is_cut_off_or_lost(name, size):
    """At the ends of the positions a picture shows as much as in the middle, up to the pixels of its outline."""
    data = make(name, num_train=1, num_test=1, size=size)
    x, y = (list(FACTORS[name]).index(position) for position in ("x", "y"))
    factors = ends(name, orientations=range(0, 40, 5))
    middle = factors.clone()
    middle[:, [x, y]] = 16
    pixels, expected = (area(data.render(each)) * size**2 for each in (factors, middle))
    assert (pixels > 0).all()
    assert ((pixels - expected).abs() <= 1 + 2 * expected.sqrt()).all()  # an upright square of side 5.5 has 25 pixels, or 36


@every_dataset
def test_rendering_factors_again_gives_the_same_images(name):
    data = make(name)
    assert torch.equal(data.render(data.y), data.x)
    order = torch.randperm(len(data))
    assert torch.equal(data.render(data.y[order]), data.x[order])
    assert torch.equal(data.render(data.y[7:8]), data.x[7:8])
    assert torch.equal(make(name).x, data.x)


@every_dataset
def test_more_than_one_chunk_is_rendered_as_one_by_one(name):
    data = make(name, num_train=1100, size=16)
    assert torch.equal(data.x[1020:1030], torch.cat([data.render(factors[None]) for factors in data.y[1020:1030]]))


@every_dataset
def test_train_and_test_are_disjoint(name):
    train, test = make(name, "train", size=16, num_train=5000, num_test=1000), make(name, "test", size=16, num_train=5000, num_test=1000)
    assert (len(train), len(test)) == (5000, 1000)
    points = torch.cat([train.y, test.y])
    assert len(points.unique(dim=0)) == 6000


@every_dataset
def test_the_seed_chooses_the_part_of_the_grid(name):
    for split in ("train", "test"):
        assert torch.equal(make(name, split).y, make(name, split, seed=0).y)
        assert not torch.equal(make(name, split).y, make(name, split, seed=1).y)
    before = torch.get_rng_state()
    make(name)
    assert torch.equal(torch.get_rng_state(), before)


@every_dataset
def test_every_value_of_every_factor_comes_up(name):
    data = make(name, num_train=5000, size=16)
    assert all(len(column.unique()) == size for column, size in zip(data.y.T, data.factor_sizes, strict=True))


def test_the_whole_grid_can_be_asked_for():
    def render(factors):
        return torch.zeros(len(factors), 1, 1, 1, dtype=torch.uint8)

    train, test = (Rendered(render, ("a", "b"), (2, 3), split, num_train=4, num_test=2) for split in ("train", "test"))
    assert len(torch.cat([train.y, test.y]).unique(dim=0)) == 6


@every_size
def test_area_and_position_of_circles(size):
    """The outline of a disc crosses about 8 r size pixels, each of which errs by less than its half, at random."""
    data = make("circles", size=size)
    factors = data.factors(torch.randperm(prod(data.factor_sizes))[:3000])
    x, y, radius = (
        low + (high - low) * column / (count - 1)
        for column, count, low, high in zip(factors.T, data.factor_sizes, (0.25, 0.25, 0.06), (0.75, 0.75, 0.24), strict=True)
    )
    images = data.render(factors)
    crossed = 8 * radius * size
    error = (area(images) - pi * radius**2) * size**2
    assert (error.abs() <= 2 + crossed.sqrt()).all()
    assert error.mean().abs() < 0.1  # pixels; no bias
    for found, expected in zip(centroid(images), (x, y), strict=True):
        assert ((found - expected).abs() < 0.5 / size).all()
        assert (found - expected).mean().abs() < 0.01 / size


@every_size
@every_shape
def test_area_of_shapes_grows_with_scale(shape, size):
    data = make("shapes", size=size)
    scales = torch.tensor([[shape, scale, 7, 16, 16] for scale in range(6)])
    areas = area(data.render(scales))
    assert (areas.diff() > 0).all()


@every_shape
def test_area_of_shapes_is_the_square_of_their_scale(shape):
    """Half a unit of scale at index 0, one at index 5; and the areas of a square and of an ellipse are known."""
    data = make("shapes", num_train=1, num_test=1, size=256)
    scale = torch.linspace(0.5, 1, 6)
    areas = area(data.render(torch.tensor([[shape, index, 3, 16, 16] for index in range(6)])))
    torch.testing.assert_close(areas / areas[-1], scale**2, rtol=0.01, atol=0)
    if shape < 2:
        exact = (1.5 * 0.3) ** 2 if shape == 0 else pi * 0.3 * 0.15
        torch.testing.assert_close(areas, exact * scale**2, rtol=0.01, atol=0)


@every_size
@every_shape
def test_shapes_move_with_x_and_y(shape, size):
    data = make("shapes", size=size)
    index = torch.arange(32)
    fixed = torch.full((32,), 11)
    head = torch.tensor([shape, 5, 3]).expand(32, 3)
    expected = 0.32 * torch.arange(32) / 31
    for along_x in (True, False):
        columns = [index, fixed] if along_x else [fixed, index]
        x, y = centroid(data.render(torch.cat([head, torch.stack(columns, 1)], 1)))
        moving, still = (x, y) if along_x else (y, x)
        assert ((moving - moving[0]) - expected).abs().max() < 1 / size
        assert (still - still[0]).abs().max() < 1 / size


def test_squares_and_ellipses_are_where_their_factors_say():
    data = make("shapes", num_train=1, num_test=1, size=128)
    factors = torch.tensor([[shape, 3, 9, x, y] for shape in (0, 1) for x in (0, 10, 31) for y in (0, 20, 31)])
    for found, index in zip(centroid(data.render(factors)), (factors[:, 3], factors[:, 4]), strict=True):
        torch.testing.assert_close(found, 0.34 + 0.32 * index / 31, rtol=0, atol=0.5 / 128)


@every_shape
def test_orientation_is_a_full_turn(shape):
    """Ten steps of forty are a quarter: the picture of a centred shape is the one turned by 90 degrees."""
    data = make("shapes", num_train=1, num_test=1, size=65)
    # there is no middle position of 32, so the two next to it are compared with their mirror images
    first = data.render(torch.tensor([[shape, 5, 3, 15, 15]]))[0, 0]
    turned = data.render(torch.tensor([[shape, 5, 13, 16, 15]]))[0, 0]
    assert (torch.rot90(first, -1) != turned).float().mean() < 0.002  # of all pixels: ties on the outline
    opposite = data.render(torch.tensor([[shape, 5, 23, 16, 16]]))[0, 0]
    assert (torch.rot90(first, 2) != opposite).float().mean() < 0.002


@every_dataset
def test_rendered_data_have_no_other_split(name):
    with pytest.raises(ValueError, match="rendered data have the splits train and test, but not 'val'"):
        make(name, "val")


@pytest.mark.parametrize(("num_train", "num_test"), [(0, 20), (20, 0), (-1, 20), (16_384, 1), (10_000, 10_000)])
def test_impossible_numbers_are_refused(num_train, num_test):
    with pytest.raises(ValueError, match=f"num_train={num_train} and num_test={num_test} must be at least 1 and at most 16384 together"):
        make("circles", num_train=num_train, num_test=num_test)
