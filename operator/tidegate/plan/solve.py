"""
What is given up, and in which order, if not everything can be met.

1. Nothing: the cheapest fleet that meets attainment and average quality.
2. Average quality, as little as possible.
3. The target, if no tier meets it even when idle. No number of replicas would, so the best attainment of an idle tier
   (times `REACHABLE_SHARE`) becomes the target. Otherwise the whole budget would be spent for nothing.
4. Attainment, as little as possible.

Bounds, budget, capacity and minimum quality are hard limits: no step exceeds them.
"""

from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Protocol

import numpy as np

from tidegate.plan.cuts import Goal
from tidegate.plan.fleet import Fleet, FleetModel
from tidegate.plan.limits import Limits
from tidegate.plan.search import Found, Search, alone, best_of, judged

# If the target cannot be met, a loaded fleet must reach this share of the attainment of an idle one.
REACHABLE_SHARE = 0.98


class Given(IntEnum):
    """What had to be given up, least first."""

    NOTHING = 0
    QUALITY = 1
    TARGET = 2  # no tier meets it even when idle
    ATTAINMENT = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Solution:
    """A fleet with its predicted attainment and its cost, $/h, and what was given up for it."""

    fleet: Fleet
    attainment: float
    objective: float
    given: Given

    @classmethod
    def of(cls, found: Found, given: Given) -> "Solution":
        """The solution for a fleet that was found by giving up `given`."""
        return cls(fleet=found.fleet, attainment=found.attainment, objective=found.objective, given=given)


class Finder(Protocol):
    """A way to find fleets: a search, or a table of all of them."""

    def cheapest(self, limits: Limits, goal: Goal) -> Found | None: ...
    def best_quality(self, limits: Limits, goal: Goal) -> Found | None: ...
    def best_effort(self, limits: Limits, goal: Goal) -> Found | None: ...


def solve(model: FleetModel, limits: Limits, goal: Goal, *, finder: Finder | None = None) -> Solution:
    """The best fleet within the limits; the empty one if no tier can be used at all."""
    finder = finder or Search(model)
    found = finder.cheapest(limits, goal)
    if found is not None:
        return Solution.of(found, Given.NOTHING)
    if goal.quality > 0 and (found := finder.best_quality(limits, goal)) is not None:
        return Solution.of(found, Given.QUALITY)
    any_quality = replace(goal, quality=0.0)
    ceiling = attainment_idle(model, limits)
    if 0 < ceiling < goal.attainment:
        found = finder.cheapest(limits, replace(any_quality, attainment=ceiling * REACHABLE_SHARE))
        if found is not None:
            return Solution.of(found, Given.TARGET)
    found = finder.best_effort(limits, any_quality)
    if found is None:
        found = finder.best_effort(_loosened(finder, limits, any_quality), any_quality)
    if found is None:
        nothing = tuple([0] * len(model.tiers))
        return Solution(fleet=nothing, attainment=0.0, objective=0.0, given=Given.ATTAINMENT)
    return Solution.of(found, Given.ATTAINMENT)


def attainment_idle(model: FleetModel, limits: Limits) -> float:
    """The best attainment of any allowed tier at almost no load; 0 if none is allowed."""
    allowed = [i for i, (_, high) in enumerate(limits.tiers) if high > 0]
    shares = [float(model.goods[0, i, 0] / model.rates[i, 0]) for i in allowed if model.rates[i, 0] > 0]
    return max(shares, default=0.0)


def _loosened(finder: Finder, limits: Limits, goal: Goal) -> Limits:
    """The limits with the lower bound of the total reduced to what budget and capacity allow."""
    low, high = 0, limits.total[0]
    while low < high:
        middle = (low + high + 1) // 2
        if finder.best_effort(replace(limits, total=(middle, limits.total[1])), goal) is None:
            high = middle - 1
        else:
            low = middle
    return replace(limits, total=(low, limits.total[1]))


def without_limits(model: FleetModel, goal: Goal, *, replicas_max: int) -> Solution:
    """
    The plan without bounds, budget and capacity; tiers that are not usable stay excluded.

    The replicas of each tier are limited to those of the largest single-tier fleet that meets the goal. A mix that
    needs more would include tiers that cannot meet it alone, for which nobody would raise a limit. If no tier meets it
    alone within `replicas_max`, the answer is `replicas_max` replicas of the tier that then serves most.
    """
    still = replace(goal, grow_usd=np.zeros_like(goal.grow_usd), shrink_usd=np.zeros_like(goal.shrink_usd))
    free = _unlimited(model, replicas_max)
    single = alone(model, still, replicas_max=replicas_max)
    if not single:
        within_reach = min(goal.attainment, attainment_idle(model, free) * REACHABLE_SHARE)
        single = alone(model, replace(still, attainment=within_reach), replicas_max=replicas_max)
    if not single:
        most = np.diag([high for _, high in free.tiers])
        return Solution.of(best_of(judged(model, most, still)), Given.ATTAINMENT)
    return solve(model, _unlimited(model, max([sum(fleet) for fleet in single.values()])), still)


def _unlimited(model: FleetModel, replicas_max: int) -> Limits:
    tiers = tuple([(0, replicas_max if usable else 0) for usable in model.usable])
    return Limits(total=(0, replicas_max * len(tiers)), tiers=tiers, budget=float("inf"), room={})
