"""
KEDA rules of llm-d and production-stack.

An empty query result counts as 0 (`ignoreNullValues`). If Prometheus does not answer, that is an error, and HPA holds.

Source: keda `pkg/scalers/prometheus_scaler.go`; llm-d `guides/workload-autoscaling` (README.slo-aware.md).
"""

from abc import abstractmethod
from collections import deque
from math import ceil, floor

from tidegate.domain.observation import TierReading
from tidegate.sim.policies.base import OneTier, TierKey, View, bounds, chosen_tiers
from tidegate.sim.policies.hpa import Behavior, Rule, per_pod
from tidegate.sim.scenario import Scenario


class KedaRule(OneTier):
    """
    A rule based on KEDA's Prometheus queries: on an error, HPA holds the current replicas.

    KEDA scales a workload up to `minReplicaCount`, and to zero only if that is 0. llm-d's manifests set 1 (the
    SLO-aware one 3), so its rules never scale to zero.
    """

    REPLICAS_MIN = 1

    def _one(self, view: View, tier: TierKey) -> int:
        current = view.wanted[tier]
        if not view.answered(tier):
            return current
        if current < self.REPLICAS_MIN:
            return self.REPLICAS_MIN
        return self._asked(view, tier)

    @abstractmethod
    def _asked(self, view: View, tier: TierKey) -> int:
        """Replicas to set for the tier when Prometheus answered, possibly with an empty result."""


class KedaOnWaiting(KedaRule):
    """
    KEDA's prometheus trigger on `sum(vllm:num_requests_waiting)`, threshold 5 (production-stack's example).

    Below the knee almost no requests wait, so the fleet oscillates.
    Simplifications: the cooldown to zero (300 s) is modelled only if the deployment may go to zero.

    Args:
        threshold: Waiting requests per replica; the knob.
    """

    KNOB = ("threshold", (0.25, 0.5, 1.0, 2.0, 5.0, 10.0))
    COOLDOWN_S, REPLICAS_MIN = 300.0, 0

    def __init__(self, scenario: Scenario, tier: str, *, threshold: float = 5.0) -> None:
        self.name = f"keda-waiting@{tier}"
        self._tiers = chosen_tiers(scenario, tier)
        self._threshold = threshold
        self._behaviors = {t: Behavior() for t in self._tiers}
        self._active_s = dict.fromkeys(self._tiers, 0.0)

    def _asked(self, view: View, tier: TierKey) -> int:
        reading, current = view.reading(tier), view.wanted[tier]
        low, high = bounds(view, tier)
        waiting = view.queued(tier[0]) + ((reading.waiting or 0.0) if reading else 0.0)
        if waiting > 0 or (reading is not None and (reading.running or 0.0) > 0 and low == 0):
            self._active_s[tier] = view.time_s
        if current == 0:
            return max(1, low) if waiting > 0 else 0
        if low == 0 and view.time_s - self._active_s[tier] > self.COOLDOWN_S:
            return 0
        raw = max(1, per_pod(waiting, self._threshold, current))
        behavior = self._behaviors[tier]
        return behavior.limit(time_s=view.time_s, current=current, raw=raw, low=max(1, low), high=high)


class SloAwareKeda(KedaRule):
    """
    llm-d's SLO-aware rule, the successor of WVA and the strongest rival.

    s = avg over 45 s of min(max(P90 TTFT / target, P90 TPOT / target), 2); c = ready / provisioned;
    s > 0.55: n + ceil(n * (s*c/0.55 - 1)); s < 0.40: n - floor(n * (1 - s/0.40)); NaN counts as 0.
    HPA: up window 30 s, max(100 %, 4 pods) per 60 s; down window 180 s, 1 pod per 120 s.
    Simplifications: measured latency (its fallback) instead of predicted; histograms over 60 s, as shipped.

    Args:
        high: The upper threshold; the knob. The lower one is 8/11 of it, as shipped.
    """

    KNOB = ("high", (0.3, 0.45, 0.55, 0.7, 0.85, 1.0))

    def __init__(self, scenario: Scenario, tier: str, *, high: float = 0.55) -> None:
        self.name = f"slo-keda@{tier}"
        self._tiers = chosen_tiers(scenario, tier)
        self._high, self._low = high, high * 8 / 11
        up = Rule(window_s=30.0, percent=100.0, pods=4.0, period_s=60.0)
        down = Rule(window_s=180.0, percent=0.0, pods=1.0, period_s=120.0)
        self._behaviors = {t: Behavior(up, down) for t in self._tiers}
        self._seen: dict[TierKey, deque[float]] = {t: deque(maxlen=3) for t in self._tiers}

    def _asked(self, view: View, tier: TierKey) -> int:
        spec, current = view.spec(tier), view.wanted[tier]
        low, high = bounds(view, tier)
        self._seen[tier].append(min(2.0, stress(view.reading(tier), spec.slo.ttft_s, spec.slo.itl_s)))
        s = sum(self._seen[tier]) / len(self._seen[tier])
        ready = view.state(tier).ready
        credit = ready / current if 0 < ready < current else 1.0
        raw = current
        if s > self._high:
            raw = current + ceil(current * (s * credit / self._high - 1))
        elif s < self._low:
            raw = current - floor(current * (1 - s / self._low))
        behavior = self._behaviors[tier]
        return behavior.limit(time_s=view.time_s, current=current, raw=max(1, raw), low=max(1, low), high=high)


def stress(reading: TierReading | None, ttft_s: float, itl_s: float) -> float:
    """The larger ratio of a P90 latency to its target; 0 without data, because llm-d's rule maps NaN to 0."""
    if reading is None:
        return 0.0
    ttft = reading.ttft.quantile(0.9) if reading.ttft else None
    gaps = reading.request_itl or reading.itl
    itl = gaps.quantile(0.9) if gaps else None
    return max((ttft or 0.0) / ttft_s, (itl or 0.0) / itl_s)
