"""
The clairvoyant: it knows the demand to come, the truth of every tier and what will break, and acts like everybody else.

It answers with a course: replicas per window that somebody computed beforehand. Pods that have to be up in a window are
created as late as that allows; where bounds, budget or accelerators leave no room for a pod of later, it waits.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tidegate.domain.key import Key
from tidegate.sim.policies.base import Choice, TierKey, View, others_at_minimum
from tidegate.sim.schedule import Course

DUST = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Leg:
    """A course and its answer: replicas per window and axis; shape (windows, axes)."""

    course: Course
    replicas: NDArray[np.int64]


class Clairvoyant:
    """
    Follows one course, or several that do not touch each other.

    Args:
        legs: Together they name every deployment once.
    """

    def __init__(self, legs: Sequence[Leg]) -> None:
        self.name = "clairvoyant"
        self._legs = legs

    def decide(self, view: View) -> Choice:
        """What is needed now, and what has to be created now."""
        wish: dict[TierKey, int] = {}
        for leg in self._legs:
            window = min(int(view.time_s // leg.course.window_s), len(leg.replicas) - 1)
            wish |= {(a.key, a.name): int(n) for a, n in zip(leg.course.axes, leg.replicas[window], strict=True)}
        for tier, count in self._due(view.time_s):
            more = wish | {tier: count}
            if count > wish[tier] and fits(view, more):
                wish = more
        return Choice(replicas=others_at_minimum(view, list(wish), wish))

    def _due(self, now_s: float) -> Iterator[tuple[TierKey, int]]:
        """Tiers and counts of later windows for which now is the time to create, soonest first."""
        for leg in self._legs:
            first = int(now_s // leg.course.window_s) + 1
            for axis, counts in zip(leg.course.axes, leg.replicas.T, strict=True):
                last = int(np.searchsorted(axis.created_s, now_s, side="right"))
                for count in counts[first:last]:
                    yield (axis.key, axis.name), int(count)


def fits(view: View, wish: Mapping[TierKey, int]) -> bool:
    """Whether a wish keeps the upper bounds and budgets of its deployments, and the accelerators there are."""
    used: dict[str, int] = {}
    for key in {k for k, _ in wish}:
        usd, total = _weigh(view, key, wish, used)
        budget = view.policy.deployments[key].cost.budget_usd_per_hour
        if total > view.limits(key).high or (budget is not None and usd > budget + DUST):
            return False
    limits = {n: view.policy.accelerators[n].capacity for n in used}
    return all(limit is None or used[n] <= limit for n, limit in limits.items())


def _weigh(view: View, key: Key, wish: Mapping[TierKey, int], used: dict[str, int]) -> tuple[float, int]:
    """Price ($/h) and replicas of a deployment's wish; what it occupies is added to `used`."""
    usd, total = 0.0, 0
    for tier in view.policy.deployments[key].tiers:
        count = wish.get((key, tier.name), 0)
        width = count * tier.accelerators_per_replica
        used[tier.accelerator] = used.get(tier.accelerator, 0) + width
        usd += width * view.policy.accelerators[tier.accelerator].price_usd_per_hour
        total += count
    return usd, total
