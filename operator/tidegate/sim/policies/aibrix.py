"""
AIBrix's pod autoscaler in APA mode.

Source: aibrix `pkg/controller/podautoscaler/` (algorithm, aggregation, stabilization).
"""

from collections import deque
from math import ceil, floor

from tidegate.sim.policies.base import OneTier, TierKey, View, bounds, chosen_tiers, mean_of_last
from tidegate.sim.scenario import Scenario


class Apa(OneTier):
    """
    KV cache use, averaged over pods and then over 180 s, target 0.5; tolerance 10 %, at most doubled or halved at once.

    On the way up the stabilizer takes the largest recommendation of its window (0 s), on the way down the *smallest* of
    its window (300 s), the reverse of HPA. That is how the code is; `aibrix-fixed` takes the largest on the way down.
    Simplifications: evaluated every 15 s instead of every 10; without the guard for starting pods (added in September
    2026).

    Args:
        target: Target KV use; the knob.
        fixed: Take the largest recommendation of the window on the way down.
    """

    KNOB = ("target", (0.05, 0.1, 0.2, 0.35, 0.5, 0.7))
    WINDOW_S, DOWN_S = 180.0, 300.0
    TOLERANCE, RATE = 0.1, 2.0
    NAME = "aibrix-apa"

    def __init__(self, scenario: Scenario, tier: str, *, target: float = 0.5, fixed: bool = False) -> None:
        self.name = f"{self.NAME}@{tier}"
        self._tiers = chosen_tiers(scenario, tier)
        self._target, self._keep = target, max if fixed else min
        self._seen: dict[TierKey, deque[tuple[float, float]]] = {t: deque() for t in self._tiers}
        self._asked: dict[TierKey, deque[tuple[float, int]]] = {t: deque() for t in self._tiers}

    def _one(self, view: View, tier: TierKey) -> int:
        current = view.wanted[tier]
        low, high = bounds(view, tier)
        pods = view.gauges(tier)
        if current == 0 or not pods:
            # It does not scale up from zero by itself; a schedule or a person is assumed to do it.
            return max(low, current, 1 if view.queued(tier[0]) > 0 else 0)
        use = sum(p.kv_usage for p in pods) / len(pods)
        raw = self._raw(current, mean_of_last(self._seen[tier], view, use, window_s=self.WINDOW_S))
        asked = self._asked[tier]
        asked.append((view.time_s, raw))
        while asked[0][0] <= view.time_s - self.DOWN_S:
            asked.popleft()
        wish = raw if raw >= current else self._keep(r for _, r in asked)
        return max(low, min(high, max(1, wish)))

    def _raw(self, current: int, use: float) -> int:
        ratio = use / self._target
        if ratio > 1 + self.TOLERANCE:
            return min(ceil(current * ratio), ceil(self.RATE * current))
        if ratio < 1 - self.TOLERANCE:
            return max(ceil(current * ratio), floor(current / self.RATE))
        return current


class FixedApa(Apa):
    """`Apa` with HPA's stabilization: the largest recommendation of the window on the way down."""

    NAME = "aibrix-fixed"

    def __init__(self, scenario: Scenario, tier: str, *, target: float = 0.5) -> None:
        super().__init__(scenario, tier, target=target, fixed=True)
