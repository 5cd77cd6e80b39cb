"""Complete test data of which a part is hidden: python scripts/inpaint.py run=<run folder> [mask=box]; --help lists the options.

python scripts/inpaint.py run=outputs/vae_mnist/...                                               the lower half, by Metropolis within Gibbs
python scripts/inpaint.py run=outputs/vae_mnist/... mask=random missing_share=0.8 method=importance_resampling
python scripts/inpaint.py run=outputs/vae_mnist/... mask=my_mask.png                              bright where x is hidden
"""

import hydra
from omegaconf import DictConfig


@hydra.main(config_path="../conf", config_name="inpaint", version_base="1.3")
def main(config: DictConfig) -> None:
    from vaelab.commands.inpaint import inpaint_run  # imports torch: only now, so that --help answers at once

    inpaint_run(config)


if __name__ == "__main__":
    main()
