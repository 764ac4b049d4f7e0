"""
From the fleet that runs to the fleet that is wanted: make before break.

A tier's replicas go only when those that stay and are ready carry the load of now. Where budget, accelerators or
bounds cannot hold old and new together, fewer new ones come at a time. Where not even one fits, nothing moves, unless
what runs misses the targets anyway, or has to go: then one replica after the other is exchanged.
"""

from collections.abc import Callable, Sequence

from tidegate.plan.fleet import Fleet, FleetModel
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
        limits: Upper limits of this step; the target is inside them.
        arrivals: What runs and starts, by tier.
        carries: Whether a fleet of ready replicas serves the load of now well enough to let the others go.
        urgent: Whether what runs may not stay as it is.
    """
    ready = tuple([a.ready for a in arrivals])
    staying = tuple(map(min, ready, target))
    if staying == ready or carries(staying):
        return target
    kept = _kept(model, ready, target, carries)
    counted = tuple([a.counted for a in arrivals])
    step = _fitted(model, limits, kept=kept, counted=counted, target=target)
    if step == counted == ready and (urgent or not carries(ready)):
        surplus = max(range(len(ready)), key=lambda i: (ready[i] > target[i], float(model.prices[i])))
        fewer = tuple([n - (i == surplus) for i, n in enumerate(kept)])
        step = _fitted(model, limits, kept=fewer, counted=tuple(map(min, counted, fewer)), target=target)
    return step if limits.below(model, step) else target


def _fitted(model: FleetModel, limits: Limits, *, kept: Fleet, counted: Fleet, target: Fleet) -> Fleet:
    """What is kept and as many of the new ones as fit beside it; dear ones wait first."""
    step = list(map(max, kept, target))
    for tier in sorted(range(len(step)), key=lambda i: -float(model.prices[i])):
        least = max(kept[tier], min(counted[tier], target[tier]))
        while step[tier] > least and not limits.below(model, tuple(step)):
            step[tier] -= 1
    return tuple(step)


def _kept(model: FleetModel, ready: Fleet, target: Fleet, carries: Callable[[Fleet], bool]) -> Fleet:
    """The ready replicas that have to stay for now: the dearest surplus ones go first."""
    kept = list(ready)
    for tier in sorted(range(len(ready)), key=lambda i: -float(model.prices[i])):
        low, high = min(ready[tier], target[tier]), ready[tier]
        while low < high:  # the fewest of this tier that still carry, given the others
            middle = (low + high) // 2
            kept[tier] = middle
            low, high = (low, middle) if carries(tuple(kept)) else (middle + 1, high)
        kept[tier] = high
    return tuple(kept)
