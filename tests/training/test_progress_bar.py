"""The progress bar: it is changed as often as it is drawn, and ends at the last batch."""

from pathlib import Path
from typing import Any

import pytest
from lightning import Trainer
from small_runs import SMALL, composed

from vaelab.build import build, build_data
from vaelab.training.callbacks import ProgressBar, progress


@pytest.mark.parametrize(("per_second", "batches"), [(4, [1, 3, 5, 6]), (8, [1, 2, 3, 4, 5, 6]), (0, [])])
def test_it_is_changed_as_often_as_it_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, per_second: int, batches: list[int]
) -> None:
    """Batches are an eighth of a second apart, by a clock that the steps turn."""
    clock, shown = [100.0], list[int]()

    class Bar(ProgressBar):
        def on_train_batch_start(self, *_: Any) -> None:
            clock[0] += 0.125

        def _update(self, progress_bar_id: Any, current: int, **options: Any) -> None:
            super()._update(progress_bar_id, current, **options)
            if progress_bar_id is not None and progress_bar_id == self.train_progress_bar_id:
                shown.append(current)

    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    config = composed([*SMALL, "trainer.max_epochs=1"], tmp_path)
    Trainer(
        accelerator="cpu",
        max_epochs=1,
        callbacks=[Bar(per_second)],
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        limit_val_batches=0,
        log_every_n_steps=0,
    ).fit(build(config), build_data(config))
    assert shown == batches
