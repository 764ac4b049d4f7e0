"""
Plans of one deployment with fewer accelerators than it wants.

A small deployment offers every plan between its ideal one and none. A large one, or one that uses several short
classes, first offers plans in coarse steps over the whole range, and then in finer steps around the chosen one, down
to single accelerators.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from math import ceil, prod

import numpy as np

from tidegate.plan.combine import Option
from tidegate.plan.cuts import Goal
from tidegate.plan.draft import Draft, classes_used
from tidegate.plan.fleet import Fleet, adds_to, expected_attainment, with_more
from tidegate.plan.limits import Limits, carried
from tidegate.plan.pursue import Carries
from tidegate.plan.regret import PLAN_LIFE_S
from tidegate.plan.solve import Given, Solution, solve
from tidegate.plan.table import Table, table
from tidegate.plan.transition import still_needed

# Most options of one deployment in single accelerators; also the number of coarse ones over the whole range.
OPTIONS_MAX = 48
# Most short classes of one deployment that are combined: 48 options are 7 steps in each of two, 4 in each of three.
CLASSES_MAX = 3
# Attainment below this is compared to six digits instead of three: deep in overload each replica adds little.
LITTLE = 0.1

# Fleets that are evaluated in the time of one search, and the most in one table.
FLEETS_A_SEARCH = 400
FLEETS_MAX = 20_000

Found = dict[Fleet, Solution]
Room = Mapping[str, int]
Reserved = tuple[Fleet, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Rooms:
    """The best plans of one deployment for given room in the short classes; each is computed once."""

    draft: Draft
    goal: Goal
    table: Table | None
    solved: dict[tuple[tuple[str, int], ...], Solution] = field(default_factory=dict)

    def plan(self, room: Room) -> Solution:
        """The best plan with this room (accelerators by class)."""
        key = tuple(room.items())
        if key not in self.solved:
            within = _with_room(self.draft, room)
            finder = self.table if self.table is not None and self.table.covers(within) else None
            self.solved[key] = solve(self.draft.model, within, self.goal, finder=finder)
        return self.solved[key]


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """
    Plans that one deployment offers.

    Args:
        options: The options, the ideal plan first.
        step: Accelerators between two options; 1 if every plan is offered.
        rooms: Computes plans for other rooms.
    """

    options: Sequence[Option]
    step: int
    rooms: Rooms


def offer(draft: Draft, short: Room) -> Offer:
    """
    Plans of one deployment, from its ideal one to its lower bounds.

    Without metrics, each plan also reserves the replicas that the deployment waits for, if the limits allow it.
    """
    classes, step = _short_classes(draft, short), 1
    rooms = _rooms(draft, classes)
    found: Found = {draft.ideal: as_is(draft, draft.ideal)}
    if not _one_by_one(rooms, classes, found) or len(classes) > 1:
        tops = _tops(rooms, classes)
        step = max([1, *_steps(tops)])
        _add(found, [*_least(draft), *map(rooms.plan, _grid(tops))])
    return Offer(options=_options(draft, found, short), step=step, rooms=rooms)


def finer(rooms: Rooms, chosen: Option, short: Room, *, step: int) -> list[Option]:
    """The chosen plan, those with `step` accelerators more or fewer, the ideal one and the lower bounds."""
    draft = rooms.draft
    classes, used = _short_classes(draft, short), dict(chosen.used)
    found: Found = {draft.ideal: as_is(draft, draft.ideal), chosen.fleet: as_is(draft, chosen.fleet)}
    around = [
        {name: max(0, used[name] + more) for name, more in zip(classes, change, strict=True)}
        for change in product((-step, 0, step), repeat=len(classes))
        if any(change)
    ]
    around.append(dict.fromkeys(classes, 0))
    _add(found, [*_least(draft), *map(rooms.plan, around)])
    return _options(draft, found, short)


def topped_up(draft: Draft, chosen: Option, short: Room, left: Room) -> Option:
    """The chosen plan, enlarged if more replicas within what is left of the short classes serve more requests."""
    if draft.held or chosen.fleet == draft.ideal or (not chosen.missed and chosen.under <= 0):
        return chosen
    used = dict(chosen.used)
    classes = _short_classes(draft, short, most=len(short))
    within = _with_room(draft, {name: used[name] + left[name] for name in classes})
    tiers = tuple([(max(low, n), high) for n, (low, high) in zip(chosen.fleet, within.tiers, strict=True)])
    solution = solve(draft.model, replace(within, tiers=tiers), draft.goal(draft.demand))
    if adds_to(chosen.fleet, solution.fleet):
        return chosen
    more = option(draft, solution, short, reserved=reserved_for(draft, solution.fleet))
    if any(n > used[name] + left[name] for name, n in more.used):
        return chosen
    before = as_is(draft, chosen.fleet).attainment
    return more if (more.under, -solution.attainment) < (chosen.under, -before) else chosen


def option(draft: Draft, solution: Solution, short: Room, *, reserved: Reserved, lost: float = 0.0) -> Option:
    """
    A plan as an option.

    Args:
        reserved: Fleets that accelerators are reserved for.
        lost: Attainment that is lost because nothing beyond `reserved` is kept.
    """
    used = classes_used(draft, *reserved)
    lows = [max(0, low - n) for n, (low, _) in zip(solution.fleet, draft.limits.tiers, strict=True)]
    digits = 3 if solution.attainment >= LITTLE else 6
    return Option(
        fleet=solution.fleet,
        reserved=reserved,
        used=tuple([(name, used.get(name, 0)) for name in short]),
        missed=round(max(0.0, draft.asked - solution.attainment) + lost, digits),
        quality_lost=1.0 if solution.given is Given.QUALITY else 0.0,
        usd_per_hour=solution.objective,
        under=max(draft.limits.total[0] - sum(solution.fleet), sum(lows)),
        taken=taken(draft, reserved),
    )


def as_is(draft: Draft, fleet: Fleet) -> Solution:
    """A fleet as a solution, without a search."""
    if fleet not in draft.known.predicted:
        reached = float(expected_attainment(draft.model, np.array([fleet]), draft.demand)[0])
        cost = draft.model.cost(fleet)
        draft.known.predicted[fleet] = Solution(fleet=fleet, attainment=reached, objective=cost, given=draft.given)
    return draft.known.predicted[fleet]


def reserved_for(draft: Draft, fleet: Fleet) -> Reserved:
    """
    The fleets that the accelerators of a plan are reserved for.

    Without metrics, they include the replicas that the deployment waits for. During an exchange, they include what
    serves until it is complete and what it has started. Other options reserve less, at the cost of attainment.
    """
    if fleet not in draft.known.reserved:
        draft.known.reserved[fleet] = _reserved_for(draft, fleet)
    return draft.known.reserved[fleet]


def _reserved_for(draft: Draft, fleet: Fleet) -> Reserved:
    if draft.held:
        waiting = draft.with_stuck(fleet)
        return (waiting if draft.opened.below(draft.model, waiting) else fleet,)
    exchanged = adds_to(draft.ready, fleet) and adds_to(fleet, draft.ready)
    if not (exchanged and draft.spec.acts):
        return (fleet,)
    carries = Carries(draft, fleet)
    needed = still_needed(draft.model, draft.ready, fleet, carries)
    # If the ready replicas do not carry the current load, `transition` would exchange them one by one for lack of room.
    # So they are kept next to all new ones.
    begun = map(min, draft.counted, fleet) if carries(draft.ready) else fleet
    return (fleet, tuple(map(max, needed, begun)))


def _lost(draft: Draft, solution: Solution, kept: Reserved) -> float:
    """Attainment lost over the plan's life if not all of `kept` is reserved: old replicas go before new ones serve."""
    if draft.held or classes_used(draft, solution.fleet) == classes_used(draft, *kept):
        return 0.0
    pairs = zip(draft.model.startup_s, solution.fleet, draft.ready, strict=True)
    return min(1.0, max([s for s, n, now in pairs if n > now]) / PLAN_LIFE_S) * solution.attainment


def taken(draft: Draft, reserved: Reserved) -> int:
    """Replicas that a plan takes from a deployment without metrics, ready ones twice; 0 if there are metrics."""
    if not draft.held:
        return 0
    have = (draft.held, draft.ready)
    return sum([max(0, had - n) for fleet in have for had, n in zip(fleet, reserved[0], strict=True)])


def _short_classes(draft: Draft, short: Room, *, most: int = CLASSES_MAX) -> list[str]:
    """The short classes that the deployment's tiers use, at most `most`."""
    return [name for name in short if name in draft.model.classes][:most]


def _options(draft: Draft, found: Found, short: Room) -> list[Option]:
    options = []
    for fleet, solution in found.items():
        kept, alone = reserved_for(draft, fleet), (fleet,)
        options.append(option(draft, solution, short, reserved=kept))
        if kept != alone:
            options.append(option(draft, solution, short, reserved=alone, lost=_lost(draft, solution, kept)))
    return options


def _add(found: Found, solutions: Iterable[Solution]) -> None:
    for solution in solutions:
        found.setdefault(solution.fleet, solution)


def _rooms(draft: Draft, classes: Sequence[str]) -> Rooms:
    """
    A solver for rooms, with a table of all fleets if that is faster than searching.

    With a single short class, no plan needs more room than the ideal one, so the table ends there, unless the last
    allocation was of several classes: then the whole table will be needed, too.
    """
    goal, within, looks = draft.goal(draft.demand), draft.limits, OPTIONS_MAX
    if len(classes) == 1 and len(draft.grant) < 2:
        room = classes_used(draft, draft.ideal).get(classes[0], 0)
        within, looks = replace(within, room={**within.room, classes[0]: room}), min(OPTIONS_MAX, sum(draft.ideal))
    most = min(FLEETS_MAX, looks * FLEETS_A_SEARCH)
    if draft.known.table is None or not draft.known.table.covers(within):
        draft.known.table = table(draft.model, within, goal, most=most)
    return Rooms(draft, goal, draft.known.table)


def _one_by_one(rooms: Rooms, classes: Sequence[str], found: Found) -> bool:
    """Add the plans with ever fewer accelerators of each short class, one by one; True if that is all of them."""
    draft = rooms.draft
    replicas = [
        sum([n for n, of in zip(draft.ideal, draft.model.classes, strict=True) if of == name]) for name in classes
    ]
    if prod([n + 1 for n in replicas]) > OPTIONS_MAX:
        return False
    queue = [draft.ideal]
    while queue and len(found) < OPTIONS_MAX:
        fleet = queue.pop(0)
        for name in classes_used(draft, fleet):
            solution = _with_less(rooms, fleet, name) if name in classes else None
            if solution is not None and solution.fleet not in found:
                found[solution.fleet] = solution
                queue.append(solution.fleet)
    return len(found) < OPTIONS_MAX


def _with_less(rooms: Rooms, fleet: Fleet, name: str) -> Solution:
    """
    The plan with fewer accelerators of a class than a fleet uses.

    Without metrics, a fleet of at most `held` is not replanned: it loses one replica, a starting one if there is one,
    else of the most expensive tier.
    """
    draft = rooms.draft
    if not draft.held or adds_to(fleet, draft.held):
        return rooms.plan({name: classes_used(draft, fleet)[name] - 1})
    tiers = [i for i, of in enumerate(draft.model.classes) if of == name and fleet[i]]
    last = max(tiers, key=lambda i: (fleet[i] > draft.ready[i], draft.model.each_usd[i]))
    return as_is(draft, with_more(fleet, last, -1))


def _least(draft: Draft) -> list[Solution]:
    """Plans with only the lower bounds; the rest of the total's bound on each tier that the limits allow."""
    bounds = draft.limits
    lows = tuple([low for low, _ in bounds.tiers])
    rest = max(0, bounds.total[0] - sum(lows))
    fleets = [with_more(lows, tier, rest) for tier in range(len(lows))]
    return [as_is(draft, fleet) for fleet in fleets if bounds.hold(draft.model, fleet)]


def _tops(rooms: Rooms, classes: Sequence[str]) -> dict[str, int]:
    """The most accelerators of each short class that a plan uses: the ideal one, or one without the other classes."""
    draft = rooms.draft
    ideal = classes_used(draft, draft.ideal)
    tops = {name: ideal.get(name, 0) for name in classes}
    for name in classes if len(classes) > 1 else ():
        without = rooms.plan({other: 0 for other in classes if other != name})
        tops[name] = max(tops[name], classes_used(draft, without.fleet).get(name, 0))
    return tops


def _steps(tops: Mapping[str, int]) -> list[int]:
    """Accelerators between two points of the coarse grid, for each class."""
    points = int(OPTIONS_MAX ** (1 / len(tops)) + 1e-9)
    return [max(1, ceil(top / points)) for top in tops.values()]


def _grid(tops: Mapping[str, int]) -> list[dict[str, int]]:
    """Room in each short class, from the most that a plan uses down to none, in every combination."""
    axes = [[*range(top, 0, -step), 0] for top, step in zip(tops.values(), _steps(tops), strict=True)]
    return [dict(zip(tops, point, strict=True)) for point in product(*axes)]


def _with_room(draft: Draft, room: Room) -> Limits:
    """Limits with this room. A deployment without metrics keeps what it holds, or as much of it as fits."""
    within = replace(draft.limits, room={**draft.limits.room, **room})
    if draft.held:
        kept = tuple(map(min, draft.held, draft.ideal))
        fits = within.below(draft.model, kept)
        tiers = [
            (max(low, n), high) if fits else (low, max(low, n))
            for n, (low, high) in zip(kept, within.tiers, strict=True)
        ]
        within = replace(within, tiers=tuple(tiers))
    return carried(within, draft.model)
