"""Data from files: what is read, and what is said when it cannot be."""

import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vaelab.data import DataModule, InMemory, fashion_mnist, folder, freyfaces, kmnist, mnist
from vaelab.data.images import ImageFiles
from vaelab.data.pictures import Reader

MNISTS = {"MNIST": mnist, "FashionMNIST": fashion_mnist, "KMNIST": kmnist}
every_mnist = pytest.mark.parametrize("name", MNISTS)


@pytest.fixture
def write_idx(tmp_path):
    """Writes the four idx files of a dataset under tmp_path/<name>/raw; gives what is in them."""

    def write(name, num_train=6, num_test=4):
        raw = tmp_path / name / "raw"
        raw.mkdir(parents=True)
        rng, written = np.random.default_rng(0), {}
        for split, prefix, size in (("train", "train", num_train), ("test", "t10k", num_test)):
            x, y = rng.integers(0, 256, (size, 28, 28), dtype=np.uint8), rng.integers(0, 10, size, dtype=np.uint8)
            (raw / f"{prefix}-images-idx3-ubyte").write_bytes(struct.pack(">IIII", 2051, size, 28, 28) + x.tobytes())
            (raw / f"{prefix}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 2049, size) + y.tobytes())
            written[split] = x, y
        return written

    return write


@pytest.mark.parametrize("split", ["train", "test"])
@every_mnist
def test_mnist_reads_what_is_in_its_files(name, split, write_idx, tmp_path):
    x, y = write_idx(name)[split]
    data = MNISTS[name](str(tmp_path), split)
    assert isinstance(data, InMemory)
    assert data.x.dtype == torch.uint8
    assert torch.equal(data.x, torch.from_numpy(x)[:, None])
    assert torch.equal(data.y, torch.from_numpy(y).long())
    assert len(data.y_names) == 10


@every_mnist
def test_missing_mnist_says_how_to_get_it(name, tmp_path):
    with pytest.raises(ValueError, match=f"{name} is not in {tmp_path}/{name}/raw: add download=true to fetch it"):
        MNISTS[name](str(tmp_path), "train")
    assert not list(tmp_path.iterdir())  # nobody tried to


@pytest.mark.parametrize("missing", ["train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"])
@every_mnist
def test_incomplete_mnist_says_how_to_get_it(name, missing, write_idx, tmp_path):
    write_idx(name)
    (tmp_path / name / "raw" / missing).unlink()
    with pytest.raises(ValueError, match="add download=true"):
        MNISTS[name](str(tmp_path), "train")


@pytest.mark.parametrize("length", [0, 10, 1000], ids=["empty", "half_a_header", "half_the_images"])
def test_truncated_mnist_is_named(length, write_idx, tmp_path):
    """As a copy that was interrupted leaves it. It is not missing, and download=true would not fetch it."""
    write_idx("MNIST")
    path = tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ValueError, match=str(path.parent)) as error:
        mnist(str(tmp_path), "train")
    assert "add download=true" not in str(error.value)


@every_mnist
def test_mnist_has_no_validation_split(name, write_idx, tmp_path):
    write_idx(name)
    with pytest.raises(ValueError, match=f"{name} has the splits train and test, but not 'val'"):
        MNISTS[name](str(tmp_path), "val")


def test_mnist_in_a_data_module(write_idx, tmp_path):
    x, _ = write_idx("MNIST")["test"]
    data = DataModule(lambda split: mnist(str(tmp_path), split), [1, 28, 28], val_size=2)
    (images, _), *rest = data.batches("test")
    assert not rest
    torch.testing.assert_close(images, torch.from_numpy(x)[data.splits["test"].indices, None] / 255)


@pytest.fixture
def write_faces(tmp_path):
    """Writes faces of which no two are equal."""

    def write(faces=None):
        if faces is None:
            faces = np.random.default_rng(0).integers(0, 256, (1965, 28, 20), dtype=np.uint8)
        (tmp_path / "FreyFaces").mkdir()
        np.save(tmp_path / "FreyFaces" / "faces.npy", faces)
        return faces

    return write


def as_set(x):
    return {picture.numpy().tobytes() for picture in x}


def test_freyfaces_are_split_into_all_of_them(write_faces, tmp_path):
    faces = write_faces()
    train, test = freyfaces(str(tmp_path), "train"), freyfaces(str(tmp_path), "test")
    assert train.x.shape == (1765, 1, 28, 20)
    assert test.x.shape == (200, 1, 28, 20)
    assert train.x.dtype == test.x.dtype == torch.uint8
    assert as_set(train.x) | as_set(test.x) == as_set(torch.from_numpy(faces)[:, None])
    assert not as_set(train.x) & as_set(test.x)
    assert (train.y == -1).all()


def test_freyfaces_split_depends_on_its_seed_alone(write_faces, tmp_path):
    write_faces()
    first = freyfaces(str(tmp_path), "test", split_seed=1).x
    np.random.seed(3)  # noqa: NPY002
    assert torch.equal(freyfaces(str(tmp_path), "test", split_seed=1).x, first)
    assert not torch.equal(freyfaces(str(tmp_path), "test", split_seed=0).x, first)
    assert len(freyfaces(str(tmp_path), "test", num_test=10)) == 10


def test_missing_freyfaces_say_where_to_get_them(tmp_path):
    with pytest.raises(ValueError, match=rf"(?s)no \*\.npy in {tmp_path}/FreyFaces.*cs\.nyu\.edu/~roweis.*numpy\.save"):
        freyfaces(str(tmp_path), "train")


@pytest.mark.parametrize(
    "faces",
    [np.zeros((1965, 560), np.uint8), np.zeros((10, 28, 20), np.uint8), np.zeros((1965, 20, 28), np.uint8), np.zeros((1965, 28, 20))],
    ids=["flat", "few", "transposed", "float64"],
)
def test_other_freyfaces_are_refused(faces, write_faces, tmp_path):
    write_faces(faces)
    with pytest.raises(ValueError, match=r"faces.npy has shape .* and dtype .*: expected \(1965, 28, 20\) of uint8"):
        freyfaces(str(tmp_path), "train")


def test_freyfaces_have_no_validation_split(write_faces, tmp_path):
    """data.val_size=null would otherwise validate on the training data."""
    write_faces()
    with pytest.raises(ValueError, match="val"):
        freyfaces(str(tmp_path), "val")


def save(path, pixels):
    """A picture of (height, width[, 3]) pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {"quality": 100, "subsampling": 0} if path.suffix.lower() in (".jpg", ".jpeg") else {}
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path, **options)
    return path


def grey(value, height=8, width=8):
    return np.full((height, width), value)


def values(data):
    """The grey values of one-colour pictures."""
    return [int(x.float().mean().round()) for x, _ in (data[i] for i in range(len(data)))]


@pytest.fixture
def flat(tmp_path):
    """Thirty one-colour pictures, png and jpg, of which no two are equal."""
    for i in range(30):
        save(tmp_path / f"{i:02}{'.png' if i % 2 else '.jpg'}", grey(8 * i))
    return tmp_path


def test_a_flat_folder_is_split_into_all_of_its_pictures(flat):
    train, test = (folder(str(flat), split, (1, 8, 8)) for split in ("train", "test"))
    assert (len(train), len(test)) == (27, 3)
    assert sorted(values(train) + values(test)) == [8 * i for i in range(30)]
    assert (train.y == -1).all()
    assert train.x.dtype == torch.uint8


def test_the_split_of_a_flat_folder_depends_on_its_seed_alone(flat):
    def test_values(**options):
        return values(folder(str(flat), "test", (1, 8, 8), **options))

    first = test_values(split_seed=1, test_share=0.3)
    assert len(first) == 9
    assert test_values(split_seed=1, test_share=0.3) == first
    assert test_values(split_seed=0, test_share=0.3) != first
    train = values(folder(str(flat), "train", (1, 8, 8), test_share=0.3, split_seed=1))
    assert sorted(train + first) == [8 * i for i in range(30)]


def test_every_picture_is_found_whatever_its_ending(tmp_path):
    endings = [".png", ".jpg", ".jpeg", ".PNG", ".JPG", ".bmp", ".gif", ".ppm", ".tif", ".tiff", ".webp"]
    for i, ending in enumerate(endings):
        save(tmp_path / f"{i}{ending}", grey(100))
    (tmp_path / "notes.txt").write_text("not a picture")
    (tmp_path / "sub.png").mkdir()
    found = [folder(str(tmp_path), split, (1, 8, 8)) for split in ("train", "test")]
    assert sum(map(len, found)) == len(endings)
    assert all(abs(value - 100) <= 2 for data in found for value in values(data))


@pytest.mark.parametrize("max_memory", [0, 2**30], ids=["decoded_later", "in_memory"])
def test_sub_folders_are_classes(tmp_path, max_memory):
    for i in range(10):
        save(tmp_path / "cat" / f"{i}.png", grey(10 + i))
        save(tmp_path / "dog" / "puppies" / f"{i}.png", grey(110 + i))
        save(tmp_path / "emu" / f"{i}.jpg", grey(210 + i))
    seen = []
    for split in ("train", "test"):
        data = folder(str(tmp_path), split, (1, 8, 8), max_memory=max_memory)
        for i in range(len(data)):
            x, y = data[i]
            value = int(x.float().mean().round())
            assert y == value // 100
            seen.append(value)
    assert len(set(seen)) == len(seen) == 30


@pytest.mark.parametrize("max_memory", [0, 2**30], ids=["decoded_later", "in_memory"])
def test_classes_have_their_names(tmp_path, max_memory):
    """Figures of the latent space show them."""
    for name in ("cat", "dog", "emu"):
        for i in range(4):
            save(tmp_path / name / f"{i}.png", grey(i))
    for split in ("train", "test"):
        assert tuple(folder(str(tmp_path), split, (1, 8, 8), max_memory=max_memory).y_names) == ("cat", "dog", "emu")


def test_train_and_test_folders_are_the_split(tmp_path):
    for i in range(6):
        save(tmp_path / "train" / ("a" if i % 2 else "b") / f"{i}.png", grey(i))
        save(tmp_path / "test" / ("a" if i % 2 else "b") / f"{i}.png", grey(100 + i))
    train, test = (folder(str(tmp_path), split, (1, 8, 8), split_seed=3) for split in ("train", "test"))
    assert sorted(values(train)) == list(range(6))
    assert sorted(values(test)) == list(range(100, 106))
    for data in (train, test):
        assert data.y_names == ("a", "b")
        assert all(data.y[i] == 1 - value % 2 for i, value in enumerate(values(data)))


def test_train_and_test_folders_may_be_flat(tmp_path):
    save(tmp_path / "train" / "0.png", grey(1))
    save(tmp_path / "test" / "0.png", grey(2))
    for split, value in (("train", 1), ("test", 2)):
        data = folder(str(tmp_path), split, (1, 8, 8))
        assert values(data) == [value]
        assert data.y.tolist() == [-1]


def test_a_folder_may_have_its_own_validation_split(tmp_path):
    for value, split in enumerate(("train", "val", "test")):
        save(tmp_path / split / "0.png", grey(value))
    data = DataModule(lambda split: folder(str(tmp_path), split, (1, 8, 8)), [1, 8, 8], val_size=None)
    for value, split in enumerate(("train", "val", "test")):
        ((x, _),) = data.batches(split)
        torch.testing.assert_close(x, torch.full((1, 1, 8, 8), value / 255))


def test_a_class_has_one_label_in_train_and_test(tmp_path):
    """Also when one of them lacks a class."""
    for split, names in (("train", ("cat", "dog", "emu")), ("test", ("dog", "emu"))):
        for name in names:
            save(tmp_path / split / name / "0.png", grey(1))
    train, test = (folder(str(tmp_path), split, (1, 8, 8)) for split in ("train", "test"))
    assert [train.y_names[y] for y in train.y] == ["cat", "dog", "emu"]
    assert test.y.tolist() == [1, 2]


def test_a_flat_folder_has_no_validation_split(flat):
    """data.val_size=null would otherwise validate on the training data."""
    with pytest.raises(ValueError, match="val"):
        folder(str(flat), "val", (1, 8, 8))


def test_pixels_arrive_where_they_were(tmp_path):
    """Height, width and colour are not mixed up."""
    pixels = np.random.default_rng(0).integers(0, 256, (7, 5, 3), dtype=np.uint8)
    path = save(tmp_path / "a.png", pixels)
    x, y = ImageFiles([path], [4], Reader((3, 7, 5)))[0]
    assert torch.equal(x, torch.from_numpy(pixels).permute(2, 0, 1))
    assert y == 4
    one = save(tmp_path / "b.png", pixels[..., 0])
    assert torch.equal(ImageFiles([one], [-1], Reader((1, 7, 5)))[0][0], torch.from_numpy(pixels[None, ..., 0]))


def test_colour_becomes_grey_and_grey_becomes_colour(tmp_path):
    colour, plain = save(tmp_path / "c.png", np.full((8, 8, 3), (255, 0, 0))), save(tmp_path / "g.png", grey(77))
    assert (ImageFiles([colour], [-1], Reader((1, 8, 8)))[0][0] == 76).all()  # ITU-R 601: 0.299 * 255
    assert torch.equal(ImageFiles([plain], [-1], Reader((3, 8, 8)))[0][0], torch.full((3, 8, 8), 77, dtype=torch.uint8))


def test_16_bit_pictures_keep_their_greys(tmp_path):
    """0 ... 65535 is 0 ... 255, not clipped at 255."""
    path = tmp_path / "deep.png"
    Image.fromarray(np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)).save(path)
    x, _ = ImageFiles([path], [-1], Reader((1, 8, 8)))[0]
    torch.testing.assert_close(x.flatten().float(), torch.linspace(0, 255, 64), rtol=0, atol=1.5)


@pytest.mark.parametrize(("height", "width"), [(20, 40), (40, 20), (40, 40), (10, 10), (5, 5), (7, 91)])
@pytest.mark.parametrize("shape", [(1, 10, 10), (3, 10, 10), (3, 33, 47), (1, 1, 1)], ids=str)
def test_pictures_of_any_size_fit(shape, height, width, tmp_path):
    x, _ = ImageFiles([save(tmp_path / "a.png", grey(60, height, width))], [-1], Reader(shape))[0]
    assert x.shape == shape
    assert (x == 60).all()


@pytest.mark.parametrize("turned", [False, True], ids=["wide", "high"])
def test_resizing_cuts_instead_of_squeezing(turned, tmp_path):
    """A disc stays a disc, and what is cut off are the two ends."""
    y, x = np.mgrid[:40, :80]
    pixels = np.where((x - 39.5) ** 2 + (y - 19.5) ** 2 < 15**2, 255, 0)
    pixels[:, :15], pixels[:, 65:] = 128, 128
    path = save(tmp_path / "a.png", pixels.T if turned else pixels)
    out = ImageFiles([path], [-1], Reader((1, 20, 20)))[0][0][0]
    v, u = np.mgrid[:20, :20]
    distance = np.sqrt((u - 9.5) ** 2 + (v - 9.5) ** 2)
    assert (out[torch.from_numpy(distance < 6.5)] > 250).all()
    assert (out[torch.from_numpy(distance > 8.5)] < 5).all()


def test_crop_cuts_the_central_square(tmp_path):
    pixels = np.full((12, 10, 3), (255, 0, 0))
    pixels[4:8, 3:7] = (0, 0, 255)
    path = save(tmp_path / "a.png", pixels)
    blue = torch.tensor([0, 0, 255], dtype=torch.uint8)[:, None, None]
    for shape in ((3, 4, 4), (3, 9, 6), (3, 2, 2)):
        assert torch.equal(ImageFiles([path], [-1], Reader(shape, crop=4))[0][0], blue.expand(shape))
    assert not torch.equal(ImageFiles([path], [-1], Reader((3, 4, 4)))[0][0], blue.expand(3, 4, 4))


def test_a_crop_larger_than_the_picture_is_refused(tmp_path):
    """It would come with a black frame."""
    path = save(tmp_path / "a.png", grey(200, 8, 8))
    with pytest.raises(ValueError, match=r"crop"):
        ImageFiles([path], [-1], Reader((1, 8, 8), crop=20))[0]


@pytest.mark.parametrize("crop", [None, 6])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 5, 7)], ids=str)
def test_decoding_later_gives_the_same_tensors(shape, crop, tmp_path):
    rng = np.random.default_rng(0)
    for i in range(12):
        pixels = rng.integers(0, 256, (8 + i, 20 - i, 3), dtype=np.uint8)
        save(tmp_path / ("a" if i < 5 else "b") / f"{i}{'.png' if i % 2 else '.jpg'}", pixels)
    for split in ("train", "test"):
        memory = folder(str(tmp_path), split, shape, crop=crop)
        later = folder(str(tmp_path), split, shape, crop=crop, max_memory=10)
        assert isinstance(memory, InMemory)
        assert isinstance(later, ImageFiles)
        assert len(memory) == len(later)
        for i in range(len(memory)):
            assert torch.equal(memory[i][0], later[i][0])
            assert torch.equal(memory[i][1], later[i][1])
            assert memory[i][1].dtype == later[i][1].dtype


def test_max_memory_counts_the_decoded_bytes(flat):
    bytes_needed = 27 * 1 * 8 * 8
    assert isinstance(folder(str(flat), "train", (1, 8, 8), max_memory=bytes_needed), InMemory)
    assert isinstance(folder(str(flat), "train", (1, 8, 8), max_memory=bytes_needed - 1), ImageFiles)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_pictures_decoded_later_in_a_data_module(num_workers, flat):
    def batches(**options):
        data = DataModule(lambda split: folder(str(flat), split, (1, 8, 8), **options), [1, 8, 8], batch_size=4, val_size=0.2)
        data.num_workers = num_workers if options else 0
        return [batch for split in ("train", "val", "test") for batch in data.batches(split)]

    for (x, y), (same_x, same_y) in zip(batches(max_memory=0), batches(), strict=True):
        assert x.dtype == torch.float32
        assert torch.equal(x, same_x)
        assert torch.equal(y, same_y)


def _truncated(path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:2000])


def _text(path):
    path.write_text("<html>404 Not Found</html>")


def _empty(path):
    path.write_bytes(b"")


def _bad_numbers(path):
    path.write_bytes(b"P6\n3x0 4\n255\n" + bytes(36))


BROKEN = {"truncated.png": _truncated, "truncated.jpg": _truncated, "text.jpg": _text, "empty.png": _empty, "numbers.ppm": _bad_numbers}


@pytest.mark.parametrize("max_memory", [0, 2**30], ids=["decoded_later", "in_memory"])
@pytest.mark.parametrize("name", BROKEN)
def test_an_unreadable_picture_is_named(name, max_memory, flat):
    BROKEN[name](flat / name)

    def read():
        for split in ("train", "test"):
            values(folder(str(flat), split, (1, 8, 8), max_memory=max_memory))

    with pytest.raises(ValueError, match=f"{flat / name} is not a readable picture .*: repair or remove it"):
        read()


def test_an_empty_folder_says_what_was_looked_for(tmp_path):
    (tmp_path / "notes.txt").write_text("not a picture")
    with pytest.raises(ValueError, match=rf"no pictures in {tmp_path}: looked for \.bmp, .*left out: 1 \.txt"):
        folder(str(tmp_path), "train", (3, 8, 8))


def test_an_empty_train_folder_is_named(tmp_path):
    save(tmp_path / "test" / "a.png", grey(1))
    (tmp_path / "train").mkdir()
    with pytest.raises(ValueError, match=f"no pictures in {tmp_path}/train"):
        folder(str(tmp_path), "train", (3, 8, 8))


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(ValueError, match=f"there is no folder {tmp_path}/nowhere: set data.root to a folder of pictures"):
        folder(str(tmp_path / "nowhere"), "train", (3, 8, 8))


def test_a_relative_missing_folder_is_named_in_full():
    with pytest.raises(ValueError, match=f"there is no folder {Path.cwd()}/nowhere"):
        folder("nowhere", "train", (3, 8, 8))


def test_one_picture_is_too_few_to_split(tmp_path):
    save(tmp_path / "a.png", grey(1))
    with pytest.raises(ValueError, match=str(tmp_path)):
        folder(str(tmp_path), "train", (1, 8, 8))


@pytest.mark.parametrize("shape", [(2, 8, 8), (4, 8, 8), (8, 8), (1, 0, 8), (1, 8, 8, 8)], ids=str)
def test_impossible_shapes_are_refused(shape, flat):
    with pytest.raises(ValueError, match=r"data.shape must be \[1 or 3, height, width\] for a folder of pictures"):
        folder(str(flat), "train", shape)


@pytest.mark.parametrize("crop", [0, -3])
def test_impossible_crops_are_refused(crop, flat):
    with pytest.raises(ValueError, match=f"crop={crop} must be at least 1"):
        folder(str(flat), "train", (1, 8, 8), crop=crop)
