"""
What can be believed of the metrics: silence is not zero, and slow is not always busy.
"""

from collections.abc import Mapping
from enum import IntEnum

from tidegate.domain.observation import Histogram, Missing, TierReading, TierState
from tidegate.domain.spec import Slo

# Scrapes come every 15 to 60 s; a sample older than one and a half of the slowest is of another time. Where they come
# more seldom, the window is longer.
STALE_S = 90.0
# Below this GPU utilization a replica that misses its targets waits for something else than its GPU. Decoding alone
# keeps a GPU above 0.5 (the exporter counts time with any kernel running), so 0.35 is far from a busy one.
IDLE_UTILIZATION = 0.35
# How far below the target the seen share must be to be called bad latency.
MISSED_SHARE = 0.05


class Sight(IntEnum):
    """How much of a deployment its metrics show."""

    ALL = 0  # every tier with a ready replica reports
    NOTHING_RUNS = 1  # no ready replica: nothing to report
    PART = 2
    NONE = 3


def sight(states: Mapping[str, TierState]) -> tuple[Sight, Missing | None]:
    """How much is seen, and the first reason for what is not."""
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
        return Missing(reason="Stale", detail=f"tier {tier}: newest sample is {reading.age_s:.0f} s old")
    if reading.arrival_rps is None:
        return Missing(reason="NoArrivalRate", detail=f"tier {tier}: no arrival rate")
    return None


def not_gpu_bound(states: Mapping[str, TierState], slo: Slo) -> float | None:
    """
    The GPU utilization, where latency is bad although GPUs idle; else None.

    More replicas do not cure that: the cause is a slow network, disk, tokenizer, a CPU limit or the client.
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
