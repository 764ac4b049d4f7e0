"""
The cheapest fleet, exactly.

What a plan costs is a sum over tiers: $/h of its replicas, plus what it takes to get there spread over an hour.
What it must do is a share of requests. Three steps:

1. An upper bound: the cheapest single-tier fleet that does it, or the fleet that runs.
2. All fleets between the lower bound and that cost. The lower bound is a Lagrangian one: a fleet that holds the
   share t of rate L has some N with sum n*r >= L and sum n*(g - t*r) >= 0, so for every m >= 0
   sum n * max_N [r + m*(g - t*r)] >= L, which is linear in n.
3. They are tried in order of cost; the first one that does it is the cheapest.

Exact up to `STEPS` replicas of a tier; beyond that all tiers but one move in steps.
"""

from dataclasses import dataclass
from math import floor

import numpy as np
from numpy.typing import NDArray

from tidegate.plan.cuts import Goal, cuts_of, fewest_alone
from tidegate.plan.fleet import Fleet, FleetModel, Floats, Ints, expected_attainment, mean_quality
from tidegate.plan.limits import MONEY_DUST, Limits

Flags = NDArray[np.bool_]

# Prices and start-up times are not known better than this: fleets within it cost the same.
SAME_COST = 0.02
NEVER = 1e15  # $/h of what no replica can carry
# Float dust on shares and dollars.
DUST = 1e-9
STEPS = 64  # counts tried of each tier but the last
ALONE = 12  # counts of a single tier tried for a first upper bound, from its lower bound on
MIXED_TIERS = 4  # tiers that may grow in one plan; those beyond keep their lower bound
CHUNK = 128
# Effort cap of one search, fleets. Beyond it the incumbent stands: feasible, if perhaps not the cheapest.
FLEETS_MAX = 400_000
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
    ceiling = best.objective * (1 + SAME_COST) if best else float("inf")
    candidates = _candidates(model, limits, goal, cuts=cuts, ceiling=ceiling)
    if candidates is None:
        return best
    least, chosen, most = float("inf"), best, -1.0
    for fleets, costs in _in_order(model, candidates, goal):
        if costs[0] > least * (1 + SAME_COST) + MONEY_DUST:
            break
        reached, quality = _judge(model, fleets, goal)
        good = np.flatnonzero(_meets(reached, quality, goal))
        if len(good):
            least = min(least, float(costs[good[0]]))
            good = good[costs[good] <= least * (1 + SAME_COST) + MONEY_DUST]
        if len(good):
            carried = fleets[good] @ np.array(model.capacities)
            i = int(np.argmax(np.round(carried, 9)))
            if carried[i] > most + DUST:
                most, chosen = float(carried[i]), _found(fleets, reached, quality, costs, int(good[i]))
    return chosen


def best_quality(model: FleetModel, limits: Limits, goal: Goal) -> Found | None:
    """Of the fleets that meet the attainment, the one with the best mean quality, then the cheapest."""
    relaxed = _with_quality(goal, 0.0)
    candidates = _candidates(model, limits, relaxed, cuts=cuts_of(model, relaxed), ceiling=float("inf"))
    if candidates is None:
        return None
    reached, quality = _judge(model, candidates, relaxed)
    allowed = _meets(reached, quality, relaxed)
    if not allowed.any():
        return None
    return _first(model, candidates, relaxed, (reached, quality), np.where(allowed, -np.round(quality, 4), np.inf))


def best_effort(model: FleetModel, limits: Limits, goal: Goal) -> Found | None:
    """The fleet that serves most requests inside the targets, then the cheapest; None where no fleet is allowed."""
    box = _boxes(model, limits, goal, limits.total[1])
    fleets = _enumerate(model, limits, goal, box, cuts=None, ceiling=float("inf"), largest=_size(box) > FLEETS_MAX)
    return None if fleets is None or not len(fleets) else best_of(model, fleets, goal)


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
    fleets = _inside(model, limits, np.array(rows))
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


def _candidates(
    model: FleetModel, limits: Limits, goal: Goal, *, cuts: tuple[Floats, Floats], ceiling: float
) -> Ints | None:
    """Every fleet inside the limits that passes the lower bounds and costs at most the ceiling."""
    box = _boxes(model, limits, goal, limits.total[1])
    return _enumerate(model, limits, goal, box, cuts=cuts, ceiling=ceiling, largest=False)


def _boxes(model: FleetModel, limits: Limits, goal: Goal, most: int) -> list[tuple[int, int]]:
    """Counts of each tier worth trying: inside all upper limits, growth only in the few most useful tiers."""
    useful = _useful(model, goal)
    box = []
    for i, (low, high) in enumerate(limits.tiers):
        top = min(high, most)
        price, name = float(model.prices[i]), model.classes[i]
        if price > 0 and limits.budget < float("inf"):
            top = min(top, floor(limits.budget / price + MONEY_DUST))
        if name in limits.room:
            top = min(top, limits.room[name] // int(model.gpus[i]))
        if i not in useful and goal.current[i] <= low:
            top = min(top, low)
        box.append((min(low, top), top))
    return box


def _useful(model: FleetModel, goal: Goal) -> set[int]:
    """The tiers that good requests are cheapest on; all of them where there are few."""
    if len(model.tiers) <= MIXED_TIERS:
        return set(range(len(model.tiers)))
    goods = model.goods_of(1)
    carried = np.where(goods >= goal.attainment * model.rates, model.rates, 0.0).max(axis=1)
    fallback = goods.max(axis=1) * 1e-3
    cost = model.prices / np.maximum(np.maximum(carried, fallback), 1e-12)
    per_quality = np.argsort(cost, kind="stable")
    best = {int(i) for i in per_quality[: MIXED_TIERS - 1]}
    above = [int(i) for i in per_quality if model.qualities[i] >= goal.quality]
    return best | set(above[:1]) | {int(i) for i in per_quality[: MIXED_TIERS - len(best | set(above[:1]))]}


def _size(box: list[tuple[int, int]]) -> int:
    size = 1
    for low, high in box:
        size *= high - low + 1
    return size


def _enumerate(
    model: FleetModel,
    limits: Limits,
    goal: Goal,
    box: list[tuple[int, int]],
    *,
    cuts: tuple[Floats, Floats] | None,
    ceiling: float,
    largest: bool,
) -> Ints | None:
    """
    Fleets of a box, tier by tier, dropping partial ones that the cuts and the ceiling rule out.

    `largest` keeps, for the last tier, only the most replicas that fit. None: no fleet is left, or too many.
    """
    order = sorted(range(len(box)), key=lambda i: box[i][1] - box[i][0])
    lows = np.array([low for low, _ in box])
    rows = lows[None, :].copy()
    for depth, tier in enumerate(order):
        low, high = box[tier]
        counts = np.arange(low, high + 1)
        last = depth == len(order) - 1
        if not last and len(counts) > STEPS:
            counts = np.unique(np.append(np.linspace(low, high, STEPS).round().astype(np.int64), goal.current[tier]))
            counts = counts[(counts >= low) & (counts <= high)]
        if len(rows) * len(counts) > 4 * FLEETS_MAX:
            return None
        rows = np.repeat(rows, len(counts), axis=0)
        rows[:, tier] = np.tile(counts, len(rows) // len(counts))
        rows = _pruned(model, limits, goal, rows, rest=order[depth + 1 :], cuts=cuts, ceiling=ceiling)
        if last and largest:
            rows = _largest(rows, tier)
    rows = rows[rows.sum(axis=1) >= limits.total[0]]
    return rows if 0 < len(rows) <= FLEETS_MAX else None


def _pruned(
    model: FleetModel,
    limits: Limits,
    goal: Goal,
    rows: Ints,
    *,
    rest: list[int],
    cuts: tuple[Floats, Floats] | None,
    ceiling: float,
) -> Ints:
    rows = _inside(model, limits, rows)
    floor_usd = rows @ model.prices
    if cuts is not None and len(cuts[1]) and len(rows):
        lines, needs = cuts
        missing = np.maximum(needs[None, :] - rows @ lines.T, 0.0)
        if rest:
            with np.errstate(divide="ignore", invalid="ignore"):
                ratio = np.where(lines[:, rest] > 0, model.prices[rest] / lines[:, rest], NEVER).min(axis=1)
            more = (missing * ratio).max(axis=1)
            floor_usd = floor_usd + more
        else:
            rows, floor_usd = _kept(rows, floor_usd, np.asarray((missing <= 0).all(axis=1)))
    if ceiling < float("inf"):
        if not rest:
            floor_usd = goal.objective(model, rows)
        rows = rows[floor_usd <= ceiling + MONEY_DUST]
    elif len(rows):
        rows = rows[floor_usd < NEVER]
    return rows


def _kept(rows: Ints, values: Floats, keep: Flags) -> tuple[Ints, Floats]:
    return rows[keep], values[keep]


def _inside(model: FleetModel, limits: Limits, rows: Ints) -> Ints:
    """Rows inside the upper limits; lower ones are the box's business."""
    keep = rows.sum(axis=1) <= limits.total[1]
    if limits.budget < float("inf"):
        keep &= rows @ model.prices <= limits.budget + MONEY_DUST
    for name, most in limits.room.items():
        used = rows @ np.where(np.array(model.classes) == name, model.gpus, 0)
        keep &= used <= most
    highs = np.array([high for _, high in limits.tiers])
    inside: Ints = rows[keep & (rows <= highs).all(axis=1)]
    return inside


def _largest(rows: Ints, tier: int) -> Ints:
    """Of rows that differ in one tier only, the one with most replicas of it."""
    others = np.delete(rows, tier, axis=1)
    _, first = np.unique(others[::-1], axis=0, return_index=True)
    return rows[::-1][np.sort(first)]
