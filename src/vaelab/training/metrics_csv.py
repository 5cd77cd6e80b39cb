"""metrics.csv: a line for each time that metrics were logged, readable with any table program while training goes on."""

import csv
from argparse import Namespace
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from vaelab.runs.files import DamagedFile
from vaelab.runs.folder import RunFolder


class MetricsCSV(Logger):
    """Appends to <folder>/metrics.csv. A resumed run drops the lines after its checkpoint and goes on below the others.

    Lightning's CSVLogger deletes what a former process of the same run has written; this one exists to keep it.

    Args:
        save_dir: the run folder.
    """

    def __init__(self, save_dir: str) -> None:
        super().__init__()
        self.path = RunFolder(save_dir).metrics
        self.columns: list[str] = []
        self.rows: list[dict[str, Any]] = []
        if self.path.exists():
            with self.path.open(newline="") as file:
                reader = csv.DictReader(file)
                self.rows = list(reader)
                self.columns = list(reader.fieldnames or [])

    @property
    def name(self) -> str:
        return "csv"

    @property
    def version(self) -> str:
        return ""

    def rewind(self, step: int) -> None:
        """Forget what was logged at `step` or later, and a line that is not whole.

        Raises:
            DamagedFile: if the file is not of this package.
        """
        try:
            if self.columns and "step" not in self.columns:
                raise ValueError("it has no column called step")
            self.rows = [row for row in self.rows if None not in (*row, *row.values()) and int(row["step"]) < step]
        except ValueError as error:
            raise DamagedFile(self.path, str(error), "move it away; the run goes on without it") from error
        self._rewrite()

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        row = {"step": step, **{name: float(value) for name, value in metrics.items()}}
        self.rows.append(row)
        new = [name for name in row if name not in self.columns]
        if new:
            self.columns += new
            self._rewrite()
        else:
            with self.path.open("a", newline="") as file:
                csv.DictWriter(file, self.columns).writerow(row)

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the config has a file of its own."""

    @rank_zero_only
    def _rewrite(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_name(f"{self.path.name}.part")
        with part.open("w", newline="") as file:
            writer = csv.DictWriter(file, self.columns)
            writer.writeheader()
            writer.writerows(self.rows)
        part.replace(self.path)  # a process killed meanwhile leaves the former file
