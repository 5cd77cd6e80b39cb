"""Which random variables exist."""

from vaelab.models.semi_supervised import SemiSupervisedVAE
from vaelab.models.vae import VAE

Model = VAE | SemiSupervisedVAE

__all__ = ["VAE", "Model", "SemiSupervisedVAE"]
