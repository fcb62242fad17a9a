"""What the winner of a search is worth: trained anew over seeds, beside no dropout, on the test part.

The lowest validation error of many is too low, for it was chosen by being low. So the
winner and the control are trained again with seeds that chose nothing, paired by seed,
and only now the test part is looked at.
"""

import dataclasses
import shutil
from pathlib import Path

from trainers.compare import compare
from trainers.wording import sentence
from zoo.files import replacing
from zoo.placement import Placement

NONE, WINNER = "none", "winner"


def retrain(out, space, base, winner, seeds, **options):
    """Compare the `winner`'s values with the same without dropout at the tuned sites, over `seeds` seeds.

    Returns the summary of the comparison and `verdict`, a sentence; None in the place of
    figures when the winner drops nothing. Writes `retrain.csv`.
    """
    out = Path(out)
    if space.is_control(winner["values"]):
        return {"verdict": "leave dropout out here: no rate that was tried had a lower validation error than none"}
    plan = space.plan(base, winner["values"])
    fixed = {site: drop for site, drop in plan.placement.sites.items() if site not in space.rates}
    control = Placement(fixed, plan.placement.scaling if fixed else "inverted", plan.placement.schedule)
    folder = out / f"retrain-{winner['trial']}"
    found = compare(
        models=(plan.model,),
        arms={NONE: control, WINNER: plan.placement},
        seeds=seeds,
        out=folder,
        resume=True,
        settings=plan.settings,
        **dataclasses.asdict(plan.data),
        **dataclasses.asdict(plan.recipe),
        **options,
    )
    with replacing(out / "retrain.csv") as temporary:
        shutil.copyfile(folder / "results.csv", temporary)
    return {**found, "verdict": verdict(found["pairs"][0]) if found["pairs"] else None}


def verdict(pair):
    """Keep dropout here or not: one sentence, which claims no more than the interval does.

    >>> pair = {"a": "none", "b": "winner", "n": 10, "difference": -0.61, "low": -1.01, "high": -0.21}
    >>> verdict(pair)[:30]
    'keep dropout here: winner lowe'
    """
    said = sentence(pair)
    if pair["high"] is not None and pair["high"] < 0:
        return f"keep dropout here: {said}"
    if pair["low"] is not None and pair["low"] > 0:
        return f"leave dropout out here: {said}"
    loss = pair.get("test_loss", {})
    if loss.get("high") is not None and loss["high"] < 0:
        return f"keep dropout here for the loss, not for the error: {sentence(pair, 'test_loss')}; {said}"
    return f"leave dropout out here, or ask more seeds: {said}"
