"""Claims: their rules are pinned, what is finished is kept and continued, and what was fixed before is not changed."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

import trainers.__main__
from trainers.claims import catalogue, pages, running, verdicts
from trainers.claims.claim import Claim, Experiment
from trainers.claims.exact import EXACT
from trainers.claims.kept import Kept, packed, unpacked
from trainers.claims.measures import COLUMNS, MEASURES
from trainers.claims.rules import REPRODUCED, AtLeast, Contrast, Every, Results, members
from zoo.errors import BadInput, OtherData
from zoo.reading import read_csv

# A rule does not change after its experiment ran. A new claim adds a line here, before its first run.
PINNED = {
    "weight-scaling": "30fcb14224ae7214",
    "inverted-scaling": "dd2863fd35318fce",
    "variance-shift": "6f312606bea7fd26",
    "lower-error": "a3011f03c6dcfae9",
    "robust": "df26a50d726289a2",
    "rates": "fbb71120ac05bb8a",
    "fixed-pn": "508a47672bc7941b",
    "data-size": "4eb9ef4dbc523d11",
    "mc-samples": "c4397f44bf59662f",
    "sparsity": "cdde4fc046d6b7cc",
    "max-norm": "627283904a9731ce",
    "batchnorm": "a56ae96e91d5e22b",
    "early-conv": "781c1e1bbd85b747",
    "early-dropout": "e2a5ff4600c6f760",
    "small-and-short": "f2b51232db753105",
    "text-gain": "88f079b9d0e421e5",
    "calibration": "c033d5e929ac885f",
    "co-adaptation": "4d71843ecb642805",
    "longer-training": "17eb2e0659732827",
    "paper-bands": "c26c6619d7f09682",
    "bands": "524c37340341c230",
    "unscaled": "3f91a63a57e51580",
    "before-output": "d6bfad251f2eff7a",
    "every-layer": "74b8d354eb1bf0d0",
    "transformer-images": "f51ab2417fd24402",
    "transformer-text": "085121ac24d326cd",
    "stacked": "29e899a7c203d04b",
    "spatial": "c89e824c82c92001",
    "early-layers": "7c2a66bc9717695b",
    "one-epoch": "2e5c726952b9fb45",
    "monotone": "0ea552d4fe3c61d2",
    "residual-branch": "4bb67a40848260ba",
    "thinned-identity": "c8cd8d20804acafe",
    "thinned-ensemble": "fa49508cf422ce52",
    "seed-variance": "d1b03e729b185bcb",
}


def test_the_rules_are_those_that_were_fixed():
    assert {claim.id: claim.hash() for claim in catalogue.CLAIMS} == PINNED


def test_the_catalogue_has_each_of_the_32_claims():
    numbers = {"".join(filter(str.isdigit, claim.number)) for claim in catalogue.CLAIMS}
    assert numbers == {str(number) for number in range(1, 33)}
    assert len({claim.id for claim in catalogue.CLAIMS}) == len(catalogue.CLAIMS)


@pytest.mark.parametrize("claim", catalogue.CLAIMS, ids=lambda claim: claim.id)
def test_a_claim_can_be_judged(claim):
    if claim.needs:
        return
    if claim.exact:
        assert claim.exact in EXACT
        return
    arms = set(claim.experiment.arms)
    assert {arm for part in (*members(claim.rule), *claim.also) for arm in part.arms()} <= arms
    assert claim.experiment.seeds >= 10
    if claim.id != "residual-branch":  # its networks are built for data that are not here
        assert len(claim.experiment.plans()) == len(arms)
    for measure, names in claim.experiment.measures.items():
        assert measure in MEASURES
        assert set(names) <= arms


def test_images_are_at_least_10000_unless_their_number_is_what_is_asked():
    for claim in catalogue.CLAIMS:
        if claim.experiment is None or claim.id in ("data-size", "monotone", "residual-branch"):
            continue
        sizes = {plan.data.train_size for plan in claim.experiment.plans().values()}
        assert all(size is None or size >= 10_000 for size in sizes), claim.id


@pytest.mark.parametrize("claim", [c for c in catalogue.CLAIMS if c.exact], ids=lambda claim: claim.id)
def test_an_exact_claim_holds(claim):
    verdict, findings = claim.rule.judge(Results({"exact": {0: EXACT[claim.exact]()}}))
    assert verdict == REPRODUCED, findings


EXPERIMENT = Experiment(
    "small",
    arms={"none": {}, "dropout": {"placement": "hidden=0.5"}},
    common={"dataset": "digits", "model": "mlp", "settings": {"hidden": (16,)}, "epochs": 2, "train_size": 200},
    seeds=5,
    curves=True,
    measures={"activity": (), "thinned": ("dropout",)},
)
CLAIM = Claim(
    "1", "small", "Dropout lowers the error.", "a test",
    Every((Contrast("error, dropout minus none", {"dropout": 1, "none": -1}, "below", 0.2),)), EXPERIMENT,
)  # fmt: skip

NETWORKS = [("mlp", "none"), ("mlp", "dropout")]


@pytest.fixture
def one_claim(monkeypatch):
    monkeypatch.setattr(catalogue, "CLAIMS", (CLAIM,))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with two of five seeds, and then with all."""
    out = tmp_path_factory.mktemp("claims")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalogue, "CLAIMS", (CLAIM,))
        options = {"workers": 1, "quiet": True}
        half = out / "half"
        running.run(["small"], out=half, seeds=2, **options)
        whole = out / "whole"
        shutil.copytree(half, whole)  # as if on another machine: the runs are not there
        running.run(["small"], out=whole, resume=True, **options)
    return half, whole


def test_a_batch_keeps_rows_and_curves_but_no_runs(finished):
    half, _ = finished
    names = {path.name for path in (half / "small").iterdir()}
    assert names == {"experiment.json", "results.csv", "curves.csv", "examples.csv"}
    rows = read_csv(half / "small" / "results.csv")
    assert [(row["arm"], row["seed"]) for row in rows] == [("none", 0), ("dropout", 0), ("none", 1), ("dropout", 1)]
    assert all(row["activation"] > 0 for row in rows)
    assert [row["thinned_error_5"] is None for row in rows] == [True, False, True, False]


def test_another_machine_continues_from_the_rows(finished):
    _, whole = finished
    before, after = (read_csv(folder / "small" / "results.csv") for folder in finished)
    assert after[: len(before)] == before
    assert len(after) == 10
    curves = read_csv(whole / "small" / "curves.csv")
    assert len(curves) == 20
    assert {row["epoch"] for row in curves} == {1, 2}


def test_the_error_is_that_of_the_kept_examples(finished, one_claim):
    results = Kept(finished[1], EXPERIMENT).results()
    for arm, rows in results.rows.items():
        for seed, row in rows.items():
            assert 100 * results.wrong[arm][seed].mean() == pytest.approx(row["test_error"], rel=1e-6)


def test_the_same_seed_gives_the_same_numbers(finished, one_claim, tmp_path):
    running.run(["small"], out=tmp_path, seeds=1, workers=1, quiet=True)
    again, before = (read_csv(folder / "small" / "results.csv") for folder in (tmp_path, finished[0]))
    for row, old in zip(again, before[:2], strict=True):
        assert {**row, "seconds": 0} == {**old, "seconds": 0}


def test_what_a_killed_process_left_of_a_run_is_dropped(finished, one_claim, tmp_path):
    shutil.copytree(finished[0] / "small", tmp_path / "small")
    curves = tmp_path / "small" / "curves.csv"
    header = curves.read_text().splitlines()[0].split(",")
    curves.write_text(curves.read_text() + ",".join(["mlp", "none", "2", *["1"] * (len(header) - 3)]) + "\n")
    Kept(tmp_path, EXPERIMENT).begin([CLAIM], NETWORKS)
    assert {row["seed"] for row in read_csv(curves)} == {0, 1}


def test_a_row_without_its_examples_is_a_run_that_is_done_again(finished, one_claim, tmp_path):
    shutil.copytree(finished[0] / "small", tmp_path / "small")
    examples = tmp_path / "small" / "examples.csv"
    examples.write_text("".join(examples.read_text().splitlines(keepends=True)[:-1]))
    kept = Kept(tmp_path, EXPERIMENT)
    assert kept.begin([CLAIM], NETWORKS) == {("mlp", "none", 0), ("mlp", "dropout", 0), ("mlp", "none", 1)}
    assert len(kept.rows()) == 3


def test_damaged_examples_are_refused_by_the_name_of_their_file(finished, one_claim, tmp_path):
    shutil.copytree(finished[0] / "small", tmp_path / "small")
    examples = tmp_path / "small" / "examples.csv"
    examples.write_text(examples.read_text().rstrip()[:-9] + "\n")
    with pytest.raises(BadInput, match=r"cannot read .*examples\.csv"):
        verdicts.verdict_of(CLAIM, tmp_path)


def test_rows_of_a_network_that_was_built_by_other_code_are_refused(finished, one_claim, tmp_path):
    shutil.copytree(finished[0] / "small", tmp_path / "small")
    with pytest.raises(BadInput, match="must hold the networks of small as they are now, got rows of mlp/dropout"):
        Kept(tmp_path, EXPERIMENT).begin([CLAIM], [("mlp", "none"), ("code-12ab", "dropout")])


def test_runs_on_other_data_are_refused_and_other_versions_are_noted(finished, one_claim, tmp_path):
    shutil.copytree(finished[0] / "small", tmp_path / "small")
    kept = Kept(tmp_path, EXPERIMENT)
    data = {key: kept.about[key]["none"] for key in ("sizes", "fingerprint")}
    with pytest.raises(OtherData, match="fingerprint"):
        kept.note_run("none", {"versions": {}, "data": {**data, "fingerprint": {"test": "other"}}}, 2)
    with pytest.raises(OtherData, match="sizes"):
        kept.note_run("none", {"versions": {}, "data": {**data, "sizes": {"test": 1}}}, 2)
    before = kept.about["versions"]["keras"]
    for _ in range(2):
        kept.note_run("none", {"versions": {"keras": "9.0"}, "data": data}, 2)
    assert kept.about["versions"]["keras"] == f"{before} and 9.0"


def test_the_seeds_of_one_part_give_no_verdict_while_another_part_lacks_them(finished, monkeypatch):
    part = CLAIM.rule.parts[0]
    more = dataclasses.replace(EXPERIMENT, arms={**EXPERIMENT.arms, "missing": {}})
    sure = Contrast("error of none", {"none": 1}, "above")
    lacking = Contrast("error, missing minus none", {"missing": 1, "none": -1}, "below", 0.2)
    claim = dataclasses.replace(CLAIM, experiment=more, rule=AtLeast(1, (sure, lacking)))
    monkeypatch.setattr(Kept, "check", lambda self, claims: None)
    state = verdicts.verdict_of(claim, finished[1])
    assert claim.rule.judge(Kept(finished[1], more).results())[0] == REPRODUCED
    assert (state["verdict"], state["full"], state["seeds"]) == ("undecided", False, 0)
    assert verdicts.verdict_of(dataclasses.replace(CLAIM, rule=Every((part,))), finished[1])["full"]


def test_an_interrupted_claim_says_how_it_is_resumed_with_its_options(one_claim, monkeypatch, tmp_path):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(running, "_carry_out", interrupted)
    with pytest.raises(KeyboardInterrupt, match=r"run small --resume --out .* --seeds 3 --workers 2"):
        running.run(["small"], out=tmp_path, seeds=3, workers=2, quiet=True)


def test_with_early_stopping_the_training_error_is_that_of_the_restored_epoch():
    history = [
        {"train_error_inference": error, "train_loss_inference": 0.0, "val_loss": 1.0} for error in (9.0, 5.0, 2.0)
    ]
    metrics = {"best_epoch": 2, "test_error": 7.0}
    assert running._training(history, metrics)["gap"] == 5.0
    assert running._training(history, metrics, 2)["gap"] == 2.0


def test_a_changed_rule_is_refused(finished, monkeypatch):
    other = dataclasses.replace(CLAIM, rule=Every((dataclasses.replace(CLAIM.rule.parts[0], least=0.1),)))
    monkeypatch.setattr(catalogue, "CLAIMS", (other,))
    with pytest.raises(BadInput, match="the rule of small must be the one that was fixed before"):
        verdicts.verdict_of(other, finished[1])
    with pytest.raises(BadInput, match="another"):
        running.run(["small"], out=finished[1], resume=True, quiet=True)


def test_a_claim_that_came_after_the_runs_is_refused(finished, monkeypatch):
    late = dataclasses.replace(CLAIM, id="late")
    monkeypatch.setattr(catalogue, "CLAIMS", (CLAIM, late))
    with pytest.raises(BadInput, match="the rule of late"):
        verdicts.verdict_of(late, finished[1])


def test_rows_of_another_experiment_are_refused(finished, one_claim):
    other = dataclasses.replace(EXPERIMENT, common={**EXPERIMENT.common, "epochs": 3})
    with pytest.raises(BadInput, match="rows of another"):
        Kept(finished[1], other).check([])


def test_rows_that_nothing_vouches_for_are_refused(finished, one_claim, tmp_path):
    shutil.copytree(finished[0] / "small", tmp_path / "small")
    (tmp_path / "small" / "experiment.json").unlink()
    with pytest.raises(BadInput, match="must hold experiment"):
        running.run(["small"], out=tmp_path, resume=True, quiet=True)


def test_results_are_not_written_over(finished, one_claim):
    with pytest.raises(BadInput, match="--resume"):
        running.run(["small"], out=finished[1], quiet=True)


def test_a_part_of_the_seeds_gives_no_verdict(finished, one_claim):
    state = verdicts.verdict_of(CLAIM, finished[0])
    assert (state["verdict"], state["full"], state["seeds"]) == ("undecided", False, 2)
    assert verdicts.verdict_of(CLAIM, finished[1])["full"]


def test_the_pages_are_written_from_the_rows(finished, one_claim, capsys):
    assert trainers.__main__.main(["claims", "report", "--out", str(finished[1])]) is None
    assert "1 claims: " in capsys.readouterr().out
    out = finished[1]
    page, index = ((out / name).read_text() for name in ("small/index.md", "index.md"))
    assert CLAIM.hash() in page
    assert "Dropout lowers the error." in index
    for name in ("figure.png", "small.png"):
        assert (out / "small" / name).read_bytes().startswith(b"\x89PNG")
    assert json.loads((out / "claims.json").read_text())["claims"][0]["verdict"] in page.lower()
    for path in ("figure.png", "results.csv"):
        assert (out / "small" / path).exists()


def test_quick_runs_are_marked(one_claim, tmp_path, capsys):
    trainers.__main__.main(["claims", "run", "small", "--quick", "--workers", "1", "--out", str(tmp_path)])
    assert "says nothing" in capsys.readouterr().out
    with pytest.raises(BadInput, match="rows of another"):
        verdicts.verdict_of(CLAIM, tmp_path)
    pages.write(tmp_path, quick=True)
    assert "--quick" in (tmp_path / "index.md").read_text()


def test_the_list_names_sentence_source_and_rule(capsys):
    trainers.__main__.main(["claims", "list", "--json"])
    claims = json.loads(capsys.readouterr().out)["claims"]
    assert len(claims) == len(catalogue.CLAIMS)
    assert all({"id", "sentence", "source", "rule"} <= claim.keys() for claim in claims)
    trainers.__main__.main(["claims", "list"])
    bullets = [line for line in capsys.readouterr().out.splitlines() if line.startswith("      - ")]
    sentences = [sentence for claim in claims for sentence in claim["rule"]]
    assert len(bullets) == len(sentences)
    assert any(text.startswith("The next 3 are one part: holds if at least 1 of them holds") for text in sentences)


@pytest.mark.parametrize(
    ("words", "message"),
    [(["nothing"], "ID must be one of"), ([], "ID must name a claim")],
)
def test_a_claim_that_cannot_be_run_is_refused(words, message):
    with pytest.raises(BadInput, match=message):
        running.chosen_claims(words)


def test_a_claim_that_needs_what_is_not_there_is_undecided_and_says_so(monkeypatch, tmp_path):
    needy = dataclasses.replace(CLAIM, needs="a larger machine")
    monkeypatch.setattr(catalogue, "CLAIMS", (needy,))
    with pytest.raises(BadInput, match="needs a larger machine"):
        running.chosen_claims(["small"])
    state = verdicts.verdict_of(needy, tmp_path)
    assert (state["verdict"], state["full"]) == ("undecided", False)
    assert "a larger machine" in state["why"]
    pages.write(tmp_path)
    assert "a larger machine" in (tmp_path / "small" / "index.md").read_text()


def test_the_masks_of_the_pre_activation_network_are_where_they_are_said_to_be():
    from trainers.claims import networks

    model = networks.inside((28, 28, 1), 10)
    for stage in (1, 2, 3):
        mask = model.get_layer(f"drop_stage_{stage}_inside")
        assert mask.input is model.get_layer(f"stage_{stage}_b_relu").output
        assert mask.output is model.get_layer(f"stage_{stage}_b_conv").input
        assert model.get_layer(f"stage_{stage}_b_relu").input is model.get_layer(f"stage_{stage}_b_bn").output
    head = networks.before_pool((28, 28, 1), 10)
    assert head.get_layer("drop_before_pool").output is head.get_layer("pool").input
    others = [build((28, 28, 1), 10) for build in (networks.plain, networks.branch, networks.after_pool)]
    assert [sum("drop" in layer.name for layer in other.layers) for other in others] == [0, 3, 1]


def test_a_claim_has_a_number_too():
    assert running.chosen_claims(["20b", "bands"]) == running.chosen_claims(["bands"])
    assert len(running.chosen_claims([], everything=True)) == sum(c.needs is None for c in catalogue.CLAIMS)


def test_what_is_measured_has_its_columns(finished):
    assert set(COLUMNS) == set(MEASURES)


def test_examples_read_back_the_same():
    wrong = np.random.default_rng(0).random(1003) < 0.1
    assert (unpacked(packed(wrong)) == wrong).all()
