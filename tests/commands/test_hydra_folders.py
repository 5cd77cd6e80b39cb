"""The place where Hydra notes the config of a start: .hydra/, unless that of a run which may go on is there."""

import runpy
from pathlib import Path

from omegaconf import OmegaConf

from vaelab.runs.folder import RunFolder

TRAIN = Path(__file__).parents[2] / "scripts" / "train.py"


def test_a_start_that_left_nothing_gives_its_place_away(tmp_path: Path) -> None:
    hydra_subdir = runpy.run_path(str(TRAIN), run_name="train")["hydra_subdir"]
    for resolver in ("hydra_dir", "hydra_subdir"):  # which another test may register
        OmegaConf.clear_resolver(resolver)
    run = RunFolder(tmp_path / "run")
    assert hydra_subdir(str(run)) == ".hydra"
    (run.path / ".hydra").mkdir(parents=True)
    assert hydra_subdir(str(run)).startswith("resumed/")  # it has just begun
    with run.start(fresh=True):
        pass
    assert hydra_subdir(str(run)) == ".hydra"
    (run.checkpoints / "last.ckpt").touch()
    assert hydra_subdir(str(run)).startswith("resumed/")
