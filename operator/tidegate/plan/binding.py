"""
Which limit binds: what separates the plan from the one without limits, or keeps it below a lower bound.

If several limits do, it is one without which the plan could grow; raising another alone would change nothing.
"""

from dataclasses import replace

from tidegate.domain.decision import Constraint, Reason
from tidegate.plan.draft import Draft
from tidegate.plan.fleet import Fleet, with_more
from tidegate.plan.limits import Limits
from tidegate.plan.sentence import LIMITED
from tidegate.plan.solve import Given

# For these reasons fewer replicas than the lower bounds are intended: nothing is planned, or the deployment is idle.
LEFT_ALONE = frozenset({Reason.PAUSED, Reason.MODE_OFF, Reason.SCALED_TO_ZERO})


def binding(draft: Draft) -> Constraint:
    """The constraint that separates the plan from the uncapped one, or keeps it below a lower bound."""
    shut_out = draft.given is Given.TARGET and not draft.infeasible  # a tier that meets the target does not start
    if draft.target != draft.ideal or shut_out:
        return Constraint.CAPACITY
    if draft.under > 0 and any(draft.model.usable) and draft.reason not in LEFT_ALONE:
        return _underbound(draft)
    if draft.given in (Given.NOTHING, Given.TARGET):
        return Constraint.NONE
    model, limits = draft.model, draft.limits
    if not any(model.usable):
        return Constraint.QUALITY if all(model.known) else Constraint.CAPACITY
    # Lower bounds of the tiers stay: what the plan needs comes on top of them.
    lows = [low for low, _ in limits.tiers]
    free = draft.memo.uncapped or {}
    wish = tuple([max(low, free.get(name, 0)) for name, low in zip(model.names, lows, strict=True)])
    broken = [kind for kind in LIMITED if not _only(draft, wish, kind).below(model, wish)]
    if not broken:
        return Constraint.QUALITY if draft.given is Given.QUALITY else Constraint.NONE
    return next((kind for kind in broken if _may_grow(draft, wish, without=kind)), broken[0])


def _only(draft: Draft, wish: Fleet, kind: Constraint) -> Limits:
    """
    The limits of one kind alone, for fleets up to `wish`.

    A tier that may not grow, or that no node has room for, is short of capacity.
    """
    limits, most = draft.limits, draft.base.total[1]
    free = Limits(total=(0, sum(wish)), tiers=tuple([(0, n) for n in wish]), budget=float("inf"), room={})
    if kind is Constraint.BUDGET:
        return replace(free, budget=limits.budget)
    scattered = draft.scattered
    full = [
        (a.blocked and ok) or name in scattered
        for a, ok, name in zip(draft.arrivals, draft.model.known, draft.model.names, strict=True)
    ]
    if kind is Constraint.MAX_REPLICAS:
        highs = [min(tier.replicas_max, most) for tier in draft.spec.tiers]
        tiers = [(0, high) if closed else now for closed, high, now in zip(full, highs, limits.tiers, strict=True)]
        return replace(free, total=draft.base.total, tiers=tuple(tiers))
    tiers = [now if closed else (0, n) for closed, now, n in zip(full, limits.tiers, wish, strict=True)]
    return replace(free, room=limits.room, tiers=tuple(tiers))


def _may_grow(draft: Draft, wish: Fleet, *, without: Constraint) -> bool:
    """Whether the target may grow towards `wish` if one limit alone is lifted."""
    target = draft.target
    others = [_only(draft, tuple(map(max, wish, target)), kind) for kind in LIMITED if kind is not without]
    more = [with_more(target, i) for i, n in enumerate(wish) if n > target[i]]
    return any(all(limits.below(draft.model, fleet) for limits in others) for fleet in more)


def _underbound(draft: Draft) -> Constraint:
    """
    What a lower bound gives way to: capacity if there are no accelerators for one more of the replicas that are
    lacking, else the upper bound of the total if it leaves no room for them, else the budget.
    """
    model, base = draft.model, draft.base
    if base.total[0] > sum(draft.target):
        kept, lacking = draft.target, model.usable
    else:  # the bounds of the other tiers are kept, whatever else is planned
        kept, lacking = tuple([low for low, _ in base.tiers]), tuple([n > 0 for n in draft.lacking])
    free = replace(base, total=(0, sum(kept) + 1), budget=float("inf"))
    tiers = enumerate(zip(lacking, draft.arrivals, strict=True))
    more = [with_more(kept, i) for i, (ok, a) in tiers if ok and not a.blocked]
    if not any(free.below(model, fleet) for fleet in more):
        return Constraint.CAPACITY
    return Constraint.MAX_REPLICAS if sum(kept) >= base.total[1] else Constraint.BUDGET
