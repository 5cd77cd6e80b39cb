"""Train a model, evaluate it on test data and picture it: python scripts/train.py [dial=choice] [key=value]; --help lists them."""

from datetime import datetime
from pathlib import Path

import hydra
from omegaconf import DictConfig, OmegaConf


def hydra_dir(resume: str | None, new: str) -> str:
    """Where Hydra writes .hydra/ and train.log. What it writes of a continuation must not replace what it wrote of the start."""
    if resume is None or not Path(resume).is_dir():  # what is no folder must not become one; train says what is wrong
        return new
    return f"{resume}/resumed/{datetime.now():%Y-%m-%d_%H-%M-%S}"


OmegaConf.register_new_resolver("hydra_dir", hydra_dir, use_cache=True)


@hydra.main(config_path="../conf", config_name="config", version_base="1.3")
def main(config: DictConfig) -> float | None:
    from vaelab.experiment import train  # imports torch: only now, so that --help answers at once

    return train(config)


if __name__ == "__main__":
    main()
