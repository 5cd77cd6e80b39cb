"""Research with Variational Autoencoders."""

from vaelab.draw import Draw, Latent
from vaelab.models import VAE

__all__ = ["VAE", "Draw", "Latent"]
