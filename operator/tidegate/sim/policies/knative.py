"""
Knative's pod autoscaler.

Source: knative/serving `pkg/autoscaler/scaling/autoscaler.go`, `config/core/configmaps/autoscaler.yaml`.
"""

from collections import deque
from math import ceil, floor

from tidegate.sim.policies.base import OneTier, TierKey, View, bounds, chosen_tiers, mean_of_last
from tidegate.sim.scenario import Scenario


class Kpa(OneTier):
    """
    Concurrency over a stable window of 60 s, and a panic mode based on the last 6 s.

    Target: 100 x 70 % requests per replica; at most 1000 times the ready replicas, at least half of them; panic if
    twice the ready replicas are needed.
    Simplifications: evaluated every 15 s instead of every 2, so the panic window is the newest sample; concurrency is
    the sum of running and waiting requests at the servers and requests queued at the gateway; no activator.

    Args:
        target: Requests per replica; the knob.
    """

    KNOB = ("target", (8.0, 16.0, 24.0, 32.0, 48.0, 70.0, 100.0, 140.0))
    STABLE_S = 60.0
    UP, DOWN, PANIC = 1000.0, 2.0, 2.0

    def __init__(self, scenario: Scenario, tier: str, *, target: float = 70.0) -> None:
        self.name = f"knative-kpa@{tier}"
        self._tiers = chosen_tiers(scenario, tier)
        self._target = target
        self._seen: dict[TierKey, deque[tuple[float, float]]] = {t: deque() for t in self._tiers}
        self._panic_s: dict[TierKey, float | None] = dict.fromkeys(self._tiers)
        self._panic_most = dict.fromkeys(self._tiers, 0)

    def _one(self, view: View, tier: TierKey) -> int:
        reading = view.reading(tier)
        low, high = bounds(view, tier)
        queued = view.queued(tier[0])
        if reading is None and queued == 0:
            return view.wanted[tier]
        now = queued + ((reading.running or 0.0) + (reading.waiting or 0.0) if reading else 0.0)
        stable = mean_of_last(self._seen[tier], view, now, window_s=self.STABLE_S)
        return max(low, min(high, self._scaled(view, tier, stable, now)))

    def _scaled(self, view: View, tier: TierKey, stable: float, now: float) -> int:
        ready = max(1, view.state(tier).ready)
        most, least = ceil(self.UP * ready), floor(ready / self.DOWN)
        steady = max(least, min(most, ceil(stable / self._target)))
        panic = max(least, min(most, ceil(now / self._target)))
        over = ceil(now / self._target) / ready >= self.PANIC
        since = self._panic_s[tier]
        if over:
            self._panic_s[tier] = view.time_s
        elif since is not None and view.time_s > since + self.STABLE_S:
            self._panic_s[tier], self._panic_most[tier] = None, 0
        if self._panic_s[tier] is None:
            return steady
        self._panic_most[tier] = max(self._panic_most[tier], steady, panic)
        return self._panic_most[tier]
