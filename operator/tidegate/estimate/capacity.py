"""
The load one replica carries inside the SLO, and the curve around it.

In:    a replica (`Service`), the share of requests that must be inside both targets, the learned factor on misses.
Out:   `Carried`: the service curve, the rate at which attainment crosses the target, and N there.
"""

from dataclasses import dataclass

import numpy as np

from tidegate.domain.estimate import OperatingPoint, ServiceCurve
from tidegate.estimate.service import Floats, Service, attainment, operate

# Where the crossing is looked for, as shares of the rate that can not be sustained; then between two of them.
SEARCH = np.array([1e-3, 0.02, 0.05, 0.1, 0.18, 0.27, 0.37, 0.47, 0.57, 0.66, 0.74, 0.81, 0.87, 0.92, 0.96, 0.99])
WITHIN = np.linspace(0.0, 1.0, 14)
# Where the curve is sampled, as multiples of the crossing and as shares of what can not be sustained.
AROUND = (0.02, 0.4, 0.75, 0.9, 1.0, 1.06, 1.14, 1.3)
TO_THE_END = (0.01, 0.2, 0.4, 0.6, 0.75, 0.88, 0.97)
LAST = 0.985


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """Curve of one replica; the rate at which attainment crosses the target (0: it never reaches it), and N there."""

    curve: ServiceCurve
    rate_rps: float
    running: float


def carried(service: Service, *, target: float, misses: float) -> Carried:
    """
    What one replica carries.

    Args:
        service: The replica.
        target: Share of requests that must be inside both targets, in (0, 1).
        misses: Factor on the predicted share of misses, > 0.
    """
    knee = _crossing(service, target, misses)
    curve = ServiceCurve(points=_points(service, knee, misses))
    return Carried(curve=curve, rate_rps=knee, running=curve.at_rate(knee).running if knee > 0 else 0.0)


def _crossing(service: Service, target: float, misses: float) -> float:
    """Highest rate with the target attainment, to about 0.2 percent of the range it lies in; 0 where there is none."""
    rates = SEARCH * service.rate_unstable
    index = _last_inside(attainment(service, rates), target, misses)
    if index < 0:
        return 0.0
    high = rates[index + 1] if index + 1 < len(rates) else service.rate_unstable
    between = rates[index] + WITHIN * (high - rates[index])
    shares = _falling(attainment(service, between), misses)
    at = int(np.flatnonzero(shares >= target)[-1])
    if at + 1 >= len(between):
        return float(between[at])
    drop = shares[at] - shares[at + 1]
    share = (shares[at] - target) / drop if drop > 0 else 0.0
    return float(between[at] + share * (between[at + 1] - between[at]))


def _last_inside(shares: Floats, target: float, misses: float) -> int:
    """Index of the last rate that is inside, -1 where none is."""
    inside = np.flatnonzero(_falling(shares, misses) >= target)
    return int(inside[-1]) if len(inside) else -1


def _falling(shares: Floats, misses: float) -> Floats:
    """Attainment with the factor on misses; more load is never better."""
    return np.asarray(np.minimum.accumulate(np.maximum(0.0, 1.0 - misses * (1.0 - shares))))


def _points(service: Service, knee: float, misses: float) -> tuple[OperatingPoint, ...]:
    end = service.rate_unstable
    wanted = [f * knee for f in AROUND] if knee > 0 else [f * end for f in TO_THE_END]
    rates = np.array([rate for rate in wanted if rate < LAST * end] + [LAST * end])
    points = operate(service, rates)
    shares = _falling(np.array([p.attainment for p in points]), misses).tolist()
    return tuple(
        OperatingPoint(
            rate_rps=p.rate_rps, running=p.running, ttft_s_p95=p.ttft_s_p95, itl_s_p95=p.itl_s_p95, attainment=share
        )
        for p, share in zip(points, shares, strict=True)
    )
