"""Where samples and data are compared, and what is reported of it: with a classifier, with pixels, with Inception."""

import inspect
import json
import sys
from functools import partial

import pytest
import torch
import yaml
from forked_scripts import ROOT
from torch import Tensor, nn

from vaelab import VAE, likelihoods, posteriors, priors
from vaelab.data import Binarize, Chain, DataModule, InMemory, Missing, circles, shapes
from vaelab.data.modality import to_float
from vaelab.metrics.sample_quality import frechet_distance, sample_quality
from vaelab.metrics.sample_quality.classifier import correct, train_classifier
from vaelab.networks import MLP

SMALL = partial(MLP, hidden=(64,))
quick = partial(sample_quality, features="pixels", num_samples=100)


def data_of(dataset, shape, **options) -> DataModule:
    return DataModule(dataset, shape, val_size=20, **options)


def grey(split: str, num_classes: int = 2) -> InMemory:
    """8-bit images of 5 x 5 pixels between black and white, brighter by class."""
    generator = torch.Generator().manual_seed(0 if split == "train" else 1)
    y = torch.arange(300) % num_classes
    x = 100 * y[:, None, None, None] + torch.randint(100, (300, 1, 5, 5), generator=generator)
    return InMemory(x.to(torch.uint8), y)


def images(**options) -> DataModule:
    return data_of(grey, (1, 5, 5), **options)


class Replay(VAE):
    """A model without parts, whose samples are given, and which notes the labels that it was given."""

    def __init__(self, x: Tensor, num_classes: int = 0) -> None:
        super().__init__(nn.Identity(), nn.Identity(), nn.Identity(), num_classes)
        self.x, self.position = nn.Parameter(x), 0
        self.labels: list[Tensor | None] = []

    def sample(self, num_samples: int, y: Tensor | None = None, mean: bool = False) -> Tensor:
        self.labels.append(y)
        self.position += num_samples
        p = self.x.detach()[self.position - num_samples : self.position]
        return p if mean else torch.bernoulli(p)


def vae(shape: tuple[int, ...], num_classes: int = 0) -> VAE:
    posterior = posteriors.Gaussian(SMALL, shape, (4,), num_classes)
    return VAE(posterior, likelihoods.Bernoulli(SMALL, (4,), shape, num_classes), priors.StandardNormal((4,)), num_classes)


def trained(model: VAE, data: DataModule, num_epochs: int) -> VAE:
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(num_epochs):
        for x, _ in data.batches("train"):
            optimizer.zero_grad()
            (-model(x).log_w.mean()).backward()
            optimizer.step()
    return model


@pytest.mark.parametrize(("dataset", "num_factors"), [(circles, 3), (shapes, 5)])
def test_training_makes_samples_better(dataset, num_factors):
    """By every distance and every share, in features of a classifier that knows more than chance does."""
    data = data_of(partial(dataset, size=16, num_train=2000, num_test=400), (1, 16, 16))
    torch.manual_seed(1)
    model = vae((1, 16, 16))
    before = sample_quality(model, data, num_epochs=3)
    after = sample_quality(trained(model, data, 12), data, num_epochs=3)
    for name in ("frechet_distance_classifier", "kernel_distance_classifier"):
        assert 0 < after[name] < before[name] / 2
    assert after["frechet_distance_classifier_of_train"] < after["frechet_distance_classifier"]
    for name in ("recall_classifier", "density_classifier", "coverage_classifier"):
        assert after[name] > before[name]
    # the classifier is the same, whatever the model and the state of torch's generator
    same = ("feature_classifier_accuracy_per_factor", "feature_classifier_num_examples", "frechet_distance_classifier_of_train")
    assert [before[name] for name in same] == [after[name] for name in same]
    assert len(after["feature_classifier_accuracy_per_factor"]) == num_factors
    assert after["feature_classifier_accuracy"] == pytest.approx(sum(after["feature_classifier_accuracy_per_factor"]) / num_factors)
    sizes = ("sample_quality_num_examples", "sample_quality_num_features", "feature_classifier_num_examples")
    assert [after[name] for name in sizes] == [400, 64, 1980]
    assert json.loads(json.dumps(after)) == after


def test_samples_that_are_the_data():
    """No Frechet distance, and everything is precise and recalled, in pixels; the training data are a little away."""
    data = images()
    data.setup("test")
    order = torch.randperm(300, generator=torch.Generator().manual_seed(0))
    x, _ = data.splits["test"][order]
    report = quick(Replay(x / 255), data, num_samples=300)
    assert report["frechet_distance_pixels"] == pytest.approx(0, abs=1e-10)
    assert [report[f"{name}_pixels"] for name in ("precision", "recall", "coverage")] == [1, 1, 1]
    assert report["frechet_distance_pixels_of_train"] is None  # there are 280
    fewer = quick(Replay(x / 255), data)
    data.setup("fit")
    train, _ = data.splits["train"][torch.randperm(280, generator=torch.Generator().manual_seed(0))[:100]]
    exact = frechet_distance(x[:100].flatten(1) / 255, train.flatten(1) / 255)
    assert fewer["frechet_distance_pixels_of_train"] == pytest.approx(exact, rel=1e-5)
    assert (fewer["sample_quality_num_examples"], fewer["sample_quality_num_features"]) == (100, 25)


def test_means_are_compared_with_grey_data_and_samples_with_binary_ones():
    """Samples of the law of the data are close to data of their own kind.

    Within a class, a grey pixel has the variance v = (100^2 - 1) / 12 / 255^2, and a binary one m (1 - m) - d^2, where m is the mean of all
    and d how far that of a class is from it: in 24 directions the deviations differ by so much. Bounds have 15 % for 300 examples.
    """
    train = images()
    train.setup("fit")
    x = torch.cat([train.splits[name][torch.arange(len(train.splits[name]))][0] for name in ("train", "val")]) / 255
    m, d, v = 99.5 / 255, 50 / 255, (100**2 - 1) / 12 / 255**2
    apart = 24 * ((m * (1 - m) - d**2) ** 0.5 - v**0.5) ** 2

    def compared(data: DataModule, mean: bool) -> tuple[float, float]:
        report = quick(Replay(x), data, num_samples=300, mean=mean)
        return report["frechet_distance_pixels"], report["coverage_pixels"]

    distance, coverage = compared(images(transform=Binarize()), mean=True)
    assert distance < 0.05 * apart
    assert coverage > 0.9
    distance, coverage = compared(images(transform=Binarize()), mean=False)
    assert distance < 0.15 * apart
    assert coverage > 0.9
    distance, coverage = compared(images(), mean=False)
    assert distance == pytest.approx(apart, rel=0.15)
    assert coverage == 0


def test_missing_values_cannot_be_compared():
    """Data from before they were hidden can."""
    data = images(transform=Chain([Missing(0.5)]), static_seed=0)
    model = Replay(torch.rand(100, 1, 5, 5))
    assert quick(model, data)["frechet_distance_pixels"] > 0
    with pytest.raises(ValueError, match=r"test data are missing.*mean=true"):
        quick(model, data, mean=False)


def test_a_conditional_model_is_given_labels_of_the_data():
    """In the shares in which they occur, and none that is unknown."""
    model, data = Replay(torch.rand(300, 1, 5, 5), num_classes=3), images()
    quick(model, data, num_samples=300)
    labels = torch.cat([y for y in model.labels if y is not None])
    assert len(labels) == 300
    assert set(labels.tolist()) == {0, 1}
    order = torch.randperm(300, generator=torch.Generator().manual_seed(0))
    assert not torch.equal(labels, data.splits["test"][order][1])  # drawn, and not those of the very examples
    assert abs(labels.double().mean() - 0.5) < 5 * 0.5 / 300**0.5
    unconditional = Replay(torch.rand(100, 1, 5, 5))
    quick(unconditional, images())
    assert unconditional.labels == [None]
    report = sample_quality(vae((1, 5, 5), 2), images(), num_samples=100, num_epochs=1)
    assert report["sample_quality_num_examples"] == 100

    def unlabelled(split: str) -> InMemory:
        return InMemory(grey(split).x)

    with pytest.raises(ValueError, match="needs labels to draw samples"):
        quick(model, data_of(unlabelled, (1, 5, 5)))


def test_vectors_have_features_too():
    """Two clusters that a classifier tells apart."""
    y = torch.arange(200) % 2
    x = 4.0 * y[:, None] + torch.randn(200, 3)
    classifier = train_classifier(x, y[:, None], 10, to_float)
    assert correct(classifier, x, y[:, None], to_float).double().mean() > 0.95
    assert classifier.features(x).shape == (200, 64)


def test_a_classifier_depends_on_the_data_alone():
    """Not on torch's generator, which it leaves as it was; its features are standardised over the training data."""
    data = grey("train")
    first, state = train_classifier(data.x, data.y[:, None], 30, to_float), torch.get_rng_state()
    torch.manual_seed(7)
    second = train_classifier(data.x, data.y[:, None], 30, to_float)
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True))
    torch.manual_seed(0)
    assert torch.equal(state, torch.get_rng_state())
    assert not first.training
    features = first.features(data.x / 255)
    assert features.mean(0).abs().max() < 0.2
    assert (features.std(0) - 1).abs().max() < 0.2


def test_inception_that_is_not_installed(tmp_path, monkeypatch):
    """Without its weights it is refused by name, and passed over by auto; nothing is downloaded."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    model = Replay(torch.rand(100, 1, 5, 5))
    with pytest.raises(ValueError, match=r"pip install torch-fidelity.*weights-inception-2015-12-05-6726825d\.pth"):
        quick(model, images(), features="inception")
    model.position = 0
    assert "frechet_distance_classifier" in quick(model, images(), features="auto", num_epochs=1)
    assert not list(tmp_path.iterdir())


STAND_IN = """
import torch
class FeatureExtractorInceptionV3(torch.nn.Module):
    def __init__(self, name, features_list, feature_extractor_weights_path=None):
        super().__init__()
        assert features_list == ["2048"]
        assert open(feature_extractor_weights_path).read() == "weights"
    def forward(self, x):
        assert x.dtype == torch.uint8 and x.shape[1:] == (3, 5, 5)
        return (x.float().mean(3).flatten(1),)
"""


def test_inception_that_is_installed(tmp_path, monkeypatch):
    """What is computed in its features is called FID and KID; it sees 8-bit images of three channels."""
    for name in ("torch_fidelity", "torch_fidelity.feature_extractor_inceptionv3"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    (tmp_path / "torch_fidelity").mkdir()
    (tmp_path / "torch_fidelity" / "__init__.py").touch()
    (tmp_path / "torch_fidelity" / "feature_extractor_inceptionv3.py").write_text(STAND_IN)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "weights-inception-2015-12-05-6726825d.pth").write_text("weights")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    data, x = images(), torch.rand(100, 1, 5, 5)
    report = quick(Replay(x), data, features="auto")
    named = {"fid", "fid_of_train", "kid", "kid_std_error", "precision_inception", "recall_inception", "density_inception"}
    assert set(report) == named | {"coverage_inception", "sample_quality_num_examples", "sample_quality_num_features"}
    order = torch.randperm(300, generator=torch.Generator().manual_seed(0))[:100]
    real, eight_bit = data.splits["test"][order][0].double(), (255 * x).round().double()
    exact = frechet_distance(*(i.mean(3).flatten(1).repeat(1, 3) for i in (real, eight_bit)))
    assert report["fid"] == pytest.approx(exact, rel=1e-5)
    for name in list(sys.modules):
        if name.startswith("torch_fidelity"):
            monkeypatch.delitem(sys.modules, name)


def test_inception_is_for_images():
    """Not for five channels, nor for numbers outside [0, 1]."""
    for shape, x in (((5, 4, 4), torch.rand(60, 5, 4, 4)), ((1, 4, 4), torch.randn(60, 1, 4, 4)), ((3,), torch.rand(60, 3))):
        data = data_of(lambda split, x=x: InMemory(x), shape)
        with pytest.raises(ValueError, match="1 or 3 channels and values in"):
            quick(Replay(x), data, features="inception")


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (None, "training data have none: set features=pixels"),
        (torch.rand(60, 2), "y of whole numbers.*features=pixels"),
        (torch.ones(60, dtype=torch.long), "two classes or more.*60|two classes or more.*40"),
    ],
)
def test_labels_that_teach_nothing(y, message):
    """The message says what to do."""
    data = data_of(lambda split: InMemory(torch.rand(60, 3), y), (3,))
    with pytest.raises(ValueError, match=message):
        sample_quality(Replay(torch.rand(60, 3)), data, features="classifier")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"features": "vgg"}, "features=vgg is unknown: choose auto, inception, classifier or pixels"),
        ({"split": "train"}, "split=train must be test or val"),
        ({"num_samples": 19}, "num_samples=19 at least 20"),
        ({"num_train": 0}, "num_train=0 at least 1"),
        ({"features": "classifier", "num_epochs": 0}, "num_epochs=0 must be at least 1"),
    ],
)
def test_options_that_cannot_be(options, message):
    """The message gives the value."""
    with pytest.raises(ValueError, match=message):
        sample_quality(Replay(torch.rand(300, 1, 5, 5)), images(), **options)


def test_samples_of_a_model_that_has_diverged():
    """They are no samples."""
    with pytest.raises(ValueError, match="not finite"):
        quick(Replay(torch.full((100, 1, 5, 5), torch.nan)), images(), mean=True)


def test_too_few_samples_for_a_covariance():
    """24 of 25 pixels."""
    with pytest.warns(UserWarning, match="covariance of 25 features of 24 examples is singular"):
        quick(Replay(torch.rand(24, 1, 5, 5)), images(), num_samples=24)


def test_the_yaml_has_every_option_with_its_default():
    """conf/metrics/sample_quality.yaml and the function say the same."""
    options = yaml.safe_load((ROOT / "conf" / "metrics" / "sample_quality.yaml").read_text())["sample_quality"]
    assert (options.pop("_target_"), options.pop("_partial_")) == ("vaelab.metrics.sample_quality.sample_quality", True)
    assert options == {name: p.default for name, p in inspect.signature(sample_quality).parameters.items() if p.default is not p.empty}
