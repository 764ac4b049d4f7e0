"""
The true performance that the static fleet and the bounds are given, and the fluid bound.

`fluid` divides the demand by the rate that no replica can exceed, and pays for fractional replicas: a lower bound of
the cost.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import ceil

import numpy as np

from tidegate.sim.capacity import fluid_rps, knee_rps
from tidegate.sim.limits import Limits, in_force
from tidegate.sim.scenario import Scenario, Service
from tidegate.units import SECONDS_PER_HOUR

DUST = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """
    True performance of a deployment, by tier.

    Args:
        knees_rps: Highest rate of a replica at the target attainment, requests/s.
        fluids_rps: Rate that a replica cannot exceed, requests/s.
        prices_usd: Price of a replica at the start, $/h.
        limits: Bounds in force at each tick, from second 0 on.
    """

    service: Service
    knees_rps: Mapping[str, float]
    fluids_rps: Mapping[str, float]
    prices_usd: Mapping[str, float]
    limits: Sequence[Limits]

    @property
    def cheapest(self) -> list[str]:
        """Usable tiers by $ per request, cheapest first, without those below the minimum quality."""
        floor = self.service.spec.quality.minimum
        usable = [t.name for t in self.service.spec.tiers if t.quality >= floor and self.knees_rps[t.name] > 0]
        return sorted(usable, key=self.usd_per_request)

    def usd_per_request(self, name: str) -> float:
        """Cost of a request on a replica at its knee, $."""
        return self.prices_usd[name] / self.knees_rps[name] / SECONDS_PER_HOUR


def know(scenario: Scenario, service: Service) -> Known:
    """Find the true performance by simulation."""
    trace, spec = service.traffic, service.spec
    servers = {t.name: service.truths[t.name].server for t in spec.tiers}
    return Known(
        service=service,
        knees_rps={n: knee_rps(s, trace, spec.slo) for n, s in servers.items()},
        fluids_rps={n: fluid_rps(s, trace, spec.slo) for n, s in servers.items()},
        prices_usd={t.name: _price(scenario, service, t.name) for t in spec.tiers},
        limits=[in_force(spec, scenario.start_s + s) for s in np.arange(0.0, scenario.duration_s, scenario.tick_s)],
    )


def _price(scenario: Scenario, service: Service, name: str) -> float:
    tier = service.spec.tier(name)
    return scenario.pools[tier.accelerator].accelerator.price_usd_per_hour * tier.accelerators_per_replica


def cheapest_mix(known: Known, demand_rps: float, names: Sequence[str], limits: Limits) -> dict[str, int]:
    """
    The cheapest fleet of some tiers that carries a demand within bounds, budget and mean quality.

    The other tiers are at their minimum. If no fleet carries the demand, the one that carries most.
    """
    others = {n: low for n, (low, _) in limits.tiers.items() if n not in names}

    def worth(name: str) -> range:
        (low, high), rate = limits.tiers[name], known.knees_rps[name]
        need = ceil(demand_rps / rate) if rate > 0 else 0
        return range(low, max(low, min(high, max(limits.low, need))) + 1)

    def cost(fleet: Mapping[str, int]) -> tuple[float, float]:
        served = sum(n * known.knees_rps[t] for t, n in fleet.items())
        return max(0.0, demand_rps - served), sum(n * known.prices_usd[t] for t, n in fleet.items())

    choice = [worth(name) for name in names]
    fleets = [dict(zip(names, counts, strict=True)) | others for counts in product(*choice)]
    most = {name: c[-1] if i == 0 else c[0] for i, (name, c) in enumerate(zip(names, choice, strict=True))}
    best = min((f for f in fleets if _kept(known, f, limits)), key=cost, default=most)
    return {name: best[name] for name in names}


def _kept(known: Known, fleet: Mapping[str, int], limits: Limits) -> bool:
    """Whether a fleet keeps bounds, budget and, with each replica at its knee, the mean quality."""
    spec, budget = known.service.spec, known.service.spec.cost.budget_usd_per_hour
    served = sum(n * known.knees_rps[t] for t, n in fleet.items())
    quality = sum(n * known.knees_rps[t] * spec.tier(t).quality for t, n in fleet.items())
    usd = sum(n * known.prices_usd[t] for t, n in fleet.items())
    return (
        limits.low <= sum(fleet.values()) <= limits.high
        and (budget is None or usd <= budget)
        and quality >= (spec.quality.average_minimum - DUST) * served
    )


def fluid_usd(scenario: Scenario, service: Service) -> float:
    """Lower bound of the cost, $: fractional replicas of the cheapest allowed tier at its fluid rate."""
    rates = {
        t.name: fluid_rps(service.truths[t.name].server, service.traffic, service.spec.slo) for t in service.spec.tiers
    }
    allowed = [t.name for t in service.spec.tiers if t.quality >= service.spec.quality.minimum and rates[t.name] > 0]
    if not allowed:
        return 0.0
    each = min(_price(scenario, service, n) / rates[n] for n in allowed)
    count = int(np.searchsorted(service.traffic.arrival_s, scenario.duration_s))
    return count * each * service.spec.slo.attainment / SECONDS_PER_HOUR
