"""TensorBoard's files of a run."""

from collections.abc import Mapping

from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only


class TensorBoard(TensorBoardLogger):
    """Lightning's logger, which writes into the run folder itself: TensorBoard calls a run by the folder of its event files.

    It leaves out `epoch`, which Lightning logs with everything, and hparams.yaml, which .hydra/ has in full.

    Args:
        run_dir: the run folder.
    """

    def __init__(self, run_dir: str) -> None:
        super().__init__(run_dir, name="", version="", default_hp_metric=False)  # hyper-parameters are written with the final metrics

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        super().log_metrics({name: value for name, value in metrics.items() if name != "epoch"}, step)

    @rank_zero_only
    def save(self) -> None:
        self.experiment.flush()
