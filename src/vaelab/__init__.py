"""Research with Variational Autoencoders."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vaelab.draw import Draw, Latent
    from vaelab.models import VAE, Model

__all__ = ["VAE", "Draw", "Latent", "Model"]
HOMES = {"VAE": "vaelab.models", "Draw": "vaelab.draw", "Latent": "vaelab.draw", "Model": "vaelab.models"}


def __getattr__(name: str) -> Any:
    """The public names, imported when they are first used: a command line that needs no torch does not wait for it (PEP 562)."""
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(HOMES[name]), name)
