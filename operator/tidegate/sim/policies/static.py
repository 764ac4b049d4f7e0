"""
A fixed fleet: what a team runs that has no autoscaler.

It is sized for the busiest minute, which it is told, as is what a replica truly carries: the cheapest mix of tiers
and each tier alone, the best of which stands (a mix can be worse than its sum: the router loads replicas alike).
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial

import numpy as np

from tidegate.domain.key import Key
from tidegate.sim.limits import inside
from tidegate.sim.policies.base import Choice, TierKey, View, others_at_minimum
from tidegate.sim.policies.bounds import Known, cheapest_mix
from tidegate.sim.scenario import Scenario

PEAK_S = 60.0
# Share of the busiest minute that hindsight may size it for.
SHARES = (0.6, 0.7, 0.8, 0.9, 1.15, 1.3)


class Static:
    """Always the same replicas, as far as the bounds in force allow: somebody's cron job moves it where they change."""

    def __init__(self, replicas: Mapping[TierKey, int], *, name: str = "static") -> None:
        self.name, self._replicas = name, dict(replicas)

    def decide(self, view: View) -> Choice:
        """The same again; tiers it does not name go once its own are ready."""
        wish: dict[TierKey, int] = {}
        for key in dict.fromkeys(key for key, _ in self._replicas):
            mine = {name: count for (owner, name), count in self._replicas.items() if owner == key}
            limits = view.limits(key)
            kept = inside(limits, mine, order=list(mine), least=limits.low)
            wish |= {(key, name): count for name, count in kept.items()}
        return Choice(replicas=others_at_minimum(view, list(self._replicas), wish))


def fixed(scenario: Scenario, known: Mapping[Key, Known], *, tuned: bool) -> Iterator[Callable[[], Static]]:
    """Makers of the fixed fleets, for the whole busiest minute; with `tuned` for shares of it too."""
    for share in (1.0, *(SHARES if tuned else ())):
        seen: list[dict[TierKey, int]] = []
        for pick in range(1 + max(len(k.cheapest) for k in known.values())):
            fleet = _fleet(scenario, known, share, pick)
            if fleet not in seen:
                seen.append(fleet)
                name = "static" if share == 1.0 else f"static* peak={share:g}"
                yield partial(Static, fleet, name=name)


def _fleet(scenario: Scenario, known: Mapping[Key, Known], share: float, pick: int) -> dict[TierKey, int]:
    """The cheapest mix (pick 0), or the cheapest, second cheapest ... tier alone."""
    wish: dict[TierKey, int] = {}
    edges = np.arange(0, scenario.duration_s + PEAK_S, PEAK_S)
    for key, one in known.items():
        counts = np.histogram(one.service.traffic.arrival_s, edges)[0]
        peak_rps = float(counts.max()) / PEAK_S
        limits = one.limits[min(int(counts.argmax() * PEAK_S // scenario.tick_s), len(one.limits) - 1)]
        names = one.cheapest or [one.service.spec.tiers[0].name]
        alone = [names[min(pick, len(names)) - 1]] if pick else names
        wish |= {(key, name): count for name, count in cheapest_mix(one, peak_rps * share, alone, limits).items()}
    return wish
