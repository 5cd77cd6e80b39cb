"""dSprites, read from a small file of the same layout: what the factors say is which image comes."""

import itertools

import numpy as np
import pytest
import torch

from vaelab.data import DataModule, dsprites
from vaelab.data.dsprites import FILE

SIZES = (3, 2, 4, 3, 5)
TOTAL = 360


def write(folder, sizes=SIZES, **changes):
    """A file whose image i spells i in binary, in its first row."""
    classes = np.array(list(itertools.product((0,), *map(range, sizes))))
    images = np.zeros((len(classes), 64, 64), dtype=np.uint8)
    images[:, 0, :10] = np.arange(len(classes))[:, None] >> np.arange(10) & 1
    parts = {
        "metadata": np.array({"title": "dSprites dataset"}),  # a pickle, as in the published file: it must not be opened
        "imgs": images,
        "latents_values": classes.astype(float),
        "latents_classes": classes,
    } | changes
    folder.mkdir(exist_ok=True)
    np.savez_compressed(folder / FILE, **{name: part for name, part in parts.items() if part is not None})
    return str(folder)


def spelled(images):
    return ((images[:, 0, 0, :10] == 255).long() * 2 ** torch.arange(10)).sum(1)


def index_of(factors):
    return torch.from_numpy(np.ravel_multi_index(tuple(factors.T.numpy()), SIZES))


@pytest.fixture
def root(tmp_path):
    return write(tmp_path)


def test_images_are_those_of_their_factors(root):
    for split, size in (("train", 350), ("test", 10)):
        data = dsprites(root, split, num_test=10)
        assert data.x.shape == (size, 1, 64, 64)
        assert data.x.dtype == torch.uint8
        assert data.x.unique().tolist() == [0, 255]
        assert torch.equal(spelled(data.x), index_of(data.y))
        assert data.y_names == data.factor_names == ("shape", "scale", "orientation", "x", "y")
        assert data.factor_sizes == SIZES


def test_the_whole_grid_can_be_asked_for_in_any_order(root):
    """As of rendered data: `factors` numbers the points with the last factor varying fastest, `render` shows them."""
    data = dsprites(root, "test", num_train=20, num_test=10)
    index = torch.randperm(TOTAL)
    factors = data.factors(index)
    assert torch.equal(index_of(factors), index)
    assert torch.equal(spelled(data.render(factors)), index)
    assert data.render(factors[:7]).shape == (7, 1, 64, 64)


def test_the_splits_are_disjoint_and_decided_by_the_seed(root):
    def points(split, **options):
        return set(spelled(dsprites(root, split, **options).x).tolist())

    train, test = points("train", num_test=60), points("test", num_test=60)
    assert len(train) == 300
    assert train | test == set(range(TOTAL))
    assert points("test", num_test=60, num_train=5) == test
    assert points("train", num_test=60, num_train=5) < train
    assert points("test", num_test=60, seed=1) != test


def test_both_splits_are_views_of_one_tensor(root):
    """3 GB are not held twice."""
    train, test = dsprites(root, "train", num_test=10), dsprites(root, "test", num_test=10)
    assert train.x.untyped_storage().data_ptr() == test.x.untyped_storage().data_ptr()


def test_in_a_data_module(root):
    data = DataModule(lambda split: dsprites(root, split, num_test=40), [1, 64, 64], batch_size=64, val_size=20)
    seen = [torch.cat([spelled(255 * x) for x, _ in data.batches(split)]) for split in ("train", "val", "test")]
    assert [len(index) for index in seen] == [300, 20, 40]
    assert torch.equal(torch.cat(seen).sort().values, torch.arange(TOTAL))
    x, y = next(iter(data.batches("test")))
    assert x.dtype == torch.float32
    assert torch.equal(spelled(255 * x), index_of(y))


def test_a_missing_file_says_where_to_get_it(tmp_path):
    with pytest.raises(
        ValueError, match=f"there is no {tmp_path}/{FILE}: fetch it from https://github.com/google-deepmind/dsprites-dataset"
    ):
        dsprites(str(tmp_path), "train")


SHUFFLED = np.array(list(itertools.product((0,), *map(range, SIZES))))[::-1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"imgs": np.zeros((TOTAL, 64, 64))}, r"imgs of shape \(360, 64, 64\) and dtype torch.float64"),
        ({"imgs": np.zeros((9, 64, 64), dtype=np.uint8)}, r"imgs of shape \(9, 64, 64\)"),
        ({"imgs": np.full((TOTAL, 64, 64), 255, dtype=np.uint8)}, "expected a binary image"),
        ({"latents_classes": SHUFFLED}, "for each combination of shape, scale, orientation, x, y in order"),
        ({"latents_classes": SHUFFLED[:, :5]}, "is not the file of dSprites"),
        ({"latents_classes": np.zeros(0, dtype=int)}, "is not the file of dSprites"),
        ({"imgs": None}, "is not the file of dSprites .*: remove it and fetch it anew"),
        ({"imgs": np.array({"pickled": 1})}, "is not the file of dSprites .*: remove it and fetch it anew"),
    ],
    ids=["float", "few", "grey", "another order", "a factor less", "no classes", "no images", "a pickle"],
)
def test_another_file_is_refused(changes, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        dsprites(write(tmp_path, **changes), "train", num_test=10)


@pytest.mark.parametrize("content", [b"", b"<html>404 Not Found</html>", None], ids=["empty", "text", "truncated"])
def test_a_broken_file_is_refused(content, root, tmp_path):
    path = tmp_path / FILE
    path.write_bytes(path.read_bytes()[:2000] if content is None else content)
    with pytest.raises(ValueError, match=f"{path} is not the file of dSprites .*: remove it and fetch it anew"):
        dsprites(root, "train")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "val"}, "not 'val': set data.val_size"),
        ({"split": "test"}, "num_train=-9640 and num_test=10000 must be at least 1 and at most 360 together"),
        ({"split": "train", "num_train": 300, "num_test": 61}, "num_train=300 and num_test=61"),
        ({"split": "train", "num_test": 360}, "num_train=0"),
        ({"split": "train", "num_test": 0}, "num_test=0"),
    ],
)
def test_impossible_splits_are_refused(options, message, root):
    with pytest.raises(ValueError, match=message):
        dsprites(root, **options)
