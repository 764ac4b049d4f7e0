"""
Kubernetes' HorizontalPodAutoscaler, through which most rivals scale.

Source: kubernetes `pkg/controller/podautoscaler/{replica_calculator,horizontal}.go`.
Simplifications: one metric per rule; pods that are not ready count as pods without a sample; no CPU
initialization period; synchronized at every tick (15 s, the default).
"""

from collections import deque
from dataclasses import dataclass, field
from math import ceil, floor, inf

from tidegate.sim.policies.base import OneTier, TierKey, View, bounds, chosen_tiers
from tidegate.sim.scenario import Scenario

TOLERANCE = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One direction of `spec.behavior`: stabilization window, and largest change per period (the larger limit wins)."""

    window_s: float
    percent: float = 100.0
    pods: float = 0.0
    period_s: float = 15.0


UP_DEFAULT = Rule(window_s=0.0, percent=100.0, pods=4.0)
DOWN_DEFAULT = Rule(window_s=300.0, percent=100.0)


@dataclass(slots=True)
class Behavior:
    """Stabilization and rate limits of one target, with their state."""

    up: Rule = UP_DEFAULT
    down: Rule = DOWN_DEFAULT
    _asked: deque[tuple[float, int]] = field(default_factory=deque)
    _changed: deque[tuple[float, int]] = field(default_factory=deque)

    def limit(self, *, time_s: float, current: int, raw: int, low: int, high: int) -> int:
        """The replicas that HPA sets for a raw recommendation."""
        if not self._asked:
            self._asked.append((time_s, current))  # the existing count is the first recommendation
        steady = self._stabilised(time_s, current, raw)
        self._asked.append((time_s, raw))
        while self._asked and self._asked[0][0] <= time_s - max(self.up.window_s, self.down.window_s):
            self._asked.popleft()
        result = max(low, min(high, self._rated(time_s, current, steady)))
        if result != current:
            self._changed.append((time_s, result - current))
        return result

    def _stabilised(self, time_s: float, current: int, raw: int) -> int:
        rule = self.up if raw >= current else self.down
        recent = [raw, *(r for t, r in self._asked if t > time_s - rule.window_s)]
        return max(current, min(recent)) if raw >= current else min(current, max(recent))

    def _rated(self, time_s: float, current: int, wish: int) -> int:
        longest = max(self.up.period_s, self.down.period_s)
        while self._changed and self._changed[0][0] <= time_s - longest:
            self._changed.popleft()
        if wish > current:
            start = self._before(time_s - self.up.period_s, current)
            most = max(start + self.up.pods, ceil(start * (1 + self.up.percent / 100)))
            return min(wish, max(current, int(most)))
        start = self._before(time_s - self.down.period_s, current)
        by_percent = floor(start * (1 - self.down.percent / 100)) if self.down.percent > 0 else inf
        by_pods = start - self.down.pods if self.down.pods > 0 else inf
        return max(wish, min(current, int(min(by_percent, by_pods))))

    def _before(self, time_s: float, current: int) -> int:
        """Replicas at the start of a period: the current ones, less those added since, plus those removed since."""
        return current - sum(change for t, change in self._changed if t > time_s)


def per_pod(value: float, target: float, current: int) -> int:
    """External metric of type AverageValue: ceil(sum / target), unchanged within a tolerance of 10 %."""
    if current > 0 and abs(1 - value / (target * current)) <= TOLERANCE:
        return current
    return ceil(value / target - 1e-9)


def by_mean(ratio: float, *, ready: int, current: int) -> int:
    """
    Pods metric: ceil(ratio x pods), unchanged within the tolerance.

    A pod without a sample counts as 0 on scale-up and as on target on scale-down; if that reverses the direction,
    nothing changes.

    Args:
        ratio: Mean of the pods that have a sample over the target.
        ready, current: Pods with a sample, and all.
    """
    silent = max(0, current - ready) if ratio < 1 else 0
    wish, pods = ratio * ready + silent, max(ready, current)
    if abs(1 - wish / pods) <= TOLERANCE or (wish > pods) != (ratio > 1):
        return current
    return ceil(wish)


class HpaOnUtilization(OneTier):
    """
    HPA on the mean GPU utilization of its pods (DCGM through an adapter), target 70 %.

    The most common first attempt. Utilization says whether the GPU has work, not whether requests are late.

    Args:
        target: Target utilization, in (0, 1); the knob.
    """

    KNOB = ("target", (0.3, 0.5, 0.7, 0.85, 0.95))

    def __init__(self, scenario: Scenario, tier: str, *, target: float = 0.7) -> None:
        self.name = f"hpa-gpu@{tier}"
        self._tiers = chosen_tiers(scenario, tier)
        self._target = target
        self._behaviors = {t: Behavior() for t in self._tiers}

    def _one(self, view: View, tier: TierKey) -> int:
        reading, current = view.reading(tier), view.wanted[tier]
        low, high = bounds(view, tier)
        if reading is None or reading.gpu_utilization is None:
            return max(1, low, current)  # minReplicas is 1
        raw = by_mean(reading.gpu_utilization / self._target, ready=view.state(tier).ready, current=current)
        behavior = self._behaviors[tier]
        return behavior.limit(time_s=view.time_s, current=current, raw=raw, low=max(1, low), high=high)
