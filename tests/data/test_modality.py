"""Kinds of data: how x are scaled and shown, and that nobody else decides it."""

import ast
import re

import pytest
import torch
from forked_scripts import ROOT
from torch import Tensor

from vaelab.data import Binarize, Chain, DataModule, Dequantize, InMemory, Missing
from vaelab.data.modality import Arrays, Images, Series, Vectors, modality_of, to_float

SOURCES = sorted(path for path in (ROOT / "src").rglob("*.py") if path.name != "modality.py")


@pytest.mark.parametrize(
    ("shape", "kind"), [((1, 8, 8), Images), ((12, 3, 5), Images), ((7,), Vectors), ((3, 4), Series), ((2, 3, 4, 5), Arrays), ((), Arrays)]
)
def test_the_shape_says_what_x_is(shape: tuple[int, ...], kind: type) -> None:
    """A data module has it before any data are read."""
    found = DataModule(lambda split: InMemory(torch.zeros(5, *shape)), shape, val_size=1).modality
    assert type(found) is kind
    assert found.shape == shape
    assert found.is_pictured == (kind is not Arrays)
    assert found.has_curves == (kind in (Series, Vectors))


@pytest.mark.parametrize(
    ("shape", "names"),
    [
        ((), ["x"]),
        ((1,), ["x_0"]),
        ((3,), ["x_0", "x_1", "x_2"]),
        ((1, 2), ["time_0", "time_1"]),
        ((2, 2), ["channel_0_time_0", "channel_0_time_1", "channel_1_time_0", "channel_1_time_1"]),
        ((1, 2, 2), ["row_0_column_0", "row_0_column_1", "row_1_column_0", "row_1_column_1"]),
        ((2, 1, 1, 2), ["x_0_0", "x_0_1", "x_1_0", "x_1_1"]),
    ],
)
def test_every_value_has_a_name_of_its_own(shape: tuple[int, ...], names: list[str]) -> None:
    assert modality_of(shape).value_names == names


def test_to_float_divides_8_bits_by_255() -> None:
    x = torch.arange(256, dtype=torch.uint8)
    out = to_float(x)
    assert out.dtype == torch.float32
    assert torch.equal(out, torch.arange(256) / 255)
    assert (out.min(), out.max()) == (0, 1)
    assert torch.equal(x, torch.arange(256, dtype=torch.uint8))  # not in place


def test_to_float_keeps_numbers_in_the_default_precision() -> None:
    for x in (torch.randn(5, 3), torch.randn(5, 3, dtype=torch.float64)):
        assert torch.equal(to_float(x), x.float())


@pytest.mark.parametrize("shape", [(1, 4, 4), (16,), (4, 4)], ids=str)
def test_8_bits_are_scaled_and_other_numbers_are_kept(shape: tuple[int, ...]) -> None:
    scale = modality_of(shape).scale
    for x in (torch.randint(256, (5, *shape)).to(torch.uint8), torch.randn(5, *shape), torch.randint(9, (5, *shape))):
        assert torch.equal(scale(x), x / 255 if x.dtype == torch.uint8 else x.float())
        assert torch.equal(scale(scale(x)), scale(x))


def test_levels_are_those_of_the_unit_interval_unless_x_leaves_it() -> None:
    levels = modality_of((3,)).levels
    assert levels(torch.tensor([[0.2, torch.nan, 0.7]])) == (0, 1)
    assert levels(torch.tensor([[0.5, torch.nan, 1.5]])) == (0.5, 1.5)
    assert levels(torch.tensor([[-2.0, 0.5, 0.5]])) == (-2, 0.5)


@pytest.mark.parametrize("batch", [(), (5,), (2, 3)], ids=str)
def test_pictures_of_images_are_images_and_vectors_and_series_are_lines(batch: tuple[int, ...]) -> None:
    image, vector, series = torch.rand(*batch, 12, 4, 6), torch.rand(*batch, 33), torch.rand(*batch, 2, 7)
    assert torch.equal(modality_of((12, 4, 6)).pictures(image), image)
    assert torch.equal(modality_of((33,)).curves(vector), vector[..., None, :])
    assert torch.equal(modality_of((2, 7)).curves(series), series)
    with pytest.raises(ValueError, match=r"x of shape \(33,\) are shown as lines, and are no images"):
        modality_of((33,)).pictures(vector)
    with pytest.raises(ValueError, match=r"x of shape \(12, 4, 6\) are not shown as lines"):
        modality_of((12, 4, 6)).curves(image)


def test_other_arrays_have_no_pictures() -> None:
    with pytest.raises(ValueError, match=r"only images, series and vectors can be pictured, but x has shape \(3, 4, 5, 6\)"):
        modality_of((3, 4, 5, 6)).pictures(torch.zeros(2, 3, 4, 5, 6))


VIEWABLE = [torch.randint(256, (4, 1, 8, 8)).to(torch.uint8), torch.rand(4, 3, 8, 8), torch.tensor([0.0, 1.0]).reshape(2, 1, 1, 1)]
NOT = [
    torch.rand(4, 1, 8, 8) - 0.5,
    torch.rand(4, 1, 8, 8) + 0.5,
    torch.full((4, 1, 8, 8), torch.nan),
    torch.rand(4, 2, 8, 8),
    torch.rand(4, 12),
    torch.zeros(4, 3, 8, dtype=torch.uint8),
]


@pytest.mark.parametrize(("x", "expected"), [*((x, True) for x in VIEWABLE), *((x, False) for x in NOT)])
def test_viewable_are_grey_and_colour_images_whose_values_8_bits_can_hold(x: Tensor, expected: bool) -> None:
    assert modality_of(x.shape[1:]).are_viewable(x) is expected


def test_thumbnails_are_small_squares() -> None:
    x = torch.rand(3, 1, 64, 40)
    x[0, 0, 0, 0], x[1, 0, 0, 0] = torch.nan, 7
    small = modality_of((1, 64, 40)).thumbnails(x)
    assert small is not None
    assert small.shape == (3, 1, 32, 32)
    assert (small[0, 0, 0, 0], small[1, 0, 0, 0]) == (0.5, 1)
    large = modality_of((3, 8, 10)).thumbnails(torch.rand(2, 3, 8, 10))
    assert large is not None
    assert large.shape == (2, 3, 10, 10)
    assert [modality_of(shape).thumbnails(torch.rand(2, *shape)) for shape in ((2, 8, 8), (9,), (3, 4))] == [None] * 3


def noisy(x: Tensor, generator: torch.Generator | None = None) -> Tensor:
    return x + torch.rand(x.shape, generator=generator)


@pytest.mark.parametrize(
    ("transform", "num_levels"),
    [(None, None), (noisy, None), (Binarize(), None), (Dequantize(), 256), (Chain([Missing(0.1), noisy]), None)],
)
def test_splits_know_names_levels_and_what_they_are_before_a_transform(transform: object, num_levels: int | None) -> None:
    """A function will do as a transform."""
    x = torch.randint(256, (9, 1, 2, 2)).to(torch.uint8)
    data = DataModule(lambda split: InMemory(x, y_names=["a"]), [1, 2, 2], val_size=2, transform=transform, static_seed=0)
    data.setup("fit")
    split, batch = data.splits["val"], torch.arange(2)
    assert (split.y_names, split.num_levels) == (("a",), num_levels)
    assert torch.equal(split.scaled(batch)[0].isnan(), split[batch][0].isnan())
    assert torch.equal(split.untransformed()[batch][0], x[split.indices])
    assert torch.equal(split.untransformed().scaled(batch)[0], x[split.indices] / 255)
    assert not torch.equal(split.scaled(batch)[0], x[split.indices] / 255) or transform is None


@pytest.mark.parametrize("num", [1, 3, 7, 100])
def test_the_first_examples(num: int) -> None:
    data = DataModule(lambda split: InMemory(torch.rand(9, 2), torch.arange(9)), [2], eval_batch_size=3, val_size=2)
    x, y = data.examples("test", num)
    batches = list(data.batches("test"))
    assert torch.equal(x, torch.cat([x for x, _ in batches])[:num])
    assert torch.equal(y, torch.cat([y for _, y in batches])[:num])


def divides_by_255(node: ast.AST) -> bool:
    """x / 255, x.div(255) or x.div_(255)."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
        return ast.unparse(node.right).startswith("255")
    return isinstance(node, ast.Call) and ast.unparse(node.func).endswith((".div", ".div_")) and ast.unparse(node.args[0]).startswith("255")


def test_nobody_guesses_what_x_is() -> None:
    """The number of axes of x, and what 8 bits mean, are for the modality to know."""
    guess = re.compile(r"\bx\.(ndim|dim\(\))|len\((\w+\.)*x\.shape|len\((data|datamodule|\w+\.datamodule)\.shape")
    texts = {path: path.read_text() for path in SOURCES}
    assert [path for path, text in texts.items() if guess.search(text)] == []
    assert [path for path, text in texts.items() if any(map(divides_by_255, ast.walk(ast.parse(text))))] == []
