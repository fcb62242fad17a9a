"""The main effects of a search and its picture: effects are separate, and nothing is ever empty."""

import itertools

import numpy as np
import pytest

from tuning import effects, figure
from tuning.space import Space
from tuning.study import Trial

SPACE = Space.parse(["conv=0:0.2:0.1:dropout/spatial", "hidden=0:0.6:0.2", "learning_rate=0.001/0.01"])


def error(values, until=None):
    """An additive error; the kind matters only where something is dropped."""
    value = 5 + 20 * values["rate_conv"] + 10 * (values["rate_hidden"] - 0.4) ** 2
    value += 2 * (values["learning_rate"] == 0.001) + (values["rate_conv"] > 0) * (values["kind_conv"] == "spatial")
    return value + (30 if until else 0)


def trial(number, values, until=None, noise=0.0):
    row = {"val_error": error(values, until) + noise, "val_loss": 1.0}
    return Trial(f"{number:04d}", values, (), until, status="COMPLETED", executions={0: row})


def combinations():
    names = list(SPACE.candidates)
    return [dict(zip(names, v, strict=True)) for v in itertools.product(*SPACE.candidates.values())]


def drawn(count, confounded=False):
    """Some combinations; confounded ones have a high learning rate wherever much is dropped."""
    rng = np.random.default_rng(1)
    values = [v for v in combinations() if not confounded or (v["learning_rate"] == 0.01) == (v["rate_hidden"] > 0.3)]
    if confounded:
        values += combinations()[:12]
    chosen = rng.permutation(len(values))[:count]
    return [trial(n, values[i], noise=rng.normal(0, 1e-6)) for n, i in enumerate(chosen)]


@pytest.mark.parametrize("confounded", [False, True])
def test_the_effect_of_a_rate_is_separate_from_the_others(confounded):
    actual = effects.fit(drawn(30, confounded), SPACE)
    assert (actual.form, actual.adjusted) == ("levels", True)
    for name, levels in SPACE.rates.items():
        effect = actual.by_name[f"rate_{name}"]
        at = [error({**combinations()[0], "learning_rate": 0.01, f"rate_{name}": level}) for level in levels]
        np.testing.assert_allclose(np.diff(effect.means), np.diff(at), atol=0.6 if name == "conv" else 1e-4)
    np.testing.assert_allclose(np.diff(actual.by_name["learning_rate"].means), -2, atol=1e-4)
    np.testing.assert_allclose(np.diff(actual.by_name["kind_conv"].means), 1, atol=1e-4)


def test_an_interval_covers_the_truth_as_often_as_it_says():
    rng, covered, rounds = np.random.default_rng(0), 0, 300
    space = Space.parse(["hidden=0:0.6:0.2", "input=0/0.1"])
    for _ in range(rounds):
        trials = [
            Trial(
                str(i),
                {"rate_hidden": h, "rate_input": x},
                (),
                status="COMPLETED",
                executions={0: {"val_error": 5 + 3 * h + x + rng.normal(), "val_loss": 1.0}},
            )
            for i, (h, x) in enumerate(itertools.product((0, 0.2, 0.4, 0.6), (0, 0.1)))
        ]
        effect = effects.fit(trials, space).by_name["rate_hidden"]
        covered += abs(effect.means[1] - 5.65) <= effect.halves[1]
    assert 0.91 < covered / rounds < 0.99


def test_executions_of_one_number_share_a_seed_whose_effect_is_removed():
    space = Space.parse(["hidden=0:0.6:0.2"])
    trials = [
        Trial(
            str(i),
            {"rate_hidden": rate},
            (),
            status="COMPLETED",
            executions={n: {"val_error": 5 + rate + 20 * n, "val_loss": 1.0} for n in range(2)},
        )
        for i, rate in enumerate(space.rates["hidden"])
    ]
    effect = effects.fit(trials, space).by_name["rate_hidden"]
    assert effect.halves.max() < 1e-6
    np.testing.assert_allclose(effect.means, [15, 15.2, 15.4, 15.6])


def test_runs_that_were_stopped_early_count_at_full_length():
    trials = [*drawn(30), *(trial(100 + i, v, until=3) for i, v in enumerate(combinations()[:20]))]
    actual = effects.fit(trials, SPACE)
    assert actual.by_name["rate_hidden"].means.max() < 20
    assert actual.by_name["rate_hidden"].partial.sum() == 20
    assert actual.full_length["0100"] == pytest.approx(error(combinations()[0]), abs=1e-3)


@pytest.mark.parametrize(("count", "form"), [(1, None), (5, None), (10, "quadratic"), (30, "levels")])
def test_the_model_is_no_richer_than_the_runs_allow_and_the_picture_is_never_empty(count, form, tmp_path):
    trials = drawn(count)
    actual = effects.fit(trials, SPACE)
    assert actual.form == form
    assert all(np.isfinite(effect.means).all() for effect in actual.by_name.values())
    assert (actual.by_name["rate_conv"].halves is None) == (form is None)
    picture = figure.picture(trials, SPACE, "a title")
    assert all(ax.lines or ax.images for ax in picture.axes if ax.get_visible())
    figure.draw(tmp_path / "rate.png", trials, SPACE, "a title")
    assert (tmp_path / "rate.png").read_bytes()[:4] == b"\x89PNG"


def test_after_hyperband_partial_runs_are_drawn_as_such():
    trials = [trial(i, v, until=1) for i, v in enumerate(combinations()[:4])]
    picture = figure.picture(trials, SPACE)
    labels = [text.get_text() for text in picture.legends[0].get_texts()]
    assert any("stopped early" in label for label in labels)
    assert not any("without dropout" in label for label in labels)


def test_trials_that_were_stopped_as_clearly_worse_are_crosses_and_never_the_best():
    trials = [trial(i, v) for i, v in enumerate(combinations()[:12])]
    for stopped in trials[3:6]:
        stopped.status = "STOPPED"
    trials[4].executions[0]["val_error"] = 0.1  # the lowest by far, but not of all its executions
    picture = figure.picture(trials, SPACE)
    assert any("stopped as clearly worse" in text.get_text() for text in picture.legends[0].get_texts())
    progress = picture.axes[0]
    full, partial, crosses = (dots.get_offsets() for dots in progress.collections)
    assert (len(full), len(partial)) == (9, 0)
    assert sorted(x for x, _ in crosses) == [4, 5, 6]
    assert min(y for line in progress.lines for y in line.get_ydata()) > 0.1
    assert figure.picture([t for t in trials if t.status == "COMPLETED"], SPACE).legends[0].get_texts()


@pytest.mark.parametrize(
    ("tune", "titles"),
    [
        (["hidden=0/0.5"], {"hidden"}),
        (["hidden=0/0.5", "input=0/0.1"], {"hidden", "input", "mean error, %"}),
        (["hidden=0/0.5:dropout/gaussian", "learning_rate=0.1/0.2"],
         {"hidden", "hidden: kind of dropout", "learning rate"}),
    ],
)  # fmt: skip
def test_everything_tuned_has_a_panel_and_two_sites_a_heat_map(tune, titles):
    space = Space.parse(tune)
    names = list(space.candidates)
    trials = [
        Trial(str(i), dict(zip(names, v, strict=True)), (), status="COMPLETED",
              executions={0: {"val_error": 5.0 + i, "val_loss": 1.0}})
        for i, v in enumerate(itertools.product(*space.candidates.values()))
    ]  # fmt: skip
    picture = figure.picture(trials, space)
    shown = {ax.get_title(loc="left") for ax in picture.axes if ax.get_visible()}
    assert shown == titles | {"trials and the best so far"}


def test_a_search_without_a_complete_trial_has_no_picture(tmp_path):
    figure.draw(tmp_path / "rate.png", [Trial("control", {}, ())], SPACE, "")
    assert not list(tmp_path.iterdir())
