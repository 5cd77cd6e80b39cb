"""Every logger that can hold them has the metrics, config, final numbers and pictures of a run; wandb and MLflow without a server."""

import json
import sqlite3
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from small_runs import train_small
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from wandb.proto import wandb_internal_pb2

PICTURES = {"reconstructions", "samples", "traversals"}  # of Pictures; the others of figures/ follow after training
BLOCK = 2**15  # bytes of a log of LevelDB
METRICS = {"train/elbo", "val/elbo", "val/bound", "train/images_per_second", "test/elbo", "test/log_likelihood"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("loggers") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_SILENT", "true")
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        words = ["logger=[tensorboard,wandb,mlflow]", "logger.wandb.offline=true", "evaluation.report=false", "trainer.max_epochs=1"]
        return train_small(folder, *words)


def wandb_records(run: Path) -> Iterator[wandb_internal_pb2.Record]:
    """Records that wandb has written to be sent later: a log of LevelDB, in blocks of 32 KiB, after 7 bytes of its own.

    Each part of a record has a sum (4 bytes), its length (2) and its type (1): 1 is all of a record, 4 the last part of one.
    """
    (path,) = run.glob("wandb/offline-run-*/*.wandb")
    written, at, parts = path.read_bytes(), 7, b""
    while at + 7 <= len(written):
        if BLOCK - at % BLOCK < 7:  # too small for a part
            at += BLOCK - at % BLOCK
        length, kind = struct.unpack_from("<HB", written, at + 4)
        parts += written[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            parts = b""
            yield record


def test_tensorboard(run: Path) -> None:
    events = EventAccumulator(str(run)).Reload()
    assert set(events.Tags()["scalars"]) >= METRICS
    assert set(events.Tags()["images"]) >= PICTURES | {f"figures/{path.stem}" for path in (run / "figures").iterdir()}


def test_wandb(run: Path) -> None:
    records = list(wandb_records(run))
    logged = {item.key or item.nested_key[0]: item.value_json for record in records for item in record.history.item}
    config = {item.key: json.loads(item.value_json) for record in records for item in [*record.run.config.update, *record.config.update]}
    assert set(logged) >= METRICS
    results = json.loads((run / "results.json").read_text())
    assert json.loads(logged["test/elbo"]) == pytest.approx(results["test"]["elbo"])
    assert (config["objective"], config["latent_dim"], config["data.name"]) == ("ELBO", 2, "circles")
    figures = {f"figures/{path.stem}" for path in (run / "figures").iterdir()}
    assert "figures/moving_traversals" in figures
    assert set(logged) >= PICTURES | figures
    assert any(record.HasField("exit") for record in records)  # so that the next run of this process has a session of its own


def test_mlflow(run: Path) -> None:
    with sqlite3.connect(run / "mlflow.db") as database:
        metrics = dict(database.execute("select key, value from latest_metrics"))
        config = dict(database.execute("select key, value from params"))
        states = database.execute("select status from runs").fetchall()
    assert set(metrics) >= METRICS
    assert metrics["test/elbo"] == json.loads((run / "results.json").read_text())["test"]["elbo"]
    assert (config["objective"], config["latent_dim"], config["data.name"]) == ("ELBO", "2", "circles")
    assert states == [("FINISHED",)]
    found = {path.name for path in run.glob("mlartifacts/*/artifacts/*/*")}
    assert found >= {f"{name}_step_5.png" for name in PICTURES} | {path.name for path in (run / "figures").iterdir()}


def test_none_logs_nothing(tmp_path: Path) -> None:
    quick = ["evaluation.enabled=false", "evaluation.figures=false", "evaluation.report=false", "trainer.max_epochs=1"]
    run = train_small(tmp_path / "run", *quick, "logger=none")
    assert not [*run.glob("metrics.csv"), *run.glob("events*"), *run.glob("wandb"), *run.glob("mlflow.db")]
    assert json.loads((run / "results.json").read_text())["val"]["elbo"] < 0
