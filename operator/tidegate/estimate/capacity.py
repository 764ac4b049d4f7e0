"""
The load one replica carries inside the SLO, and the curve around it.

In:    a replica (`Service`), the share of requests that must be inside both targets, the learned factor on misses.
Out:   `Carried`: the service curve, the rate at which attainment crosses the target, and N there.
"""

from dataclasses import dataclass

import numpy as np

from tidegate.domain.estimate import FeasibleTargets, OperatingPoint, ServiceCurve
from tidegate.estimate.service import (
    Floats,
    Service,
    attainment,
    itl_quantile,
    operate,
    state_at,
    ttft_quantile,
)

# Where the crossing is looked for first, as shares of the rate that can not be sustained.
SEARCH = np.array([1e-3, 0.02, 0.05, 0.1, 0.18, 0.27, 0.37, 0.47, 0.57, 0.66, 0.74, 0.81, 0.87, 0.92, 0.96, 0.985])
# Where the curve is sampled, as multiples of the crossing so found, and between what has no crossing and the end.
AROUND = np.array([0.02, 0.4, 0.75, 0.88, 0.94, 0.98, 1.02, 1.06, 1.14, 1.3])
TO_THE_END = np.array([0.01, 0.2, 0.4, 0.6, 0.75, 0.88, 0.97])
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
    rates = SEARCH * service.rate_unstable
    about = _crossing(rates, _falling(attainment(service, state_at(service, rates)), misses), target)
    curve = ServiceCurve(points=_points(service, about, misses))
    if about <= 0:
        return Carried(curve=curve, rate_rps=0.0, running=0.0)
    on_curve = np.array([p.rate_rps for p in curve.points])
    knee = _crossing(on_curve, np.array([p.attainment for p in curve.points]), target)
    return Carried(curve=curve, rate_rps=knee, running=curve.at_rate(knee).running if knee > 0 else 0.0)


def idle_targets(service: Service, *, target: float, misses: float) -> FeasibleTargets:
    """Targets that an almost idle replica meets together with the target attainment."""
    state = state_at(service, SEARCH[:1] * service.rate_unstable)
    level = 1.0 - (1.0 - target) / (2.0 * max(1.0, misses))
    return FeasibleTargets(
        ttft_s=float(ttft_quantile(service, state, level)[0]), itl_s=float(itl_quantile(service, state, level)[0])
    )


def _crossing(rates: Floats, shares: Floats, target: float) -> float:
    """Rate at which falling shares cross the target, by straight line; 0 where already the first is below."""
    inside = np.flatnonzero(shares >= target)
    if len(inside) == 0:
        return 0.0
    at = int(inside[-1])
    if at + 1 >= len(rates):
        return float(rates[at])
    share = (shares[at] - target) / (shares[at] - shares[at + 1])
    return float(rates[at] + share * (rates[at + 1] - rates[at]))


def _falling(shares: Floats, misses: float) -> Floats:
    """Attainment with the factor on misses; more load is never better."""
    return np.asarray(np.minimum.accumulate(np.maximum(0.0, 1.0 - misses * (1.0 - shares))))


def _points(service: Service, about: float, misses: float) -> tuple[OperatingPoint, ...]:
    """The curve, close to where the crossing is, and up to the end of what can be sustained."""
    end = service.rate_unstable
    wanted = AROUND * about if about > 0 else TO_THE_END * end
    points = operate(service, np.append(wanted[wanted < 0.98 * LAST * end], LAST * end))
    shares = _falling(np.array([p.attainment for p in points]), misses).tolist()
    return tuple(
        OperatingPoint(
            rate_rps=p.rate_rps, running=p.running, ttft_s_p95=p.ttft_s_p95, itl_s_p95=p.itl_s_p95, attainment=share
        )
        for p, share in zip(points, shares, strict=True)
    )
