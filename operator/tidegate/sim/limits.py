"""
How many replicas a user wants at least and at most, at an instant: what every policy of a run has to keep.

In:    a deployment and a unix time; or a wish.
Out:   bounds on the total and on each tier; or the wish moved inside them.
Rules: pure. The core's own reading of schedules. Where bounds contradict each other the upper one wins.
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
        low, high: Fewest and most replicas in all.
        idle: Fewest in all once nobody has asked for the idle time that the user wants.
        tiers: Fewest and most of each tier, by name.
    """

    low: int
    idle: int
    high: int
    tiers: Mapping[str, tuple[int, int]]


def in_force(spec: DeploymentSpec, time_s: float) -> Limits:
    """The bounds at a unix time: schedules and a pinned total move those of the spec."""
    low, high, asked = scheduled(spec, time_s)
    idle = 0 if spec.scale_to_zero is not None and not asked else low
    low = max(low, 1)
    if spec.replicas_pinned is not None:
        low = high = idle = spec.replicas_pinned
    tiers = {}
    for tier in spec.tiers:
        most = min(tier.replicas_max, high)
        # A tier that is not good enough is never asked for, so nobody has to keep its minimum.
        tiers[tier.name] = (min(tier.replicas_min, most) if spec.quality.allows(tier.quality) else 0, most)
    reach = min(high, sum(most for _, most in tiers.values()))
    return Limits(low=min(low, reach), idle=min(idle, reach), high=high, tiers=tiers)


def strictest(several: Sequence[Limits]) -> Limits:
    """Bounds that keep all of several."""
    high = min(each.high for each in several)
    tiers = {}
    for name in several[0].tiers:
        most = min(each.tiers[name][1] for each in several)
        tiers[name] = (min(most, max(each.tiers[name][0] for each in several)), most)
    low, idle = max(each.low for each in several), max(each.idle for each in several)
    return Limits(low=min(low, high), idle=min(idle, high), high=high, tiers=tiers)


def inside(limits: Limits, wish: Mapping[str, int], *, order: Sequence[str], least: int) -> dict[str, int]:
    """
    A wish moved inside the bounds: the last tier of `order` gives way first, the first one fills up.

    Args:
        wish: Replicas by tier name; none where a tier is not named.
        order: The tiers that are moved; all others stand at their minimum.
        least: Fewest replicas in all.
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
