"""Judge trained models on their test data: python scripts/evaluate.py run=<run folder> [metrics=[...]]; --help lists the options."""

import sys

import hydra
from omegaconf import DictConfig

from vaelab.runs.configs import check_words


@hydra.main(config_path="../conf", config_name="evaluate", version_base="1.3")
def main(config: DictConfig) -> None:
    from vaelab.commands.evaluate import evaluate_runs  # imports torch: only now, so that --help answers at once

    evaluate_runs(config)


if __name__ == "__main__":
    check_words(sys.argv[1:])
    main()
