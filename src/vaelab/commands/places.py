"""Places where Hydra writes what it notes of a run, also where several processes start at once, or a run is resumed."""

import os
import re
import shutil
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from omegaconf import OmegaConf

from vaelab.runs.claims import TIME, is_claimed, made_anew
from vaelab.runs.folder import RunFolder


def hydra_dir(resume: str | None, new: str) -> str:
    """The folder where Hydra writes .hydra/ and train.log. A run that is resumed must not replace what its start has written."""
    if resume is None or not Path(resume).is_dir():  # what is no folder must not become one; train says what is wrong
        name = slurm_step() or start_of_torchrun()
        if name is None:
            return str(made_anew(new)) if re.search(f"{TIME}$", new) else new  # of runs that start in one second, each has its own
        return re.sub(f"{TIME}$", name, new)
    name = slurm_step() or start_of_torchrun()
    return f"{resume}/resumed/{name}" if name else str(new_session(resume))


def new_session(run: str) -> Path:
    """A new folder for what is noted of a session of a run; its name comes after those of earlier ones, whatever the clock says."""
    folder = Path(run, "resumed")
    latest = max((path.name for path in folder.glob("*") if re.fullmatch(rf"{TIME}(_\d+)*", path.name)), default="")
    now = f"{datetime.now():%Y-%m-%d_%H-%M-%S}"
    return made_anew(folder / max(now, latest))


def slurm_step() -> str | None:
    """slurm-<job>.<step> of what srun has started: the same for all of its tasks, and when SLURM starts the job again; a time is not."""
    if os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive") or "SLURM_PTY_PORT" in os.environ:
        return None  # in a shell, one thing is run after the other
    step = [os.environ.get(name) for name in ("SLURM_JOB_ID", "SLURM_STEP_ID")]
    return f"slurm-{'.'.join(map(str, step))}" if all(step) else None


def start_of_torchrun() -> str | None:
    """The time when the first of torchrun's processes started: the folder that all of them write to must not depend on their own clocks."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return None
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    store = TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))  # torchrun's own
    return store.compare_set("vaelab_start", "", f"{datetime.now():%Y-%m-%d_%H-%M-%S}").decode()


def rank() -> int | None:
    """The rank of a process that torchrun or srun started beside others; None for any other process."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return int(os.environ["RANK"])
    return int(os.environ["SLURM_PROCID"]) if slurm_step() and int(os.environ.get("SLURM_NTASKS", "1")) > 1 else None


def as_rank(words: list[str], rank: int) -> list[str]:
    """The command line of one of several processes: only the first writes train.log, the others logs of their own."""
    if {"-m", "--multirun"} & set(words):
        raise SystemExit("torchrun and srun start the processes of one run, and a sweep is many: leave them out, and set trainer.devices")
    return words + [f"hydra.job.name=train_rank_{rank}"] * (rank > 0)


def hydra_subdir(run_dir: str) -> str | None:
    """The place of .hydra/ in the folder, which one process writes; beside the one that is there, if it is a run's that may go on."""
    if rank():
        return None
    is_new = not Path(run_dir, ".hydra").exists() or RunFolder(run_dir).left_nothing
    return ".hydra" if is_new else f"resumed/{new_session(run_dir).name}/.hydra"


def release(notes: Path) -> None:
    """Remove what Hydra has noted of a start that failed before anything was logged, if the place was named by the time alone.

    A refused start leaves no run in lists, and does not look like a later session of the run whose folder it was refused.

    Args:
        notes: the folder .hydra of the start.
    """
    place = notes.parent
    is_session = place.parent.name == "resumed"
    run = RunFolder(place.parent.parent if is_session else place)
    logged = run.metrics.is_file() and run.metrics.stat().st_mtime_ns >= notes.stat().st_mtime_ns
    if re.fullmatch(rf"{TIME}(_\d+)*", place.name) and not logged and (is_session or not is_claimed(place)):
        shutil.rmtree(place, ignore_errors=True)
        if is_session:
            with suppress(OSError):  # that holds other sessions
                place.parent.rmdir()


OmegaConf.register_new_resolver("hydra_dir", hydra_dir, use_cache=True)
OmegaConf.register_new_resolver("hydra_subdir", hydra_subdir, use_cache=True)
