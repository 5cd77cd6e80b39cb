"""Which values are hidden, counted."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from vaelab.applications import hidden


def test_half():
    """The lower half of an image, all channels; the second of a vector; the larger, where they cannot be equal."""
    image = hidden("half", (3, 6, 5), 4)
    assert image.shape == (4, 3, 6, 5)
    assert image[:, :, 3:].all()
    assert not image[:, :, :3].any()
    assert hidden("half", (5,), 2).tolist() == [[False, False, True, True, True]] * 2


def test_box():
    image = hidden("box", (1, 8, 12), 2)
    assert image[:, :, 2:6, 3:9].all()
    assert image.sum() == 2 * 4 * 6
    assert hidden("box", (8,), 1).tolist() == [[False, False, True, True, True, True, False, False]]


def test_random():
    """Each place of each image by itself, its channels together; a share of all, within four standard errors."""
    torch.manual_seed(0)
    found = hidden("random", (3, 50, 40), 10, share=0.3)
    assert torch.equal(found, found[:, :1].expand_as(found))
    places = found[:, 0].double()
    assert abs(places.mean().item() - 0.3) < 4 * math.sqrt(0.3 * 0.7 / places.numel())
    assert len(places.flatten(1).unique(dim=0)) == 10
    assert hidden("random", (7,), 3, share=1).all()


@pytest.mark.parametrize("values", [np.float64([[0, 0.1], [-1, 0], [2, 0]]), np.array([[0, 1], [1, 0], [1, 0]], dtype=bool)])
def test_an_array(values, tmp_path):
    np.save(tmp_path / "mask.npy", values)
    found = hidden(str(tmp_path / "mask.npy"), (2, 3, 2), 4)
    assert torch.equal(found, torch.tensor([[False, True], [True, False], [True, False]]).expand(4, 2, 3, 2))


@pytest.mark.parametrize("mode", ["1", "L", "RGB"])
def test_a_picture(mode, tmp_path):
    Image.fromarray(np.uint8([[0, 255, 100], [128, 127, 0]])).convert("L").point(lambda v: 255 * (v >= 128)).convert(mode).save(
        tmp_path / "mask.png"
    )
    assert hidden(str(tmp_path / "mask.png"), (1, 2, 3), 1)[0, 0].tolist() == [[False, True, False], [True, False, False]]


def test_masks_that_do_not_fit_are_refused(tmp_path):
    np.save(tmp_path / "small.npy", np.ones((3, 4)))
    np.save(tmp_path / "nothing.npy", np.zeros((6, 5)))
    np.save(tmp_path / "objects.npy", np.array([{"a": 1}]), allow_pickle=True)
    Image.new("L", (6, 5), 255).save(tmp_path / "turned.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    for mask, message in {
        "small.npy": r"has shape \(3, 4\), but x has the space \(6, 5\)",
        "turned.png": r"has shape \(5, 6\), but x has the space \(6, 5\)",
        "nothing.npy": "hides nothing, so there is nothing to complete",
        "objects.npy": "cannot be read .*: it must be a picture such as a .png, or an array in an .npy file",
        "broken.png": "cannot be read .*: it must be a picture such as a .png, or an array in an .npy file",
        "quarter": "quarter is none of half, box and random, and no file",
    }.items():
        with pytest.raises(ValueError, match=message):
            hidden(str(tmp_path / mask), (1, 6, 5), 2)
    for share in (0.0, 1.1, -1.0):
        with pytest.raises(ValueError, match=rf"missing_share={share} must lie in \(0, 1\]"):
            hidden("random", (1, 6, 5), 2, share)
