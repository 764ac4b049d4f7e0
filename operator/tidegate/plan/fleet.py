"""
What a mixed fleet does under load.

A router that sends each request to the replica with the fewest outstanding ones equalizes the number of running
requests N over the replicas. So a fleet of n_t replicas per tier serves, at a common N,

    rate(N) = sum n_t * r_t(N)          good(N) = sum n_t * r_t(N) * attainment_t(N, K)          K = sum n_t

and the share good / rate meets the targets. All tiers use the same grid of N, so the curve of a fleet is a weighted sum
of table rows. A larger fleet averages out chance better, so attainment at a given load per replica rises with K.
Attainment at a rate is defined as the best that the fleet reaches at that rate or above, so it never rises with load.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from tidegate.domain.estimate import POOLS, Relaxed, ServiceCurve, TierEstimate
from tidegate.domain.spec import Accelerator, DeploymentSpec, TierSpec
from tidegate.plan.scenario import Scenarios

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Number = TypeVar("Number", float, Floats)
Fleet = tuple[int, ...]  # replicas per tier, in the order of the spec

# Beyond the end of the curve queues grow without bound, and attainment is at most this, less in deeper overload. The
# same formula is the lower bound within the curve, so that a larger fleet never looks worse than a smaller one when
# neither is enough: a fleet that carries its load but misses nearly every target is still better than one that does not
# carry it.
OVERLOAD_ATTAINMENT = 0.05
# A capacity below this share of the curve's own means that the curve is wrong, not that the margin is huge.
MARGIN_MIN = 0.2
# Price in comparisons of an accelerator without a price, $/h, so that of fleets with equal cost the smaller one wins.
# A thousand of them count as a tenth of a cent.
FREE_USD = 1e-6
# Array elements per block when many fleets are evaluated: half a megabyte.
BLOCK = 65_536
RATE_DUST = 1e-9  # one request in thirty years counts as none


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FleetModel:
    """
    Tables of one deployment; arrays are (tiers,) or (tiers, points), tiers in the order of the spec.

    Args:
        prices, each_usd: $/h of one replica, as an array and as plain numbers.
        costs, each_cost: The same for comparisons, with `FREE_USD` per accelerator if there is no price.
        gpus, each_gpus: Accelerators of one replica, likewise.
        known: Whether the tier can be decided: it has an estimate and its accelerator class exists, or its quality
            rules it out. Replicas of an unknown tier are left as they are, because a class that is missing for a moment
            is no reason to stop serving.
        usable: Whether the tier may get replicas: estimate and class exist, and its quality is sufficient.
        rates, goods: Requests/s of one replica, and those within both targets, at each N of the grid; `goods` for each
            fleet size in `POOLS`, shape (pools, tiers, points).
        ttft, itl: 95th percentiles at each N, s.
        startup_s: Expected time from request to ready, s.
        capacities: `TierEstimate.capacity_rps`.
        powers: `TierEstimate.power_w`.
        relaxed: The targets that the tables are for if those of the spec cannot be met; None: those of the spec.
    """

    tiers: tuple[TierSpec, ...]
    names: tuple[str, ...]
    classes: tuple[str, ...]
    known: tuple[bool, ...]
    usable: tuple[bool, ...]
    prices: Floats
    each_usd: tuple[float, ...]
    costs: Floats
    each_cost: tuple[float, ...]
    gpus: Ints
    each_gpus: tuple[int, ...]
    qualities: Floats
    rates: Floats
    goods: Floats
    ttft: Floats
    itl: Floats
    startup_s: tuple[float, ...]
    capacities: tuple[float, ...]
    powers: tuple[float | None, ...]
    relaxed: Relaxed | None

    @property
    def reachable(self) -> float:
        """Of the requests within the targets planned for, the largest share that meets those of the spec."""
        return self.relaxed.attainment if self.relaxed is not None else 1.0

    @property
    def fastest_s(self) -> float:
        """Expected start-up time of the fastest usable tier, s; 0 if none is usable."""
        return min([s for s, usable in zip(self.startup_s, self.usable, strict=True) if usable], default=0.0)

    def goods_of(self, replicas: int) -> Floats:
        """`goods` in a fleet of this size; shape (tiers, points)."""
        table: Floats = self.goods[max(0, bisect_right(POOLS, replicas) - 1)]
        return table

    def usd_per_hour(self, fleet: Fleet) -> float:
        """Price of a fleet, $/h."""
        return sum([n * p for n, p in zip(fleet, self.each_usd, strict=True)])

    def cost(self, fleet: Fleet) -> float:
        """Cost for comparisons, $/h: the price, with `FREE_USD` for each accelerator without one."""
        return sum([n * c for n, c in zip(fleet, self.each_cost, strict=True)])


def build(
    spec: DeploymentSpec, estimates: Mapping[str, TierEstimate], accelerators: Mapping[str, Accelerator]
) -> FleetModel:
    """Tables for the tiers of a spec."""
    of = [estimates.get(t.name) for t in spec.tiers]
    classes = [accelerators.get(t.accelerator) for t in spec.tiers]
    planned = [e is not None and c is not None for e, c in zip(of, classes, strict=True)]
    good = [spec.quality.allows(t.quality) for t in spec.tiers]
    gpus = [t.accelerators_per_replica for t in spec.tiers]
    prices = [c.price_usd_per_hour * n if c is not None else 0.0 for c, n in zip(classes, gpus, strict=True)]
    costs = [price or FREE_USD * n for price, n in zip(prices, gpus, strict=True)]
    rates, goods, ttft, itl = _tables(of, spec.slo.attainment)
    return FleetModel(
        tiers=spec.tiers,
        names=tuple([t.name for t in spec.tiers]),
        classes=tuple([t.accelerator for t in spec.tiers]),
        known=tuple([p or not g for p, g in zip(planned, good, strict=True)]),
        usable=tuple([p and g for p, g in zip(planned, good, strict=True)]),
        prices=np.array(prices),
        each_usd=tuple(prices),
        costs=np.array(costs),
        each_cost=tuple(costs),
        gpus=np.array(gpus),
        each_gpus=tuple(gpus),
        qualities=np.array([t.quality for t in spec.tiers]),
        rates=rates,
        goods=goods,
        ttft=ttft,
        itl=itl,
        startup_s=tuple([e.startup_s if e else 0.0 for e in of]),
        capacities=tuple([e.capacity_rps if e else 0.0 for e in of]),
        powers=tuple([e.power_w if e else None for e in of]),
        relaxed=next((e.relaxed for e in of if e is not None), None),
    )


def _tables(estimates: Sequence[TierEstimate | None], target: float) -> tuple[Floats, Floats, Floats, Floats]:
    """`rates`, `goods`, `ttft` and `itl` of a model; zeros for a tier without an estimate."""
    curves = [_columns(e.curve) if e is not None else None for e in estimates]
    grid = _grid([c for c in curves if c is not None])
    shape = (len(estimates), len(grid))
    rates, ttft, itl = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    goods = np.zeros((len(POOLS), *shape))
    for i, (estimate, curve) in enumerate(zip(estimates, curves, strict=True)):
        if estimate is not None and curve is not None:
            margin = _margin(curve, estimate.capacity_rps, target)
            rates[i], goods[:, i], ttft[i], itl[i] = _rows(curve, grid, margin, estimate.pooling)
    return rates, goods, ttft, itl


def _columns(curve: ServiceCurve) -> Floats:
    """N, rate, attainment and percentiles of TTFT and ITL at each point; shape (5, points)."""
    points = [(p.running, p.rate_rps, p.attainment, p.ttft_s_p95, p.itl_s_p95) for p in curve.points]
    return np.array(points).T.copy()


def _grid(curves: list[Floats]) -> Floats:
    """All N at which a curve of some tier has a point, and N just above each end, where that tier becomes unstable."""
    points = {n for c in curves for n in c[0].tolist() if n > 0}
    points |= {float(c[0, -1]) * (1 + 1e-6) for c in curves}
    return np.array(sorted(points) or [1.0])


def _margin(curve: Floats, capacity_rps: float, target: float) -> float:
    """
    The estimate's confidence margin as a factor on rates, in [`MARGIN_MIN`, 1].

    The capacity includes the margin and the curve does not; their ratio at the target is applied to the whole curve.
    """
    _, rates, shares, *_ = curve
    if capacity_rps <= 0 or shares[0] < target:
        return 1.0
    at_target = float(np.interp(-target, -shares, rates)) if shares[-1] < target else float(rates[-1])
    return min(1.0, max(MARGIN_MIN, capacity_rps / at_target)) if at_target > 0 else 1.0


def _rows(
    curve: Floats, grid: Floats, margin: float, pooling: tuple[float, ...]
) -> tuple[Floats, Floats, Floats, Floats]:
    running, *_, ttft, itl = curve
    at, rate = np.concatenate(([0.0], running)), np.concatenate(([0.0], curve[1])) * margin
    share = np.concatenate((curve[2, :1], curve[2]))
    rates = np.interp(grid, at, rate)
    stable = grid <= at[-1]
    # In a fleet, a replica has the attainment at a rate that a single replica has at a rate lower by the gain.
    good = {gain: rates * np.interp(rates / gain, rate, share) * stable for gain in set(pooling)}
    goods = np.array([good[gain] for gain in pooling])
    return rates, goods, np.interp(grid, running, ttft), np.interp(grid, running, itl)


def _attained(rates: Floats, goods: Floats) -> Floats:
    """Attainment at each N, made non-increasing; shape as given, N along the last axis."""
    share = np.divide(goods, rates, out=np.zeros_like(goods), where=rates > 0)
    return np.maximum.accumulate(share[..., ::-1], axis=-1)[..., ::-1]


def expected_attainment(model: FleetModel, fleets: Ints, demand: Scenarios) -> Floats:
    """
    Share of expected requests within both targets, for many fleets.

    Args:
        fleets: Replicas; shape (fleets, tiers).
        demand: Expected demand.

    Returns:
        Shape (fleets,), in [0, 1]; 1 without demand.
    """
    rates, goods = fleets @ model.rates, np.empty((len(fleets), model.rates.shape[1]))
    pools = np.maximum(np.searchsorted(POOLS, fleets.sum(axis=1), side="right") - 1, 0)
    for pool in set(pools.tolist()):
        rows = pools == pool
        goods[rows] = fleets[rows] @ model.goods[pool]
    return _expected(rates, _attained(rates, goods), demand)


def _expected(rates: Floats, shares: Floats, demand: Scenarios) -> Floats:
    """Expected attainment, computed for all scenarios and for blocks of fleets that fit into the processor's cache."""
    asked, parts = np.array(demand.rates_rps), np.array(demand.shares)
    block = max(1, BLOCK // (rates.shape[1] * len(asked)))
    if len(rates) <= block:
        return _attained_at(rates, shares, asked, parts)
    starts = range(0, len(rates), block)
    return np.concatenate([_attained_at(rates[i : i + block], shares[i : i + block], asked, parts) for i in starts])


def _attained_at(rates: Floats, shares: Floats, asked: Floats, parts: Floats) -> Floats:
    """Share of requests within both targets; `rates`, `shares`: (fleets, points); `asked`, `parts`: (scenarios,)."""
    rows, last = np.arange(len(rates))[:, None], rates.shape[1] - 1
    most = rates[:, -1:]
    right = np.minimum((rates[:, None, :] < asked[:, None]).sum(axis=2), last)
    left = np.maximum(right - 1, 0)
    low, high = rates[rows, left], rates[rows, right]
    rising = high > low
    step = np.where(rising, (asked - low) / np.where(rising, high - low, 1.0), 1.0)
    before = shares[rows, left]
    value = before + (shares[rows, right] - before) * np.minimum(np.maximum(step, 0.0), 1.0)
    least = _least(most, np.maximum(asked, RATE_DUST))
    value = np.where(most < asked, least, np.maximum(value, least))
    reached: Floats = (np.where(asked > RATE_DUST, value, 1.0) * parts).sum(axis=1)
    return reached


def _least(most_rps: Number, rate_rps: Number) -> Number:
    """Attainment in overload, from 0 to `OVERLOAD_ATTAINMENT`: always higher for a larger fleet."""
    return OVERLOAD_ATTAINMENT * most_rps / (most_rps + rate_rps)


def mean_quality(model: FleetModel, fleets: Ints, rate_rps: float) -> Floats:
    """Traffic-weighted mean quality of many fleets at one rate; shape (fleets,); 1 for a fleet of none."""
    rates = fleets @ model.rates
    weighted = fleets @ (model.rates * model.qualities[:, None])
    quality = np.divide(weighted, rates, out=np.ones_like(rates), where=rates > 0)
    last = rates.shape[1] - 1
    right = np.minimum((rates < rate_rps).sum(axis=1), last)
    found: Floats = quality[np.arange(len(rates)), right]
    return found


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """Requests/s of one fleet and the share within both targets as plain lists over N; fast enough for every tick."""

    rates: list[float]
    shares: list[float]

    def attainment(self, demand: Scenarios) -> float:
        """`expected_attainment` of this fleet."""
        rates, shares, total = self.rates, self.shares, 0.0
        last = len(rates)
        for rate, part in zip(demand.rates_rps, demand.shares, strict=True):
            right = bisect_left(rates, rate)
            if rate <= RATE_DUST:
                total += part
                continue
            share = 0.0
            if right == 0:
                share = shares[0]
            elif right < last:
                low, before = rates[right - 1], shares[right - 1]
                share = before + (shares[right] - before) * (rate - low) / (rates[right] - low)
            total += part * (share if share > OVERLOAD_ATTAINMENT else max(share, _least(rates[-1], rate)))
        return total

    def is_beyond(self, rate_rps: float) -> bool:
        """Whether the rate exceeds what the fleet can serve, so that the queue and TTFT grow without bound."""
        return rate_rps > self.rates[-1] + RATE_DUST


@dataclass(frozen=True, slots=True, eq=False)
class Profile(Curve):
    """The curve of one fleet with its latency and quality, tiers weighted by traffic."""

    ttft: list[float]
    itl: list[float]
    quality: list[float]

    def latency(self, rate_rps: float) -> tuple[float, float, float]:
        """
        95th percentiles of TTFT and ITL, s, and mean quality at a rate; beyond the end of the curve those at its end.

        The percentiles are traffic-weighted means over the tiers: not exactly those of the mix, but close enough to
        report.
        """
        right = min(bisect_left(self.rates, rate_rps), len(self.rates) - 1)
        if right == 0 or self.rates[right] <= self.rates[right - 1]:
            return self.ttft[right], self.itl[right], self.quality[right]
        low = self.rates[right - 1]
        step = min(1.0, (rate_rps - low) / (self.rates[right] - low))
        return _blend(self.ttft, right, step), _blend(self.itl, right, step), _blend(self.quality, right, step)


def _blend(values: list[float], right: int, step: float) -> float:
    return values[right - 1] + (values[right] - values[right - 1]) * step


def curve(model: FleetModel, fleet: Fleet) -> Curve:
    """The curve of one fleet."""
    rates, shares = _curve(model, fleet, np.array(fleet)[:, None] * model.rates)
    return Curve(rates.tolist(), shares.tolist())


def profile(model: FleetModel, fleet: Fleet) -> Profile:
    """The curve of one fleet with its latency and quality."""
    by_tier = np.array(fleet)[:, None] * model.rates
    rates, shares = _curve(model, fleet, by_tier)
    parts = np.divide(by_tier, rates, out=np.zeros_like(by_tier), where=rates > 0)
    return Profile(
        rates.tolist(),
        shares.tolist(),
        (parts * model.ttft).sum(axis=0).tolist(),
        (parts * model.itl).sum(axis=0).tolist(),
        (model.qualities @ parts).tolist(),
    )


def _curve(model: FleetModel, fleet: Fleet, by_tier: Floats) -> tuple[Floats, Floats]:
    """Requests/s of one fleet and the share within both targets, given the rates by tier; each of shape (points,)."""
    rates = by_tier.sum(axis=0)
    return rates, _attained(rates, np.array(fleet) @ model.goods_of(sum(fleet)))


def adds_to(fleet: Fleet, before: Fleet) -> bool:
    """Whether a fleet has more replicas than another one in some tier."""
    return any(n > had for n, had in zip(fleet, before, strict=True))


def with_more(fleet: Fleet, tier: int, more: int = 1) -> Fleet:
    """The fleet with more replicas of one tier, or with fewer if `more` is below 0."""
    return (*fleet[:tier], fleet[tier] + more, *fleet[tier + 1 :])
