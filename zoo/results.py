"""Results: dictionaries that also have a table, a figure and a one-line text.

`trainers.train`, `trainers.compare`, `tuning.search` and `zoo.compare_modes` return subclasses.
"""

import base64
import html
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure


class Result(dict):
    """The result of a call: a dictionary with the contents of its JSON file, and views of it.

    Subclasses define `headline` and `figure`. Results of one network also have `model` and `history`.
    """

    @property
    def headline(self) -> str:
        """The result in one line."""
        return ", ".join(str(key) for key in self)

    @property
    def folder(self) -> Path | None:
        """The folder that was written; None if there is none."""
        return Path(self["folder"]) if self.get("folder") is not None else None

    def table(self) -> "pandas.DataFrame":
        """Returns the result as a pandas DataFrame."""
        import pandas

        return pandas.DataFrame([{key: value for key, value in self.items() if not isinstance(value, dict | list)}])

    def figure(self) -> "Figure | None":
        """Returns the result as a matplotlib figure; None if there is nothing to draw."""
        return None

    def to_json(self) -> str:
        """Returns the result as JSON text."""
        return json.dumps(self, indent=2, allow_nan=False)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.headline}>"

    def _repr_html_(self) -> str:
        """Returns headline, table and figure as HTML, for notebooks."""
        table = self.table().to_html(border=0, index=False, float_format="{:.4g}".format)
        parts = [f"<p><b>{html.escape(self.headline)}</b></p>", table]
        figure = self.figure()
        if figure is not None:
            buffer = io.BytesIO()
            figure.savefig(buffer, format="png", dpi=96)
            picture = base64.b64encode(buffer.getvalue()).decode()
            parts.append(f'<img alt="{html.escape(self.headline)}" src="data:image/png;base64,{picture}">')
        return "\n".join(parts)


def read_table(path: str | Path) -> "pandas.DataFrame":
    """Returns a CSV file as a pandas DataFrame, read as by `zoo.reading.read_csv`."""
    import pandas

    from zoo.reading import read_csv

    return pandas.DataFrame(read_csv(path))
