"""Picture a trained model: python scripts/generate.py run=<run folder>; --help lists the options."""

import hydra
from omegaconf import DictConfig


@hydra.main(config_path="../conf", config_name="generate", version_base="1.3")
def main(config: DictConfig) -> None:
    from vaelab.commands.generate import generate

    generate(config)


if __name__ == "__main__":
    main()
