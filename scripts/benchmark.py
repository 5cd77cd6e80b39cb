"""Images per second and ratios, from one run: python scripts/benchmark.py [dial=choice]; it takes every dial of train.py.

    python scripts/benchmark.py data=circles data.size=28 encoder=mlp decoder=mlp latent_dim=16     a 784-512-16 MLP
    python scripts/benchmark.py experiment=conv_vae data.dataset.num_train=4000                      the 64 x 64 convolutional VAE
    python scripts/benchmark.py experiment=conv_vae speed=fast                                       and what speed=fast makes of it

(a) a hand-written loop over a tensor in memory, (b) the same loop over a tutorial's loader (a picture at a time, ToTensor, collate),
(c) this project's train with its default logging. (a) and (b) always run at standard speed.
"""

import hydra
from omegaconf import DictConfig


@hydra.main(config_path="../conf", config_name="benchmark", version_base="1.3")
def main(config: DictConfig) -> None:
    from vaelab.benchmark import benchmark  # imports torch: only now, so that --help answers at once

    benchmark(config)


if __name__ == "__main__":
    main()
