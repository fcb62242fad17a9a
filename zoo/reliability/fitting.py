"""What an artefact needs to give calibrated probabilities and prediction sets: fitted once, on the validation part."""

from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.errors import BadInput
from zoo.reliability import calibration, sets
from zoo.reliability.assess import Drawer
from zoo.reliability.resampling import exact

if TYPE_CHECKING:
    import keras

    from zoo.data import Part

SAMPLES = 50
LARGEST = 2000  # validation examples
COVERAGES = (*(round(0.5 + 0.01 * i, 2) for i in range(50)), 0.995, 0.999)


def fit(
    model: "keras.Model", val: "Part", test: "Part", samples: int = SAMPLES, seed: int = 0
) -> dict[str, Any] | None:
    """Fits a temperature and the thresholds of prediction sets for each mode of a classifier.

    Args:
        model: a Functional classifier.
        val: the validation part; at most `LARGEST` of its examples are used.
        test: test examples, on which the calibration is measured before and after.
        samples: number of Monte-Carlo samples.
        seed: seed of the masks.

    Returns:
        A dictionary fit for JSON; None without validation examples. `modes` has for each mode the `temperature`
        (None with a `reason` if none minimises the loss), error, loss and ece on the test examples, `loss_scaled`
        and `ece_scaled` after temperature scaling, and `thresholds`, one for each of `coverages`: a set holds the
        classes whose probability is at least 1 minus the threshold.

    Examples:
        >>> import zoo
        >>> digits = zoo.data.load("digits", train_size=10)
        >>> fitted = fit(zoo.build("mlp", (8, 8, 1), 10, {}, hidden=(8,)), digits.val, digits.test)
        >>> sorted(fitted["modes"]), fitted["coverages"][-1]
        (['inference'], 0.995)
    """
    if not len(val):
        return None
    val = val.sample(LARGEST)
    drawer = Drawer(model, samples, seed, "per-example")
    measured, fitted = (drawer.predictions(part.x, prefixes=False) for part in (test, val))
    coverages = [coverage for coverage in COVERAGES if np.ceil((len(val) + 1) * coverage - 1e-9) <= len(val)]
    modes = {}
    for mode, (log_p, log_p_val) in {
        mode: [next(iter(part[mode].values())).log_p for part in (measured, fitted)] for mode in measured
    }.items():
        of_labels = sets.scores(np.exp(log_p_val))[np.arange(len(val)), val.y]
        modes[mode] = {
            **_figures(log_p, test.y),
            **_scaled(log_p, test.y, log_p_val, val.y),
            "thresholds": [sets.threshold(of_labels, coverage) for coverage in coverages],
        }
    about = {"examples": len(val), "test_examples": len(test), "samples": samples, "seed": seed}
    return {**about, "coverages": coverages, "modes": modes}


def _figures(log_p, y):
    measures = calibration.measures(log_p, y)
    return {key: exact(measures[key], len(y)) for key in ("error", "loss", "ece")}


def _scaled(log_p, y, log_p_val, y_val):
    try:
        temperature = calibration.temperature(log_p_val, y_val)
    except BadInput as error:
        return {"temperature": None, "loss_scaled": None, "ece_scaled": None, "reason": str(error)}
    after = _figures(calibration.scaled(log_p, temperature), y)
    return {"temperature": temperature, "loss_scaled": after["loss"], "ece_scaled": after["ece"]}
