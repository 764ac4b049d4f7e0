"""
What one replica of a tier does, and how sure that is.

`TierEstimate` is what `estimate` hands to `plan`: the law in force, the load one replica carries inside the
SLO, and the curve from load to latency and attainment.
"""

from bisect import bisect_left
from dataclasses import dataclass

from tidegate.domain.law import PerformanceLaw, Provenance, Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatingPoint:
    """
    One replica at a steady arrival rate.

    Args:
        rate_rps: Requests/s that arrive at the replica.
        running: Mean running requests that this leads to.
        ttft_s_p95: 95th percentile of the time to first token, queue included.
        itl_s_p95: 95th percentile of a request's mean inter-token latency.
        attainment: Expected share of requests inside both targets, in [0, 1].
    """

    rate_rps: float
    running: float
    ttft_s_p95: float
    itl_s_p95: float
    attainment: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceCurve:
    """
    Operating points of one replica by rising rate; shape (points,), at least two, the first at almost no load.

    Attainment does not rise along the curve. Past the last point the replica is unstable: attainment is 0.
    """

    points: tuple[OperatingPoint, ...]

    def at_rate(self, rate_rps: float) -> OperatingPoint:
        """The point at a rate, by straight line between its neighbours; past the end: the last with attainment 0."""
        rates = [p.rate_rps for p in self.points]
        index = bisect_left(rates, rate_rps)
        if index >= len(rates):
            return _unstable(self.points[-1], rate_rps)
        if index == 0:
            return self.points[0]
        left, right = self.points[index - 1], self.points[index]
        span = rates[index] - rates[index - 1]
        return _mix(left, right, (rate_rps - rates[index - 1]) / span if span > 0 else 1.0)


def _mix(left: OperatingPoint, right: OperatingPoint, share: float) -> OperatingPoint:
    def blend(x: float, y: float) -> float:
        return x + (y - x) * share

    return OperatingPoint(
        rate_rps=blend(left.rate_rps, right.rate_rps),
        running=blend(left.running, right.running),
        ttft_s_p95=blend(left.ttft_s_p95, right.ttft_s_p95),
        itl_s_p95=blend(left.itl_s_p95, right.itl_s_p95),
        attainment=blend(left.attainment, right.attainment),
    )


def _unstable(last: OperatingPoint, rate_rps: float) -> OperatingPoint:
    return OperatingPoint(
        rate_rps=rate_rps, running=last.running, ttft_s_p95=last.ttft_s_p95, itl_s_p95=last.itl_s_p95, attainment=0.0
    )


# Sizes of a fleet that `TierEstimate.pooling` is given for, replicas.
POOLS = (1, 2, 3, 4, 6, 8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Relaxed:
    """
    What is planned for where no tier of a deployment meets its targets even idle.

    Args:
        ttft_s, itl_s: The targets planned for instead, s; one that can be met stays as it was asked for.
        idle_ttft_s, idle_itl_s: What an idle replica of the tier that comes closest needs, s.
        attainment: Share of requests inside the targets asked for that an idle replica reaches at best.
    """

    ttft_s: float
    itl_s: float
    idle_ttft_s: float
    idle_itl_s: float
    attainment: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TierEstimate:
    """
    What `plan` needs to know of one tier.

    Args:
        law: Performance law in force; `provenance` says how it came to be.
        confidence: 0 (a guess) to 1 (fitted over the range in question); already priced into `capacity_rps`.
        workload: Request shape the curve was made for.
        curve: One replica under rising load, without safety margin.
        capacity_rps: Highest arrival rate one replica holds with the target attainment, margin for confidence
            taken off; 0 where even an idle replica misses a target.
        startup_s: Expected time from scale-up to ready, s (learned; a prior where never seen).
        startup_s_late: When a replica still starting counts as stuck, s after it was asked for.
        power_w: Expected draw of one replica at capacity, W; None where unknown.
        pooling: How much more a replica carries in a fleet of each size in `POOLS`: its rate at the same attainment
            over that of a replica alone. Not falling, the first 1; all 1 where a router does not even out the load.
        relaxed: The targets that curve and capacity are made for, where no tier meets those of the spec; None: the
            spec's own.
    """

    law: PerformanceLaw
    provenance: Provenance
    confidence: float
    workload: Workload
    curve: ServiceCurve
    capacity_rps: float
    startup_s: float
    startup_s_late: float
    power_w: float | None = None
    pooling: tuple[float, ...] = (1.0,) * len(POOLS)
    relaxed: Relaxed | None = None
