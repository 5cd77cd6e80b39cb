"""The speed of this project, beside what one would write by hand."""

from omegaconf import DictConfig

from vaelab.benchmark.disentanglement import scoring
from vaelab.benchmark.gpu import gpu
from vaelab.benchmark.likelihood import likelihood
from vaelab.benchmark.scaling import scaling
from vaelab.benchmark.stacked import stacked
from vaelab.benchmark.start import start
from vaelab.benchmark.training import training
from vaelab.commands.errors import report_errors

PARTS = {
    "training": training,
    "likelihood": likelihood,
    "disentanglement": scoring,
    "scaling": scaling,
    "stacked": stacked,
    "start": start,
    "gpu": gpu,
}


@report_errors
def benchmark(config: DictConfig) -> None:
    """Measures what `benchmark.parts` names, and prints it.

    Raises:
        ValueError: if it names something else, or a part cannot be measured with this config.
    """
    unknown = [part for part in config.benchmark.parts if part not in PARTS]
    if unknown:
        raise ValueError(f"benchmark.parts={unknown} cannot be measured: choose from {', '.join(PARTS)}")
    for part in config.benchmark.parts:
        PARTS[part](config)
