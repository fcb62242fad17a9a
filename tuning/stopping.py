"""Whether a trial is clearly worse than the best one, so that the rest of its executions can be skipped.

Trials are paired: execution number i of every trial has the same seed. The t test compares the
executions that a trial has finished with the same executions of the best complete trial.
"""

from collections.abc import Sequence

import numpy as np
from scipy import stats

FEWEST = 2  # executions before the first test: one difference has no spread
_SAME = 1e-9  # variances below it come from rounding


def p_worse(errors: Sequence[float], complete: Sequence[Sequence[float]], executions: int) -> float | None:
    """Returns the adjusted one-sided p value of "this trial is no worse than the best complete one".

    A trial that is stopped when its value is at most P is stopped by mistake with a probability of
    at most P: if it is in truth as good as each complete trial, over all of its tests together. The
    p value of a single test is multiplied by the number of tests that a trial can have
    (`executions - 2`), and by the number of complete trials, because the best of them was chosen by
    the errors that it is compared by (Bonferroni for both).

    The noise of an execution is estimated in two ways: from all complete trials, as the residuals of
    an additive model of trial and seed, and from the differences of this pair. The larger one
    counts, so that neither a chance agreement of a few executions nor a trial that is noisier than
    the others looks like a clear difference. With a single complete trial this is the paired t test.

    Args:
        errors: the validation errors of the first executions of the trial, in per cent.
        complete: the validation errors of each complete trial, a row per trial, the best first,
            `(trials, executions)`.
        executions: executions of a complete trial.

    Returns:
        The adjusted p value, at most 1; None if there is nothing to test: fewer than two executions,
        none left to skip, no complete trial, or no noise at all to measure the difference by.

    Examples:
        >>> best, other = [4.0, 5.1, 4.5, 4.2], [4.9, 5.6, 5.2, 5.3]
        >>> round(p_worse([6.0, 7.3], [best, other], 4), 4)
        0.0028
        >>> p_worse([4.2, 5.0], [best, other], 4)
        1.0
    """
    own, rows = np.asarray(errors, float), np.asarray(complete, float)
    count, trials = len(own), len(rows)
    if not FEWEST <= count < executions or not trials:
        return None
    differences = own - rows[0, :count]
    variance, freedom = differences.var(ddof=1) / 2, count - 1
    if trials > 1:
        residuals = rows - rows.mean(axis=1, keepdims=True) - rows.mean(axis=0) + rows.mean()
        freedom = (trials - 1) * (executions - 1)
        variance = max(variance, (residuals**2).sum() / freedom)
    if variance < _SAME:
        return None
    t = differences.mean() / np.sqrt(2 * variance / count)
    tests = (executions - FEWEST) * trials
    return min(1.0, tests * float(stats.t.sf(t, freedom)))
