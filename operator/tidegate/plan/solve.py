"""
What to run when not everything fits: the order of giving up.

1. Everything: the cheapest fleet that meets attainment and average quality.
2. Average quality goes first, as little of it as can be.
3. Where no tier meets the targets even idle, no number of replicas will: the best attainment that tiers offer
   becomes the target, instead of the largest fleet that money buys.
4. Attainment goes last, as little of it as can be.

Bounds, budget, capacity and minimum quality are in the limits: no step leaves them.
"""

from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Protocol

import numpy as np

from tidegate.plan.cuts import Goal
from tidegate.plan.fleet import Fleet, FleetModel
from tidegate.plan.limits import Limits
from tidegate.plan.search import Found, Search, alone, best_of, judged

# Of the attainment that an idle fleet reaches, how much a loaded one is asked for where the target is out of reach.
REACHABLE_SHARE = 0.98


class Given(IntEnum):
    """What had to be given up, least first."""

    NOTHING = 0
    QUALITY = 1
    TARGET = 2  # no tier meets it even idle
    ATTAINMENT = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Solution:
    """The fleet to head for, what is expected of it, and what was given up for it."""

    fleet: Fleet
    attainment: float
    objective: float
    given: Given

    @classmethod
    def of(cls, found: Found, given: Given) -> "Solution":
        """A fleet that was found, by giving that up."""
        return cls(fleet=found.fleet, attainment=found.attainment, objective=found.objective, given=given)


class Finder(Protocol):
    """Where fleets are found: a search, or a table of all of them."""

    def cheapest(self, limits: Limits, goal: Goal) -> Found | None: ...
    def best_quality(self, limits: Limits, goal: Goal) -> Found | None: ...
    def best_effort(self, limits: Limits, goal: Goal) -> Found | None: ...


def solve(model: FleetModel, limits: Limits, goal: Goal, *, finder: Finder | None = None) -> Solution:
    """The best fleet inside the limits. Where no tier can be used at all it is the empty one."""
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
    """The best attainment that any allowed tier has at almost no load; 0 where none is allowed."""
    allowed = [i for i, (_, high) in enumerate(limits.tiers) if high > 0]
    shares = [float(model.goods[0, i, 0] / model.rates[i, 0]) for i in allowed if model.rates[i, 0] > 0]
    return max(shares, default=0.0)


def _loosened(finder: Finder, limits: Limits, goal: Goal) -> Limits:
    """The highest lower bound on the total that budget and capacity can carry."""
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
    The plan without bounds, budget and capacity; tiers below the minimum quality stay out.

    No tier is looked at with more replicas than the largest fleet that does it with one tier alone: a mix that needs
    more has tiers that cannot do it alone, and nobody would lift a limit for those. Where no tier does it alone within
    `replicas_max`, the one whose `replicas_max` do most is the answer.
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
