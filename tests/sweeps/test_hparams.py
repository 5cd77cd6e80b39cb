"""TensorBoard's HPARAMS page of the runs of a sweep."""

import json
from pathlib import Path

import forked_runs
import pytest
from small_runs import QUICK, SMALL
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.hparams import api_pb2, list_session_groups
from tensorboard.plugins.hparams.backend_context import Context


def test_tensorboard_shows_all_parameters_and_final_metrics_of_runs_with_different_keys(tmp_path: Path) -> None:
    """Read back through the data layer of its HPARAMS page."""
    runs = {(beta, prior): tmp_path / "sweep" / f"{beta}_{prior}" for beta in (1, 2) for prior in ("standard_normal", "vamp")}
    (tmp_path / "sweep").mkdir()
    for (beta, prior), folder in runs.items():
        words = [f"objective.beta={beta}", f"prior={prior}", "objective.kl=k1", "trainer.max_epochs=1"]
        code, printed = forked_runs.run(folder, *SMALL, *QUICK, *words)
        assert code == 0, printed
    events = EventMultiplexer()
    events.AddRunsFromDirectory(str(tmp_path / "sweep"))
    events.Reload()
    data = MultiplexerDataProvider(events, str(tmp_path / "sweep"))
    context, request = Context(TBContext(data_provider=data, logdir=str(tmp_path / "sweep"))), RequestContext()
    metadata = context.hparams_metadata(request, "")
    experiment = context.experiment_from_metadata(request, "", True, metadata, context.hparams_from_data_provider(request, "", limit=1000))
    assert {"objective.beta", "prior", "prior.num_components"} <= {info.name for info in experiment.hparam_infos}
    asked = api_pb2.ListSessionGroupsRequest(
        start_index=0, slice_size=100, allowed_statuses=[api_pb2.STATUS_SUCCESS, api_pb2.STATUS_UNKNOWN, api_pb2.STATUS_RUNNING]
    )
    asked.col_params.add(metric=api_pb2.MetricName(tag="test/elbo"))
    groups = list_session_groups.Handler(request, context, "", asked).run().session_groups
    shown = {}
    for group in groups:
        (value,) = [metric.value for metric in group.metric_values if metric.name.tag == "test/elbo"]
        prior = "vamp" if "vamp" in str(group.hparams["prior"]).lower() else "standard_normal"
        shown[group.hparams["objective.beta"].number_value, prior] = value
    elbos = {key: json.loads((folder / "results.json").read_text())["test"]["elbo"] for key, folder in runs.items()}
    assert shown == {key: pytest.approx(elbo, rel=1e-5) for key, elbo in elbos.items()}
