"""Find anomalies with a trained model: python scripts/detect_anomalies.py run=<run folder> [against=kmnist]; --help lists the options.

python scripts/train.py experiment=vae_mnist data.classes=[1]
python scripts/detect_anomalies.py run=outputs/vae_mnist/...                      the other digits are anomalies
python scripts/detect_anomalies.py run=outputs/vae_mnist/... against=kmnist       characters are
"""

import hydra
from omegaconf import DictConfig


@hydra.main(config_path="../conf", config_name="detect_anomalies", version_base="1.3")
def main(config: DictConfig) -> None:
    from vaelab.commands.anomalies import detect_anomalies  # imports torch: only now, so that --help answers at once

    detect_anomalies(config)


if __name__ == "__main__":
    main()
