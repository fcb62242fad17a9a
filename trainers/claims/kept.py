"""What is kept of an experiment: a folder of CSV files, from which it continues on any machine. Runs are not kept."""

import base64
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from trainers.claims.claim import Claim, Experiment
from trainers.claims.measures import COLUMNS
from trainers.claims.rules import Results
from zoo.data.fingerprint import check_same
from zoo.errors import BadInput
from zoo.files import Table, write_json
from zoo.reading import read_csv, read_json, refusing
from zoo.schema import by_name, record, require, text

ABOUT, ROWS, CURVES, EXAMPLES = "experiment.json", "results.csv", "curves.csv", "examples.csv"
KEY = ("model", "arm", "seed")
MEASURED = ("test_error", "test_loss", "test_ece", "val_error", "val_loss", "best_epoch")
TRAINING = ("train_error", "train_loss", "gap", "val_loss_rise")
CURVE = ("train_loss", "train_error", "train_loss_inference", "train_error_inference", "val_loss", "val_error")
TEST_CURVE = ("test_loss", "test_error")
_ABOUT = record({"experiment": text, "rules": by_name(text)}, {"versions": by_name(text)})
_AGAIN = "remove the folder and run the claim again"


class Kept:
    """The folder of an experiment.

    Args:
        folder: The folder that has a folder for each experiment.
        experiment: The experiment.
        quick: Whether its runs are those of `--quick`.
    """

    def __init__(self, folder: str | Path, experiment: Experiment, quick: bool = False):
        self.folder, self.experiment, self.quick = Path(folder) / experiment.name, experiment, quick
        own = tuple(column for name in experiment.measures for column in COLUMNS[name])
        self._rows = Table(self.folder / ROWS, (*KEY, "placement", *MEASURED, *TRAINING, *own, "seconds"))
        curve = (*CURVE, *TEST_CURVE) if experiment.curves else CURVE
        self._curves = Table(self.folder / CURVES, (*KEY, "epoch", *curve))
        self._examples = Table(self.folder / EXAMPLES, (*KEY, "wrong"))

    @property
    def about(self) -> dict[str, Any]:
        """The contents of `experiment.json`; an empty dictionary if nothing was run."""
        path = self.folder / ABOUT
        about = read_json(path, _AGAIN)
        return {} if about is None else require(path, about, _ABOUT, _AGAIN)

    def note(self, **entries: Any) -> None:
        """Adds entries to `experiment.json`."""
        write_json(self.folder / ABOUT, {**self.about, **entries})

    def check(self, claims: list[Claim]) -> None:
        """Refuses rows of another experiment, and claims whose rule is not the one that was fixed before the runs.

        Raises:
            BadInput: A hash differs.
        """
        about = self.about
        if not about:
            if self.rows():
                raise BadInput(f"{self.folder} must hold {ABOUT} beside its rows, got none; restore it, or {_AGAIN}")
            return
        if about["experiment"] != self.experiment.hash() or bool(about.get("quick")) != self.quick:
            raise BadInput(
                f"{self.folder} must hold the experiment {self.experiment.name} as it is now, got rows of another; "
                f"choose another --out, or {_AGAIN}"
            )
        for claim in claims:
            if claim.hash() != about["rules"].get(claim.id):
                raise BadInput(
                    f"the rule of {claim.id} must be the one that was fixed before {self.folder} was run, got another "
                    f"(hash {claim.hash()}, not {about['rules'].get(claim.id)}); restore the rule, or {_AGAIN}"
                )

    def note_run(self, arm: str, config: Mapping[str, Any], epochs: int) -> None:
        """Adds what a run of `arm` was: the versions in its `config.json`, its data, and its epochs.

        Raises:
            OtherData: Earlier runs of the arm had other data.
        """
        about, data = self.about, {key: config["data"].get(key) for key in ("sizes", "fingerprint")}
        before = {key: about.get(key, {}).get(arm) for key in data}
        check_same(before, data, f"{arm} of {self.experiment.name}")
        versions = about.get("versions", {})
        for name, version in config["versions"].items():
            if version not in (known := versions.get(name, "").split(" and ")):
                versions[name] = " and ".join([*filter(None, known), version])
        kept = {key: {**about.get(key, {}), arm: value} for key, value in data.items() if value is not None}
        self.note(versions=versions, epochs={**about.get("epochs", {}), arm: epochs}, **kept)

    def begin(self, claims: list[Claim], arms: Iterable[tuple[str, str]]) -> set[tuple]:
        """Fixes the rules of `claims`, starts or continues the files, and returns the finished (model, arm, seed).

        Raises:
            BadInput: A row is not of one of `arms`, each (model, arm): its network was built by other code.
        """
        if not self.about:
            rules = {claim.id: claim.hash() for claim in claims}
            self.note(experiment=self.experiment.hash(), rules=rules, quick=self.quick)
        rows, arms, stored = self.rows(), set(arms), self._stored()
        if others := {(row["model"], row["arm"]) for row in rows} - arms:
            raise BadInput(
                f"{self.folder} must hold the networks of {self.experiment.name} as they are now, got rows of "
                f"{' and '.join(sorted(f'{model}/{arm}' for model, arm in others))}; restore them, or {_AGAIN}"
            )
        finished = {_key(row) for row in rows} & {_key(row) for row in stored}
        for table, held in ((self._rows, rows), (self._curves, self.curves()), (self._examples, stored)):
            # What was written of a run in part is dropped: that run is done again.
            table.start(row for row in held if _key(row) in finished)
        return finished

    def add(self, key: tuple, row: Mapping, curve: list[dict], wrong: np.ndarray) -> None:
        """Adds a finished run; its row last, since that marks it as finished."""
        names = dict(zip(KEY, key, strict=True))
        for epoch in curve:
            self._curves.append({**_short(epoch), **names})
        self._examples.append({**names, "wrong": packed(wrong)})
        self._rows.append({**row, **names})

    def rows(self) -> list[dict[str, Any]]:
        """Returns the rows of the finished runs."""
        return _read(self.folder / ROWS)

    def curves(self) -> list[dict[str, Any]]:
        """Returns a row per run and epoch."""
        return _read(self.folder / CURVES)

    def _stored(self):
        return _read(self.folder / EXAMPLES)

    def results(self) -> Results:
        """Returns what was measured, by arm and seed."""
        results = Results({}, {})
        for row in self.rows():
            results.rows.setdefault(row["arm"], {})[row["seed"]] = row
        with refusing(self.folder / EXAMPLES, _AGAIN):
            for row in self._stored():
                results.wrong.setdefault(row["arm"], {})[row["seed"]] = unpacked(row["wrong"])
        return results


def packed(wrong: np.ndarray) -> str:
    """Returns whether each example is wrong as text: its count, then its bits, compressed.

    Examples:
        >>> unpacked(packed(np.array([True, False, True]))).tolist()
        [True, False, True]
    """
    bits = zlib.compress(np.packbits(wrong).tobytes(), 9)
    return f"{len(wrong)}:{base64.b64encode(bits).decode()}"


def unpacked(text: str) -> np.ndarray:
    """Returns what `packed` was given."""
    count, _, bits = text.partition(":")
    return np.unpackbits(np.frombuffer(zlib.decompress(base64.b64decode(bits)), np.uint8))[: int(count)].astype(bool)


def _read(path):
    return read_csv(path) if path.exists() else []


def _key(row):
    return tuple(row[name] for name in KEY)


def _short(epoch):
    """The values of an epoch with five digits, since a picture shows no more."""
    return {key: float(f"{value:.5g}") if isinstance(value, float) else value for key, value in epoch.items()}
