"""Judge trained models on their test data: python scripts/evaluate.py run=<run folder> [metrics=[...]]; --help lists the options."""

import hydra
from omegaconf import DictConfig


@hydra.main(config_path="../conf", config_name="evaluate", version_base="1.3")
def main(config: DictConfig) -> None:
    from vaelab.commands.evaluate import evaluate  # imports torch: only now, so that --help answers at once

    evaluate(config)


if __name__ == "__main__":
    main()
