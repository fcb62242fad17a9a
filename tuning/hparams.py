"""The trials of a search for TensorBoard's HParams tab, in event files that are written without TensorFlow."""

import time
from collections.abc import Iterable
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2
from tensorboard.plugins.hparams import summary_v2 as hparams
from tensorboard.plugins.scalar.summary_v2 import scalar_pb
from tensorboard.summary.writer.record_writer import RecordWriter

from tuning.space import Space
from zoo.files import replacing

if TYPE_CHECKING:
    from tuning.study import Trial

FOLDER = "logs"
FILE = "events.out.tfevents.hparams"  # TensorBoard knows its files by the word `tfevents`
METRICS = {
    "val_error": "validation error, %",
    "val_loss": "validation loss, nats",
    "val_error_best": "validation error of the best epoch, %",
    "val_error_last": "validation error of the last epoch, %",
    "epochs": "epochs",
    "executions": "executions",
    "seconds": "seconds of an execution",
}  # means over the executions
_VERSION = "brain.Event:2"  # the first record of an event file


def write(out: str | Path, trials: "Iterable[Trial]", space: Space) -> None:
    """Writes a session of the HParams plugin for each trial that has ended, where there is none yet.

    `tensorboard --logdir OUT` then shows the values and the metrics of all trials in one table. A failed trial has
    its values, no metrics, and the status of a failure.

    Args:
        out: the folder of the search; `OUT/logs/TRIAL/` gets the file of a trial, `OUT/logs/` that of the search.
        trials: the trials.
        space: what is tuned.
    """
    logs = Path(out) / FOLDER
    if not (logs / FILE).exists():
        _record(logs / FILE, [_experiment(space)])
    for trial in trials:
        if trial.status != "RUNNING" and not (path := logs / trial.id / FILE).exists():
            _record(path, _session(trial))


def _experiment(space):
    """What is tuned and what is measured: the columns of the tab."""
    tuned = [hparams.HParam(name, hparams.Discrete(values)) for name, values in space.candidates.items()]
    measured = [hparams.Metric(name, display_name=text) for name, text in METRICS.items()]
    return hparams.hparams_config_pb(tuned, measured)


def _session(trial):
    """The values of a trial, its metrics, and how it ended."""
    yield hparams.hparams_pb(trial.values, trial_id=trial.label)
    rows = list(trial.executions.values())
    if trial.status != "FAILED":
        for name in METRICS:
            yield scalar_pb(name, len(rows) if name == "executions" else fmean(row[name] for row in rows))
    status = api_pb2.STATUS_FAILURE if trial.status == "FAILED" else api_pb2.STATUS_SUCCESS
    end = plugin_data_pb2.SessionEndInfo(status=status, end_time_secs=time.time())
    about = metadata.create_summary_metadata(plugin_data_pb2.HParamsPluginData(session_end_info=end))
    summary = summary_pb2.Summary()
    summary.value.add(tag=metadata.SESSION_END_INFO_TAG, metadata=about, tensor=metadata.NULL_TENSOR)
    yield summary


def _record(path, summaries):
    """Writes a whole event file; a kill leaves none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as unfinished, open(unfinished, "wb") as file:
        writer, now = RecordWriter(file), time.time()
        writer.write(event_pb2.Event(wall_time=now, file_version=_VERSION).SerializeToString())
        for summary in summaries:
            writer.write(event_pb2.Event(wall_time=now, summary=summary).SerializeToString())
