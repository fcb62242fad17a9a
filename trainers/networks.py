"""Whose network the commands train: one of the four by name, or a model of the user's, opened before they start."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from trainers.plan import Data
from trainers.recipe import number_of_devices
from zoo import data, startup
from zoo.data import announce
from zoo.errors import BadInput
from zoo.surgery.network import Network, is_network, survey

OPTIONS = ("weights", "replace_head", "input_range", "imports")


def whose(
    model: str | Path | None,
    options: Mapping[str, Any],
    given: Mapping[str, Any],
    where: Mapping[str, Any],
    say: Callable[[str], object] = lambda line: None,
) -> "str | Network | None":
    """Returns the name of one of the four models, or a `Network` that fits the data; None for None.

    Args:
        model: MODEL.
        options: options of the run; those of its data decide the input and the classes.
        given: the options for models that are not one of the four, by the names of `OPTIONS`; None if not given.
        where: `data_dir` and `download`.
        say: called with lines about the model.

    Raises:
        BadInput: there is no such model, it does not fit the data, or an option is for other models.
    """
    given = {key: value for key, value in given.items() if value not in (None, False, (), [])}
    if model is not None and not isinstance(model, str | Path):
        raise BadInput(
            f"model must be a name or a path, got a {type(model).__name__}; save it with model.save('mine.keras') and "
            "give the path"
        )
    if model is None or not is_network(model):
        for key in given:
            raise BadInput(
                f"{key} must be left out for {model or 'mlp'}; it is for models that are not one of the four"
            )
        return model if model is None else str(model)
    if options.get("settings"):
        raise BadInput(f"set must be left out for {model}, which has no configuration here; change its own code")
    if given.get("weights") == "imagenet" and not where.get("download"):
        raise BadInput(
            "weights imagenet must be fetched, unless Keras has them already, got no --download; add --download, or "
            "omit --weights imagenet"
        )
    with announce.heard(say):
        dataset = _loaded(options, where)
    return survey(model, dataset, say=say, **given)


def kind_of_data(options: Mapping[str, Any], where: Mapping[str, Any]) -> str:
    """Returns the kind of the data set, `image`, `text` or `table`, which it is read for; arguments as in `whose`.

    Examples:
        >>> kind_of_data({"dataset": "digits"}, {})
        'image'
    """
    return _loaded(options, where).kind


def _loaded(options, where):
    names = {f.name for f in dataclasses.fields(Data)}
    chosen = {key: value for key, value in options.items() if key in names and value is not None}
    name = chosen.pop("dataset", "digits")
    data.check_ready(name, **where)
    startup.tensorflow()
    startup.use_devices(number_of_devices(options.get("devices")))
    return data.load(name, **chosen, **where)
