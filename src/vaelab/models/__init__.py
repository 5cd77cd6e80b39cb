"""Models: the random variables of a VAE, and how they depend on each other."""

from vaelab.models.base import Model
from vaelab.models.hierarchical import HierarchicalVAE
from vaelab.models.semi_supervised import SemiSupervisedVAE
from vaelab.models.vae import VAE

__all__ = ["VAE", "HierarchicalVAE", "Model", "SemiSupervisedVAE"]
