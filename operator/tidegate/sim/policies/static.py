"""
A fixed fleet, as a team without an autoscaler runs it.

It is given the busiest minute and the true capacity of each tier in advance. The cheapest mix of tiers for that minute
and each tier alone are tried, and the best one counts. (A mix may carry less than the sum of its replicas, because the
router loads all replicas alike.)
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
# Values of the knob: share of the busiest minute's rate for which the fleet is sized.
SHARES = (0.6, 0.7, 0.8, 0.9, 1.15, 1.3)


class Static:
    """Constant replica counts, moved within the bounds in force (assumed to be done by a cron job of the user)."""

    def __init__(self, replicas: Mapping[TierKey, int], *, name: str = "static") -> None:
        self.name, self._replicas = name, dict(replicas)

    def decide(self, view: View) -> Choice:
        """The fixed replicas; other tiers go to their minimum once these are ready."""
        wish: dict[TierKey, int] = {}
        for key in dict.fromkeys(key for key, _ in self._replicas):
            mine = {name: count for (owner, name), count in self._replicas.items() if owner == key}
            limits = view.limits(key)
            kept = inside(limits, mine, order=list(mine), least=limits.low)
            wish |= {(key, name): count for name, count in kept.items()}
        return Choice(replicas=others_at_minimum(view, list(self._replicas), wish))


def fixed(scenario: Scenario, known: Mapping[Key, Known], *, tuned: bool) -> Iterator[Callable[[], Static]]:
    """Constructors of the fixed fleets for the busiest minute; with `tuned` also for shares of it."""
    for share in (1.0, *(SHARES if tuned else ())):
        seen: list[dict[TierKey, int]] = []
        for pick in range(1 + max(len(k.cheapest) for k in known.values())):
            fleet = _fleet(scenario, known, share, pick)
            if fleet not in seen:
                seen.append(fleet)
                name = "static" if share == 1.0 else f"static* peak={share:g}"
                yield partial(Static, fleet, name=name)


def _fleet(scenario: Scenario, known: Mapping[Key, Known], share: float, pick: int) -> dict[TierKey, int]:
    """The cheapest mix (pick 0), or the cheapest (1), second cheapest (2) ... tier alone."""
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
