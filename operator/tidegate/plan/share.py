"""
Deployments that want the same accelerators.

Each was planned as if alone. Where a class cannot hold all of those plans, every deployment concerned names what
it would do with less, and the best combination is taken: everybody's lower bounds, then what those have of whom nothing
is seen, then fewest misses for the highest priority, down to the lowest, then least quality given up, then cheapest.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from tidegate.domain.decision import Reason
from tidegate.domain.spec import Accelerator
from tidegate.plan.combine import Option, combine, hardly_better
from tidegate.plan.cuts import Goal
from tidegate.plan.draft import Draft, classes_used
from tidegate.plan.fleet import Fleet, expected_attainment
from tidegate.plan.limits import Limits, carried
from tidegate.plan.solve import Given, Solution, solve

# Ways to do with less that one deployment offers. More would only refine who gets the last accelerator.
OPTIONS_MAX = 48


def share(drafts: Sequence[Draft], accelerators: Mapping[str, Accelerator]) -> None:
    """Set every draft's target: its ideal fleet, or what the pool leaves of it."""
    wanted: dict[str, int] = {}
    for draft in drafts:
        draft.reserved = _reserved(draft, draft.ideal)
        for name, used in classes_used(draft, draft.reserved).items():
            wanted[name] = wanted.get(name, 0) + used
    short = {
        name: pool.capacity
        for name, used in wanted.items()
        if (pool := accelerators.get(name)) is not None and pool.capacity is not None and used > pool.capacity
    }
    if not short:
        for draft in drafts:
            draft.target, draft.grant = draft.ideal, {}
        return
    members = []
    for draft in drafts:
        if any(name in short for name in classes_used(draft, draft.reserved)):
            members.append(draft)
        else:
            draft.target, draft.grant = draft.ideal, {}
    if not _stands(members, short):
        _deal(members, short)


def _reserved(draft: Draft, fleet: Fleet) -> Fleet:
    """What the accelerators of a plan are kept for: what a silent deployment waits for, nobody else gets."""
    if not draft.held:
        return fleet
    waiting = draft.with_stuck(fleet)
    return waiting if draft.opened.below(draft.model, waiting) else fleet


def _stands(members: Sequence[Draft], short: Mapping[str, int]) -> bool:
    """Whether the last deal still fits: nobody's plan changed, the pools are as large as they were."""
    used: dict[str, int] = {}
    for draft in members:
        before = draft.memory
        if before is None or draft.searched or draft.ideal != before.ideal or draft.basis != before.basis:
            return False
        if any(draft.grant.get(name, (0, -1))[1] != short[name] for name in short if name in draft.model.classes):
            return False
        draft.reserved = _reserved(draft, draft.target)
        for name, n in classes_used(draft, draft.reserved).items():
            used[name] = used.get(name, 0) + n
        if not draft.limits.hold(draft.model, draft.target) or _taken(draft, draft.reserved):
            return False
    return all(used.get(name, 0) <= capacity for name, capacity in short.items())


def _deal(members: Sequence[Draft], short: Mapping[str, int]) -> None:
    ordered = sorted(members, key=lambda d: (-d.spec.priority, d.spec.key))
    options = [_options(draft, short) for draft in ordered]
    priorities = [d.spec.priority for d in ordered]
    chosen = combine(options, priorities, short)
    standing = _standing(ordered, short)
    early = any(draft.takes_back(option.fleet, draft.counted) for draft, option in zip(ordered, chosen, strict=True))
    if standing is not None and hardly_better(chosen, standing, priorities, early=early):
        chosen = standing
    for draft, option in zip(ordered, chosen, strict=True):
        draft.target, draft.reserved = option.fleet, option.reserved
        used = dict(option.used)
        draft.grant = {name: (used.get(name, 0), size) for name, size in short.items() if name in draft.model.classes}
        if option.fleet != draft.ideal:
            draft.searched = True
            if draft.reason in (Reason.DEMAND_RISING, Reason.INITIAL):
                draft.reason = Reason.CAPACITY_LIMITED


def _standing(members: Sequence[Draft], short: Mapping[str, int]) -> list[Option] | None:
    """The last deal, where it is still allowed and gives nobody more than they want."""
    used = dict.fromkeys(short, 0)
    options = []
    for draft in members:
        wanted, now = classes_used(draft, draft.ideal), classes_used(draft, draft.target)
        allowed = draft.limits.hold(draft.model, draft.target)
        if draft.memory is None or not allowed or any(now.get(name, 0) > wanted.get(name, 0) for name in short):
            return None
        option = _option(draft, _as_is(draft, draft.target), short, reserved=_reserved(draft, draft.target))
        for name, n in option.used:
            used[name] += n
        options.append(option)
    return options if all(used[name] <= most for name, most in short.items()) else None


def _options(draft: Draft, short: Mapping[str, int]) -> list[Option]:
    """
    Plans of one deployment by falling use of the short classes, from its ideal one to the least it may have.

    A silent one keeps what it waits for in all of them, or gives it up.
    """
    goal = draft.goal(draft.demand)
    found: dict[Fleet, Solution] = {draft.ideal: _as_is(draft, draft.ideal)}
    queue = [draft.ideal]
    while queue and len(found) < OPTIONS_MAX:
        fleet = queue.pop(0)
        for name in classes_used(draft, fleet):
            solution = _with_less(draft, fleet, name, goal) if name in short else None
            if solution is not None and solution.fleet not in found:
                found[solution.fleet] = solution
                queue.append(solution.fleet)
    if len(found) >= OPTIONS_MAX:  # never without a way to take as little as allowed
        least = solve(draft.model, _with_room(draft, dict.fromkeys(short, 0)), goal)
        found[least.fleet] = least
    return [
        _option(draft, solution, short, reserved=reserved)
        for fleet, solution in found.items()
        for reserved in dict.fromkeys((_reserved(draft, fleet), fleet))
    ]


def _with_less(draft: Draft, fleet: Fleet, name: str, goal: Goal) -> Solution:
    """The plan with fewer accelerators of a class than a fleet takes; of what silence holds, with one replica less."""
    if not draft.held or any(n > had for n, had in zip(fleet, draft.held, strict=True)):
        used = classes_used(draft, fleet)[name]
        return solve(draft.model, _with_room(draft, {name: used - 1}), goal)
    mine = [i for i, of in enumerate(draft.model.classes) if of == name and fleet[i]]
    last = max(mine, key=lambda i: (fleet[i] > draft.ready[i], draft.model.each_usd[i]))
    return _as_is(draft, tuple([n - (i == last) for i, n in enumerate(fleet)]))


def _as_is(draft: Draft, fleet: Fleet) -> Solution:
    reached = float(expected_attainment(draft.model, np.array([fleet]), draft.demand)[0])
    usd = draft.model.usd_per_hour(fleet)
    return Solution(fleet=fleet, attainment=reached, quality=1.0, objective=usd, given=draft.given)


def _with_room(draft: Draft, room: Mapping[str, int]) -> Limits:
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


def _taken(draft: Draft, reserved: Fleet) -> int:
    """Replicas of a silent deployment that a plan takes away, ready ones twice; 0 for one that is seen."""
    if not draft.held:
        return 0
    return sum([max(0, had - n) for have in (draft.held, draft.ready) for had, n in zip(have, reserved, strict=True)])


def _option(draft: Draft, solution: Solution, short: Mapping[str, int], *, reserved: Fleet) -> Option:
    used = classes_used(draft, reserved)
    promised = draft.asked
    lows = [max(0, low - n) for n, (low, _) in zip(solution.fleet, draft.limits.tiers, strict=True)]
    under = max(draft.limits.total[0] - sum(solution.fleet), sum(lows))
    return Option(
        fleet=solution.fleet,
        reserved=reserved,
        used=tuple([(name, used.get(name, 0)) for name in short]),
        missed=round(max(0.0, promised - solution.attainment), 3),
        quality_lost=1.0 if solution.given is Given.QUALITY else 0.0,
        usd_per_hour=solution.objective,
        under=under,
        taken=_taken(draft, reserved),
    )
