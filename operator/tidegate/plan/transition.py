"""
From the current fleet to the target: make before break.

Old replicas are removed only when the ready ones that stay carry the current load. If budget, accelerators or bounds do
not allow old and new replicas together, fewer new ones are started at a time. If not even one fits, nothing moves,
unless the current fleet misses its targets anyway or must be removed: then one replica after the other is exchanged.
If the limits do not even allow what runs, as much of it stays as they do allow.
"""

from collections.abc import Callable, Sequence

from tidegate.plan.fleet import Fleet, FleetModel, with_more
from tidegate.plan.limits import Limits
from tidegate.plan.startup import Arrivals


def advance(
    model: FleetModel,
    limits: Limits,
    *,
    arrivals: Sequence[Arrivals],
    target: Fleet,
    carries: Callable[[Fleet], bool],
    urgent: bool = False,
) -> Fleet:
    """
    Replicas to set now on the way to the target.

    Args:
        limits: Upper limits of this step; the target is within them.
        arrivals: Ready and starting replicas by tier.
        carries: Whether a fleet of ready replicas carries the current load, so that the others may be removed.
        urgent: Whether the current fleet must change even if it serves well.
    """
    ready = tuple([a.ready for a in arrivals])
    staying = tuple(map(min, ready, target))
    if staying == ready or carries(staying):
        return target
    kept = inside(model, limits, kept=still_needed(model, ready, target, carries), staying=staying)
    counted = tuple([a.counted for a in arrivals])
    step = fitted(model, limits, kept=kept, counted=counted, target=target)
    if step == counted == ready and (urgent or not carries(ready)):
        surplus = max(range(len(ready)), key=lambda i: (ready[i] > target[i], float(model.prices[i])))
        fewer = with_more(kept, surplus, -1)
        step = fitted(model, limits, kept=fewer, counted=tuple(map(min, counted, fewer)), target=target)
    return step


def inside(model: FleetModel, limits: Limits, *, kept: Fleet, staying: Fleet) -> Fleet:
    """The replicas that stay anyway, plus as many of `kept` as the limits allow; expensive ones are dropped first."""
    held = staying
    for tier in _dearest_first(model)[::-1]:
        while held[tier] < kept[tier] and limits.below(model, more := with_more(held, tier)):
            held = more
    return held


def fitted(model: FleetModel, limits: Limits, *, kept: Fleet, counted: Fleet, target: Fleet) -> Fleet:
    """
    The replicas in `kept`, plus as many new ones as fit.

    Of the new ones, those not requested yet are left out first, and among them expensive ones first.
    """
    step = list(map(max, kept, target))
    coming = tuple(map(max, kept, map(min, counted, target)))
    for least in (coming, kept):
        for tier in _dearest_first(model):
            while step[tier] > least[tier] and not limits.below(model, tuple(step)):
                step[tier] -= 1
    return tuple(step)


def still_needed(model: FleetModel, ready: Fleet, target: Fleet, carries: Callable[[Fleet], bool]) -> Fleet:
    """The ready replicas that must stay for now; of the surplus ones, the most expensive are removed first."""
    kept = list(ready)
    for tier in _dearest_first(model):
        low, high = min(ready[tier], target[tier]), ready[tier]
        while low < high:  # fewest replicas of this tier that still carry the load, given the others
            middle = (low + high) // 2
            kept[tier] = middle
            low, high = (low, middle) if carries(tuple(kept)) else (middle + 1, high)
        kept[tier] = high
    return tuple(kept)


def _dearest_first(model: FleetModel) -> list[int]:
    return sorted(range(len(model.prices)), key=lambda i: -float(model.prices[i]))
