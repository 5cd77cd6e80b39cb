"""The figures of runs: which there are for which kind of model, and that each shows what its words say."""

from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from dataset_files import write_idx
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image, ImageSequence
from small_runs import SMALL, composed, train_small
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from vaelab import VAE
from vaelab.applications import Completion
from vaelab.build import open_run
from vaelab.commands.train import train
from vaelab.data import DataModule, InMemory
from vaelab.data.split import Split
from vaelab.figures import scenes
from vaelab.figures.completions import completions
from vaelab.figures.files import save_animation
from vaelab.figures.scene import Scene, dimensions, untransformed
from vaelab.figures.scenes import draw_figures, interpolations, latent_space, nearest_training_images
from vaelab.figures.tiles import captioned, tile
from vaelab.runs.report import CAPTIONS
from vaelab.training.loggers import show_files

QUICK = ["trainer.max_epochs=1", "evaluation.enabled=false", "evaluation.figures=false", "evaluation.report=false", "logger=csv"]
EVERYWHERE = {"reconstructions.png", "samples.png", "latent_space.png", "nearest_training_images.png"}
STRAIGHT = {"traversals.png", "moving_traversals.gif", "interpolations.png", "spherical_interpolations.png"}
DIGITS = [option for option in SMALL if not option.startswith(("data=", "data.size", "data.dataset"))] + ["data=mnist_binarized"]
MISSING = ["missing=true", "data.transform={_target_:vaelab.data.Missing,share:0.5}", "data.static_seed=0"]
KINDS = {
    "conditional": ([*DIGITS, "num_classes=10"], EVERYWHERE | STRAIGHT | {"manifold.png"}),
    "hierarchy": ([*SMALL, "model=ladder_vae", "latent_dim=4", "model.ladder.hidden=16"], EVERYWHERE | STRAIGHT),
    "correlated": ([*SMALL, *MISSING, "posterior=full_gaussian", "latent_dim=12"], EVERYWHERE | STRAIGHT),
    "sphere": (
        [*SMALL, "posterior=hyperspherical", "prior=uniform_sphere", "latent_dim=3"],
        EVERYWHERE | {"spherical_interpolations.png"},
    ),
    "codes": (
        [*SMALL, "posterior=vector_quantized", "posterior.num_codes=5", "prior=uniform_codes", "objective=vq", "z_shape=[2,3]"],
        EVERYWHERE,
    ),
}


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    run = open_run(train_small(tmp_path_factory.mktemp("plane") / "run", *QUICK))
    x, y = next(iter(run.datamodule.batches("test")))
    return Scene(run.model, run.datamodule, x, y, "test", num_images=4)


@pytest.mark.parametrize(("overrides", "expected"), KINDS.values(), ids=KINDS.keys())
def test_every_kind_of_model_has_its_figures(overrides: list[str], expected: set[str], tmp_path: Path) -> None:
    train(composed([*overrides, *QUICK, f"paths.data_dir={write_idx(tmp_path)}"], tmp_path / "run"))
    run = open_run(tmp_path / "run")
    paths = draw_figures(run.model, run.datamodule, tmp_path / "figures", torch.device("cpu"), num_images=4)
    assert {path.name for path in paths} == {path.name for path in (tmp_path / "figures").iterdir()} == expected
    for path in paths:
        with Image.open(path) as picture:
            assert len(np.unique(np.asarray(picture.convert("L")))) > 2


def test_traversals_say_the_rate_of_each_dimension(plane: Scene) -> None:
    """Falling, with two decimals, each next to its number."""
    q = plane.model.encode(plane.x)
    rates = torch.distributions.kl_divergence(q.base_dist, torch.distributions.Normal(0.0, 1.0)).mean(0)
    expected = [f"z[{d}]\n{rates[d]:.2f} nats" for d in rates.argsort(descending=True).tolist()]
    assert dimensions(plane) == expected


def test_examples_to_compare_samples_with_are_all_of_a_split(plane: Scene) -> None:
    plane.datamodule.setup("fit")
    split = plane.datamodule.splits["train"]
    found = torch.cat(list(untransformed(plane, "train", len(split))))
    assert torch.equal(found, split.dataset[split.indices][0] / 255)


def test_neighbours_of_ones_own_pictures_have_names(plane: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A training picture under another name is its own nearest neighbour; with one picture, all figures but walks are drawn."""
    data = plane.datamodule
    data.setup("fit")
    train, drawn = data.splits["train"], {}
    monkeypatch.setattr(Scene, "captioned", lambda scene, x, rows=(), cells=(), *_, **__: drawn.update(x=x, rows=rows, cells=cells))
    data.splits["new"] = Split(InMemory(train[torch.tensor([5])][0], names=["some/where/mine.png"]), torch.arange(1), data.modality)
    scene = Scene(plane.model, data, *data.examples("new", 1), "new", num_images=4)
    nearest_training_images(scene)
    assert drawn["rows"] == ["x", "nearest", "second", "third"]
    assert drawn["cells"][0] == ["e/where/mine.png"]
    assert drawn["cells"][1] == [f"0.00\n{train.name(5)}"]
    assert torch.equal(drawn["x"][0], drawn["x"][1])
    assert interpolations(scene) is None
    del data.splits["new"]


def test_walks_of_a_conditional_model_are_within_a_class(plane: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ends of each have the label that it is decoded with, each a partner of its own; one without a partner stays where it is."""
    model, pairs = deepcopy(plane.model), []
    model.num_classes = 3

    def walk(model: VAE, x_from: Tensor, x_to: Tensor, steps: int, **rest: object) -> Tensor:
        pairs.append((x_from, x_to))
        return x_from[:, None].expand(-1, steps, *x_from.shape[1:])

    monkeypatch.setattr(scenes, "interpolate", walk)
    y = torch.tensor([0, 1, 2, 0, 1, 0, 0, 1])
    scenes.walks_between(Scene(model, plane.datamodule, plane.x[:8], y, "test", 4), torch.lerp, "straight lines")
    ((x_from, x_to),) = pairs
    assert torch.equal(x_from, plane.x[[0, 1, 2, 3]])
    assert torch.equal(x_to, plane.x[[5, 4, 2, 6]])


def test_the_latent_space_is_coloured_by_label_and_by_factor(plane: Scene) -> None:
    by_factor = latent_space(plane)
    by_label = latent_space(Scene(plane.model, plane.datamodule, plane.x, plane.y[:, 0].long(), "test"))
    for picture in (by_factor, by_label):
        assert len({colour for _, colour in picture.getcolors(10**6) if max(colour) - min(colour) > 60}) > 5
    assert by_factor.size[0] > by_label.size[0]  # a panel for each factor


def test_an_animation_moves_and_keeps_its_greys(tmp_path: Path) -> None:
    ramps = [torch.linspace(0, 1, 256).roll(shift).expand(1, 1, 1, 4, 256) for shift in (0, 64, 128)]
    frames = [captioned(ramp) for ramp in ramps]
    save_animation(frames, tmp_path / "a.gif")
    with Image.open(tmp_path / "a.gif") as animation:
        assert animation.info["loop"] == 0
        shown = [np.asarray(frame.convert("L")) for frame in ImageSequence.Iterator(animation)]
    assert all(np.array_equal(a, np.asarray(b)) for a, b in zip(shown, frames, strict=True))
    assert len(np.unique(shown[0])) == 256


def test_pixels_are_clipped_and_missing_ones_grey() -> None:
    images = torch.tensor([1.02, -0.5, 0.4, torch.nan]).reshape(1, 1, 1, 2, 2)
    assert tile(images, gap=0).tolist() == [[[255, 0], [102, 128]]]
    assert tile(10 * images - 5, levels=(-5.0, 5.0), gap=0).tolist() == [[[255, 0], [102, 128]]]


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 8)], ids=str)
def test_completions_are_side_by_side(plane: Scene, shape: tuple[int, ...]) -> None:
    """A row for each of num_images examples: x, what was observed, completions, mean and std; what is hidden is no grey."""
    x = torch.rand(6, *shape)
    scene = Scene(plane.model, DataModule(lambda split: InMemory(x), shape), x, torch.zeros(6), "test", num_images=2)
    observed = torch.ones_like(x, dtype=torch.bool)
    completion = Completion(x=x.expand(3, *x.shape), expected=x.expand(3, *x.shape), mean=x, std=torch.zeros_like(x))
    whole = np.asarray(completions(scene, observed, completion).convert("RGB"))
    assert not (whole.max(-1) != whole.min(-1)).any() or shape[0] == 3
    hidden = np.asarray(completions(scene, ~observed, completion).convert("RGB"))
    assert hidden.shape == whole.shape
    differ = np.flatnonzero((hidden != whole).any((0, 2)))
    sixth = whole.shape[1] / 7
    assert sixth * 0.99 < differ.min()
    assert differ.max() < 2 * sixth * 1.01
    assert (np.diff(np.flatnonzero((hidden != whole).any((1, 2)))) > 1).sum() == 1  # of two rows


def test_tensorboard_shows_the_files_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "samples.png"
    Image.new("L", (30, 20), 77).save(path)
    show_files([TensorBoardLogger(tmp_path, name="", version="")], {"figures/samples": path}, step=3)
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    (image,) = events.Images("figures/samples")
    assert image.encoded_image_string == path.read_bytes()
    assert (image.width, image.height) == (30, 20)


def test_the_example_of_the_traversals_shows_something(plane: Scene) -> None:
    x = torch.zeros(10, 1, 16, 16)
    x[0, :, :1], x[7, :, :8] = 1, 1
    assert Scene(plane.model, plane.datamodule, x, plane.y[:10], "test").clear == slice(7, 8)


def test_words_are_clear_of_the_frames() -> None:
    """Around each word, all of the space between two rows of pictures is white, from the frame above to the frame below."""
    picture = np.asarray(captioned(torch.zeros(2, 1, 1, 20, 20), cells=[["above"], ["between"]], width=200))
    frames = np.flatnonzero((picture != 255).all(1))  # rows of frames and pictures
    (gap,) = [(a, b) for a, b in zip(frames, frames[1:], strict=False) if b - a > 1]
    words = np.flatnonzero((picture[gap[0] + 1 : gap[1]] != 255).any(1))
    assert words.min() >= 3
    assert gap[1] - gap[0] - 2 - words.max() >= 3


def test_the_report_says_what_each_figure_shows() -> None:
    assert [name for name in CAPTIONS if name in scenes.FIGURES] == list(scenes.FIGURES)
    assert set(CAPTIONS) - set(scenes.FIGURES) == {*scenes.OF_TABLES, "marginal_distances", "code_length"} - set(scenes.FIGURES)
