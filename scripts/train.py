"""Train a model, evaluate it on test data and picture it: python scripts/train.py [dial=choice] [key=value]; --help lists them."""

from datetime import datetime

import hydra
from omegaconf import DictConfig, OmegaConf

# Hydra writes .hydra/ and train.log where a run starts; what it writes about a continuation must not replace what it wrote about the start.
OmegaConf.register_new_resolver(
    "hydra_dir", lambda resume, new: f"{resume}/resumed/{datetime.now():%Y-%m-%d_%H-%M-%S}" if resume else new, use_cache=True
)


@hydra.main(config_path="../conf", config_name="config", version_base="1.3")
def main(config: DictConfig) -> float | None:
    from vaelab.experiment import train  # imports torch: only now, so that --help answers at once

    return train(config)


if __name__ == "__main__":
    main()
