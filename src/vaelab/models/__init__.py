"""Which random variables exist."""

from vaelab.models.hierarchical import HierarchicalVAE
from vaelab.models.semi_supervised import SemiSupervisedVAE
from vaelab.models.vae import VAE

Model = VAE | HierarchicalVAE | SemiSupervisedVAE

__all__ = ["VAE", "HierarchicalVAE", "Model", "SemiSupervisedVAE"]
