"""accelerate: the same numbers under the same names."""

from copy import deepcopy
from functools import partial

import pytest
import torch
from lightning import Callback, LightningModule, Trainer
from torch import nn

from vaelab.likelihoods import Bernoulli
from vaelab.models import VAE
from vaelab.networks import MLP, ConvDecoder, ConvEncoder
from vaelab.posteriors import Gaussian
from vaelab.priors import StandardNormal
from vaelab.training.speed import STEP_HOOKS, accelerate, leave_out_idle_hooks

X_SHAPE, Z_SHAPE = (3, 9, 6), (4,)


def convolutional(num_classes=0, batch_norm=False):
    encoder = partial(ConvEncoder, channels=(8, 16), batch_norm=batch_norm)
    decoder = partial(ConvDecoder, channels=(8, 16), batch_norm=batch_norm)
    q, p = Gaussian(encoder, X_SHAPE, Z_SHAPE, num_classes), Bernoulli(decoder, Z_SHAPE, X_SHAPE, num_classes)
    return VAE(q, p, StandardNormal(Z_SHAPE), num_classes)


def dense(num_classes=0):
    network = partial(MLP, hidden=(8,))
    q, p = Gaussian(network, X_SHAPE, Z_SHAPE, num_classes), Bernoulli(network, Z_SHAPE, X_SHAPE, num_classes)
    return VAE(q, p, StandardNormal(Z_SHAPE), num_classes)


MODELS = {
    "conv": convolutional,
    "conv_batch_norm": partial(convolutional, batch_norm=True),
    "conv_conditional": partial(convolutional, num_classes=3),
    "mlp": dense,
}
SPEEDS = {"channels_last": {"channels_last": True}, "bf16": {"bf16": True}, "both": {"channels_last": True, "bf16": True}}

every_model = pytest.mark.parametrize("build", MODELS.values(), ids=MODELS.keys())


@pytest.fixture
def x():
    return torch.rand(5, *X_SHAPE).round()


@pytest.fixture
def y():
    return torch.tensor([0, 2, 1, 0, 2])


def score(model, x, y):
    """log w of two samples, always with the same noise, and its gradients."""
    torch.manual_seed(1)
    model.zero_grad()
    log_w = model(x, y, num_samples=2).log_w
    log_w.mean().backward()
    return log_w.detach(), {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


@every_model
def test_channels_last_computes_the_same(build, x, y):
    plain = build()
    fast = deepcopy(plain)
    accelerate(fast, channels_last=True)
    (log_w, gradients), (fast_log_w, fast_gradients) = score(plain, x, y), score(fast, x, y)
    torch.testing.assert_close(fast_log_w, log_w, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(fast_gradients, gradients, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(fast.reconstruct(x, y), plain.reconstruct(x, y), rtol=1e-5, atol=1e-5)


def test_channels_last_is_what_the_convolutions_have():
    model = convolutional()
    accelerate(model, channels_last=True)
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)]
    assert len(convolutions) == 5
    assert all(module.weight.is_contiguous(memory_format=torch.channels_last) for module in convolutions)


@pytest.mark.parametrize("speed", SPEEDS.values(), ids=SPEEDS.keys())
@every_model
def test_parameters_keep_names_values_and_dtype(build, speed):
    model = build()
    names, before = [name for name, _ in model.named_parameters()], deepcopy(model.state_dict())
    accelerate(model, **speed)
    assert [name for name, _ in model.named_parameters()] == names
    assert list(model.state_dict()) == list(before)
    torch.testing.assert_close(dict(model.state_dict()), dict(before), rtol=0, atol=0)  # of dtypes too
    build().load_state_dict(model.state_dict())


@pytest.mark.parametrize("speed", SPEEDS.values(), ids=SPEEDS.keys())
def test_an_optimizer_made_before_goes_on_working(speed, x):
    model = convolutional()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    accelerate(model, **speed)
    before = deepcopy(dict(model.named_parameters()))
    model(x).log_w.mean().backward()
    optimizer.step()
    assert all(not torch.equal(before[name], parameter) for name, parameter in model.named_parameters())


@every_model
def test_bf16_computes_nearly_the_same_in_float32(build, x, y):
    plain = build()
    fast = deepcopy(plain)
    accelerate(fast, bf16=True)
    (log_w, gradients), (fast_log_w, fast_gradients) = score(plain, x, y), score(fast, x, y)
    assert fast_log_w.dtype == torch.float32
    torch.testing.assert_close(fast_log_w, log_w, rtol=0.01, atol=0)
    for name, gradient in gradients.items():
        assert fast_gradients[name].dtype == torch.float32
        assert nn.functional.cosine_similarity(fast_gradients[name].flatten(), gradient.flatten(), dim=0) > 0.98, name


@every_model
def test_nothing_asked_changes_nothing(build, x, y):
    plain = build()
    same = deepcopy(plain)
    accelerate(same)
    (log_w, gradients), (same_log_w, same_gradients) = score(plain, x, y), score(same, x, y)
    assert torch.equal(same_log_w, log_w)
    assert all(torch.equal(same_gradients[name], gradient) for name, gradient in gradients.items())


def test_a_compiled_model_is_the_eager_one_to_a_checkpoint(x):
    """Without gradients, whose kernels would double the time it takes to compile."""
    eager = dense()
    compiled = deepcopy(eager)
    accelerate(compiled, compile=True)

    @torch.no_grad()
    def log_w(model):
        torch.manual_seed(1)
        return model(x, num_samples=2).log_w

    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    torch.testing.assert_close(log_w(compiled), log_w(eager), rtol=1e-5, atol=1e-5)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == before + 2  # encoder and decoder were compiled indeed
    assert list(compiled.state_dict()) == list(eager.state_dict())
    assert not any("_orig_mod" in name for name in compiled.state_dict())
    other = dense()
    other.load_state_dict(compiled.state_dict())
    assert torch.equal(log_w(other), log_w(eager))


class Counting(Callback):
    """A callback with one hook of a step, beside one that is given to the object."""

    def __init__(self):
        self.calls = []
        self.on_after_backward = lambda trainer, module: self.calls.append("after backward")

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.calls.append("end")


class Line(LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.called = 0

    def on_train_batch_start(self, batch, batch_idx):
        self.called += 1

    def training_step(self, batch, batch_idx):
        return self.layer(batch).sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_hooks_that_do_nothing_are_left_out_and_no_others(tmp_path):
    module, idle, counting = Line(), Callback(), Counting()
    options = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False, "logger": False}
    trainer = Trainer(max_steps=3, accelerator="cpu", callbacks=[idle, counting], default_root_dir=tmp_path, **options)
    leave_out_idle_hooks(trainer, module)
    trainer.fit(module, torch.ones(3, 1))
    assert counting.calls == ["after backward", "end"] * 3
    assert module.called == 3
    assert all(getattr(idle, hook) is None for hook in STEP_HOOKS)
    assert {hook for hook in STEP_HOOKS if getattr(module, hook) is not None} == {"on_train_batch_start"}
