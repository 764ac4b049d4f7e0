"""
A quick proof that no cheaper fleet meets the goal, so that most reconsiderations end without a search.

For a small deployment, the fleets that cost less are few enough to list. If none of them passes the cuts, or none that
does reaches the promised attainment, the exact search would find nothing cheaper either.
"""

from functools import lru_cache
from math import prod

import numpy as np

from tidegate.plan.cuts import DUST, Goal, cuts_of
from tidegate.plan.fleet import FleetModel, Ints, expected_attainment
from tidegate.plan.limits import Limits

# Most fleets that are listed. Above that a search is used, which prunes better.
FLEETS_MAX = 8_192
# Most fleets whose attainment is computed. With more, one of them probably meets the goal.
JUDGED_MAX = 32


def nothing_cheaper(model: FleetModel, limits: Limits, goal: Goal, *, below_usd: float) -> bool:
    """
    True if it is certain that no fleet within the limits that costs less than `below_usd` meets the goal.

    False says nothing: there may be such a fleet, there may be too many to check, or a replica has no price.

    Args:
        below_usd: Cost including moves, $/h.
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
    """Every fleet with at most these replicas of each tier; shape (fleets, tiers)."""
    rows: Ints = np.indices([n + 1 for n in most]).reshape(len(most), -1).T
    return np.ascontiguousarray(rows)
