"""
What the metrics can tell: missing is not zero, and slow is not always busy.
"""

from collections.abc import Mapping
from enum import IntEnum

from tidegate.domain.observation import Histogram, Missing, TierReading, TierState
from tidegate.domain.spec import Slo

# Scrape intervals are 15 to 60 s; a sample older than one and a half of the longest is stale. For longer intervals the
# window is longer, and counts instead.
STALE_S = 90.0
# Below this GPU utilization, a replica that misses its targets is limited by something else. Decoding alone keeps
# utilization above 0.5 (the exporter counts the time with any kernel running), so 0.35 is far from a busy GPU.
IDLE_UTILIZATION = 0.35
# How far the measured share must be below the promised one for latency to count as bad.
MISSED_SHARE = 0.05


class Sight(IntEnum):
    """For how much of a deployment there are usable metrics."""

    ALL = 0  # every tier with a ready replica reports
    NOTHING_RUNS = 1  # no replica is ready, so there is nothing to report
    PART = 2  # some of the tiers with ready replicas report
    NONE = 3  # no tier with ready replicas reports


def sight(states: Mapping[str, TierState]) -> tuple[Sight, Missing | None]:
    """How much the metrics cover, and the first reason for what is missing."""
    seen, gap = 0, None
    for name, state in states.items():
        if state.ready:
            missing = _gap(name, state.reading)
            if missing is None:
                seen += 1
            else:
                gap = gap or missing
    if gap is None:
        return (Sight.ALL if seen else Sight.NOTHING_RUNS), None
    return (Sight.PART if seen else Sight.NONE), gap


def silent(states: Mapping[str, TierState]) -> frozenset[str]:
    """Tiers with ready replicas that do not report."""
    return frozenset([name for name, state in states.items() if state.ready and _gap(name, state.reading) is not None])


def _gap(tier: str, reading: TierReading | Missing) -> Missing | None:
    if isinstance(reading, Missing):
        return Missing(reason=reading.reason, detail=f"tier {tier}: {reading.detail or reading.reason}")
    if reading.older_than(STALE_S):
        limit_s = max(STALE_S, reading.window_s)
        return Missing(reason="Stale", detail=f"tier {tier}: the newest sample is older than {limit_s:.0f} s")
    if reading.arrival_rps is None:
        return Missing(reason="NoArrivalRate", detail=f"tier {tier}: no arrival rate")
    return None


def not_gpu_bound(states: Mapping[str, TierState], slo: Slo) -> float | None:
    """
    The GPU utilization of a tier that misses its targets although its GPUs are mostly idle; None if there is none.

    More replicas do not help then: the bottleneck is the network, disk, tokenizer, a CPU limit or the client.
    """
    for state in states.values():
        reading = state.reading
        if not isinstance(reading, TierReading) or reading.gpu_utilization is None:
            continue
        if reading.gpu_utilization < IDLE_UTILIZATION and (reading.running or 0.0) > 0 and _missed(reading, slo):
            return reading.gpu_utilization
    return None


def _missed(reading: TierReading, slo: Slo) -> bool:
    return _below(reading.ttft, slo.ttft_s, slo.attainment) or _below(reading.itl, slo.itl_s, slo.attainment)


def _below(histogram: Histogram | None, target_s: float, share: float) -> bool:
    found = histogram.share_at_most(target_s) if histogram is not None else None
    return found is not None and found[1] < share - MISSED_SHARE
