"""
Enumeration of the candidate fleets of a search.

A box is the range of replica counts worth trying for each tier. Fleets are built tier by tier, and partial fleets that
the limits, the cuts or the cost ceiling rule out are dropped. If too many remain, all tiers but one vary in steps, and
the steps get coarser until the number is small enough.
"""

from dataclasses import replace
from math import floor, prod

import numpy as np
from numpy.typing import NDArray

from tidegate.plan.cuts import NEVER, Cuts, Goal, no_cuts
from tidegate.plan.fleet import FleetModel, Floats, Ints
from tidegate.plan.limits import MONEY_DUST, Limits

Flags = NDArray[np.bool_]
Box = list[tuple[int, int]]  # lowest and highest count of each tier

STEPS = 64  # counts tried for each tier but the last
MIXED_TIERS = 4  # tiers that may grow in one plan; the others keep their lower bound
# Most fleets in one search. Beyond it the steps get coarser and the cap is lower: the first attempt took time, too.
FLEETS_MAX = 400_000
COARSE_MAX = 50_000  # above 2**15: room for two counts of each of the 16 tiers of a spec but one


def candidates(model: FleetModel, limits: Limits, goal: Goal, *, cuts: Cuts, ceiling: float) -> tuple[Ints, bool]:
    """Fleets within the limits that pass the cuts and cost at most the ceiling; returns as `_every`."""
    box = _affordable(model, _box(model, limits, goal), ceiling)
    return _every(model, limits, goal, box, cuts=cuts, ceiling=ceiling)


def for_effort(model: FleetModel, limits: Limits, goal: Goal) -> Ints:
    """Fleets within the limits among which to find the one that serves most: all if they are few, else the fullest."""
    box = _box(model, limits, goal)
    if _size(box) > FLEETS_MAX:
        fleets = _largest(model, limits, goal, box)
    else:
        fleets, _ = _every(model, limits, goal, box, cuts=no_cuts(model), ceiling=float("inf"))
    return np.concatenate([fleets, _full(model, limits)])


def all_inside(model: FleetModel, limits: Limits, goal: Goal, *, most: int) -> Ints | None:
    """All fleets within the upper limits, including the empty one; None if more than `most`, or above `MIXED_TIERS`."""
    if len(limits.tiers) > MIXED_TIERS:
        return None
    upper = replace(limits, total=(0, limits.total[1]), tiers=tuple([(0, high) for _, high in limits.tiers]))
    box = _box(model, upper, goal)
    steps = max([high + 1 for _, high in box])
    return _grid(model, upper, goal, box, steps=steps, most=most, cuts=no_cuts(model), ceiling=float("inf"))


def _box(model: FleetModel, limits: Limits, goal: Goal) -> Box:
    """Counts of each tier worth trying: within all upper limits; only the few most useful tiers may grow."""
    useful = _useful(model, goal)
    box = []
    for i, (low, high) in enumerate(limits.tiers):
        top = min(high, limits.total[1])
        price, name = float(model.prices[i]), model.classes[i]
        if price > 0 and limits.budget < float("inf"):
            top = min(top, floor(limits.budget / price + MONEY_DUST))
        if name in limits.room:
            top = min(top, limits.room[name] // int(model.gpus[i]))
        if i not in useful and goal.current[i] <= low:
            top = min(top, low)
        box.append((min(low, top), top))
    return box


def _affordable(model: FleetModel, box: Box, ceiling: float) -> Box:
    """A box without the counts that exceed the ceiling even with the lowest counts of the other tiers."""
    left = ceiling - sum([low * cost for (low, _), cost in zip(box, model.costs.tolist(), strict=True)])
    if not 0.0 <= left < float("inf"):
        return box
    return [
        (low, min(high, low + floor(left / cost + MONEY_DUST))) if cost > 0 else (low, high)
        for (low, high), cost in zip(box, model.costs.tolist(), strict=True)
    ]


def _useful(model: FleetModel, goal: Goal) -> set[int]:
    """
    Tiers that may grow: all if there are few.

    Else `MIXED_TIERS` of them: those with the lowest cost per good request, and in any case the cheapest one with the
    quality that the goal asks for.
    """
    if len(model.tiers) <= MIXED_TIERS:
        return set(range(len(model.tiers)))
    goods = model.goods_of(1)
    carried = np.where(goods >= goal.attainment * model.rates, model.rates, 0.0).max(axis=1)
    fallback = goods.max(axis=1) * 1e-3
    cost = model.prices / np.maximum(np.maximum(carried, fallback), 1e-12)
    by_cost = np.argsort(cost, kind="stable").tolist()
    above = [i for i in by_cost if model.qualities[i] >= goal.quality]
    return set([*above[:1], *[i for i in by_cost if i not in above[:1]]][:MIXED_TIERS])


def _size(box: Box) -> int:
    return prod([high - low + 1 for low, high in box])


def _every(
    model: FleetModel,
    limits: Limits,
    goal: Goal,
    box: Box,
    *,
    cuts: Cuts,
    ceiling: float,
) -> tuple[Ints, bool]:
    """
    Fleets of a box that the limits, the cuts and the ceiling allow.

    Returns:
        The fleets, shape (fleets, tiers), and whether the counts of some tier were only tried in steps.
    """
    steps, most = STEPS, FLEETS_MAX
    widths = sorted([high - low + 1 for low, high in box])[:-1]
    while steps:
        rows = _grid(model, limits, goal, box, steps=steps, most=most, cuts=cuts, ceiling=ceiling)
        if rows is not None:
            return rows, max(widths, default=0) > steps
        steps, most = steps // 2, COARSE_MAX
    return np.zeros((0, len(box)), dtype=np.int64), True


def _grid(
    model: FleetModel,
    limits: Limits,
    goal: Goal,
    box: Box,
    *,
    steps: int,
    most: int,
    cuts: Cuts,
    ceiling: float,
) -> Ints | None:
    """Fleets of a box with at most `steps` counts of each tier but the last; None if there are more than `most`."""
    order = _by_width(box)
    rows = np.array([[low for low, _ in box]])
    for depth, tier in enumerate(order):
        last = depth == len(order) - 1
        counts = _steps(box[tier], goal.current[tier], steps=box[tier][1] + 1 if last else steps)
        if len(rows) * len(counts) > 4 * most:
            return None
        rows = _crossed(rows, tier, counts)
        rows = _pruned(model, limits, goal, rows, rest=order[depth + 1 :], cuts=cuts, ceiling=ceiling)
    rows = _at_least(limits, rows)
    return rows if len(rows) <= most else None


def _by_width(box: Box) -> list[int]:
    """Tiers in the order of enumeration: the one with the most counts last."""
    return sorted(range(len(box)), key=lambda i: box[i][1] - box[i][0])


def _steps(bounds: tuple[int, int], current: int, *, steps: int) -> Ints:
    """Counts of one tier: all of them, or `steps` of them evenly from lowest to highest, plus the current one."""
    low, high = bounds
    counts = np.arange(low, high + 1)
    if len(counts) > steps:
        counts = np.unique(np.append(np.linspace(low, high, steps).round().astype(np.int64), current))
        counts = counts[(counts >= low) & (counts <= high)]
    return counts


def _crossed(rows: Ints, tier: int, counts: Ints) -> Ints:
    """Every row combined with every count of a tier."""
    crossed = np.repeat(rows, len(counts), axis=0)
    crossed[:, tier] = np.tile(counts, len(rows))
    return crossed


def _largest(model: FleetModel, limits: Limits, goal: Goal, box: Box) -> Ints:
    """
    Fleets of a large box: the other tiers vary in steps, and the widest tier takes all the room that they leave.

    The steps get coarser until there are at most `COARSE_MAX` combinations of the others.
    """
    *others, widest = _by_width(box)
    steps = STEPS
    while (rows := _beside(model, limits, goal, box, others, steps)) is None:
        steps //= 2
    return _at_least(limits, _filled(model, limits, rows, widest, box[widest][1]))


def _full(model: FleetModel, limits: Limits) -> Ints:
    """The lower bounds, filled with each tier in turn and then with the others: extremes that coarse steps may miss."""
    found = []
    for first in range(len(limits.tiers)):
        rows = np.array([[low for low, _ in limits.tiers]])
        for tier in (*range(first, len(limits.tiers)), *range(first)):
            rows = _filled(model, limits, rows, tier, limits.tiers[tier][1])
            found.append(rows)
    return _at_least(limits, np.concatenate(found))


def _at_least(limits: Limits, rows: Ints) -> Ints:
    """Rows that meet the lower bound of the total."""
    enough: Ints = rows[rows.sum(axis=1) >= limits.total[0]]
    return enough


def _beside(model: FleetModel, limits: Limits, goal: Goal, box: Box, tiers: list[int], steps: int) -> Ints | None:
    """Fleets with at most `steps` counts of some tiers and the others at their lowest; None above `COARSE_MAX`."""
    rows = np.array([[low for low, _ in box]])
    for tier in tiers:
        rows = inside(model, limits, _crossed(rows, tier, _steps(box[tier], goal.current[tier], steps=steps)))
        if len(rows) > COARSE_MAX:
            return None
    return rows


def _filled(model: FleetModel, limits: Limits, rows: Ints, tier: int, high: int) -> Ints:
    """Rows with as many replicas of a tier as the limits allow; rows that exceed the limits anyway are dropped."""
    lows, rows = rows[:, tier], rows.copy()
    rows[:, tier] = 0
    most = np.minimum(high, limits.total[1] - rows.sum(axis=1))
    price, name = float(model.prices[tier]), model.classes[tier]
    if price > 0 and limits.budget < float("inf"):
        most = np.minimum(most, np.floor((limits.budget + MONEY_DUST - rows @ model.prices) / price).astype(np.int64))
    if name in limits.room:
        most = np.minimum(most, (limits.room[name] - used(model, rows, name)) // int(model.gpus[tier]))
    rows[:, tier] = most
    return inside(model, limits, rows[most >= lows])


def _pruned(
    model: FleetModel,
    limits: Limits,
    goal: Goal,
    rows: Ints,
    *,
    rest: list[int],
    cuts: Cuts,
    ceiling: float,
) -> Ints:
    """
    Rows that can still become a fleet within the limits, the cuts and the ceiling.

    Args:
        rest: Tiers still to be added; if empty, the rows are complete fleets.
    """
    rows = inside(model, limits, rows)
    if rest:
        usd = rows @ model.costs + _least_usd_to_come(model, rows, rest, cuts)
    else:
        lines, needs = cuts
        rows = rows[(rows @ lines.T >= needs).all(axis=1)]
        usd = goal.objective(model, rows) if ceiling < float("inf") else rows @ model.costs
    kept: Ints = rows[usd <= ceiling + MONEY_DUST if ceiling < float("inf") else usd < NEVER]
    return kept


def _least_usd_to_come(model: FleetModel, rows: Ints, rest: list[int], cuts: Cuts) -> Floats:
    """Least cost, on the tiers still to be added, of what each row lacks to meet the cuts, $/h; shape (rows,)."""
    lines, needs = cuts
    missing = np.maximum(needs - rows @ lines.T, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(lines[:, rest] > 0, model.costs[rest] / lines[:, rest], NEVER).min(axis=1)
    usd: Floats = (missing * ratio).max(axis=1, initial=0.0)
    return usd


def used(model: FleetModel, rows: Ints, name: str) -> Ints:
    """Accelerators of a class that each row uses; shape (rows,)."""
    taken: Ints = rows @ np.where(np.array(model.classes) == name, model.gpus, 0)
    return taken


def inside(model: FleetModel, limits: Limits, rows: Ints) -> Ints:
    """Rows within the upper limits; lower limits are not checked."""
    keep = rows.sum(axis=1) <= limits.total[1]
    if limits.budget < float("inf"):
        keep &= rows @ model.prices <= limits.budget + MONEY_DUST
    for name, most in limits.room.items():
        keep &= used(model, rows, name) <= most
    highs = np.array([high for _, high in limits.tiers])
    kept: Ints = rows[keep & (rows <= highs).all(axis=1)]
    return kept
