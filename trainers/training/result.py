"""What `trainers.train` returns."""

import functools
from pathlib import Path
from typing import TYPE_CHECKING

from zoo import runs
from zoo.results import Result, read_table

if TYPE_CHECKING:
    import keras
    import pandas
    from matplotlib.figure import Figure


class TrainResult(Result):
    """The contents of `metrics.json` by name, with the model, the history and the learning curves.

    Examples:
        >>> result = TrainResult(test_error=2.5, test_loss=0.08, test_ece=0.9, epochs=20, folder="runs/first")
        >>> result
        <TrainResult: test error 2.50 %, loss 0.0800, calibration error 0.90 % after 20 epochs>
    """

    @property
    def headline(self) -> str:
        """The test figures in one line."""
        return (
            f"test error {self['test_error']:.2f} %, loss {self['test_loss']:.4f}, "
            f"calibration error {self['test_ece']:.2f} % after {self['epochs']} epochs"
        )

    @property
    def folder(self) -> Path:
        """The run folder."""
        return Path(self["folder"])

    @functools.cached_property
    def model(self) -> "keras.Model":
        """The trained model, loaded from `model.keras` on first use."""
        from zoo import startup

        startup.tensorflow()
        import keras

        return keras.models.load_model(self.folder / runs.MODEL)

    @property
    def history(self) -> "pandas.DataFrame":
        """`history.csv`: a row per epoch."""
        return read_table(self.folder / runs.HISTORY)

    def figure(self) -> "Figure":
        """Returns the learning curves: error (per cent) and loss (nats) per epoch, training and validation."""
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator

        rows = runs.read_history(self.folder)
        epochs = [row["epoch"] for row in rows]
        figure = Figure(figsize=(10.0, 4.0), layout="constrained")
        for ax, (measure, unit) in zip(figure.subplots(1, 2), (("error", "per cent"), ("loss", "nats")), strict=True):
            for part, label in (("train", "training, dropout on"), ("val", "validation")):
                ax.plot(epochs, [row[f"{part}_{measure}"] for row in rows], label=label, marker="o", markersize=2.5)
            ax.set_xlabel("epoch")
            ax.set_ylabel(f"{measure} ({unit})")
            ax.set_ylim(bottom=0)
            ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
            ax.spines[["top", "right"]].set_visible(False)
            ax.grid(axis="y", color="#dddddd", linewidth=0.6)
            ax.legend(frameon=False)
        return figure
