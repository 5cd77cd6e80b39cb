"""Two processes on the CPU train one model."""

import csv
import json
import os
import socket
from pathlib import Path

import pytest
import torch
from forked_scripts import ROOT, Script, command
from small_runs import SMALL
from torch.distributed import run as torchrunner

ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests" / "support")]), "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One epoch over 193 examples in two processes; 101 examples are validated on. Both numbers are odd."""
    folder = tmp_path_factory.mktemp("ddp")
    size = ["data.dataset.num_train=294", "data.val_size=101", "trainer.max_epochs=1", "data.eval_batch_size=16"]
    dump = f"+callbacks.dump={{_target_: rank_records.DumpRanks, folder: {folder}}}"
    command("train.py", *SMALL, "trainer=ddp_cpu", *size, dump, f"hydra.run.dir={folder / 'run'}", env=ENVIRONMENT)
    return folder


def test_both_processes_end_with_the_same_weights_from_different_data_and_noise(run: Path) -> None:
    a, b = (torch.load(run / f"rank{rank}.pt") for rank in (0, 1))
    assert all(torch.equal(a["weights"][key], b["weights"][key]) for key in a["weights"])
    assert not torch.equal(a["noise"], b["noise"])
    seen = [{tuple(row) for row in rank["y"].tolist()} for rank in (a, b)]
    assert len(a["y"]) == len(b["y"]) == 97  # 193 examples and one twice
    assert len(seen[0] | seen[1]) == 193
    assert len(seen[0] & seen[1]) == 1


def test_validation_is_the_mean_over_all_examples_of_both_processes(run: Path) -> None:
    """The rate is analytic, so it has no noise that could differ."""
    from vaelab.build import open_run
    from vaelab.metrics import bound

    opened = open_run(run / "run", "last")
    with torch.no_grad():
        rate = torch.cat([bound(opened.model(x, y))["rate"] for x, y in opened.datamodule.batches("val")])
    (row,) = [row for row in csv.DictReader((run / "run" / "metrics.csv").open()) if row["val/rate"]]
    assert len(rate) == 101
    assert float(row["val/rate"]) == pytest.approx(rate.mean().item(), rel=1e-5)


def test_a_run_of_two_processes_leaves_one_folder_and_can_be_resumed(run: Path) -> None:
    assert sorted(path.name for path in run.iterdir()) == ["rank0.pt", "rank1.pt", "run"]
    checkpoint = torch.load(run / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert len(checkpoint["generators"]) == 2
    assert not torch.equal(checkpoint["generators"][0]["torch"], checkpoint["generators"][1]["torch"])
    command("train.py", f"resume={run / 'run'}", "trainer.max_epochs=2", "trust=true", env=ENVIRONMENT)
    assert torch.load(run / "run" / "checkpoints" / "last.ckpt", weights_only=True)["epoch"] == 1


def test_of_processes_that_are_forked_the_first_evaluates_and_counts_the_time_of_former_parts(tmp_path: Path) -> None:
    """The parent has neither trained nor read the checkpoint: what it knows of both comes from elsewhere."""
    words = [*SMALL, "trainer=ddp_cpu", "trainer.strategy=ddp_fork", "trainer.max_epochs=1", f"hydra.run.dir={tmp_path / 'run'}"]
    command("train.py", *words, env=ENVIRONMENT)
    results, last = tmp_path / "run/results.json", tmp_path / "run/checkpoints/last.ckpt"
    assert json.loads(results.read_text())["train_time_s"] > 0
    torch.save(torch.load(last, weights_only=True) | {"train_time": 1e6}, last)
    command("train.py", f"resume={tmp_path / 'run'}", "trainer.max_epochs=2", "trust=true", env=ENVIRONMENT)
    assert json.loads(results.read_text())["train_time_s"] > 1e6
    assert torch.load(last, weights_only=True)["train_time"] > 1e6


@pytest.mark.parametrize("sweeper", ["vaelab_grid", "basic"])
def test_several_devices_are_refused_where_a_job_has_no_command_line_of_its_own(sweeper: str, tmp_path: Path) -> None:
    words = ["trainer=ddp_cpu", "seed=0,1", "hydra/launcher=basic", f"hydra/sweeper={sweeper}"]
    done = command("train.py", "-m", *SMALL, *words, check=False, cwd=tmp_path)
    assert done.returncode != 0
    assert "launcher=local" in done.stderr


def torchrun(folder: Path, nodes: int) -> Path:
    """A run of two processes that torchrun starts on so many machines, each of which types the line; all share the folder."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    devices = 2 // nodes
    words = [*SMALL, "trainer=ddp_cpu", f"trainer.devices={devices}", f"trainer.num_nodes={nodes}", "trainer.max_epochs=1"]
    launch = ["--nnodes", str(nodes), "--nproc_per_node", str(devices), "--master_addr", "127.0.0.1", "--master_port", str(port)]
    machines = [
        Script(
            torchrunner.__file__, *launch, "--node_rank", str(rank), str(ROOT / "scripts" / "train.py"), *words, cwd=folder, env=ENVIRONMENT
        )
        for rank in range(nodes)
    ]
    ended = [machine.wait() for machine in machines]
    assert not any(done.returncode for done in ended), "\n".join(done.stderr for done in ended)[-3000:]
    (run,) = (folder / "outputs").glob("*/*")
    return run


def test_torchrun_leaves_one_folder_also_on_several_machines(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Named by the time of the first process, and with the config and the log of the first alone; the weights are the same."""
    one, two = (torchrun(tmp_path_factory.mktemp("torchrun"), nodes) for nodes in (1, 2))
    for folder in (one, two):
        assert (folder / ".hydra" / "config.yaml").is_file()
        assert not (folder / "resumed").exists()
        assert {path.name for path in folder.glob("*.log")} == {"train.log", "train_rank_1.log"}
    mine, other = (torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True) for folder in (one, two))
    assert len(mine["generators"]) == len(other["generators"]) == 2
    assert all(torch.equal(mine["state_dict"][key], other["state_dict"][key]) for key in mine["state_dict"])
    found = [json.loads((folder / "results.json").read_text())["test"] for folder in (one, two)]
    assert found[0] == found[1]
    assert found[0]["num_images"] == 96  # all, and not the share of the first process


def test_torchrun_of_a_sweep_is_refused_in_words(tmp_path: Path) -> None:
    environment = ENVIRONMENT | {"TORCHELASTIC_RUN_ID": "none", "RANK": "1"}
    done = command("train.py", "-m", *SMALL, "seed=0,1", check=False, cwd=tmp_path, env=environment)
    assert done.returncode != 0
    assert "torchrun and srun start the processes of one run, and a sweep is many" in done.stderr
    assert not any(tmp_path.iterdir())
