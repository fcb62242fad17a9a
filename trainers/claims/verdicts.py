"""The verdict of each claim, from what is kept of its experiment."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from trainers.claims import catalogue
from trainers.claims.claim import Claim
from trainers.claims.exact import EXACT
from trainers.claims.kept import Kept
from trainers.claims.rules import ENOUGH, REPRODUCED, UNDECIDED, AtLeast, Finding, Results, held_seeds, members


def verdict_of(claim: Claim, out: str | Path, quick: bool = False) -> dict[str, Any]:
    """Returns what is known about a claim, fit for JSON.

    Args:
        claim: The claim.
        out: The folder with what is kept of the experiments.
        quick: Whether the runs are those of `--quick`.

    Returns:
        A dictionary of `number`, `id`, `sentence`, `source`, `rule` (its sentences), `hash`, `verdict`, `full`
        (whether every seed of every arm ran), `seeds` that all arms of the rule have, `wanted`, `findings`,
        `also`, `why` (a sentence, if the verdict is `undecided`), `seconds` that the runs took, and `quick`.

    Raises:
        BadInput: The results have another rule than the claim now.
    """
    state = {
        "number": claim.number,
        "id": claim.id,
        "sentence": claim.sentence,
        "source": claim.source,
        "note": claim.note,
        "rule": rule_texts(claim),
        "hash": claim.hash(),
        "quick": quick,
    }
    if claim.exact:
        results = Results({"exact": {0: EXACT[claim.exact]()}})
        verdict, findings = claim.rule.judge(results)
        return {**state, **_facts(verdict, findings), "full": True, "seeds": 1, "wanted": 1, "seconds": 0.0}
    if claim.needs:
        why = f"It cannot be run here yet: it needs {claim.needs}."
        return {**state, **_facts(UNDECIDED, []), "full": False, "seeds": 0, "wanted": 10, "seconds": 0.0, "why": why}
    kept = Kept(out, claim.experiment, quick)
    kept.check([claim])
    results, experiment = kept.results(), claim.experiment
    seeds, wanted = held_seeds(results, claim.arms()), experiment.seeds
    full = not quick and seeds >= wanted
    verdict, findings = claim.rule.judge(results)
    facts = _facts(verdict, findings, [part.find(results) for part in claim.also])
    seconds = sum(row["seconds"] or 0.0 for row in kept.rows())
    if not full:
        # Parts may have their seeds while those of others are missing.
        points = f", which point to: {verdict}" if seeds >= ENOUGH else ""
        facts["verdict"] = UNDECIDED
        facts["why"] = (
            f"It has {seeds} of {wanted} seeds{points}. The full run takes about {minutes(claim.seconds)} with one "
            "thread."
        )
    return {**state, **facts, "full": full, "seeds": seeds, "wanted": wanted, "seconds": seconds}


def all_verdicts(out: str | Path, quick: bool = False) -> list[dict[str, Any]]:
    """Returns the verdict of every claim, in their order. Raises `BadInput` as `verdict_of`."""
    return [verdict_of(claim, out, quick) for claim in catalogue.CLAIMS]


def rule_texts(claim: Claim) -> list[str]:
    """Returns the sentences of a rule: how its parts make the verdict, then each part."""
    texts = [claim.rule.text()] if len(members(claim.rule)) > 1 else []
    for part in claim.rule.parts:
        texts += [part.as_part(), *(each.text() for each in part.parts)] if isinstance(part, AtLeast) else [part.text()]
    return texts


def listing() -> list[dict[str, Any]]:
    """Returns number, id, sentence, source, rule, hash and expected seconds of every claim."""
    return [
        {
            "number": claim.number,
            "id": claim.id,
            "sentence": claim.sentence,
            "source": claim.source,
            "rule": rule_texts(claim),
            "hash": claim.hash(),
            "seconds": claim.seconds,
            "runs_here": claim.needs is None,
        }
        for claim in catalogue.CLAIMS
    ]


def counts(verdicts: Iterable[dict[str, Any]]) -> dict[str, int]:
    """Returns how many claims have each verdict, and how many ran in full."""
    verdicts = list(verdicts)
    names = [state["verdict"] for state in verdicts]
    each = {name: names.count(name) for name in (REPRODUCED, "refuted", UNDECIDED)}
    return {**each, "full": sum(state["full"] for state in verdicts)}


def _facts(verdict: str, findings: list[Finding], also: Iterable[Finding] = ()) -> dict[str, Any]:
    facts = {
        "verdict": verdict,
        "findings": [dataclasses.asdict(finding) for finding in findings],
        "also": [dataclasses.asdict(finding) for finding in also],
        "why": "",
    }
    if verdict == UNDECIDED:
        facts["why"] = " ".join(_open(finding) for finding in findings if finding.verdict == UNDECIDED)
    return facts


def _open(finding: Finding) -> str:
    """Why a part is undecided, with what it could have detected and how many seeds would decide."""
    if finding.detectable is None:
        return f"{finding.label}: {finding.why or 'the interval does not decide'}."
    none = "more test examples: no number of seeds is enough" if finding.crossed else "more than 100,000 seeds"
    seeds = f"{finding.needed:,} seeds" if finding.needed else none
    if finding.claimed == "zero":
        return (
            f"{finding.label}: {finding.n} seeds detect a distance of {finding.detectable:.2g}{finding.unit} from "
            f"either bound with 80 % power; the measured one of {finding.effect:.2g} would need {seeds}."
        )
    if finding.limit:
        return (
            f"{finding.label}: {finding.n} seeds detect a distance of {finding.detectable:.2g}{finding.unit} from the "
            f"limit with 80 % power; the measured one of {finding.effect:.2g} would need {seeds}."
        )
    return (
        f"{finding.label}: the smallest difference that {finding.n} seeds detect with 80 % power is "
        f"{finding.detectable:.2g}{finding.unit}; one of {finding.effect:.2g} would need {seeds}."
    )


def minutes(seconds: float) -> str:
    """Returns a time in minutes, or in hours if it is long.

    Examples:
        >>> minutes(40), minutes(400), minutes(18_000)
        ('1 minute', '7 minutes', '5 hours')
    """
    if seconds >= 7200:
        return f"{seconds / 3600:.0f} hours"
    count = max(1, round(seconds / 60))
    return f"{count} minute{'' if count == 1 else 's'}"
