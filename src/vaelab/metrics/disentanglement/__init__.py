"""Scores that say whether codes and factors of variation correspond one to one."""

from vaelab.metrics.disentanglement.correlation import gaussian_total_correlation, gaussian_wasserstein_correlation
from vaelab.metrics.disentanglement.dci import DCI, dci, dci_completeness, dci_disentanglement
from vaelab.metrics.disentanglement.explicitness import explicitness
from vaelab.metrics.disentanglement.information import mig, modularity, mutual_information
from vaelab.metrics.disentanglement.interventions import Guesses, beta_vae_score, factor_vae_score
from vaelab.metrics.disentanglement.robustness import irs
from vaelab.metrics.disentanglement.sap import sap, sap_continuous
from vaelab.metrics.disentanglement.suite import disentanglement, validation_mig
from vaelab.metrics.disentanglement.udr import udr, udr_scores

__all__ = [
    "DCI",
    "Guesses",
    "beta_vae_score",
    "dci",
    "dci_completeness",
    "dci_disentanglement",
    "disentanglement",
    "explicitness",
    "factor_vae_score",
    "gaussian_total_correlation",
    "gaussian_wasserstein_correlation",
    "irs",
    "mig",
    "modularity",
    "mutual_information",
    "sap",
    "sap_continuous",
    "udr",
    "udr_scores",
    "validation_mig",
]
