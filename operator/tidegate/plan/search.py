"""
Exact search for the cheapest fleet.

The cost of a plan is a sum over tiers: $/h of its replicas, plus the cost of the moves spread over an hour. The
constraint is a share of requests. Three steps:

1. Upper bound on the cost: the cheapest of the current fleet and of each tier alone on top of the lower bounds of the
   others, among those that meet the goal.
2. Candidates: all fleets up to that cost that satisfy a Lagrangian bound. A fleet that attains the share t at rate L
   has some N with sum n*r >= L and sum n*(g - t*r) >= 0, so for every m >= 0
   sum n * max_N [r + m*(g - t*r)] >= L, which is linear in n.
3. Candidates are tried in order of cost. The first one that meets the goal is the cheapest.

Exact for up to `boxes.STEPS` affordable replicas of a tier and `boxes.MIXED_TIERS` tiers. With more replicas (or more
than `boxes.FLEETS_MAX` candidates) all tiers but one vary in steps; with more tiers not all of them may grow.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from tidegate.plan.boxes import Flags, candidates, for_effort, inside
from tidegate.plan.cuts import DUST, Cuts, Goal, cuts_of, fewest_alone
from tidegate.plan.fleet import Fleet, FleetModel, Floats, Ints, expected_attainment, mean_quality
from tidegate.plan.limits import MONEY_DUST, Limits

# Prices and start-up times are not known more precisely: fleets whose costs differ by less count as equally cheap.
SAME_COST = 0.02
ALONE = 12  # counts of a single tier tried one by one for the upper bound, from its lower bound up
CHUNK = 128
# Attainment this close to the best, as a share of it, counts as the best, so that whole replicas are not bought for the
# last 0.2 %. It is a share because in deep overload each replica adds little, and all of them are needed.
BEST_EFFORT_SLACK = 0.002


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A fleet with its predicted attainment and its cost, including moves, $/h."""

    fleet: Fleet
    attainment: float
    objective: float


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """Fleets by rising cost (of equal ones the better first) with their predictions; arrays of shape (fleets,)."""

    fleets: Ints
    costs: Floats
    reached: Floats
    quality: Floats

    def only(self, rows: Flags) -> "Judged":
        """The selected rows."""
        return Judged(self.fleets[rows], self.costs[rows], self.reached[rows], self.quality[rows])

    def meets(self, goal: Goal) -> Flags:
        """Which fleets meet the goal; shape (fleets,)."""
        meets: Flags = (self.reached >= goal.attainment - DUST) & (self.quality >= goal.quality - DUST)
        return meets

    def found(self, i: int) -> Found:
        """Row i as a single fleet."""
        return Found(
            fleet=tuple(self.fleets[i].tolist()),
            attainment=float(self.reached[i]),
            objective=float(self.costs[i]),
        )


def judged(model: FleetModel, fleets: Ints, goal: Goal) -> Judged:
    """The fleets in order of cost, with their predictions."""
    return _judged(model, *_in_order(model, fleets, goal), goal)


def cheapest(model: FleetModel, limits: Limits, goal: Goal) -> Found | None:
    """
    The cheapest fleet within the limits that meets the goal; None if none does.

    Among fleets within `SAME_COST` of the cheapest, it is the one that carries most. While the load rises, the exact
    minimum would buy the smaller replica again and again; the larger fleet has room for the next rise.
    """
    cuts = cuts_of(model, goal)
    best = _incumbent(model, limits, goal, cuts)
    ceiling = _ceiling(best)
    fleets, coarse = candidates(model, limits, goal, cuts=cuts, ceiling=ceiling)
    best = cheapest_of(model, _chunks(model, fleets, goal), goal) or best
    if coarse and _ceiling(best) < ceiling:  # fewer fleets are that cheap, so they can be searched in finer steps
        fleets, _ = candidates(model, limits, goal, cuts=cuts, ceiling=_ceiling(best))
        best = cheapest_of(model, _chunks(model, fleets, goal), goal) or best
    return best


def _ceiling(best: Found | None) -> float:
    return best.objective * (1 + SAME_COST) if best else float("inf")


def cheapest_of(model: FleetModel, among: Iterable[Judged], goal: Goal) -> Found | None:
    """The first of the fleets, in order of cost, that meets the goal, or an equally cheap one that carries more."""
    least, chosen, most = float("inf"), None, -1.0
    unpaid, unpaid_max = np.where(model.prices > 0, 0, model.gpus), -1
    for chunk in among:
        if chunk.costs[0] > least * (1 + SAME_COST) + MONEY_DUST:
            break
        good = np.flatnonzero(chunk.meets(goal))
        if len(good):
            least = min(least, float(chunk.costs[good[0]]))
            good = good[chunk.costs[good] <= least * (1 + SAME_COST) + MONEY_DUST]
        if len(good):
            # Accelerators without a price are not used for headroom: no more of them than the cheapest fleet has.
            taken = chunk.fleets[good] @ unpaid
            unpaid_max = int(taken[0]) if unpaid_max < 0 else unpaid_max
            carried = np.where(taken <= unpaid_max, chunk.fleets[good] @ np.array(model.capacities), -1.0)
            i = int(np.argmax(np.round(carried, 9)))
            if carried[i] > most + DUST:
                most, chosen = float(carried[i]), chunk.found(int(good[i]))
    return chosen


def best_quality(model: FleetModel, limits: Limits, goal: Goal) -> Found | None:
    """Among the fleets that meet the attainment, the one with the best mean quality, then the cheapest."""
    any_quality = replace(goal, quality=0.0)
    fleets, _ = candidates(model, limits, any_quality, cuts=cuts_of(model, any_quality), ceiling=float("inf"))
    return best_quality_of(judged(model, fleets, any_quality), any_quality)


def best_quality_of(among: Judged, goal: Goal) -> Found | None:
    """The fleet with the best mean quality among those that meet the attainment, then the cheapest."""
    meets = among.reached >= goal.attainment - DUST
    if not meets.any():
        return None
    return among.found(int(np.argmin(np.where(meets, -np.round(among.quality, 4), np.inf))))


def best_effort(model: FleetModel, limits: Limits, goal: Goal) -> Found | None:
    """The fleet that serves most requests within the targets, then the cheapest; None if the limits allow no fleet."""
    among = judged(model, for_effort(model, limits, goal), goal)
    return best_of(among) if len(among.fleets) else None


def best_of(among: Judged) -> Found:
    """The fleet that serves most requests within the targets, then the cheapest."""
    return among.found(int(np.argmax(among.reached >= among.reached.max() * (1 - BEST_EFFORT_SLACK))))


@dataclass(frozen=True, slots=True)
class Search:
    """A `solve.Finder` that searches."""

    model: FleetModel

    def cheapest(self, limits: Limits, goal: Goal) -> Found | None:
        """See `cheapest`."""
        return cheapest(self.model, limits, goal)

    def best_quality(self, limits: Limits, goal: Goal) -> Found | None:
        """See `best_quality`."""
        return best_quality(self.model, limits, goal)

    def best_effort(self, limits: Limits, goal: Goal) -> Found | None:
        """See `best_effort`."""
        return best_effort(self.model, limits, goal)


def _judged(model: FleetModel, fleets: Ints, costs: Floats, goal: Goal) -> Judged:
    reached = expected_attainment(model, fleets, goal.demand)
    return Judged(fleets, costs, reached, mean_quality(model, fleets, goal.demand.mean_rps))


def _in_order(model: FleetModel, fleets: Ints, goal: Goal) -> tuple[Ints, Floats]:
    """Fleets and their costs, by rising cost."""
    costs = goal.objective(model, fleets)
    order = np.lexsort((*_ties(model, fleets), np.round(costs, 9)))
    return fleets[order], costs[order]


def _ties(model: FleetModel, fleets: Ints) -> tuple[Floats, ...]:
    """Keys that break ties, least important first: counts by tier, number of replicas, quality (higher first)."""
    return (*[fleets[:, i] for i in range(fleets.shape[1])], fleets.sum(axis=1), -np.round(fleets @ model.qualities, 9))


def _chunks(model: FleetModel, fleets: Ints, goal: Goal) -> Iterator[Judged]:
    """Chunks by rising cost, of growing size, so that the usual case, a hit among the first fleets, is fast."""
    fleets, costs = _in_order(model, fleets, goal)
    start, size = 0, CHUNK
    while start < len(fleets):
        rows = slice(start, start + size)
        yield _judged(model, fleets[rows], costs[rows], goal)
        start, size = start + size, size * 4


def _incumbent(model: FleetModel, limits: Limits, goal: Goal, cuts: Cuts) -> Found | None:
    """The cheapest fleet that meets the goal among the current one and each tier alone on top of the lower bounds."""
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
    among = _judged(model, fleets, goal.objective(model, fleets), goal)
    meets = among.meets(goal)
    return among.found(int(np.argmin(np.where(meets, among.costs, np.inf)))) if meets.any() else None


def alone(model: FleetModel, goal: Goal, *, replicas_max: int) -> dict[int, Fleet]:
    """For each tier that can meet the attainment alone, the fleet with the fewest replicas of it."""
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
    """Counts to try: one by one near `start`, then in steps of 5 % up to twice `start`."""
    found = list(range(start, min(high, start + ALONE) + 1))
    while found and found[-1] < high and found[-1] < 2 * start:
        found.append(min(high, found[-1] + max(1, found[-1] // 20)))
    return found
