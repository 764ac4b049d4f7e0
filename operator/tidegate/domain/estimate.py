"""
What one replica of a tier does, and how certain that is.

`TierEstimate` is what `estimate` passes to `plan`: the performance law in force, the capacity of one replica, and the
curve from load to latency and attainment.
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
        running: Mean number of running requests at this rate.
        ttft_s_p95: 95th percentile of the time to first token, queueing included.
        itl_s_p95: 95th percentile of a request's mean inter-token latency.
        attainment: Expected share of requests that meet both targets, in [0, 1].
    """

    rate_rps: float
    running: float
    ttft_s_p95: float
    itl_s_p95: float
    attainment: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceCurve:
    """
    Operating points of one replica in order of rate; shape (points,), at least two, the first at almost no load.

    Attainment never rises along the curve. Beyond the last point the replica is unstable: attainment is 0.
    """

    points: tuple[OperatingPoint, ...]

    def at_rate(self, rate_rps: float) -> OperatingPoint:
        """The point at a rate, interpolated linearly; beyond the end, the last point with attainment 0."""
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


# Fleet sizes for which `TierEstimate.pooling` is given.
POOLS = (1, 2, 3, 4, 6, 8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Relaxed:
    """
    What is planned for if no tier of a deployment meets its targets even without load.

    Args:
        ttft_s, itl_s: The targets used instead, s. A target that can be met stays as the user set it.
        idle_ttft_s, idle_itl_s: What an idle replica of the tier that comes closest needs, s.
        attainment: The highest share of requests for which an idle replica meets the user's targets.
    """

    ttft_s: float
    itl_s: float
    idle_ttft_s: float
    idle_itl_s: float
    attainment: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TierEstimate:
    """
    What `plan` needs to know about one tier.

    Args:
        law: Performance law in force; `provenance` says where it comes from.
        confidence: 0 (a guess) to 1 (fitted over the range in question); `capacity_rps` already allows for it.
        workload: Request shape the curve was made for.
        curve: One replica under rising load, without safety margin.
        capacity_rps: Highest arrival rate at which one replica keeps the promised attainment, less the margin for
            confidence; 0 if even an idle replica misses a target.
        startup_s: Expected time from scale-up to ready, s (learned; a prior until one was seen).
        startup_s_late: Seconds after the request at which a replica that is still starting counts as stuck.
        power_w: Expected power draw of one replica at capacity, W; None: unknown.
        pooling: Gain per replica from balancing load over several: the rate at which a replica in a fleet of each size
            in `POOLS` reaches an attainment, divided by the rate of a single replica. Never falls, the first is 1. All
            ones if no router evens out the load.
        relaxed: The targets that curve and capacity are made for if no tier meets the user's; None: the user's.
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
