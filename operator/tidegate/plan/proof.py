"""
A quick proof that nothing cheaper does it, so that most looks at a plan end without a search.

All fleets that cost less are few where a deployment is small. Where none of them passes the cuts, or none of those
that do reaches the promise, the exact search could only come back with what is there.
"""

from functools import lru_cache
from math import prod

import numpy as np

from tidegate.plan.cuts import DUST, Goal, cuts_of
from tidegate.plan.fleet import FleetModel, Ints, expected_attainment
from tidegate.plan.limits import Limits

# Fleets looked at. A larger deployment is searched, which prunes better.
FLEETS_MAX = 8_192
# Fleets whose attainment is worth computing: more than that, and one of them will reach it.
JUDGED_MAX = 32


def nothing_cheaper(model: FleetModel, limits: Limits, goal: Goal, *, below_usd: float) -> bool:
    """
    True where it is certain that no fleet inside the limits that costs less than that meets the goal.

    Args:
        below_usd: $/h, moves included. False says nothing: there may be such a fleet, or there are too many.
    """
    if not all(price > 0 for price in model.each_usd):
        return False
    most = tuple(
        [min(high, int(below_usd / price)) for price, (_, high) in zip(model.each_usd, limits.tiers, strict=True)]
    )
    if prod([n + 1 for n in most]) > FLEETS_MAX:
        return False
    fleets = _box(most)
    fleets = fleets[goal.objective(model, fleets) < below_usd]
    lines, needs = cuts_of(model, goal)
    fleets = fleets[(fleets @ lines.T >= needs).all(axis=1)]
    if not len(fleets):
        return True
    if len(fleets) > JUDGED_MAX:
        return False
    return not bool((expected_attainment(model, fleets, goal.demand) >= goal.attainment - DUST).any())


@lru_cache(maxsize=512)
def _box(most: tuple[int, ...]) -> Ints:
    """Every fleet up to so many replicas of each tier; shape (fleets, tiers)."""
    rows: Ints = np.indices([n + 1 for n in most]).reshape(len(most), -1).T
    return np.ascontiguousarray(rows)
