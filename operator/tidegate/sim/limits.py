"""
The replica bounds in force at a time, which apply to every policy.

In:    a deployment and a unix time; or wanted replicas.
Out:   bounds of the total and of each tier; or the wanted replicas moved within them.
Rules: pure. Schedules are evaluated by the core's own code. If bounds contradict each other, the upper one wins.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tidegate.domain.spec import DeploymentSpec
from tidegate.plan.schedule import scheduled


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """
    Bounds of one deployment.

    Args:
        low, high: Minimum and maximum of the total.
        idle: Minimum of the total once no request has arrived for the idle time (scale to zero).
        tiers: Minimum and maximum by tier name.
    """

    low: int
    idle: int
    high: int
    tiers: Mapping[str, tuple[int, int]]


def in_force(spec: DeploymentSpec, time_s: float) -> Limits:
    """The bounds at a unix time: those of the spec, changed by schedules and by a pinned total."""
    low, high, asked = scheduled(spec, time_s)
    idle = 0 if spec.scale_to_zero is not None and not asked else low
    low = max(low, 1)
    if spec.replicas_pinned is not None:
        low = high = idle = spec.replicas_pinned
    tiers = {}
    for tier in spec.tiers:
        most = min(tier.replicas_max, high)
        # A tier below the minimum quality is never used, so its minimum does not apply.
        tiers[tier.name] = (min(tier.replicas_min, most) if spec.quality.allows(tier.quality) else 0, most)
    reach = min(high, sum(most for _, most in tiers.values()))
    return Limits(low=min(low, reach), idle=min(idle, reach), high=high, tiers=tiers)


def strictest(several: Sequence[Limits]) -> Limits:
    """Bounds that satisfy all of several."""
    high = min(each.high for each in several)
    tiers = {}
    for name in several[0].tiers:
        most = min(each.tiers[name][1] for each in several)
        tiers[name] = (min(most, max(each.tiers[name][0] for each in several)), most)
    low, idle = max(each.low for each in several), max(each.idle for each in several)
    return Limits(low=min(low, high), idle=min(idle, high), high=high, tiers=tiers)


def inside(limits: Limits, wish: Mapping[str, int], *, order: Sequence[str], least: int) -> dict[str, int]:
    """
    Wanted replicas moved within the bounds: the last tier of `order` is cut first, the first one is filled up first.

    Args:
        wish: Wanted replicas by tier name; 0 for tiers that are not named.
        order: The tiers that may change; all others are assumed at their minimum.
        least: Minimum of the total.
    """
    lows = {name: limits.tiers[name][0] for name in order}
    kept = {name: max(lows[name], min(limits.tiers[name][1], wish.get(name, 0))) for name in order}
    others = sum(low for name, (low, _) in limits.tiers.items() if name not in lows)
    for floors in (lows, dict.fromkeys(order, 0)):
        for name in reversed(order):
            excess = max(0, others + sum(kept.values()) - limits.high)
            kept[name] -= min(excess, kept[name] - floors[name])
    for name in order:
        lacking = max(0, min(least, limits.high) - others - sum(kept.values()))
        kept[name] += min(lacking, limits.tiers[name][1] - kept[name])
    return kept
