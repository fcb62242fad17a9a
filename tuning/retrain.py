"""What the winner of a search is worth: trained anew over seeds, beside no dropout, on the test part.

The lowest validation error of many is too low, for it was chosen by being low. So the
winner and the control are trained again with seeds that chose nothing, paired by seed,
and only now the test part is looked at. Where the control has won, the best of those
that drop something is its rival.
"""

import dataclasses
import shutil
from pathlib import Path

from trainers.compare import compare
from trainers.wording import sentence
from zoo.files import replacing
from zoo.placement import Placement

NONE, WINNER, RIVAL = "none", "winner", "best_rate"


def retrain(out, space, base, winner, rival, seeds, **options):
    """Compare the `winner`'s values with the same without dropout at the tuned sites, over `seeds` seeds.

    `rival` is the best trial that drops something, which is compared where the winner
    drops nothing, or None. Returns the summary of the comparison and `verdict`, a
    sentence. Writes `retrain.csv`.
    """
    out = Path(out)
    won = not space.is_control(winner["values"])
    dropping = winner if won else rival
    if dropping is None:
        return {"verdict": "leave dropout out here: nothing that drops was trained to its end"}
    plan = space.plan(base, dropping["values"])
    fixed = {site: drop for site, drop in plan.placement.sites.items() if site not in space.rates}
    control = Placement(fixed, plan.placement.scaling if fixed else "inverted", plan.placement.schedule)
    folder = out / f"retrain-{dropping['trial']}"
    found = compare(
        models=(plan.model,),
        arms={NONE: control, WINNER if won else RIVAL: plan.placement},
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
    said = verdict(found["pairs"][0]) if found["pairs"] else None
    if said and not won:
        said += "; on validation no rate that was tried was better than none"
    return {**found, "verdict": said}


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
