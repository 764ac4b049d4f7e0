"""
From the fleet that runs to the fleet that is wanted: make before break.

A tier's replicas go only when those that stay and are ready carry the load of now. Where budget, accelerators or
bounds cannot hold old and new together, fewer new ones come at a time. Where not even one fits, nothing moves, unless
what runs misses the targets anyway, or has to go: then one replica after the other is exchanged. Where the limits do
not even hold what runs, as much of it stays as they do hold.
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
    kept = _inside(model, limits, kept=still_needed(model, ready, target, carries), staying=staying)
    counted = tuple([a.counted for a in arrivals])
    step = _fitted(model, limits, kept=kept, counted=counted, target=target)
    if step == counted == ready and (urgent or not carries(ready)):
        surplus = max(range(len(ready)), key=lambda i: (ready[i] > target[i], float(model.prices[i])))
        fewer = tuple([n - (i == surplus) for i, n in enumerate(kept)])
        step = _fitted(model, limits, kept=fewer, counted=tuple(map(min, counted, fewer)), target=target)
    return step


def _inside(model: FleetModel, limits: Limits, *, kept: Fleet, staying: Fleet) -> Fleet:
    """What stays anyway, and as much of the rest of what is kept as the limits hold; the dearest goes first."""
    held = list(staying)
    for tier in _dearest_first(model)[::-1]:
        while held[tier] < kept[tier] and limits.below(model, (*held[:tier], held[tier] + 1, *held[tier + 1 :])):
            held[tier] += 1
    return tuple(held)


def _fitted(model: FleetModel, limits: Limits, *, kept: Fleet, counted: Fleet, target: Fleet) -> Fleet:
    """What is kept and as many of the new ones as fit beside it; those not asked for yet wait first, then dear ones."""
    step = list(map(max, kept, target))
    coming = tuple(map(max, kept, map(min, counted, target)))
    for least in (coming, kept):
        for tier in _dearest_first(model):
            while step[tier] > least[tier] and not limits.below(model, tuple(step)):
                step[tier] -= 1
    return tuple(step)


def still_needed(model: FleetModel, ready: Fleet, target: Fleet, carries: Callable[[Fleet], bool]) -> Fleet:
    """The ready replicas that have to stay for now: the dearest surplus ones go first."""
    kept = list(ready)
    for tier in _dearest_first(model):
        low, high = min(ready[tier], target[tier]), ready[tier]
        while low < high:  # the fewest of this tier that still carry, given the others
            middle = (low + high) // 2
            kept[tier] = middle
            low, high = (low, middle) if carries(tuple(kept)) else (middle + 1, high)
        kept[tier] = high
    return tuple(kept)


def _dearest_first(model: FleetModel) -> list[int]:
    return sorted(range(len(model.prices)), key=lambda i: -float(model.prices[i]))
