"""
The cheapest fleet, exactly.

What a plan costs is a sum over tiers: $/h of its replicas, plus what it takes to get there spread over an hour.
What it must do is a share of requests. Three steps:

1. An upper bound: the cheapest single-tier fleet that does it, or the fleet that runs.
2. All fleets between the lower bound and that cost. The lower bound is a Lagrangian one: a fleet that holds the
   share t of rate L has some N with sum n*r >= L and sum n*(g - t*r) >= 0, so for every m >= 0
   sum n * max_N [r + m*(g - t*r)] >= L, which is linear in n.
3. They are tried in order of cost; the first one that does it is the cheapest.

Exact up to `boxes.STEPS` affordable replicas of a tier; beyond that all tiers but one move in steps.
"""

from dataclasses import dataclass

import numpy as np

from tidegate.plan.boxes import Flags, candidates, for_effort, inside
from tidegate.plan.cuts import Goal, cuts_of, fewest_alone
from tidegate.plan.fleet import Fleet, FleetModel, Floats, Ints, expected_attainment, mean_quality
from tidegate.plan.limits import MONEY_DUST, Limits

# Prices and start-up times are not known better than this: fleets within it cost the same.
SAME_COST = 0.02
# Float dust on shares and dollars.
DUST = 1e-9
ALONE = 12  # counts of a single tier tried for a first upper bound, from its lower bound on
CHUNK = 128
# Attainment this close to the best, as a share of it, counts as the best: the last 0.2 % are not bought with whole
# replicas. A share, because in deep overload every replica brings little, and all of them are needed.
BEST_EFFORT_SLACK = 0.002


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A fleet and what is expected of it."""

    fleet: Fleet
    attainment: float
    quality: float
    objective: float


def cheapest(model: FleetModel, limits: Limits, goal: Goal) -> Found | None:
    """
    The cheapest fleet inside the limits that meets the goal.

    Of fleets within `SAME_COST` of it the one that carries most: at nearly the same price the next rise of the
    load finds room, where the exact minimum would have bought the smaller replica again and again.
    """
    cuts = cuts_of(model, goal)
    best = _incumbent(model, limits, goal, cuts)
    ceiling = _ceiling(best)
    fleets, coarse = candidates(model, limits, goal, cuts=cuts, ceiling=ceiling)
    best = _cheapest_of(model, fleets, goal, best)
    if coarse and _ceiling(best) < ceiling:  # fewer fleets are as cheap as what was found: a finer look at those
        fleets, _ = candidates(model, limits, goal, cuts=cuts, ceiling=_ceiling(best))
        best = _cheapest_of(model, fleets, goal, best)
    return best


def _ceiling(best: Found | None) -> float:
    return best.objective * (1 + SAME_COST) if best else float("inf")


def _cheapest_of(model: FleetModel, among: Ints, goal: Goal, best: Found | None) -> Found | None:
    """Of some fleets in order of cost the first that meets the goal, or one as cheap that carries more; else `best`."""
    least, chosen, most = float("inf"), best, -1.0
    unpaid, unpaid_max = np.where(model.prices > 0, 0, model.gpus), -1
    for fleets, costs in _in_order(model, among, goal):
        if costs[0] > least * (1 + SAME_COST) + MONEY_DUST:
            break
        reached, quality = _judge(model, fleets, goal)
        good = np.flatnonzero(_meets(reached, quality, goal))
        if len(good):
            least = min(least, float(costs[good[0]]))
            good = good[costs[good] <= least * (1 + SAME_COST) + MONEY_DUST]
        if len(good):
            # What costs nothing is not taken for the head-room alone: no more of it than the cheapest fleet has.
            taken = fleets[good] @ unpaid
            unpaid_max = int(taken[0]) if unpaid_max < 0 else unpaid_max
            carried = np.where(taken <= unpaid_max, fleets[good] @ np.array(model.capacities), -1.0)
            i = int(np.argmax(np.round(carried, 9)))
            if carried[i] > most + DUST:
                most, chosen = float(carried[i]), _found(fleets, reached, quality, costs, int(good[i]))
    return chosen


def best_quality(model: FleetModel, limits: Limits, goal: Goal) -> Found | None:
    """Of the fleets that meet the attainment, the one with the best mean quality, then the cheapest."""
    relaxed = _with_quality(goal, 0.0)
    fleets, _ = candidates(model, limits, relaxed, cuts=cuts_of(model, relaxed), ceiling=float("inf"))
    reached, quality = _judge(model, fleets, relaxed)
    allowed = _meets(reached, quality, relaxed)
    if not allowed.any():
        return None
    return _first(model, fleets, relaxed, (reached, quality), np.where(allowed, -np.round(quality, 4), np.inf))


def best_effort(model: FleetModel, limits: Limits, goal: Goal) -> Found | None:
    """The fleet that serves most requests inside the targets, then the cheapest; None where no fleet is allowed."""
    fleets = for_effort(model, limits, goal)
    return best_of(model, fleets, goal) if len(fleets) else None


def best_of(model: FleetModel, fleets: Ints, goal: Goal) -> Found:
    """Of some fleets the one that serves most requests inside the targets, then the cheapest."""
    reached, quality = _judge(model, fleets, goal)
    rank = np.where(reached >= reached.max() * (1 - BEST_EFFORT_SLACK), 0.0, 1.0)
    return _first(model, fleets, goal, (reached, quality), rank)


def _with_quality(goal: Goal, quality: float) -> Goal:
    return Goal(
        demand=goal.demand,
        attainment=goal.attainment,
        quality=quality,
        current=goal.current,
        grow_usd=goal.grow_usd,
        shrink_usd=goal.shrink_usd,
    )


def _first(model: FleetModel, fleets: Ints, goal: Goal, judged: tuple[Floats, Floats], rank: Floats) -> Found:
    """The fleet of the lowest rank, then the cheapest."""
    costs = goal.objective(model, fleets)
    i = int(np.lexsort((*_ties(model, fleets), np.round(costs, 9), rank))[0])
    return _found(fleets, *judged, costs, i)


def _found(fleets: Ints, reached: Floats, quality: Floats, costs: Floats, i: int) -> Found:
    return Found(
        fleet=tuple(fleets[i].tolist()),
        attainment=float(reached[i]),
        quality=float(quality[i]),
        objective=float(costs[i]),
    )


def _judge(model: FleetModel, fleets: Ints, goal: Goal) -> tuple[Floats, Floats]:
    return (
        expected_attainment(model, fleets, goal.demand),
        mean_quality(model, fleets, goal.demand.mean_rps),
    )


def _meets(reached: Floats, quality: Floats, goal: Goal) -> Flags:
    meets: Flags = (reached >= goal.attainment - DUST) & (quality >= goal.quality - DUST)
    return meets


def _ties(model: FleetModel, fleets: Ints) -> tuple[Floats, ...]:
    """Keys that make the order total, least important first: counts by tier, number of replicas, quality."""
    return (*[fleets[:, i] for i in range(fleets.shape[1])], fleets.sum(axis=1), -np.round(fleets @ model.qualities, 9))


def _in_order(model: FleetModel, fleets: Ints, goal: Goal) -> list[tuple[Ints, Floats]]:
    """Chunks by rising objective, growing, so that the usual hit among the first few is quick."""
    costs = goal.objective(model, fleets)
    order = np.lexsort((*_ties(model, fleets), np.round(costs, 9)))
    chunks, start, size = [], 0, CHUNK
    while start < len(order):
        rows = order[start : start + size]
        chunks.append((fleets[rows], costs[rows]))
        start, size = start + size, size * 4
    return chunks


def _incumbent(model: FleetModel, limits: Limits, goal: Goal, cuts: tuple[Floats, Floats]) -> Found | None:
    """The cheapest of: the current fleet, and each tier alone on top of the lower bounds."""
    lows = np.array([low for low, _ in limits.tiers])
    rows = [np.array(goal.current)]
    for i, (low, high) in enumerate(limits.tiers):
        start = max(low, fewest_alone(i, cuts), limits.total[0] - int(lows.sum()) + low)
        for n in _counts(start, high):
            row = lows.copy()
            row[i] = n
            rows.append(row)
    fleets = inside(model, limits, np.array(rows))
    fleets = fleets[(fleets >= lows).all(axis=1) & (fleets.sum(axis=1) >= limits.total[0])]
    if not len(fleets):
        return None
    reached, quality = _judge(model, fleets, goal)
    allowed = _meets(reached, quality, goal)
    if not allowed.any():
        return None
    costs = np.where(allowed, goal.objective(model, fleets), np.inf)
    i = int(np.argmin(costs))
    return _found(fleets, reached, quality, costs, i)


def alone(model: FleetModel, goal: Goal, *, replicas_max: int) -> dict[int, Fleet]:
    """For each tier that can, the fewest replicas of it that meet the attainment with no other tier beside it."""
    cuts = cuts_of(model, goal)
    rows, owners = [], []
    for i, usable in enumerate(model.usable):
        if usable:
            counts = _counts(fewest_alone(i, cuts), replicas_max)
            rows += [[n if j == i else 0 for j in range(len(model.usable))] for n in counts]
            owners += [i] * len(counts)
    if not rows:
        return {}
    fleets = np.array(rows)
    meets = expected_attainment(model, fleets, goal.demand) >= goal.attainment - DUST
    found: dict[int, Fleet] = {}
    for row, owner, good in zip(rows, owners, meets.tolist(), strict=True):
        if good:
            found.setdefault(owner, tuple(row))
    return found


def _counts(start: int, high: int) -> list[int]:
    """One by one near the lower bound, then in steps of 5 percent."""
    found = list(range(start, min(high, start + ALONE) + 1))
    while found and found[-1] < high and found[-1] < 2 * start:
        found.append(min(high, found[-1] + max(1, found[-1] // 20)))
    return found
