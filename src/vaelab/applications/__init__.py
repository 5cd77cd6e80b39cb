"""Functions of a trained model."""

from vaelab.applications.anomaly import Detector, fit_detector
from vaelab.applications.completion import Completion
from vaelab.applications.detection import detection
from vaelab.applications.encoding import LatentMoments, codes
from vaelab.applications.exploration import by_rate, interpolate, manifold, nearest, pairs, slerp, traverse, walk_in
from vaelab.applications.gibbs import metropolis_within_gibbs, pseudo_gibbs
from vaelab.applications.importance_resampling import importance_resampling
from vaelab.applications.inpainting import assess, errors, inpaint, summarized
from vaelab.applications.masks import hidden

__all__ = [
    "Completion",
    "Detector",
    "LatentMoments",
    "assess",
    "by_rate",
    "codes",
    "detection",
    "errors",
    "fit_detector",
    "hidden",
    "importance_resampling",
    "inpaint",
    "interpolate",
    "manifold",
    "metropolis_within_gibbs",
    "nearest",
    "pairs",
    "pseudo_gibbs",
    "slerp",
    "summarized",
    "traverse",
    "walk_in",
]
