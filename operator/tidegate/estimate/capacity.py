"""
The capacity of one replica: the load it carries within the SLO, and the service curve around it.

In:    a replica (`Service`), the share of requests that must meet both targets, the learned factor on misses.
Out:   `Carried`: the service curve, the rate at which attainment crosses the target, N there, and how much more a
       replica carries in larger fleets.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from math import ceil, log, sqrt

import numpy as np

from tidegate.domain.estimate import POOLS, OperatingPoint, ServiceCurve
from tidegate.estimate.latency import attainment, itl_quantile, operate, ttft_quantile
from tidegate.estimate.normal import Floats
from tidegate.estimate.service import Service, state_at

# Where the crossing is searched, as shares of the rate at which the replica becomes unstable.
SEARCH = np.array([1e-3, 0.02, 0.05, 0.1, 0.18, 0.27, 0.37, 0.47, 0.57, 0.66, 0.74, 0.81, 0.87, 0.92, 0.96, 0.985])
# Where the curve is sampled: below the two rates that bracket the crossing, between them, and beyond.
BELOW = np.array([0.02, 0.4, 0.75])
BETWEEN = np.linspace(0.0, 1.0, 7)
BEYOND = np.array([1.1, 1.2, 1.3, 1.45])
# In a large fleet each replica carries more, up to several times as much if prompts are long. So the curve goes on in
# steps of at most this factor to as far beyond the crossing there.
FARTHER = 1.15
TO_THE_END = np.array([0.01, 0.2, 0.4, 0.6, 0.75, 0.88, 0.97])
LAST = 0.985
# Where the crossing in larger fleets is searched, as shares of the way from a rate that a single replica carries to
# the end of the curve.
RISE = np.array([0.0, 0.05, 0.1, 0.16, 0.23, 0.31, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """
    The capacity of one replica.

    Args:
        curve: Its operating points.
        rate_rps: Arrival rate at which attainment crosses the target, requests/s; 0: even an idle replica misses it.
        running: N at that rate.
        pooling: As in `TierEstimate`.
    """

    curve: ServiceCurve
    rate_rps: float
    running: float
    pooling: tuple[float, ...] = (1.0,) * len(POOLS)


def carried(service: Service, *, target: float, misses: float) -> Carried:
    """
    The capacity of one replica.

    Args:
        service: The replica.
        target: Share of requests that must meet both targets, in (0, 1).
        misses: Factor on the predicted share of misses, > 0.
    """
    search = SEARCH * service.rate_unstable
    inside = np.flatnonzero(_falling(attainment(service, state_at(service, search)), misses) >= target)
    end = LAST * service.rate_unstable
    if len(inside) == 0:
        return Carried(curve=ServiceCurve(points=_points(service, TO_THE_END * end, misses)), rate_rps=0.0, running=0.0)
    low = search[inside[-1]]
    high = search[inside[-1] + 1] if inside[-1] + 1 < len(search) else end
    pooling = _pooling(service, target, misses, low=low, end=end)
    wanted = np.concatenate((BELOW * low, low + BETWEEN * (high - low), BEYOND * high, _farther(high, pooling[-1])))
    rates = np.append(wanted[wanted < 0.99 * end], end)
    curve = ServiceCurve(points=_points(service, rates, misses, least=_inside(rates, low, target)))
    points = curve.points
    knee = _crossing([p.rate_rps for p in points], [p.attainment for p in points], target)
    return Carried(
        curve=curve,
        rate_rps=knee,
        running=curve.at_rate(knee).running,
        pooling=pooling,
    )


def _farther(high: float, gain: float) -> Floats:
    """Rates beyond `BEYOND`, up to the same distance from the crossing of a fleet with this gain, requests/s."""
    steps = ceil(log(gain) / log(FARTHER))
    return np.asarray(BEYOND[-1] * high * gain ** (np.arange(1, steps + 1) / max(1, steps)))


def side_by_side(engine: Carried, engines: int) -> Carried:
    """
    The capacity of a replica with several engines, each of which takes its share of the requests.

    Balancing between the engines is not counted, so the true capacity may be higher.
    """
    points = tuple(replace(p, rate_rps=engines * p.rate_rps, running=engines * p.running) for p in engine.curve.points)
    return Carried(
        curve=ServiceCurve(points=points),
        rate_rps=engines * engine.rate_rps,
        running=engines * engine.running,
        pooling=engine.pooling,
    )


def _pooling(service: Service, target: float, misses: float, *, low: float, end: float) -> tuple[float, ...]:
    """
    The crossing in a fleet over that of a single replica, for each size in `POOLS`.

    Args:
        low, end: Rates between which the crossing is searched, requests/s; one replica alone meets the target at `low`.
    """
    if service.evenness <= 0.0:
        return (1.0,) * len(POOLS)
    rates = low + RISE * (end - low)
    found = {pool: _reached(replace(service, pooled=float(pool)), rates, target, misses) for pool in (1, 2, 4, 8)}
    between = {3: sqrt(found[2] * found[4]), 6: sqrt(found[4] * found[8])}
    gains = [(found | between)[pool] / found[1] for pool in POOLS]
    return tuple(np.maximum.accumulate(np.maximum(gains, 1.0)).round(3).tolist())


def _reached(service: Service, rates: Floats, target: float, misses: float) -> float:
    """The crossing on a grid of rates, at the first of which the target is met."""
    least = _inside(rates, float(rates[0]), target)
    shares = _falling(attainment(service, state_at(service, rates)), misses, least=least)
    return _crossing(rates.tolist(), shares.tolist(), target)


@lru_cache(maxsize=4096)
def targets_at(service: Service, load: float, *, target: float, misses: float) -> tuple[float, float]:
    """
    The tightest TTFT and ITL, s, that a replica meets together with the target attainment.

    Args:
        load: Share of `rate_unstable`, in (0, 1).
    """
    state = state_at(service, np.array([load * service.rate_unstable]))
    # Each may be missed by half of the allowed share, so that both together are met by at least the target.
    level = 1.0 - (1.0 - target) / (2.0 * max(1.0, misses))
    return float(ttft_quantile(service, state, level)[0]), float(itl_quantile(service, state, level)[0])


def _crossing(rates: list[float], shares: list[float], target: float) -> float:
    """Rate at which attainment crosses the target, by linear interpolation; the first rate meets the target."""
    for (low, before), (high, after) in pairwise(zip(rates, shares, strict=True)):
        if after < target:
            return low + max(0.0, (before - target) / (before - after)) * (high - low)
    return rates[-1]


def _inside(rates: Floats, low: float, target: float) -> Floats:
    """Lower bound of attainment at each rate: the target up to a rate known to meet it, so that dips are ignored."""
    return np.where(rates <= low, target, 0.0)


def _falling(shares: Floats, misses: float, *, least: Floats | float = 0.0) -> Floats:
    """Attainment with the factor on misses applied, made non-increasing in load."""
    return np.asarray(np.minimum.accumulate(np.maximum(least, 1.0 - misses * (1.0 - shares))))


def _points(
    service: Service, rates: Floats, misses: float, *, least: Floats | float = 0.0
) -> tuple[OperatingPoint, ...]:
    points = operate(service, rates)
    shares = _falling(np.array([p.attainment for p in points]), misses, least=least).tolist()
    return tuple(replace(p, attainment=share) for p, share in zip(points, shares, strict=True))
