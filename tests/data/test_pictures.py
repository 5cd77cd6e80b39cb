"""Pictures as they are found in the wild: many bits, transparency, frames, broken files, hidden files, links."""

import os
import re

import numpy as np
import pytest
import torch
from PIL import Image, features

from vaelab.data import DataModule, InMemory, folder
from vaelab.data.listing import find_pictures, list_folder
from vaelab.data.pictures import Reader, endings


def save(path, values, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values)).save(path, **options)
    return path


def grey(path, value=100):
    return save(path, np.full((8, 8), value, np.uint8))


def read(path, channels=1, size=8, **options):
    return Reader((channels, size, size), **options)(path)


RAMP = np.linspace(0, 1, 64).reshape(8, 8)


@pytest.mark.parametrize("ending", [".png", ".tif", ".pgm"])
def test_16_bits_are_scaled(ending, tmp_path):
    path, values = tmp_path / f"a{ending}", (65535 * RAMP).round().astype(np.uint16)
    if ending == ".pgm":  # which not every Pillow writes
        path.write_bytes(b"P5 8 8 65535\n" + values.astype(">u2").tobytes())
    else:
        save(path, values)
    torch.testing.assert_close(read(path).flatten().double(), torch.linspace(0, 255, 64).double(), rtol=0, atol=0.51)


@pytest.mark.parametrize("dtype", [np.uint16, np.int32])
def test_12_bits_are_refused_until_their_white_is_known(dtype, tmp_path):
    """They would come out as black as night: 4095 >> 8 is 15."""
    path = save(tmp_path / "a.tif", (4095 * RAMP).round().astype(dtype))
    with pytest.raises(ValueError, match=r"a\.tif has more than 8 bits, with values in \[0, 4095\]: .* data\.white=4095 for 12 bits"):
        read(path)
    torch.testing.assert_close(read(path, white=4095).flatten().double(), torch.linspace(0, 255, 64).double(), rtol=0, atol=0.51)


@pytest.mark.parametrize(("factor", "white"), [(1.0, None), (10.0, 10), (300.0, 300)])
def test_floats_are_scaled(factor, white, tmp_path):
    path = save(tmp_path / "a.tif", (factor * RAMP).astype(np.float32))
    torch.testing.assert_close(read(path, white=white).flatten().double(), torch.linspace(0, 255, 64).double(), rtol=0, atol=0.51)


@pytest.mark.parametrize(
    ("values", "white", "seen"),
    [
        (300 * RAMP, None, r"\[0, 300\]"),
        (RAMP / 1000, None, r"\[0, 0.001\]"),
        (RAMP - 0.5, 1, r"\[-0.5, 0.5\]"),
        (2 * RAMP, 1, r"\[0, 2\]"),
        (np.full((8, 8), np.nan), 1, r"\[nan, nan\]"),
        (np.full((8, 8), np.inf), 1, r"\[inf, inf\]"),
    ],
)
def test_a_range_that_does_not_fit_is_refused(values, white, seen, tmp_path):
    path = save(tmp_path / "a.tif", values.astype(np.float32))
    with pytest.raises(ValueError, match=rf"has more than 8 bits, with values in {seen}"):
        read(path, white=white)


def png_of_16_bit_colours(path, values):
    """Pillow cannot write one."""
    import struct
    import zlib

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
    return path


def test_colours_of_16_bits(tmp_path):
    colours = np.repeat(RAMP[..., None], 3, axis=-1)
    bright = png_of_16_bit_colours(tmp_path / "bright.png", (65535 * colours).round())
    torch.testing.assert_close(read(bright, 3)[0].flatten().double(), torch.linspace(0, 255, 64).double(), rtol=0, atol=1)
    dark = png_of_16_bit_colours(tmp_path / "dark.png", (4095 * colours).round())
    with pytest.raises(ValueError, match=r"dark\.png has colours of 16 bits, with values up to 3855 of 65535"):
        read(dark, 3)
    assert read(dark, 3, white=65535).max() == 15


@pytest.mark.parametrize(("background", "expected"), [("white", 255), ("black", 0), ([7, 7, 7], 7)])
@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_shows_the_background(mode, background, expected, tmp_path):
    """And what is half so, half of it: the colour beneath, here 100, is not what one sees."""
    values = np.full((8, 8, 4), 100, np.uint8)
    values[..., 3] = np.repeat([0, 255], 4)
    picture = Image.fromarray(values)
    path = tmp_path / "a.png"
    if mode == "P":
        picture = picture.convert("RGB").quantize(2)
        picture.putpixel((0, 0), 1)
        picture.save(path, transparency=picture.getpixel((5, 5)))
        assert (read(path, background=background)[0, 1:] == expected).all()
        return
    picture.convert(mode).save(path)
    for channels in (1, 3):
        x = read(path, channels, background=background)
        assert (x[..., :4] == expected).all()
        assert (x[..., 4:] == 100).all()


def test_what_is_half_transparent_is_mixed(tmp_path):
    values = np.full((8, 8, 4), 100, np.uint8)
    values[..., 3] = 51  # a fifth
    path = save(tmp_path / "a.png", values)
    assert (read(path, 3, background="white").int() - (0.2 * 100 + 0.8 * 255)).abs().max() <= 1


@pytest.mark.parametrize("background", ["no_colour", [1, 2], [1, 2, 300]])
def test_a_background_that_is_no_colour_is_refused(background):
    with pytest.raises(ValueError, match="background="):
        Reader((1, 8, 8), background=background)


FRAMED = [".gif", ".tif", ".png", ".webp"] + [".avif"] * bool(features.check("avif"))


@pytest.mark.parametrize("ending", FRAMED)
def test_a_file_of_several_frames_is_refused(ending, tmp_path):
    first, *others = [Image.fromarray(np.full((8, 8), value, np.uint8)) for value in (0, 100, 200)]
    first.save(tmp_path / f"a{ending}", save_all=True, append_images=others)
    with pytest.raises(ValueError, match=rf"a{re.escape(ending)} holds 3 frames, but each file must be one picture: save each frame"):
        read(tmp_path / f"a{ending}")


def test_a_photograph_with_a_preview_is_one_picture(tmp_path):
    """MPO, as telephones write: the second picture is no frame."""
    first, second = (Image.fromarray(np.full((8, 8, 3), value, np.uint8)) for value in (100, 200))
    first.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[second])
    assert (read(tmp_path / "a.jpg").int() - 100).abs().max() <= 2


def test_whatever_pillow_decodes_is_looked_for(tmp_path):
    assert {".jpg", ".jfif", ".jp2", ".tga", ".pgm", ".pcx", ".ico", ".webp", ".dds"} <= endings()
    assert not {".pdf", ".mpg", ".h5", ".eps", ".txt", ".npy", ""} & endings()
    for ending in (".tga", ".pcx", ".pgm", ".jfif", ".jp2"):
        grey(tmp_path / f"a{ending}")
    assert len(find_pictures(tmp_path).pictures) == 5


def test_hidden_files_are_none_and_links_are_followed(tmp_path):
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    for name in ("cat/1.png", "cat/._1.png", ".ipynb_checkpoints/1.png", "cat/.cache/1.png", ".hidden.png"):
        grey(root / name)
    (root / "notes.txt").write_text("")
    (root / "README").write_text("")
    grey(elsewhere / "dogs" / "1.png")
    grey(elsewhere / "one.png")
    (root / "dog").symlink_to(elsewhere / "dogs")
    (root / "cat" / "2.png").symlink_to(elsewhere / "one.png")
    (root / "cat" / "loop").symlink_to(root)  # else this would never end
    (root / "cat" / "gone.png").symlink_to(elsewhere / "gone.png")
    found = find_pictures(root)
    assert list(found.pictures) == ["cat/1.png", "cat/2.png", "dog/1.png"]
    assert found.others == {"hidden": 4, ".txt": 1, "without an ending": 1, ".png": 1}
    note = list_folder(root, 0.4, 0).note
    assert note == "2 train (root/), 1 test (root/); left out: 1 .png, 1 .txt, 4 hidden, 1 without an ending"


@pytest.mark.parametrize("val", ["val", "valid", "validation"])
@pytest.mark.parametrize("has_test", [False, True])
def test_folders_that_are_named_as_splits_are_the_splits(val, has_test, tmp_path, capsys):
    for i in range(10):
        grey(tmp_path / "train" / "ab"[i % 2] / f"{i}.png", i)
        grey(tmp_path / val / "ba"[i % 2] / f"{i}.png", 100 + i)
        if has_test:
            grey(tmp_path / "test" / "c" / f"{i}.png", 200 + i)
    grey(tmp_path / "extra" / "1.png")

    def of(split):
        data.setup("test" if split == "test" else "fit")
        x, y = data.splits[split][torch.arange(len(data.splits[split]))]
        return x[:, 0, 0, 0].tolist(), [data.splits[split].y_names[label] for label in y]

    data = DataModule(lambda split: folder(str(tmp_path), split, (1, 8, 8)), [1, 8, 8], val_size=0.5)
    (train, _), (values, names), (test, test_names) = map(of, ("train", "val", "test"))
    assert sorted(values) == list(range(100, 110))
    assert all(name == "ba"[value % 2] for value, name in zip(values, names, strict=True))
    assert sorted(train + test) == list(range(10)) if not has_test else sorted(train) == list(range(10))
    assert sorted(test) == list(range(200, 210)) if has_test else len(test) == 1
    assert set(test_names) <= ({"c"} if has_test else {"a", "b"})
    said = capsys.readouterr().out
    assert f"pictures: {10 if has_test else 9} train (train/), 10 val ({val}/), {10 if has_test else 1} test" in said
    assert "left out: 1 outside of train/" in said


def test_other_pictures_without_any_to_train_on_are_refused(tmp_path):
    grey(tmp_path / "test" / "1.png")
    with pytest.raises(ValueError, match=r"has test/, but no train/"):
        folder(str(tmp_path), "train", (1, 8, 8))


@pytest.fixture
def broken(tmp_path):
    """Forty pictures, of which three cannot be read."""
    for i in range(40):
        grey(tmp_path / f"{i:02}.png", 6 * i)
    for name in ("03.png", "11.png", "25.png"):
        (tmp_path / name).write_text("<html>404 Not Found</html>")
    return tmp_path


@pytest.mark.parametrize("max_memory", [0, 2**30], ids=["decoded_later", "in_memory"])
def test_all_broken_pictures_are_named_at_once(max_memory, broken):
    data = DataModule(lambda split: folder(str(broken), split, (1, 8, 8), test_share=0.05, max_memory=max_memory), [1, 8, 8], val_size=4)
    with pytest.raises(ValueError, match=r"(?s)3 pictures; data.on_error=skip .*03\.png is not.*11\.png is not.*25\.png is not"):
        list(data.batches("train"))


@pytest.mark.parametrize("max_memory", [0, 2**30], ids=["decoded_later", "in_memory"])
def test_broken_pictures_are_left_out_and_counted(max_memory, broken, capsys):
    def read_folder(split):
        return folder(str(broken), split, (1, 8, 8), test_share=0.05, max_memory=max_memory, on_error="skip")

    data = DataModule(read_folder, [1, 8, 8], val_size=4)
    seen = [int(255 * value) for split in ("train", "val", "test") for x, _ in data.batches(split) for value in x[:, 0, 0, 0] + 1e-3]
    assert sorted(seen) == [6 * i for i in range(40) if i not in (3, 11, 25)]
    said = capsys.readouterr().out
    assert sum(map(int, re.findall(r"skipped: (\d) (?:train|test) pictures that cannot be read \(", said))) == 3
    assert "03.png" in said


def test_who_stops_or_skips_says_so(broken):
    with pytest.raises(ValueError, match="on_error=ignore is unknown: choose stop or skip"):
        folder(str(broken), "train", (1, 8, 8), on_error="ignore")


def test_classes_are_chosen_by_name(tmp_path):
    for i in range(12):
        grey(tmp_path / ("rare" if i % 3 else "often") / f"{i}.png", i)
    data = DataModule(lambda split: folder(str(tmp_path), split, (1, 8, 8)), [1, 8, 8], val_size=0.2, classes=["rare"])
    assert {int(y) for _, labels in data.batches("train") for y in labels} == {1}
    with pytest.raises(ValueError, match=r"no example has class \['rarer'\]: there are 0 \(often\), 1 \(rare\)"):
        DataModule(lambda split: folder(str(tmp_path), split, (1, 8, 8)), [1, 8, 8], val_size=0.2, classes=["rarer"]).setup("fit")


def test_a_number_that_is_also_a_name_is_refused():
    """Classes 1, 10 and 2 have the numbers 0, 1 and 2 in the order of folders."""
    data = InMemory(torch.zeros(3, 1), ["1", "10", "2"])
    assert data.y.tolist() == [0, 1, 2]

    def chosen(classes):
        module = DataModule(lambda split: InMemory(torch.zeros(30, 1), ["1", "10", "2"] * 10), [1], val_size=9, classes=classes)
        return {int(y) for _, labels in module.batches("train") for y in labels}

    assert chosen(["10"]) == {1}
    assert chosen([2]) == {2}
    with pytest.raises(ValueError, match=r"class 1 may be number 1 or the one that is called 1: give its name, \['1'\]"):
        chosen([1])


def test_names_of_100_000_files_cost_little(tmp_path, monkeypatch):
    """One look at each folder, and none at a file: what a file is and how long it is are known from it."""
    for i in range(50):
        grey(tmp_path / "a" / f"{i}.png")
    opened = []
    monkeypatch.setattr(Image, "open", lambda *args: opened.append(args))
    looked = []
    stat = os.stat
    monkeypatch.setattr(os, "stat", lambda path, **options: looked.append(path) or stat(path, **options))
    list_folder(tmp_path, 0.1, 0)
    assert not opened
    assert len(looked) < 10
