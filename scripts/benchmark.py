"""How fast this project is, from one run: python scripts/benchmark.py [dial=choice]; it takes every dial of train.py.

    python scripts/benchmark.py data.size=28 data.batch_size=128 encoder=mlp decoder=mlp     a 784-512-16 MLP
    python scripts/benchmark.py experiment=conv_vae data.dataset.num_train=4500 data.val_size=500 speed=fast     the 64 x 64 conv VAE
    python scripts/benchmark.py benchmark.parts=[likelihood,disentanglement]                 without training
    python scripts/benchmark.py benchmark.parts=[scaling] benchmark.scaling.gb_per_s=300     what more devices would do

training: images per second and ratios. (a) a hand-written loop over a tensor in memory, (b) the same loop over a tutorial's loader (a
picture at a time, ToTensor, collate), (c) this project's train with its default logging, (d) the same at the speed that is composed.
likelihood: decodings per second of importance_weighted on a 784-512-16 MLP, and of a hand-written loop over images.
disentanglement: the seconds of all disentanglement scores of the model that is composed.
scaling: images per second of one and of two devices, the bandwidth between them, and what follows for more of them.
"""

import hydra
from omegaconf import DictConfig


@hydra.main(config_path="../conf", config_name="benchmark", version_base="1.3")
def main(config: DictConfig) -> None:
    from vaelab.benchmark import benchmark  # imports torch: only now, so that --help answers at once

    benchmark(config)


if __name__ == "__main__":
    main()
