"""The report: a table, a picture that shows the figures, one safe page."""

import csv
import json
import re
import struct
from html.parser import HTMLParser

import numpy as np
import pytest

from trainers.comparison import figures, paired, report, wording
from zoo.errors import BadInput
from zoo.reading import read_csv

pytestmark = pytest.mark.filterwarnings("error")

FIGURES = ["test_error", "test_loss", "test_ece"]
RESULTS = ["model", "arm", "placement", "seed", *FIGURES, "best_epoch", "seconds"]
CURVES = ["model", "arm", "seed", "epoch", "train_error", "val_error", "test_error", "test_loss"]
PLACEMENTS = {"none": "", "default": "hidden=0.5"}


def write_runs(folder, models=("mlp",), arms=("none", "default"), seeds=3, epochs=6):
    """Files as a comparison leaves them; the arms after the first are a point better."""
    rng = np.random.default_rng(0)
    results, curves = [], []
    for model in models:
        for seed in range(seeds):
            luck = rng.normal(0, 0.2)
            for i, arm in enumerate(arms):
                errors = 3 + luck - (i > 0) + 60 * np.exp(-np.arange(epochs)) + rng.normal(0, 0.1, epochs)
                for epoch, error in enumerate(errors, start=1):
                    curves.append([model, arm, seed, epoch, error / 2, error, error, error / 30])
                figures_of_run = [errors[-1], errors[-1] / 30, 1.0 + luck, epochs, 2.5]
                results.append([model, arm, PLACEMENTS.get(arm, "hidden=0.2"), seed, *figures_of_run])
    for name, header, rows in (("results.csv", RESULTS, results), ("curves.csv", CURVES, curves)):
        with open(folder / name, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([header, *rows])
    return folder


def png_size(data):
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", data[16:24])


class Page(HTMLParser):
    """What a browser would see: tags with attributes, and text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def page(folder, meta=None):
    report.write(folder, meta or {})
    return Page((folder / "report.html").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A finished comparison with its report, for tests that only read."""
    folder = write_runs(tmp_path_factory.mktemp("compare"), seeds=10)
    summary = report.write(folder, {"dataset": "digits"})
    return folder, summary, Page((folder / "report.html").read_text(encoding="utf-8"))


# === Reading ===


def test_numbers_are_parsed_and_names_are_not(tmp_path):
    file = tmp_path / "x.csv"
    file.write_text("arm,seed,test_error,val_error\n1,2,3.5,\n")
    assert read_csv(file) == [{"arm": "1", "seed": 2, "test_error": 3.5, "val_error": None}]


def test_a_torn_last_row_is_left_out(tmp_path):
    file = tmp_path / "x.csv"
    file.write_text("arm,seed,test_error\nnone,0,3.5\nnone,1")
    assert len(read_csv(file)) == 1


def test_a_file_that_is_missing_or_broken_is_bad_input(tmp_path):
    with pytest.raises(BadInput, match=r"cannot read .*results\.csv: No such file"):
        read_csv(tmp_path / "results.csv")
    (tmp_path / "x.csv").write_text("arm,seed\nnone\nnone,1\n")
    with pytest.raises(BadInput, match="row 1 has 1 cells"):
        read_csv(tmp_path / "x.csv")


# === The picture ===


@pytest.mark.parametrize("epochs", [1, 2, 6])
@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize(("models", "arms"), [(1, 1), (1, 2), (2, 6)])
def test_the_picture_has_a_row_a_model_and_a_size_for_a_readme(tmp_path, epochs, seeds, models, arms):
    names = ("none", "default", "_hidden", "$x$", "a" * 90, "six")[:arms]
    write_runs(tmp_path, ("mlp", "cnn")[:models], names, seeds, epochs)
    figure = figures.bands(read_csv(tmp_path / "curves.csv"), "digits")
    assert len(figure.axes) == 2 * models
    assert figure.get_size_inches()[0] * figures.DPI == 1600


def test_the_picture_is_drawn_at_readme_width(written):
    assert png_size((written[0] / "bands.png").read_bytes()) == (1600, 700)


def test_the_first_epochs_do_not_squash_the_last_and_the_last_are_never_cut(tmp_path):
    curves = read_csv(write_runs(tmp_path, epochs=20) / "curves.csv")
    low, high = figures.bands(curves).axes[0].get_ylim()
    ends = [row["test_error"] for row in curves if row["epoch"] == 20]
    assert low <= min(ends) < max(ends) <= high < 10
    assert "axis cut" in figures.bands(curves).axes[0].get_title(loc="left")


def test_a_band_reaches_from_the_lowest_to_the_highest_run():
    rows = [{"model": "mlp", "arm": "none", "seed": s, "epoch": e, "test_error": 2.0 + s, "test_loss": 0.1}
            for s in (0, 1, 2) for e in (1, 2)]  # fmt: skip
    (band,) = figures.bands(rows).axes[0].collections
    heights = band.get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == (2.0, 4.0)


def test_a_band_ends_with_the_first_run_that_stops():
    rows = [{"model": "mlp", "arm": "none", "seed": s, "epoch": e, "test_error": 2.0 + s, "test_loss": 0.1}
            for s, last in ((0, 3), (1, 5)) for e in range(1, last + 1)]  # fmt: skip
    (band,) = figures.bands(rows).axes[0].collections
    assert band.get_paths()[0].vertices[:, 0].max() == 3


def test_a_loss_that_is_not_finite_leaves_a_gap_and_no_warning(tmp_path):
    curves = read_csv(write_runs(tmp_path) / "curves.csv")
    for row in curves:
        if row["seed"] == 1:
            row["test_loss"] = float("inf") if row["epoch"] % 2 else float("nan")
    figures.bands(curves).canvas.draw()


def test_drawing_leaves_the_settings_of_matplotlib_alone(tmp_path):
    import matplotlib

    before = dict(matplotlib.rcParams)
    report.write(write_runs(tmp_path), {})
    assert dict(matplotlib.rcParams) == before


# === The table, the page and the files ===


def test_the_table_fits_a_terminal_of_80_columns_but_for_its_sentences(written):
    text = wording.table(written[1])
    assert all(len(line) <= 80 for line in text.splitlines() if not line.startswith("- "))
    assert "default minus none" in text
    assert "- default lowered the test error by" in text


def test_summary_json_is_what_was_summarised(written):
    folder, summary, _ = written
    assert json.loads((folder / "summary.json").read_text()) == summary
    assert set(summary) == {"arms", "pairs"}


def test_only_the_three_files_are_left_behind(written):
    names = {path.name for path in written[0].iterdir()} - {"results.csv", "curves.csv"}
    assert names == {"summary.json", "bands.png", "report.html"}


def test_the_page_needs_nothing_from_elsewhere(written):
    folder, _, actual = written
    for _, attributes in actual.tags:
        for name in ("src", "srcset", "href"):
            assert attributes.get(name, "data:").startswith("data:")
    assert not actual.all("script")
    assert not re.search(r"url\(|@import", (folder / "report.html").read_text())


def test_the_headline_is_the_answer(written):
    assert "Placement default (hidden=0.5) lowered the test error by" in written[2].text


def test_every_picture_has_a_text_in_its_place(written):
    pictures = written[2].all("img")
    assert len(pictures) == 2
    assert all("mean" in picture["alt"] for picture in pictures)


def test_what_was_run_and_what_failed_is_on_the_page(tmp_path):
    meta = {
        "sizes": {"train": 1077, "test": 360},
        "placements": {"mlp/none": "no dropout", "mlp/default": "hidden=0.5"},
        "recipes": {"mlp/none": {"learning_rate": 0.001}, "mlp/default": {"learning_rate": 0.003}},
        "command": "python -m trainers compare",
        "versions": {"keras": "3.11.3"},
        "seconds": 12.3,
        "failed": [{"model": "mlp", "arm": "none", "seed": 7, "message": "out of memory"}],
    }
    text = page(write_runs(tmp_path), meta).text
    for expected in ("hidden=0.5", "3.11.3", "0.003", "mlp/none, seed 7", "out of memory", meta["command"]):
        assert expected in text
    assert "(binomial)" in text


def test_the_page_has_a_confusion_matrix_for_each_arm_on_one_scale(tmp_path):
    matrices = {"mlp/none": [[8, 2], [0, 10]], "mlp/default": [[9, 1], [0, 10]]}
    seen = page(write_runs(tmp_path), {"labels": ["cat", "$dog"], "confusions": matrices})
    assert sum("true class" in picture["alt"] for picture in seen.all("img")) == 1
    first, second = figures.confusions(matrices, ["cat", "$dog"]).axes
    assert [text.get_text() for text in first.texts] == ["80", "20", "100"], "per cent of each true class"
    assert first.images[0].get_clim() == second.images[0].get_clim() == (0, 20)
    assert [text.get_text() for text in first.get_xticklabels()] == ["cat", "$dog"]


def test_names_and_messages_cannot_become_markup(tmp_path):
    evil = "<script>alert(1)</script>"
    write_runs(tmp_path, arms=("none", evil))
    meta = dict.fromkeys(("dataset", "command", "note", "about", "machine"), evil)
    meta["versions"] = {evil: evil}
    meta["failed"] = [{"arm": evil, "seed": evil, "message": evil}]
    actual = page(tmp_path, meta)
    assert not actual.all("script")
    assert actual.text.count(evil) > 5


def test_tables_scroll_inside_their_box(written):
    actual = written[2]
    assert len(actual.all("table")) == sum("scroll" in tag.get("class", "") for tag in actual.all("div"))


def test_below_five_seeds_there_are_dots_and_one_sentence_and_no_intervals(tmp_path):
    folder = write_runs(tmp_path, seeds=4)
    seen = page(folder)
    assert "4 seeds: too few for an interval" in seen.text
    assert seen.text.count("95 % interval") == 1, "only where the page explains how to read it"
    assert "p =" not in seen.text
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["pairs"][0]["low"] is not None, "the file keeps all figures"
    table = wording.table(summary)
    assert "4 seeds: too few for an interval" in table
    assert not re.search("95 %|bootstrap|var. ratio", table)
    arms = {name: rows for name, (_, rows) in paired.by_arm(read_csv(folder / "results.csv")).items()}
    values = {("none", "default"): figures.paired_values(arms["none"], arms["default"])}
    few, enough = (len(figures.differences(summary, seeds).axes[0].lines) for seeds in (values, _twice(values)))
    assert few == enough - 1, "the interval is a line"


def _twice(values):
    return {pair: rows + rows for pair, rows in values.items()}


def test_the_page_leads_with_the_paired_differences_and_names_the_placements(written):
    folder, _, seen = written
    assert seen.all("img")[0]["alt"].startswith("Paired differences")
    heading = seen.text[: seen.text.index("Paired differences")]
    assert "default (hidden=0.5)" in heading
    assert "none (no dropout)" in heading
    drawn = figures.bands(read_csv(folder / "curves.csv"), placements={"none": "no dropout", "default": "hidden=0.5"})
    assert [text.get_text() for text in drawn.legends[0].get_texts()] == ["none: no dropout", "default: hidden=0.5"]


def test_the_recipe_is_a_table_without_words_of_python(tmp_path):
    recipe = {"epochs": 5, "augment": False, "max_norm": None}
    text = page(write_runs(tmp_path), {"recipe": recipe}).text
    assert re.search(r"epochs\s*5\s*passes over the training set", text)
    assert not re.search(r"\b(False|None|\{)", text)


@pytest.mark.parametrize("runs", [{"seeds": 1, "epochs": 1}, {"arms": ("none",)}, {"seeds": 0}])
def test_few_runs_still_make_a_page(tmp_path, runs):
    actual = page(write_runs(tmp_path, **runs))
    assert actual.all("h1")
    assert not re.search(r"\b(nan|None|null)\b", actual.text)


def test_without_curves_no_picture_of_an_earlier_time_stays(tmp_path):
    report.write(write_runs(tmp_path), {})
    (tmp_path / "curves.csv").unlink()
    report.write(tmp_path, {})
    assert not (tmp_path / "bands.png").exists()


def test_curves_of_unfinished_runs_are_not_drawn(tmp_path):
    write_runs(tmp_path)
    rows = read_csv(tmp_path / "results.csv")
    arms = paired.by_arm([row for row in rows if row["arm"] == "none"])
    drawn = figures.pngs({"arms": {}, "pairs": []}, arms, [{**row, "arm": "gone"} for row in rows])
    assert drawn == {}


def test_the_control_is_the_first_placement_of_meta_whatever_ended_first(tmp_path):
    write_runs(tmp_path)
    meta = {"placements": {"mlp/default": "hidden=0.5", "mlp/none": "no dropout"}}
    assert [(p["a"], p["b"]) for p in report.write(tmp_path, meta)["pairs"]] == [("default", "none")]
