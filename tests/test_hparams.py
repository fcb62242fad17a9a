"""The HParams tab of a search, read back by TensorBoard's own plugin."""

import pytest
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.hparams import api_pb2, backend_context, get_experiment, list_session_groups

from tuning import hparams
from tuning.space import Space
from tuning.study import FIGURES, Trial

SPACE = Space.parse(["conv=0:0.2:0.1:dropout/spatial", "hidden=0/0.5", "learning_rate=0.001/0.01"])


def trial(name, status, errors, **values):
    rows = {i: dict.fromkeys(FIGURES, 2.0) | {"val_error": error} for i, error in enumerate(errors)}
    return Trial(name, SPACE.control() | values, (), status=status, executions=rows)


def tab(folder):
    """What the plugin shows: hyperparameters, names of metrics, and the values, metrics and status of each trial."""
    multiplexer = EventMultiplexer().AddRunsFromDirectory(str(folder))
    multiplexer.Reload()
    provider = MultiplexerDataProvider(multiplexer, str(folder))
    context, request = backend_context.Context(TBContext(data_provider=provider)), RequestContext()
    actual = get_experiment.Handler(request, context, "", api_pb2.GetExperimentRequest(include_metrics=True)).run()
    states = [api_pb2.STATUS_SUCCESS, api_pb2.STATUS_FAILURE, api_pb2.STATUS_RUNNING, api_pb2.STATUS_UNKNOWN]
    wanted = api_pb2.ListSessionGroupsRequest(
        allowed_statuses=states,
        include_metrics=True,
        slice_size=100,
        col_params=[api_pb2.ColParams(metric=info.name) for info in actual.metric_infos],
    )
    groups = list_session_groups.Handler(request, context, "", wanted).run().session_groups
    return (
        {info.name: list(info.domain_discrete) for info in actual.hparam_infos},
        [info.name.tag for info in actual.metric_infos],
        {
            group.name: (
                {name: getattr(value, value.WhichOneof("kind")) for name, value in group.hparams.items()},
                {metric.name.tag: metric.value for metric in group.metric_values},
                group.sessions[0].status,
            )
            for group in groups
        },
    )


def test_tensorboard_shows_the_values_and_metrics_of_every_trial_that_has_ended(tmp_path):
    trials = [
        trial("control", "COMPLETED", [4.0, 6.0, 5.0]),
        trial("0000", "STOPPED", [8.0, 9.0], rate_conv=0.2, kind_conv="spatial", learning_rate=0.01),
        trial("0001", "FAILED", [], rate_hidden=0.5),
        trial("0002", "RUNNING", [3.0], rate_hidden=0.5),
    ]
    hparams.write(tmp_path, trials, SPACE)
    tuned, measured, sessions = tab(tmp_path)
    assert {name: set(values) for name, values in tuned.items()} == {n: set(v) for n, v in SPACE.candidates.items()}
    assert measured == list(hparams.METRICS)
    assert {name: values for name, (values, _, _) in sessions.items()} == {t.label: t.values for t in trials[:3]}
    for shown in trials[:2]:
        metrics = sessions[shown.label][1]
        assert metrics == pytest.approx(
            {name: shown.mean(name) for name in FIGURES} | {"executions": len(shown.executions)}
        )
    assert sessions["trial 1"][1:] == ({}, api_pb2.STATUS_FAILURE)
    assert sessions["trial 0"][2] == api_pb2.STATUS_SUCCESS


def test_a_file_that_is_there_is_kept_and_a_missing_one_is_written(tmp_path):
    trials = [trial("control", "COMPLETED", [4.0]), trial("0000", "COMPLETED", [5.0], rate_hidden=0.5)]
    hparams.write(tmp_path, trials, SPACE)
    before = {path: path.read_bytes() for path in tmp_path.rglob(hparams.FILE)}
    (tmp_path / "logs" / "0000" / hparams.FILE).unlink()
    hparams.write(tmp_path, trials, SPACE)
    after = {path: path.read_bytes() for path in tmp_path.rglob(hparams.FILE)}
    assert before.keys() == after.keys()
    assert [path.parent.name for path in before if before[path] != after[path]] in ([], ["0000"])
    assert len(tab(tmp_path)[2]) == 2
