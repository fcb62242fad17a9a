"""What an export takes: a finished run, or an artefact again when its run is gone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import runs
from zoo.artefacts import contract, probe, sums
from zoo.artefacts.locate import from_tokens, resolved
from zoo.artefacts.runtimes.keras import model_file, read_keras
from zoo.data.options import DataOptions
from zoo.errors import BadInput
from zoo.placement.placement import Placement
from zoo.reading import present
from zoo.schema import all_of, by_name, fields_of, real, record, require, text, whole
from zoo.surgery.network import Network

if TYPE_CHECKING:
    import keras

_TEST = dict.fromkeys(runs.MEASURED, record({"value": real(), "seeds": whole(1)}))
_TRAINING = {"command": text, "seconds": real(0), "epochs": whole(1), "best_epoch": whole(1), "val_error": real(0, 100)}
_NEEDED = record(
    {
        "architecture": record({"model": text, "settings": record({})}, {"origin": record({"model": text})}),
        "placement": record({}),
        "data": all_of(runs.DATA, fields_of(DataOptions), record({"sizes": record({"train": whole(1)})})),
        "recipe": record({}),
        "seed": whole(),
        "metrics": record(_TEST),
        "training": record({**_TRAINING, "threads": whole(1), "versions": by_name(text)}),
        "export": record({}, {"kept": record({})}),
    }
)


@dataclass(frozen=True, eq=False)
class Earlier(runs.Run):
    """An artefact as the run that it was exported from, as far as its card tells.

    Attributes:
        card: the card of the artefact.
    """

    card: dict[str, Any]

    @property
    def network(self) -> Network | None:
        """Whose network it is; None for one of the four models."""
        origin = self.card["architecture"].get("origin")
        if origin is None:
            return None
        rest = {key: value for key, value in origin.items() if key not in ("model", "weights", "new_head")}
        return Network(origin["model"], origin["weights"], origin["new_head"], origin=rest)

    @property
    def label(self) -> str:
        """The name of its model."""
        return self.card["architecture"]["model"]

    @property
    def name(self) -> str:
        """The name of the artefact."""
        return self.card["name"]

    def summary(self) -> dict:
        """Returns the test measures of the card."""
        return self.card["metrics"]


def read(folder: str | Path) -> runs.Run:
    """Returns the finished run in `folder`; of an artefact, an `Earlier`.

    Args:
        folder: a run folder, the folder of an artefact, or the name of a shipped one.

    Raises:
        BadInput: `folder` is neither, the run is not finished, or the artefact is damaged or has no `.keras` file.
    """
    place = resolved(folder)
    if not (place / contract.NAME).is_file():
        if not present(place / runs.CONFIG):
            raise BadInput(
                f"{folder} is not a run folder or an artefact: it has no {runs.CONFIG} and no {contract.NAME}; give a "
                "folder of `python -m trainers train`, or an artefact"
            )
        return runs.read(folder)
    sums.check(place)
    card = contract.read(place)
    require(place / contract.NAME, card, _NEEDED, "export the run again")
    model_file(place, card)
    Placement.from_json(card["placement"])
    training = card["training"]
    config = {
        "model": card["architecture"].get("origin", card["architecture"])["model"],
        "settings": card["architecture"]["settings"],
        "data": {**card["data"], "input_shape": card["input"]["shape"], "labels": card["output"]["labels"]},
        **{key: card[key] for key in ("placement", "recipe", "seed")},
        **{key: training[key] for key in ("command", "threads", "versions")},
    }
    return Earlier(place, config, training, (), card)


def model(source: runs.Run) -> "keras.Model":
    """Returns the model of a run or an artefact, from the inputs of its data to logits."""
    from zoo.surgery.network import logits_of

    if isinstance(source, Earlier):
        return from_tokens(read_keras(model_file(source.folder, source.card)))
    network = read_keras(source.folder / runs.MODEL)
    return logits_of(network) if source.network else network  # the file of a user's model ends as that model does


def keeps(source: runs.Run, name: str, files: Mapping[str, str]) -> bool:
    """Returns whether an artefact has the files of a format, which an export then keeps byte for byte.

    Args:
        source: the run or artefact.
        name: name of the format.
        files: its file of each mode.
    """
    return isinstance(source, Earlier) and source.card["formats"].get(name) == files


def probe_of(source: runs.Run, modes: Sequence[str]) -> dict[str, Any] | None:
    """Returns the probe of an artefact, None for a run or a probe that lacks one of `modes`."""
    if not isinstance(source, Earlier):
        return None
    arrays = probe.read(source.folder)
    return arrays if set(modes) <= set(arrays) else None
