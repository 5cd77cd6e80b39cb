"""Data seen through a veil: values that are missing, labels that are hidden, classes that are left out."""

import math

import pytest
import torch
from PIL import Image

from vaelab.data import Binarize, Chain, DataModule, InMemory, Missing, folder, hide_labels
from vaelab.data.views import by_class, only_classes


def numbers(split):
    """400 (test: 90) examples of 60 numbers that are never 0; y is the example's index."""
    num = {"train": 400, "test": 90}[split]
    return InMemory(1 + torch.rand(num, 60, generator=torch.Generator().manual_seed(0)), torch.arange(num))


def module(**options):
    defaults = {"dataset": numbers, "shape": [60], "val_size": 100, "transform": Missing(0.3), "static_seed": 0, "batch_size": 32}
    return DataModule(**defaults | options)


def everything(data, split):
    """x and y of one pass."""
    return tuple(torch.cat(parts) for parts in zip(*data.batches(split), strict=True))


def by_index(data, split):
    """x of one pass, sorted by example."""
    x, y = everything(data, split)
    return x[y.argsort()]


@pytest.mark.parametrize("share", [0.0, 0.3, 0.8])
@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_values_are_missing_with_probability_share(split, share):
    """Within 5 standard errors, and independently of one another; what is left is what it was."""
    data = module(transform=Missing(share))
    x, whole = by_index(data, split), by_index(module(transform=None), split)
    missing = x.isnan()
    assert torch.equal(x[~missing], whole[~missing])
    error = math.sqrt(share * (1 - share) / x.numel())
    assert abs(missing.double().mean() - share) <= 5 * error
    neighbours = (missing[:, 1:] & missing[:, :-1]).double()
    assert abs(neighbours.mean() - share**2) <= 10 * error
    if share:
        assert len(missing.unique(dim=0)) > 0.9 * len(x)  # every example has holes of its own


def test_which_values_are_missing_belongs_to_the_example():
    """The same in every pass, in any order, in batches of any size; and of the seed alone."""
    torch.manual_seed(3)
    first, state = by_index(module(), "train"), torch.get_rng_state()
    for other in (module(), module(seed=7), module(batch_size=7)):
        torch.testing.assert_close(by_index(other, "train"), first, rtol=0, atol=0, equal_nan=True)
        torch.testing.assert_close(by_index(other, "train"), first, rtol=0, atol=0, equal_nan=True)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(by_index(module(static_seed=1), "train").isnan(), first.isnan())
    for split in ("val", "test"):
        same = [by_index(module(eval_batch_size=size, static_seed=seed), split).isnan() for size, seed in ((500, 0), (7, 5))]
        assert torch.equal(*same)


def test_missing_values_need_a_seed_and_a_share():
    """Holes that move between epochs would show every value in the end."""
    for transform in (Missing(0.5), Chain([Binarize(), Missing(0.5)])):
        with pytest.raises(ValueError, match=r"must not change between epochs: set data.static_seed=0"):
            module(transform=transform, static_seed=None)
    module(transform=Chain([Binarize()]), static_seed=None)
    for share in (-0.1, 1.0, 1.5):
        with pytest.raises(ValueError, match=rf"share={share} of the values cannot be missing: it must lie in \[0, 1\)"):
            Missing(share)


def test_a_chain_is_one_after_another():
    """With one generator for all; of none, nothing happens."""
    x = torch.rand(50, 40)
    found = Chain([Binarize(), Missing(0.5)])(x, generator=torch.Generator().manual_seed(5))
    generator = torch.Generator().manual_seed(5)
    expected = Missing(0.5)(Binarize()(x, generator=generator), generator=generator)
    torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)
    assert set(found[~found.isnan()].tolist()) == {0.0, 1.0}
    assert torch.equal(Chain([])(x), x)
    assert (Chain([Binarize()]).once, Chain([Missing(0.1), Binarize()]).once) == (False, True)


def labelled(num=1000, classes=10):
    """x holds the class in its first number."""
    y = torch.randint(classes, (num,), generator=torch.Generator().manual_seed(1))
    return InMemory(torch.stack([y.float(), torch.arange(num).float()], dim=1), y, [f"class {label}" for label in range(classes)])


@pytest.mark.parametrize("num_labelled", [1, 10, 47, 100, 300])
def test_labels_are_left_for_equally_many_of_each_class(num_labelled):
    """As many as were asked for, differing by at most one between classes, and only among the indices that were given."""
    data, among = labelled(), torch.arange(0, 1000, 2)
    hidden = hide_labels(data, num_labelled, among)
    seen = hidden.y >= 0
    assert seen.sum() == num_labelled
    assert not seen[1::2].any()
    counts = hidden.y[seen].bincount(minlength=10)
    assert counts.max() - counts.min() <= 1
    assert torch.equal(hidden.y[seen], data.y[seen])
    assert (hidden.y[~seen] == -1).all()
    assert hidden.x is data.x
    assert hidden.y_names == data.y_names
    assert (data.y >= 0).all()  # not in place


def test_which_labels_are_left_is_of_the_seed():
    data, among = labelled(), torch.arange(1000)
    first, state = hide_labels(data, 50, among, seed=0).y, torch.get_rng_state()
    torch.manual_seed(99)
    assert torch.equal(hide_labels(data, 50, among, seed=0).y, first)
    assert not torch.equal(hide_labels(data, 50, among, seed=1).y, first)
    torch.manual_seed(0)
    assert torch.equal(torch.get_rng_state(), state)
    often = torch.stack([hide_labels(data, 50, among, seed=seed).y >= 0 for seed in range(200)]).double().mean(0)
    assert often.max() < 0.25  # each is chosen 1 time in 20; a fixed choice would be 1


def test_labels_of_unknown_class_are_not_one_of_the_classes():
    """-1 stands for a label that nobody knows: it cannot be left."""
    y = torch.tensor([-1, -1, -1, 0, 0, 1, 1])
    found = hide_labels(InMemory(torch.zeros(7, 1), y), 2, torch.arange(7)).y
    assert sorted(found[found >= 0].tolist()) == [0, 1]


def test_the_data_module_hides_labels_of_training_data_alone():
    """The validation and test data keep theirs, for the accuracy; the split is the one without hiding."""
    options = {"dataset": lambda split: labelled(300), "shape": [2], "val_size": 60, "transform": None, "static_seed": None}
    data, whole = module(**options, num_labelled=40), module(**options)
    (x, y), (x_val, y_val), (_, y_test) = (everything(data, split) for split in ("train", "val", "test"))
    assert ((y >= 0).sum(), len(y)) == (40, 240)
    assert torch.equal(y[y >= 0], x[y >= 0, 0].long())
    assert torch.equal(y_val, x_val[:, 0].long())
    assert (y_test >= 0).all()
    assert torch.equal(x, everything(whole, "train")[0])  # the same examples in the same order
    x_again, y_again = everything(module(**options, num_labelled=40, seed=3), "train")
    assert set(x_again[y_again >= 0, 1].tolist()) == set(x[y >= 0, 1].tolist())  # whatever the seed of training


@pytest.mark.parametrize(
    ("dataset", "num_labelled", "message"),
    [
        (labelled(), 0, "num_labelled=0 must be at least 1"),
        (labelled(100), 100, "num_labelled=100 must be at least 1, and the rarest of the 10 classes"),
        (InMemory(torch.zeros(9, 1)), 3, "have one label for each example: use data=mnist"),
        (InMemory(torch.zeros(9, 1), torch.zeros(9, 2).long()), 3, "have one label for each example: use data=mnist"),
        ([(torch.zeros(1), torch.zeros(()))] * 9, 3, "in memory"),
    ],
)
def test_what_cannot_be_hidden_is_refused(dataset, num_labelled, message):
    with pytest.raises(ValueError, match=message):
        hide_labels(dataset, num_labelled, torch.arange(len(dataset)))


def grid():
    """All 2 x 3 x 2 values of three factors, the last of which is unknown for the last example."""
    y = torch.cartesian_prod(torch.arange(2), torch.arange(3), torch.arange(2))
    y[-1, 2] = -1
    return InMemory(torch.zeros(12, 1), y, ["shape", "scale", "x"])


@pytest.mark.parametrize("classes", [3, [3], [7, 0], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]])
def test_classes_part_the_examples_in_their_order(classes):
    data, among = labelled(), torch.arange(999, -1, -2)
    chosen, others = by_class(data, classes, among)
    wanted = {classes} if isinstance(classes, int) else set(classes)
    assert chosen.tolist() == [i for i in among.tolist() if data.y[i].item() in wanted]
    assert others.tolist() == [i for i in among.tolist() if data.y[i].item() not in wanted]
    assert torch.equal(only_classes(data, classes, among), chosen)


def test_factors_are_chosen_by_name():
    """All the values given of all the factors that are named; an example with an unknown factor is of no other class."""
    data, everyone = grid(), torch.arange(12)
    chosen, others = by_class(data, {"shape": 1, "scale": [0, 2]}, everyone)
    assert data.y[chosen, :2].tolist() == [[1, 0], [1, 0], [1, 2], [1, 2]]
    assert sorted([*chosen.tolist(), *others.tolist()]) == list(range(12))
    chosen, others = by_class(data, {"x": [1]}, everyone)
    assert sorted([*chosen.tolist(), *others.tolist()]) == list(range(11))


def test_examples_of_unknown_class_are_neither():
    data = InMemory(torch.zeros(5, 1), torch.tensor([0, -1, 1, -1, 2]))
    assert [part.tolist() for part in by_class(data, [1], torch.arange(5))] == [[2], [0, 4]]


def test_the_classes_of_a_folder_are_known_without_reading_it(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for i in range(6):
            Image.new("L", (4, 4), 10 * i).save(tmp_path / name / f"{i}.png")
    in_memory, read_later = (folder(str(tmp_path), "train", (1, 4, 4), max_memory=size) for size in (10**6, 0))
    everyone = torch.arange(len(in_memory))
    for path in tmp_path.glob("*/*.png"):
        path.unlink()
    for found, expected in zip(by_class(read_later, [1], everyone), by_class(in_memory, [1], everyone), strict=True):
        assert torch.equal(found, expected)
        assert 0 < len(found) < len(in_memory)


def test_the_data_module_trains_on_some_classes_and_tests_on_all():
    """The training and validation data are those of the usual split that are of these classes."""
    options = {"dataset": lambda split: labelled({"train": 300, "test": 90}[split]), "shape": [2], "val_size": 60, "transform": None}
    data, whole = (module(**options, static_seed=None, classes=classes) for classes in ([2, 5], None))
    for split in ("train", "val"):
        x, y = everything(data, split)
        assert set(y.tolist()) == {2, 5}
        x_whole, y_whole = everything(whole, split)
        assert sorted(x[:, 1].tolist()) == sorted(x_whole[(y_whole == 2) | (y_whole == 5), 1].tolist())
    assert torch.equal(everything(data, "test")[1], everything(whole, "test")[1])
    assert len(set(everything(data, "test")[1].tolist())) == 10


def test_few_labels_of_some_classes():
    options = {"dataset": lambda split: labelled(300), "shape": [2], "val_size": 60, "transform": None, "static_seed": None}
    _, y = everything(module(**options, classes=[2, 5], num_labelled=10), "train")
    assert sorted(y[y >= 0].tolist()) == [2] * 5 + [5] * 5


@pytest.mark.parametrize(
    ("dataset", "classes", "message"),
    [
        (labelled(), [3, 11], r"no example has class \[11\]: there are 0.*, 9"),
        (labelled(), [], r"no example has class \[\]: there are 0"),
        (InMemory(torch.zeros(9, 1)), [3], "there are no labels"),
        (labelled(), {"shape": 1}, "name factors, but y is one label for each example: give labels"),
        (grid(), [1], r"each example has the factors shape, scale, x: give values of some of them, such as \{shape: \[0\]\}"),
        (grid(), {"colour": 1}, "each example has the factors shape, scale, x"),
        (grid(), {"scale": [1, 3]}, r"no example has scale \[3\]: there are 0, 1, 2"),
        ([(torch.zeros(1), torch.zeros(()))] * 9, [3], "in memory and of folders of pictures, but not of list"),
    ],
)
def test_classes_that_do_not_exist_are_refused(dataset, classes, message):
    with pytest.raises(ValueError, match=message):
        by_class(dataset, classes, torch.arange(len(dataset)))


def test_factor_values_that_never_meet_are_refused():
    data = InMemory(torch.zeros(2, 1), torch.tensor([[0, 0], [1, 1]]), ["shape", "scale"])
    with pytest.raises(ValueError, match="no example has all of classes="):
        by_class(data, {"shape": 0, "scale": 1}, torch.arange(2))
