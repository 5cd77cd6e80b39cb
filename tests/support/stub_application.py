"""An application without a model, for tests of sweeps: our dials, sweepers, launchers and run folders, and runs that take no time.

python tests/support/stub_application.py [-m] [key=value ...]

A run holds a number, which each epoch changes by what the config says and a checkpoint keeps. So its results show whether it went on
where it had stopped, and epochs.txt which epochs it went through to get there.
"""

import hashlib
import os
import pickle
import signal
import sys
import time
import zipfile
from datetime import datetime
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf

from vaelab.runs.folder import RunFolder

os.environ["STUB_CONF"] = str(Path(__file__).parents[2] / "conf")
OmegaConf.register_new_resolver(
    "stub_subdir", lambda run: f"resumed/{time.time()}/.hydra" if Path(run, ".hydra").exists() else ".hydra", use_cache=True
)


@hydra.main(config_path=".", config_name="stub_application", version_base="1.3")
def main(config: DictConfig) -> float:
    stopped = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append("SIGTERM"))
    if config.objective.beta < 0:
        raise ValueError(f"beta={config.objective.beta} must not be negative")
    run = RunFolder(config.paths.run_dir)
    with run.start(fresh=config.existing != "resume"):
        if run.is_finished:
            return run.results()["val"]["elbo"]
        state = read_checkpoint(run.last_checkpoint) if run.last_checkpoint else {"epoch": 0, "number": 0.0}
        while state["epoch"] < config.trainer.max_epochs:
            end_badly(config.end if state["epoch"] else "finished", run.path)
            time.sleep(config.seconds)  # which a signal does not shorten
            with (run.path / "epochs.txt").open("a") as file:
                file.write(f"{state['epoch']}\n")
            state = {"epoch": state["epoch"] + 1, "number": next_number(state["number"], config)}
            write_checkpoint(
                state | {"config": OmegaConf.to_container(config, resolve=False), "state_dict": {}}, run.checkpoints / "last.ckpt"
            )
            if stopped:
                print(f"stopped by {stopped[0]} in epoch {state['epoch']}: go on with resume={run}", flush=True)
                raise SystemExit(128 + signal.SIGTERM)
        elbo = -100 - config.objective.beta - config.optimizer.lr + state["number"]
        run.write_results(
            {
                "test": {"elbo": elbo - 1, "rate": config.objective.beta, "distortion": 1 - elbo - config.objective.beta},
                "val": {"elbo": elbo, "bound": elbo},
                "checkpoint": "checkpoints/last.ckpt",
                "epochs": state["epoch"],
                "steps": state["epoch"],
                "seed": config.seed,
                "finished": datetime.now().astimezone().isoformat(),
                "git_commit": None,
            }
        )
        return elbo


def write_checkpoint(state: dict[str, Any], path: Path) -> None:
    """What torch.load reads, without torch."""
    part = path.with_suffix(".part")
    with zipfile.ZipFile(part, "w") as file:
        file.writestr("last/data.pkl", pickle.dumps(state, protocol=2))
        file.writestr("last/version", "3")
        file.writestr("last/byteorder", sys.byteorder)
    part.replace(path)


def read_checkpoint(path: Path) -> dict[str, Any]:
    return pickle.loads(zipfile.ZipFile(path).read("last/data.pkl"))


def next_number(number: float, config: DictConfig) -> float:
    """Between 0 and 1; that of an epoch depends on those of all before it."""
    values = [number, config.seed, config.objective.beta, config.optimizer.lr, config.latent_dim]
    return int(hashlib.sha256(repr(values).encode()).hexdigest()[:12], 16) / 16**12


def end_badly(how: str, folder: Path) -> None:
    """End as a run does that fails; do nothing if it is to be finished."""
    if how == "raises":
        raise RuntimeError("this run was to fail")
    if how == "is_killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "fills_the_disk":
        with (folder / "full").open("w") as file:
            os.dup2(os.open("/dev/full", os.O_WRONLY), file.fileno())
            file.write("x")


if __name__ == "__main__":
    main()
