"""
Sharing accelerators among deployments.

Each deployment is first planned alone. If a class cannot hold all of these plans, each deployment concerned offers what
it would do with less, and the best combination is chosen. Criteria in order: everybody's lower bounds, what deployments
without metrics hold, fewest misses (each for the highest priority first), then least quality given up, then lowest
cost. What is left over goes to the deployments that fall short of their promise or bounds, highest priority first.

A deployment that does not act (mode Recommend or Off, or paused) keeps what it has, and that much is not shared out.
Its own plan is made with what the others leave.
"""

from collections.abc import Mapping, Sequence

from tidegate.domain.spec import Accelerator
from tidegate.plan.combine import Option, combine, hardly_better
from tidegate.plan.draft import Draft, classes_used
from tidegate.plan.offers import as_is, finer, offer, option, reserved_for, taken, topped_up
from tidegate.plan.pursue import cheaper, may_move

# Most rounds in single accelerators after the coarse choice: what one deployment frees, another may take in the next.
ROUNDS = 4


def share(drafts: Sequence[Draft], accelerators: Mapping[str, Accelerator]) -> None:
    """Set every draft's target: its ideal fleet, or what the pool leaves of it."""
    acting, watching = [d for d in drafts if d.spec.acts], [d for d in drafts if not d.spec.acts]
    pools = {name: pool.capacity for name, pool in accelerators.items() if pool.capacity is not None}
    _subtract(pools, watching)
    _share_out(acting, pools)
    _subtract(pools, acting)
    for draft in watching:
        if draft.spec.left_alone:
            draft.target, draft.grant = draft.ideal, {}
        else:
            own = classes_used(draft, draft.holding)
            _share_out([draft], {name: left + own.get(name, 0) for name, left in pools.items()})
        draft.reserved = (draft.holding,)


def _subtract(pools: dict[str, int], drafts: Sequence[Draft]) -> None:
    """Subtract what is reserved for these deployments from the pools."""
    for draft in drafts:
        for name, used in classes_used(draft, *(draft.reserved if draft.spec.acts else (draft.holding,))).items():
            if name in pools:
                pools[name] -= used


def _share_out(drafts: Sequence[Draft], pools: Mapping[str, int]) -> None:
    """
    Set the targets of deployments that share pools.

    A deployment that gets less of one class may move to another. If that one is short then, both are shared out again.
    """
    last = [(draft.target, draft.grant) for draft in drafts]
    for draft in drafts:
        draft.target, draft.grant = draft.ideal, {}
        draft.reserved = reserved_for(draft, draft.ideal)
    short: dict[str, int] = {}
    while more := _overdrawn(drafts, pools, short):
        short |= more
        members = []
        for draft, (target, grant) in zip(drafts, last, strict=True):
            if any(name in short for name in classes_used(draft, *draft.reserved, *reserved_for(draft, draft.ideal))):
                draft.target, draft.grant = target, grant
                members.append(draft)
        if not _still_fits(members, short):
            _allocate(members, short)


def _overdrawn(drafts: Sequence[Draft], pools: Mapping[str, int], short: Mapping[str, int]) -> dict[str, int]:
    """Sizes of the pools that are too small for what is reserved, except those known to be short."""
    wanted: dict[str, int] = {}
    for draft in drafts:
        for name, used in classes_used(draft, *draft.reserved).items():
            wanted[name] = wanted.get(name, 0) + used
    return {
        name: max(0, pools[name])
        for name, used in wanted.items()
        if name in pools and name not in short and used > pools[name]
    }


def _still_fits(members: Sequence[Draft], short: Mapping[str, int]) -> bool:
    """Whether the last allocation still fits: no plan changed, nor what is reserved for it, nor the pools."""
    used: dict[str, int] = {}
    for draft in members:
        before = draft.memory
        if before is None or draft.searched or draft.ideal != before.ideal or draft.basis != before.basis:
            return False
        draft.reserved = reserved_for(draft, draft.target)
        kept = classes_used(draft, *draft.reserved)
        granted = {name: (kept.get(name, 0), size) for name, size in short.items() if name in draft.model.classes}
        if any(draft.grant.get(name) != grant for name, grant in granted.items()):
            return False
        for name, n in kept.items():
            used[name] = used.get(name, 0) + n
        if not draft.limits.hold(draft.model, draft.target) or taken(draft, draft.reserved):
            return False
    return all(used.get(name, 0) <= capacity for name, capacity in short.items())


def _allocate(members: Sequence[Draft], short: Mapping[str, int]) -> None:
    ordered = sorted(members, key=lambda d: (-d.spec.priority, d.spec.key))
    priorities = [d.spec.priority for d in ordered]
    chosen = _chosen(ordered, priorities, short)
    last = _last_allocation(ordered, short)
    early = any(draft.takes_back(one.fleet, draft.counted) for draft, one in zip(ordered, chosen, strict=True))
    if last is not None and hardly_better(chosen, last, priorities, early=early):
        chosen = chosen if _saves(ordered, chosen, last) else last
    for draft, allotted in zip(ordered, _topped_up(ordered, chosen, short), strict=True):
        draft.target, draft.reserved = allotted.fleet, allotted.reserved
        used = dict(allotted.used)
        draft.grant = {name: (used.get(name, 0), size) for name, size in short.items() if name in draft.model.classes}
        if allotted.fleet != draft.ideal:
            draft.searched = True


def _saves(members: Sequence[Draft], new: Sequence[Option], old: Sequence[Option]) -> bool:
    """
    Whether a new allocation saves money with accelerators that the old one leaves unused.

    Everybody who moves must be allowed to shrink, and serve the highest load of the window as well as before.
    """
    unused = any(n > had for n, had in zip(_used(new), _used(old), strict=True))
    costs = [sum([o.usd_per_hour for o in chosen]) for chosen in (new, old)]
    if not unused or not cheaper(*costs):
        return False
    moves = [(d, one.fleet, was.fleet) for d, one, was in zip(members, new, old, strict=True) if one.fleet != was.fleet]
    return all(may_move(draft, fleet, was) for draft, fleet, was in moves)


def _used(chosen: Sequence[Option]) -> list[int]:
    """Accelerators of each short class that an allocation uses."""
    return [sum(amounts) for amounts in zip(*[[n for _, n in one.used] for one in chosen], strict=True)]


def _chosen(members: Sequence[Draft], priorities: Sequence[int], short: Mapping[str, int]) -> list[Option]:
    """The best combination; if the options were coarse, repeated with finer ones around the chosen ones."""
    offers = [offer(draft, short) for draft in members]
    chosen, step = combine([o.options for o in offers], priorities, short), max([o.step for o in offers])
    rounds = ROUNDS if step > 1 else 0
    while rounds:
        step = (step + 1) // 2
        before, finest = chosen, step == 1
        options = [finer(of.rooms, one, short, step=step) for of, one in zip(offers, chosen, strict=True)]
        chosen = combine(options, priorities, short)
        if finest:
            rounds = rounds - 1 if [o.fleet for o in chosen] != [o.fleet for o in before] else 0
    return chosen


def _topped_up(members: Sequence[Draft], chosen: Sequence[Option], short: Mapping[str, int]) -> list[Option]:
    """The chosen options, enlarged in order of priority by what is left over."""
    left, allotted = dict(short), []
    for one in chosen:
        for name, used in one.used:
            left[name] -= used
    for draft, one in zip(members, chosen, strict=True):
        more = topped_up(draft, one, short, left) if any(left.values()) else one
        for (name, used), (_, before) in zip(more.used, one.used, strict=True):
            left[name] -= used - before
        allotted.append(more)
    return allotted


def _last_allocation(members: Sequence[Draft], short: Mapping[str, int]) -> list[Option] | None:
    """The last allocation; None if it is no longer allowed or gives some deployment more than it wants."""
    used = dict.fromkeys(short, 0)
    options = []
    for draft in members:
        wanted, now = classes_used(draft, draft.ideal), classes_used(draft, draft.target)
        allowed = draft.limits.hold(draft.model, draft.target)
        if draft.memory is None or not allowed or any(now.get(name, 0) > wanted.get(name, 0) for name in short):
            return None
        offered = option(draft, as_is(draft, draft.target), short, reserved=reserved_for(draft, draft.target))
        for name, n in offered.used:
            used[name] += n
        options.append(offered)
    return options if all(used[name] <= most for name, most in short.items()) else None
