"""What the winner of a search is worth: trained again with new seeds, paired with no dropout, on the test part.

The lowest validation error of many trials is optimistic, because it is the minimum of many.
So the winner and the control are trained again with seeds that selected nothing, each with
the recipe of its own trial, and only now the test part is used. If the control won the
search, it is compared with the best trial that drops something.
"""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

from trainers.comparison.compare import compare
from trainers.comparison.wording import sentence, too_few
from trainers.plan import Plan
from tuning.space import Space
from zoo.files import replacing

NONE, WINNER, RIVAL = "none", "winner", "best_rate"


def retrain(
    out: str | Path,
    space: Space,
    base: Plan,
    winner: dict,
    control: dict | None,
    rival: dict | None,
    seeds: int,
    **options: Any,
) -> dict:
    """Compares the winner of a search with no dropout over `seeds` seeds, and writes `retrain.csv`.

    Each arm has the recipe of its own best trial. If no trial without dropout is complete, the
    control has the recipe of the winner.

    Args:
        out: the folder of the search.
        space: what was tuned.
        base: the plan that the tuned values go into.
        winner: the best trial, as in `summary.json`.
        control: the best trial without dropout, or None.
        rival: the best trial with dropout, or None. It is compared if the winner drops nothing.
        seeds: number of seeds.
        **options: `workers`, `threads`, `data_dir`, `download` and `quiet` of `trainers.compare`.

    Returns:
        The summary of the comparison, and `verdict`, a sentence.

    Raises:
        BadInput: the folder holds another comparison.
    """
    out = Path(out)
    control_won = space.is_control(winner["values"])
    dropping = rival if control_won else winner
    if dropping is None:
        return {"verdict": "leave dropout out here: no trial with dropout is complete"}
    plan = space.plan(base, dropping["values"])
    plain = _without_dropout(space, base, (control or dropping)["values"])
    same_recipe = plain == _without_dropout(space, base, dropping["values"])
    folder = out / f"retrain-{dropping['trial']}"
    if control and not same_recipe:
        folder = folder.with_name(f"{folder.name}-{control['trial']}")
    comparison = compare(
        models=(plan.model,),
        arms={NONE: plain, RIVAL if control_won else WINNER: plan},
        seeds=seeds,
        out=folder,
        resume=True,
        **options,
    )
    with replacing(out / "retrain.csv") as temporary:
        shutil.copyfile(folder / "results.csv", temporary)
    text = verdict(comparison["pairs"][0]) if comparison["pairs"] else None
    if text and control_won:
        text += "; on validation, no rate was better than no dropout"
    if text and not same_recipe:
        text += "; each arm has the recipe of its own best trial"
    return {**comparison, "verdict": text}


def _without_dropout(space, base, values):
    """The plan with these `values` and no layer at the tuned sites."""
    plan = space.plan(base, space.control(values))
    fixed = {site: drop for site, drop in plan.placement.sites.items() if site not in space.rates}
    scaling = plan.placement.scaling if fixed else "inverted"
    placement = dataclasses.replace(plan.placement, sites=fixed, scaling=scaling)
    return dataclasses.replace(plan, placement=placement)


def verdict(pair: dict) -> str:
    """Returns one sentence on whether dropout is worth keeping; it claims no more than the interval does.

    Args:
        pair: one of the `pairs` of a comparison.

    Examples:
        >>> pair = {"a": "none", "b": "winner", "n": 10, "difference": -0.61, "low": -1.01, "high": -0.21}
        >>> verdict(pair)[:30]
        'keep dropout here: winner lowe'
    """
    text = sentence(pair)
    if too_few(pair):
        return f"undecided: {text}"
    if pair["high"] is not None and pair["high"] < 0:
        return f"keep dropout here: {text}"
    if pair["low"] is not None and pair["low"] > 0:
        return f"leave dropout out here: {text}"
    loss = pair.get("test_loss", {})
    if loss.get("high") is not None and loss["high"] < 0:
        return f"keep dropout here for its loss, not for its error: {sentence(pair, 'test_loss')}; {text}"
    return f"leave dropout out here, or use more seeds: {text}"
