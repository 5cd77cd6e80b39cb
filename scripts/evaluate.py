"""Evaluate a trained model on its test data: python scripts/evaluate.py run=<run folder>; --help lists the options."""

import hydra
from omegaconf import DictConfig


@hydra.main(config_path="../conf", config_name="evaluate", version_base="1.3")
def main(config: DictConfig) -> None:
    from vaelab.experiment import evaluate  # imports torch: only now, so that --help answers at once

    evaluate(config)


if __name__ == "__main__":
    main()
