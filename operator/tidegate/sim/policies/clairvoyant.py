"""
The clairvoyant: knows all demand, faults and the true performance of every tier, and acts through the same actuators.

It follows a schedule of replicas per window that was computed beforehand. Pods needed in a window are created as late
as possible; if bounds, budget or accelerators leave no room for a pod of a later window yet, it waits.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tidegate.domain.key import Key
from tidegate.sim.policies.base import Choice, TierKey, View, others_at_minimum
from tidegate.sim.schedule import Problem

DUST = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Solution:
    """A problem and its solution: replicas per window and axis; shape (windows, axes)."""

    problem: Problem
    replicas: NDArray[np.int64]


class Clairvoyant:
    """
    Follows one schedule, or several independent ones.

    Args:
        solutions: Together they contain every deployment once.
    """

    def __init__(self, solutions: Sequence[Solution]) -> None:
        self.name = "clairvoyant"
        self._solutions = solutions

    def decide(self, view: View) -> Choice:
        """The replicas of the current window, plus those that must be created now for later windows."""
        wish: dict[TierKey, int] = {}
        for solution in self._solutions:
            window = min(int(view.time_s // solution.problem.window_s), len(solution.replicas) - 1)
            wish |= {
                (a.key, a.name): int(n) for a, n in zip(solution.problem.axes, solution.replicas[window], strict=True)
            }
        for tier, count in self._due(view.time_s):
            more = wish | {tier: count}
            if count > wish[tier] and fits(view, more):
                wish = more
        return Choice(replicas=others_at_minimum(view, list(wish), wish))

    def _due(self, now_s: float) -> Iterator[tuple[TierKey, int]]:
        """Tiers and counts of later windows whose replicas must be created by now, earliest window first."""
        for solution in self._solutions:
            first = int(now_s // solution.problem.window_s) + 1
            for axis, counts in zip(solution.problem.axes, solution.replicas.T, strict=True):
                last = int(np.searchsorted(axis.created_s, now_s, side="right"))
                for count in counts[first:last]:
                    yield (axis.key, axis.name), int(count)


def fits(view: View, wish: Mapping[TierKey, int]) -> bool:
    """Whether the replicas keep upper bounds, budgets and the capacity of accelerators."""
    used: dict[str, int] = {}
    for key in {k for k, _ in wish}:
        usd, total = _weigh(view, key, wish, used)
        budget = view.policy.deployments[key].cost.budget_usd_per_hour
        if total > view.limits(key).high or (budget is not None and usd > budget + DUST):
            return False
    limits = {n: view.policy.accelerators[n].capacity for n in used}
    return all(limit is None or used[n] <= limit for n, limit in limits.items())


def _weigh(view: View, key: Key, wish: Mapping[TierKey, int], used: dict[str, int]) -> tuple[float, int]:
    """Cost ($/h) and total of a deployment's replicas; its accelerators are added to `used`."""
    usd, total = 0.0, 0
    for tier in view.policy.deployments[key].tiers:
        count = wish.get((key, tier.name), 0)
        width = count * tier.accelerators_per_replica
        used[tier.accelerator] = used.get(tier.accelerator, 0) + width
        usd += width * view.policy.accelerators[tier.accelerator].price_usd_per_hour
        total += count
    return usd, total
