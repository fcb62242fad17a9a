"""The pages of the claims, written by the program: an overview, and a page with figure and table for each claim."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainers.claims import catalogue, figures, verdicts
from trainers.claims.claim import Claim
from trainers.claims.kept import Kept
from trainers.claims.rules import REFUTED, REPRODUCED, UNDECIDED, Results
from trainers.claims.running import OUT, QUICK_OUT
from trainers.claims.wording import PARTS, measured, short
from trainers.comparison import paired
from trainers.comparison.wording import number, p_value
from zoo.errors import BadInput
from zoo.files import write_json, write_text

INDEX, JSON = "index.md", "claims.json"
MARKS = {REPRODUCED: "✔ reproduced", REFUTED: "✘ refuted", UNDECIDED: "? undecided"}


def write(out: str | Path | None = None, quick: bool = False) -> dict[str, Any]:
    """Writes `claims.json`, `index.md` and a folder with a page and pictures for each claim.

    Args:
        out: The folder that `claims run` wrote. `runs/claims` unless given.
        quick: Whether its runs are those of `--quick`.

    Returns:
        The contents of `claims.json`, and `folder`.

    Raises:
        BadInput: There is no such folder, or a result has another rule than its claim.
    """
    out = Path(out or (QUICK_OUT if quick else OUT))
    if not out.is_dir():
        raise BadInput(f"--out must be a folder that claims run wrote, got {out}; run a claim first")
    states = verdicts.all_verdicts(out, quick)
    for claim, state in zip(catalogue.CLAIMS, states, strict=True):
        _write_claim(claim, state, out, quick)
    contents = {"counts": verdicts.counts(states), "claims": states}
    write_json(out / JSON, contents)
    write_text(out / INDEX, _index(states, quick))
    return {**contents, "folder": str(out)}


def _write_claim(claim: Claim, state: Mapping[str, Any], out: Path, quick: bool) -> None:
    folder = out / claim.id
    folder.mkdir(exist_ok=True)
    kept = Kept(out, claim.experiment, quick) if claim.experiment else None
    results = kept.results() if kept else Results({})
    if _has_picture(state):
        curves = kept.curves() if kept and kept.experiment.curves else []
        figures.draw(claim, state, results, curves, folder)
    else:
        for name in ("figure.png", "small.png", "bands.png"):
            (folder / name).unlink(missing_ok=True)
    write_text(folder / INDEX, _page(claim, state, kept, results))
    if not any(folder.iterdir()):
        shutil.rmtree(folder)


def _has_picture(state):
    return any(finding["value"] is not None for finding in state["findings"])


def _index(states, quick):
    counts, total = verdicts.counts(states), len(states)
    lines = [
        "# Claims about dropout, tested",
        "",
        f"**{counts[REPRODUCED]} of {total} claims reproduced, {counts[REFUTED]} refuted, {counts[UNDECIDED]} "
        f"undecided.** {counts['full']} ran in full. Claims with one number, such as 24a and 24b, are related.",
        "",
    ]
    if quick:
        lines += ["These are runs of `--quick`. They show that it works; their verdicts say nothing.", ""]
    lines += [
        "Some claims are computed exactly. Each of the others has an experiment on real data, paired by seed. Every "
        "rule for a verdict was fixed before the first run. A claim is *refuted* if the data exclude the effect that "
        "it needs, and *undecided* if they do neither; then its page says how small a difference could have been "
        "found, and how many seeds would decide. "
        "An undecided claim that has not run says so. The networks are small, so that two cores repeat everything; a "
        "verdict is about them. `python -m trainers claims list` prints the rules.",
        "",
        "In most pictures a dot is a run and a bar the mean of an arm. In pictures of curves, a band holds the runs of "
        "an arm. A computed claim shows its number and the value that theory gives.",
        "",
        "| | claim | verdict | picture | what was found |",
        "|---|---|---|---|---|",
    ]
    for state in states:
        picture = f"![{state['id']}]({state['id']}/small.png){{ width=210 }}" if _has_picture(state) else ""
        seeds = "" if state["full"] else f"<br>{state['seeds']} of {state['wanted']} seeds"
        lines.append(
            f"| {state['number']} | [{state['sentence']}]({state['id']}/index.md) "
            f"| **{MARKS[state['verdict']]}**{seeds} | {picture} | {_found(state)} |"
        )
    lines += [
        "",
        "Repeat all: `python -m trainers claims run --all --resume --out docs/claims`, then "
        "`python -m trainers claims report --out docs/claims`. What is finished is not done again; in an empty folder "
        "everything is.",
    ]
    return "\n".join(lines) + "\n"


def _found(state):
    """The finding that decides, in a few words."""
    findings = [finding for finding in state["findings"] if finding["value"] is not None]
    if not findings:
        return "needs what is not there yet" if "cannot be run" in state["why"] else "not run yet"
    deciding = [finding for finding in findings if finding["verdict"] == state["verdict"]] or findings
    finding = deciding[0]
    span = ""
    if finding["low"] is not None and finding["n"] > 1:
        span = f" ({short(finding['low'])} to {short(finding['high'])})"
    return f"{finding['label']}: {measured(finding)}{span}"


def _page(claim, state, kept, results):
    lines = [f"# {state['sentence']}", "", f"**{state['verdict'].capitalize()}.** {_status(state)}", ""]
    if state["why"]:
        lines += [state["why"], ""]
    if _has_picture(state):
        lines += [f"![{claim.id}](figure.png)", "", _caption(claim), ""]
    lines += [f"Source: {state['source']}.", ""]
    lines += [state["note"], ""] if state["note"] else []
    if state["findings"]:
        lines += ["## What was found", "", *_findings(state["findings"]), ""]
    if state["also"]:
        lines += ["Reported beside the rule, without a say in the verdict:", "", *_findings(state["also"]), ""]
    lines += [f"## The rule (hash `{state['hash']}`)", ""]
    lines += ["It was fixed before the first run; results under another rule are refused.", ""]
    lines += [f"- {text}" for text in state["rule"]] + [""]
    if claim.experiment:
        lines += _experiment(claim, kept, results)
    lines += ["## Repeat it", ""]
    if claim.needs:
        lines += [f"It needs {claim.needs}."]
    elif claim.experiment:
        place = f"../{claim.experiment.name}/results.csv"
        rows = f" The rows are in [`results.csv`]({place})." if results.rows else ""
        seconds = state["seconds"] if state["full"] else claim.seconds
        lines += [
            "```text",
            f"python -m trainers claims run {claim.id} --data-dir DIR",
            "```",
            "",
            f"About {verdicts.minutes(seconds)} with one thread.{rows}",
        ]
    else:
        lines += [
            "```text",
            f"python -m trainers claims run {claim.id}",
            "```",
            "",
            "Seconds; `make test` does it too.",
        ]
    return "\n".join(lines) + "\n"


def _status(state):
    if state["wanted"] == 1:
        return "Computed exactly."
    if state["quick"]:
        return "Runs of `--quick`, which say nothing."
    if state["full"]:
        return f"A full run: {state['seeds']} seeds for each arm, {verdicts.minutes(state['seconds'])} of training."
    return f"Not a full run: {state['seeds']} of {state['wanted']} seeds."


def _caption(claim):
    if claim.experiment is None:
        return (
            "A row for each part of the rule, on a scale of its own. The line is what theory says, the dotted lines "
            "how far from it the number may be."
        )
    left = "each dot is a run, the bar the mean of the arm with its 95 % interval"
    if claim.experiment.curves:
        left = "each band reaches from the lowest to the highest run of an arm, the thick line is the mean"
    return (
        f"Left: {left}. Right: a row for each part of the rule, on a scale of its own: the mean with its 95 % "
        "interval. The line is the limit; beyond the dotted line lies the smallest effect that counts. Green holds, "
        "orange fails, grey is open."
    )


def _findings(findings):
    lines = ["| part | verdict | mean | 95 % interval | over | p | P(below limit) | detectable | seeds |"]
    lines += ["|---|---|---|---|---|---|---|---|---|"]
    for finding in findings:
        if finding["value"] is None:
            lines.append(
                f"| {finding['label']} | {PARTS[finding['verdict']]} | - | - | - | - | - | - | {finding['n']} |"
            )
            continue
        exact = finding["n"] == 1
        interval = "-" if finding["low"] is None or exact else f"{short(finding['low'])} to {short(finding['high'])}"
        over = "-" if exact or finding["low"] is None else "seeds, examples" if finding["crossed"] else "seeds"
        p = "-" if finding["p_holm"] is None else p_value(finding["p_holm"]).removeprefix("p ").removeprefix("= ")
        better = number(finding["better"])
        lines.append(
            f"| {finding['label']} | {PARTS[finding['verdict']]} | {measured(finding)} | {interval} "
            f"| {over} | {p} | {better} | {short(finding['detectable'])} | {finding['n']} |"
        )
    if any(finding["detectable"] for finding in findings):
        lines += [
            "",
            "*Over*: what the interval covers. *p*: of the paired test against the limit, corrected by Holm's method "
            "if the rule counts parts. *P(below limit)*: the share of seeds whose value is below the limit. "
            "*Detectable*: the smallest true difference that so many seeds find with 80 % probability.",
        ]
    return lines


def _experiment(claim, kept, results):
    experiment, about = claim.experiment, kept.about
    lines = ["## The experiment", "", _recipe(experiment.common), ""]
    for key, values in experiment.tune.items():
        options = ", ".join(map(str, values))
        lines += [
            f"The {key.replace('_', ' ')} is chosen for each arm from {options}, by validation error on another seed.",
            "",
        ]
    sizes = next(iter(about.get("sizes", {}).values()), None)
    if sizes:
        lines += [
            f"{sizes['train']:,} training, {sizes['val']:,} validation and {sizes['test']:,} test examples, unless an "
            "arm says otherwise. The test part is read after training"
            + (", and after each epoch for the picture" if experiment.curves else "")
            + "; it chooses no epoch, rate or arm.",
            "",
        ]
    lines += ["| arm | differs by | runs | test error, % | test loss, nats |", "|---|---|---|---|---|"]
    for arm, own in experiment.arms.items():
        rows = list(results.rows.get(arm, {}).values())
        error, loss = (_mean([row[key] for row in rows]) for key in ("test_error", "test_loss"))
        chosen = {**own, **about.get("chosen", {}).get(arm, {})}
        lines.append(f"| {arm} | {_options(chosen) or 'nothing'} | {len(rows)} | {error} | {loss} |")
    versions = ", ".join(f"{name} {version}" for name, version in about.get("versions", {}).items())
    return [*lines, "", *([f"Versions: {versions}.", ""] if versions else [])]


def _recipe(common):
    return f"All arms: {_options(common)}."


def _options(options):
    """Options of a run as text; a mapping of settings is spelled out."""
    parts = []
    for key, value in options.items():
        if isinstance(value, Mapping):
            parts += [f"{k} {'/'.join(map(str, v)) if isinstance(v, tuple) else v}" for k, v in value.items()]
            continue
        text = "yes" if value is True else f"{value:,}" if isinstance(value, int) else str(value)
        parts.append(f"{key.replace('_', ' ')} {text}")
    return ", ".join(parts)


def _mean(values):
    statistic = paired.describe(values)
    if statistic["mean"] is None:
        return "-"
    sd = f" ± {short(statistic['sd'])}" if statistic["sd"] is not None else ""
    return f"{short(statistic['mean'])}{sd}"
