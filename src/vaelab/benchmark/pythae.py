"""The speed of pythae (Chadebec et al., 2022, https://arxiv.org/abs/2206.08309) with the networks of a config, if it is installed."""

import io
import tempfile
import time
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import nn

from vaelab.benchmark.alone import device_of
from vaelab.benchmark.loops import images
from vaelab.build import build_model
from vaelab.data.modality import to_float
from vaelab.models import VAE


def by_pythae(plain: dict[str, Any]) -> float:
    """Images per second of its trainer with the networks, the batches and the learning rate of the config, and data in memory."""
    from pythae.data.datasets import BaseDataset
    from pythae.models import VAE as TheirVAE
    from pythae.models import VAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.trainers import BaseTrainer, BaseTrainerConfig
    from pythae.trainers.training_callbacks import TrainingCallback

    config = OmegaConf.create(plain)
    x, is_binary = images(config), config.likelihood._target_.endswith("Bernoulli")
    torch.manual_seed(config.seed)
    model = build_model(config)
    assert isinstance(model, VAE)
    networks: list[Any] = [model.posterior.network, model.likelihood.network]

    class Encoder(BaseEncoder):
        def __init__(self) -> None:
            BaseEncoder.__init__(self)
            self.network: nn.Module = networks[0]

        def forward(self, x: torch.Tensor) -> Any:
            mean, log_scale = self.network(x).unbind(1)
            return ModelOutput(embedding=mean, log_covariance=2 * log_scale)

    class Decoder(BaseDecoder):
        def __init__(self) -> None:
            BaseDecoder.__init__(self)
            self.network: nn.Module = networks[1]

        def forward(self, z: torch.Tensor) -> Any:
            output = self.network(z).squeeze(1)
            return ModelOutput(reconstruction=output.sigmoid() if is_binary else output)

    starts = list[float]()  # of epochs, and the end

    class Clock(TrainingCallback):
        def on_epoch_begin(self, training_config: Any, **kwargs: Any) -> None:
            starts.append(time.perf_counter())

        on_train_end = on_epoch_begin

    shape, loss = tuple(x.shape[1:]), "bce" if is_binary else "mse"
    theirs = TheirVAE(VAEConfig(input_dim=shape, latent_dim=config.latent_dim, reconstruction_loss=loss), Encoder(), Decoder())
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        options = BaseTrainerConfig(
            output_dir=folder,
            num_epochs=config.benchmark.epochs + 1,
            learning_rate=config.optimizer.lr,
            per_device_train_batch_size=config.data.batch_size,
            no_cuda=device_of(config).type == "cpu",
        )
        BaseTrainer(theirs, BaseDataset(to_float(x), torch.zeros(len(x))), training_config=options, callbacks=[Clock()]).train()
    return config.benchmark.epochs * len(x) / (starts[-1] - starts[1])
