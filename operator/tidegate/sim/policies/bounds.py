"""
Two bounds: a policy that knows the future, and a fleet without whole numbers.

`clairvoyant` goes through the same actuators and delays as everybody: it knows the demand to come, what each replica
truly carries, and the mean start-up time. With a deterministic lead L the cheapest fleet that serves n(t) is
max(n(u) for u in [t, t + L]): a replica that is needed again within L costs less kept than started anew.
`fluid` divides demand by what no replica can exceed and pays for fractions; nothing can cost less.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import product
from math import ceil, inf

import numpy as np
from numpy.typing import NDArray

from tidegate.domain.key import Key
from tidegate.sim.capacity import fluid_rps, knee_rps
from tidegate.sim.policies.base import Choice, TierKey, View, others_at_zero
from tidegate.sim.scenario import Scenario, Service
from tidegate.units import SECONDS_PER_HOUR

# Demand is seen in windows of this length: shorter ones follow chance, longer ones miss bursts.
WINDOW_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What a clairvoyant knows of a deployment: knees (requests/s) and prices ($/h) by tier, demand per window."""

    service: Service
    knees_rps: Mapping[str, float]
    prices_usd: Mapping[str, float]
    demand_rps: NDArray[np.float64]

    @property
    def cheapest(self) -> list[str]:
        """Usable tiers by $ per request, cheapest first; those below the quality floor left out."""
        floor = self.service.spec.quality.minimum
        usable = [t.name for t in self.service.spec.tiers if t.quality >= floor and self.knees_rps[t.name] > 0]
        return sorted(usable, key=lambda n: self.prices_usd[n] / self.knees_rps[n])


def know(scenario: Scenario, service: Service) -> Known:
    """Find out by running replicas what nobody tells the policies."""
    trace, spec = service.traffic, service.spec
    edges = np.arange(0.0, scenario.duration_s + WINDOW_S, WINDOW_S)
    counts, _ = np.histogram(trace.arrival_s, edges)
    return Known(
        service=service,
        knees_rps={t.name: knee_rps(service.truths[t.name].server, trace, spec.slo) for t in spec.tiers},
        prices_usd={t.name: _price(scenario, service, t.name) for t in spec.tiers},
        demand_rps=counts / WINDOW_S,
    )


def _price(scenario: Scenario, service: Service, name: str) -> float:
    tier = service.spec.tier(name)
    return scenario.pools[tier.accelerator].accelerator.price_usd_per_hour * tier.accelerators_per_replica


class Clairvoyant:
    """
    Knows the future and the truth; acts like everybody else.

    Simplifications: one fixed set of tiers for the run (the caller tries several and keeps the best); demand in
    windows of 30 s; start-up by its median and two spreads; faults are not foreseen.

    Args:
        known: One per deployment.
        tiers: Tiers it may mix, by deployment.
        load: Share of the knee that one replica is given, the knob the caller tunes in hindsight.
    """

    def __init__(self, known: Mapping[Key, Known], *, tiers: Mapping[Key, tuple[str, ...]], load: float) -> None:
        self.name = "clairvoyant"
        self._plans = {k: self._plan(v, tiers[k], load) for k, v in known.items()}

    def decide(self, view: View) -> Choice:
        """The fleet that the next start-up time needs."""
        wish: dict[TierKey, int] = {}
        for key, plan in self._plans.items():
            for name, (needs, lead_s) in plan.items():
                first = int(view.time_s // WINDOW_S)
                last = int((view.time_s + lead_s) // WINDOW_S) + 1
                ahead = needs[first : last + 1]
                wish[key, name] = int(ahead.max()) if len(ahead) else int(needs[-1])
        return Choice(replicas=others_at_zero(view, list(wish), wish))

    def _plan(self, known: Known, tiers: tuple[str, ...], load: float) -> dict[str, tuple[NDArray[np.int64], float]]:
        mix = cheapest_mix(known, tiers, load)
        fleets = [mix(float(d)) for d in known.demand_rps]
        plan = {}
        for i, name in enumerate(tiers):
            startup = known.service.truths[name].startup
            lead_s = startup.median_s * float(np.exp(2 * startup.spread)) + 2 * WINDOW_S / 2
            plan[name] = (np.array([f[i] for f in fleets], dtype=np.int64), lead_s)
        return plan


def cheapest_mix(known: Known, tiers: tuple[str, ...], load: float):  # type: ignore[no-untyped-def]
    """Function from demand to the cheapest whole fleet that carries it inside bounds, budget and mean quality."""
    spec = known.service.spec
    rates = [known.knees_rps[n] * load for n in tiers]
    prices = [known.prices_usd[n] for n in tiers]
    quality = [spec.tier(n).quality for n in tiers]
    most = [min(spec.tier(n).replicas_max, spec.replicas_max) for n in tiers]
    budget = spec.cost.budget_usd_per_hour or inf

    @cache
    def mix(demand: float) -> tuple[int, ...]:
        best, best_key = tuple(most), (True, inf)
        ranges = [range(min(m, ceil(demand / r) if r > 0 else 0) + 1) for m, r in zip(most, rates, strict=True)]
        for fleet in product(*ranges):
            cost = sum(n * p for n, p in zip(fleet, prices, strict=True))
            total = sum(fleet)
            if not (spec.replicas_min if not spec.scale_to_zero else 0) <= total <= spec.replicas_max or cost > budget:
                continue
            served = sum(n * r for n, r in zip(fleet, rates, strict=True))
            mean = sum(n * r * q for n, r, q in zip(fleet, rates, quality, strict=True)) / served if served else 1.0
            short = max(0.0, demand - served)
            poor = mean < spec.quality.average_minimum - 1e-9
            key = (poor, short * 1e6 + cost)
            if key < best_key:
                best, best_key = fleet, key
        return best

    return mix


def fluid_usd(scenario: Scenario, service: Service) -> float:
    """Money that no fleet can undercut: demand over the fluid rate of the cheapest allowed tier, fractions paid."""
    rates = {
        t.name: fluid_rps(service.truths[t.name].server, service.traffic, service.spec.slo) for t in service.spec.tiers
    }
    allowed = [t.name for t in service.spec.tiers if t.quality >= service.spec.quality.minimum and rates[t.name] > 0]
    if not allowed:
        return 0.0
    each = min(_price(scenario, service, n) / rates[n] for n in allowed)
    count = int(np.searchsorted(service.traffic.arrival_s, scenario.duration_s))
    return count * each * service.spec.slo.attainment / SECONDS_PER_HOUR
