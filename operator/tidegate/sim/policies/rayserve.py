"""
Ray Serve's autoscaler.

Source: ray `python/ray/serve/autoscaling_policy.py`, `config.py`.
"""

from collections import deque
from math import ceil

from tidegate.sim.policies.base import OneTier, TierKey, View, bounds, chosen_tiers, mean_of_last
from tidegate.sim.scenario import Scenario


class RayServe(OneTier):
    """
    Mean ongoing requests over 30 s against a target of 2 per replica. It grows if that holds for 30 s, shrinks if it
    holds for 600 s.

    Simplifications: evaluated every 15 s instead of ten times a second, so delays are counted in ticks of 15 s; ongoing
    requests are those at the servers plus those queued at the gateway.

    Args:
        target: Ongoing requests per replica; the knob. The default of 2 is far below what a batching LLM server runs.
    """

    KNOB = ("target", (2.0, 8.0, 16.0, 24.0, 32.0, 48.0, 64.0, 96.0, 128.0))
    LOOK_BACK_S, UP_S, DOWN_S = 30.0, 30.0, 600.0

    def __init__(self, scenario: Scenario, tier: str, *, target: float = 2.0) -> None:
        self.name = f"ray-serve@{tier}"
        self._tiers = chosen_tiers(scenario, tier)
        self._target = target
        self._seen: dict[TierKey, deque[tuple[float, float]]] = {t: deque() for t in self._tiers}
        # Direction of the wanted change (+1 or -1) and since when; None while there is none.
        self._since: dict[TierKey, tuple[int, float] | None] = dict.fromkeys(self._tiers)

    def _one(self, view: View, tier: TierKey) -> int:
        reading, current = view.reading(tier), view.wanted[tier]
        low, high = bounds(view, tier)
        queued = view.queued(tier[0])
        if current == 0:
            return max(1, low) if queued > 0 else low
        if reading is None:
            return current  # stale reports are dropped
        now = queued + (reading.running or 0.0) + (reading.waiting or 0.0)
        ongoing = mean_of_last(self._seen[tier], view, now, window_s=self.LOOK_BACK_S)
        wish = max(low, min(high, ceil(ongoing / self._target - 1e-9)))
        return wish if self._has_lasted(view.time_s, tier, current, wish) else current

    def _has_lasted(self, time_s: float, tier: TierKey, current: int, wish: int) -> bool:
        sign = (wish > current) - (wish < current)
        before = self._since[tier]
        if sign == 0:
            self._since[tier] = None
            return False
        if before is None or before[0] != sign:
            self._since[tier] = before = (sign, time_s)
        if time_s - before[1] < (self.UP_S if sign > 0 else self.DOWN_S):
            return False
        self._since[tier] = None
        return True
