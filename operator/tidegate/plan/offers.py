"""
What one deployment would do with fewer accelerators than it wants.

A small one offers every plan there is between its ideal one and none. A large one, or one on several short classes,
offers a coarse choice over the whole range; around what is chosen of it a finer one is offered, until a single
accelerator lies between two options.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from math import ceil, prod

import numpy as np

from tidegate.plan.combine import Option
from tidegate.plan.cuts import Goal
from tidegate.plan.draft import PLAN_LIFE_S, Draft, classes_used
from tidegate.plan.fleet import Fleet, expected_attainment
from tidegate.plan.limits import Limits, carried
from tidegate.plan.pursue import Carries
from tidegate.plan.solve import Given, Solution, solve
from tidegate.plan.table import Table, table
from tidegate.plan.transition import still_needed

# Ways to do with less that are looked for one accelerator apart, and as many over the whole range.
OPTIONS_MAX = 48
# Short classes of one deployment that are combined with each other: 48 options are 7 steps of two, 4 of three.
CLASSES_MAX = 3
# Attainment below this is compared to six digits instead of three: deep in overload every replica brings little.
LITTLE = 0.1

# Fleets that are judged in the time of one search, and at most in one table.
FLEETS_A_SEARCH = 400
FLEETS_MAX = 20_000

Found = dict[Fleet, Solution]
Room = Mapping[str, int]
Reserved = tuple[Fleet, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Rooms:
    """The best plans of one deployment inside so much room in some classes; each is looked for once."""

    draft: Draft
    goal: Goal
    table: Table | None
    solved: dict[tuple[tuple[str, int], ...], Solution] = field(default_factory=dict)

    def plan(self, room: Room) -> Solution:
        """The best plan inside a room."""
        key = tuple(room.items())
        if key not in self.solved:
            within = _with_room(self.draft, room)
            finder = self.table if self.table is not None and self.table.covers(within) else None
            self.solved[key] = solve(self.draft.model, within, self.goal, finder=finder)
        return self.solved[key]


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """
    Plans of one deployment.

    Args:
        options: The ideal one first.
        step: Accelerators between two of them; 1 where every plan is offered.
        rooms: Where plans for other rooms are found.
    """

    options: Sequence[Option]
    step: int
    rooms: Rooms


def offer(draft: Draft, short: Room) -> Offer:
    """
    Plans of one deployment from its ideal one to the least it may have.

    A silent one keeps what it waits for in all of them, or gives it up.
    """
    mine, step = _mine(draft, short), 1
    rooms = _rooms(draft, mine)
    found: Found = {draft.ideal: as_is(draft, draft.ideal)}
    if not _one_by_one(rooms, mine, found) or len(mine) > 1:
        tops = _tops(rooms, mine)
        step = max([1, *_steps(tops)])
        _add(found, [*_least(draft), *map(rooms.plan, _grid(tops))])
    return Offer(options=_options(draft, found, short), step=step, rooms=rooms)


def finer(rooms: Rooms, chosen: Option, short: Room, *, step: int) -> list[Option]:
    """The chosen plan, those with so many accelerators more or fewer, the ideal one and the least."""
    draft = rooms.draft
    mine, used = _mine(draft, short), dict(chosen.used)
    found: Found = {draft.ideal: as_is(draft, draft.ideal), chosen.fleet: as_is(draft, chosen.fleet)}
    around = [
        {name: max(0, used[name] + more) for name, more in zip(mine, change, strict=True)}
        for change in product((-step, 0, step), repeat=len(mine))
        if any(change)
    ]
    around.append(dict.fromkeys(mine, 0))
    _add(found, [*_least(draft), *map(rooms.plan, around)])
    return _options(draft, found, short)


def topped_up(draft: Draft, chosen: Option, short: Room, left: Room) -> Option:
    """The chosen plan, and what else serves more requests inside what is left of the short classes."""
    if draft.held or chosen.fleet == draft.ideal or (not chosen.missed and chosen.under <= 0):
        return chosen
    used = dict(chosen.used)
    within = _with_room(draft, {name: used[name] + left[name] for name in _mine(draft, short, most=len(short))})
    tiers = tuple([(max(low, n), high) for n, (low, high) in zip(chosen.fleet, within.tiers, strict=True)])
    solution = solve(draft.model, replace(within, tiers=tiers), draft.goal(draft.demand))
    if any(n < had for n, had in zip(solution.fleet, chosen.fleet, strict=True)):
        return chosen
    more = option(draft, solution, short, reserved=reserved_for(draft, solution.fleet))
    if any(n > used[name] + left[name] for name, n in more.used):
        return chosen
    before = as_is(draft, chosen.fleet).attainment
    return more if (more.under, -solution.attainment) < (chosen.under, -before) else chosen


def option(draft: Draft, solution: Solution, short: Room, *, reserved: Reserved, lost: float = 0.0) -> Option:
    """A plan as it is compared with others; `lost` is the attainment that it costs to keep no more than `reserved`."""
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
    """A fleet as a plan."""
    reached = float(expected_attainment(draft.model, np.array([fleet]), draft.demand)[0])
    cost = draft.model.cost(fleet)
    return Solution(fleet=fleet, attainment=reached, objective=cost, given=draft.given)


def reserved_for(draft: Draft, fleet: Fleet) -> Reserved:
    """
    What the accelerators of a plan are kept for.

    What a silent deployment waits for, nobody else gets. Of an exchange, nobody gets what serves until it is done, or
    what it has begun, unless the loss of that is worth it to the fleet.
    """
    if draft.held:
        waiting = draft.with_stuck(fleet)
        return (waiting if draft.opened.below(draft.model, waiting) else fleet,)
    gone = any(n < now for n, now in zip(fleet, draft.ready, strict=True))
    new = any(n > now for n, now in zip(fleet, draft.ready, strict=True))
    if not (gone and new and draft.spec.acts):
        return (fleet,)
    carries = Carries(draft, fleet)
    needed = still_needed(draft.model, draft.ready, fleet, carries)
    # What does not carry the load of now would be taken apart at once for lack of room: it is kept beside all new ones.
    begun = map(min, draft.counted, fleet) if carries(draft.ready) else fleet
    return (fleet, tuple(map(max, needed, begun)))


def _lost(draft: Draft, solution: Solution, kept: Reserved) -> float:
    """Attainment over the plan's life that is lost where not all is kept: what serves has to go before others do."""
    if draft.held or classes_used(draft, solution.fleet) == classes_used(draft, *kept):
        return 0.0
    pairs = zip(draft.model.startup_s, solution.fleet, draft.ready, strict=True)
    return min(1.0, max([s for s, n, now in pairs if n > now]) / PLAN_LIFE_S) * solution.attainment


def taken(draft: Draft, reserved: Reserved) -> int:
    """Replicas of a silent deployment that a plan takes away, ready ones twice; 0 for one that is seen."""
    if not draft.held:
        return 0
    have = (draft.held, draft.ready)
    return sum([max(0, had - n) for fleet in have for had, n in zip(fleet, reserved[0], strict=True)])


def _mine(draft: Draft, short: Room, *, most: int = CLASSES_MAX) -> list[str]:
    """The short classes of a deployment's tiers."""
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


def _rooms(draft: Draft, mine: Sequence[str]) -> Rooms:
    """With a table where it costs less than to search. On one class nobody needs more room than the ideal plan."""
    goal, within, looks = draft.goal(draft.demand), draft.limits, OPTIONS_MAX
    if len(mine) == 1:
        room = classes_used(draft, draft.ideal).get(mine[0], 0)
        within, looks = replace(within, room={**within.room, mine[0]: room}), min(OPTIONS_MAX, sum(draft.ideal))
    most = min(FLEETS_MAX, looks * FLEETS_A_SEARCH)
    return Rooms(draft, goal, table(draft.model, within, goal, most=most))


def _one_by_one(rooms: Rooms, mine: Sequence[str], found: Found) -> bool:
    """Add the plans with one accelerator less, and less again, of each short class; whether those are all there are."""
    draft = rooms.draft
    replicas = [sum([n for n, of in zip(draft.ideal, draft.model.classes, strict=True) if of == name]) for name in mine]
    if prod([n + 1 for n in replicas]) > OPTIONS_MAX:
        return False
    queue = [draft.ideal]
    while queue and len(found) < OPTIONS_MAX:
        fleet = queue.pop(0)
        for name in classes_used(draft, fleet):
            solution = _with_less(rooms, fleet, name) if name in mine else None
            if solution is not None and solution.fleet not in found:
                found[solution.fleet] = solution
                queue.append(solution.fleet)
    return len(found) < OPTIONS_MAX


def _with_less(rooms: Rooms, fleet: Fleet, name: str) -> Solution:
    """The plan with fewer accelerators of a class than a fleet takes; of what silence holds, with one replica less."""
    draft = rooms.draft
    if not draft.held or any(n > had for n, had in zip(fleet, draft.held, strict=True)):
        return rooms.plan({name: classes_used(draft, fleet)[name] - 1})
    mine = [i for i, of in enumerate(draft.model.classes) if of == name and fleet[i]]
    last = max(mine, key=lambda i: (fleet[i] > draft.ready[i], draft.model.each_usd[i]))
    return as_is(draft, tuple([n - (i == last) for i, n in enumerate(fleet)]))


def _least(draft: Draft) -> list[Solution]:
    """Just the lower bounds, on each tier that can hold them."""
    lows, bounds = [low for low, _ in draft.limits.tiers], draft.limits
    fleets = [
        tuple([n + (i == tier) * max(0, bounds.total[0] - sum(lows)) for i, n in enumerate(lows)])
        for tier in range(len(lows))
    ]
    return [as_is(draft, fleet) for fleet in fleets if bounds.hold(draft.model, fleet)]


def _tops(rooms: Rooms, mine: Sequence[str]) -> dict[str, int]:
    """Of each short class the most accelerators that a plan takes: the ideal one, or one without the others."""
    draft = rooms.draft
    ideal = classes_used(draft, draft.ideal)
    tops = {name: ideal.get(name, 0) for name in mine}
    for name in mine if len(mine) > 1 else ():
        without = rooms.plan({other: 0 for other in mine if other != name})
        tops[name] = max(tops[name], classes_used(draft, without.fleet).get(name, 0))
    return tops


def _steps(tops: Mapping[str, int]) -> list[int]:
    """Accelerators between two points of a coarse grid, for each class."""
    points = int(OPTIONS_MAX ** (1 / len(tops)) + 1e-9)
    return [max(1, ceil(top / points)) for top in tops.values()]


def _grid(tops: Mapping[str, int]) -> list[dict[str, int]]:
    """Room in each short class, from all that a plan takes to none, in every combination."""
    axes = [[*range(top, 0, -step), 0] for top, step in zip(tops.values(), _steps(tops), strict=True)]
    return [dict(zip(tops, point, strict=True)) for point in product(*axes)]


def _with_room(draft: Draft, room: Room) -> Limits:
    """Limits with less room. A silent deployment keeps what it has, or as much of it as there is room for."""
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
