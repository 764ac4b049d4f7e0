"""
The hard limits of a plan: bounds, schedules, pins, budget, capacity, minimum quality.

Upper limits are never exceeded. A lower bound that exceeds the budget or the accelerators gives way to them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tidegate.domain.spec import Accelerator, DeploymentSpec, TierSpec
from tidegate.plan.fleet import Fleet, FleetModel
from tidegate.plan.schedule import scheduled

MONEY_DUST = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """
    The limits within which a fleet must lie. Tiers are in the order of the spec.

    Args:
        total: Lower and upper bound of the number of replicas.
        tiers: Lower and upper bound of each tier; shape (tiers,).
        budget: $/h; infinity if there is none.
        room: Accelerators by class that this deployment may occupy; a class that is not listed is unlimited.
        pinned: Whether the total was fixed by hand.
        idle: Lower bound of the total while the deployment is idle: 0 if scale to zero is on and no schedule asks for
            replicas.
    """

    total: tuple[int, int]
    tiers: tuple[tuple[int, int], ...]
    budget: float
    room: Mapping[str, int]
    pinned: bool = False
    idle: int = 0

    def hold(self, model: FleetModel, fleet: Fleet) -> bool:
        """Whether a fleet is within the upper and lower limits."""
        return (
            self.below(model, fleet)
            and self.total[0] <= sum(fleet)
            and all(low <= n for n, (low, _) in zip(fleet, self.tiers, strict=True))
        )

    def below(self, model: FleetModel, fleet: Fleet) -> bool:
        """Whether a fleet is within the upper limits."""
        if sum(fleet) > self.total[1] or model.usd_per_hour(fleet) > self.budget + MONEY_DUST:
            return False
        if any(n > high for n, (_, high) in zip(fleet, self.tiers, strict=True)):
            return False
        use = accelerators_used(model, fleet)
        return all(use.get(name, 0) <= most for name, most in self.room.items())


def accelerators_used(model: FleetModel, fleet: Fleet) -> dict[str, int]:
    """Accelerators by class that a fleet occupies."""
    used: dict[str, int] = {}
    for n, per_replica, name in zip(fleet, model.each_gpus, model.classes, strict=True):
        if n:
            used[name] = used.get(name, 0) + n * per_replica
    return used


def limits(
    spec: DeploymentSpec, *, model: FleetModel, accelerators: Mapping[str, Accelerator], time_s: float
) -> Limits:
    """
    The limits in force at an instant.

    A pin fixes the total, within the bounds of the tiers. Otherwise active schedules change the bounds of the total.
    Tiers below the minimum quality, and tiers without an estimate or a class, get no replicas.
    """
    low, high, asked = scheduled(spec, time_s)
    idle = 0 if spec.scale_to_zero is not None and not asked else low
    low = max(low, 1)  # only scale to zero or a pin may remove the last replica
    if spec.replicas_pinned is not None:
        low = high = idle = spec.replicas_pinned
    tiers = tuple([_tier_bounds(t, high, usable=ok) for t, ok in zip(spec.tiers, model.usable, strict=True)])
    budget = spec.cost.budget_usd_per_hour
    room = {
        name: capacity
        for name in dict.fromkeys(model.classes)
        if name in accelerators and (capacity := accelerators[name].capacity) is not None
    }
    found = Limits(
        total=(min(low, high, sum([b for _, b in tiers])), high),
        tiers=tiers,
        budget=float("inf") if budget is None else budget,
        room=room,
        pinned=spec.replicas_pinned is not None,
        idle=idle,
    )
    return carried(found, model)


def _tier_bounds(tier: TierSpec, high: int, *, usable: bool) -> tuple[int, int]:
    most = min(tier.replicas_max, high) if usable else 0
    return min(tier.replicas_min, most), most


def at_least(limits: Limits, fleet: Sequence[int]) -> Limits:
    """The limits with a fleet as additional lower bounds of the tiers, capped at their upper bounds."""
    tiers = tuple([(max(low, min(n, high)), high) for n, (low, high) in zip(fleet, limits.tiers, strict=True)])
    return replace(limits, tiers=tiers)


def carried(found: Limits, model: FleetModel) -> Limits:
    """The limits with lower bounds of tiers reduced until they fit the upper limits, most expensive tier first."""
    lows = [low for low, _ in found.tiers]
    order = sorted(range(len(lows)), key=lambda i: -float(model.prices[i]))
    for i in order:
        while lows[i] > 0 and not found.below(model, tuple(lows)):
            lows[i] -= 1
    return replace(found, tiers=tuple([(low, high) for low, (_, high) in zip(lows, found.tiers, strict=True)]))
