"""
Pods, accelerators and their cost.

In:    pools, faults, time.
Out:   the stages of a pod (pending, starting, ready, draining, gone), the capacity and price of accelerators at a time,
       what a pod costs, and the order of removal.
Rules: the only randomness comes from the generator that is passed in.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from itertools import pairwise

import numpy as np

from tidegate.sim.scenario import Fault, Pool, Startup, Trouble
from tidegate.units import SECONDS_PER_HOUR


class Life(Enum):
    """Stages of a pod. A pod that is gone is kept for billing only."""

    PENDING = auto()
    STARTING = auto()
    READY = auto()
    DRAINING = auto()
    GONE = auto()


HOLDING = (Life.STARTING, Life.READY, Life.DRAINING)


@dataclass(slots=True, kw_only=True)
class Pod:
    """
    One replica's pod.

    Args:
        service, tier: Indices of its deployment, and of its tier among the tiers of all deployments.
        accelerator, accelerators: Class and number of accelerators that it occupies once it is placed.
        created_s: When it was created.
        placed_s: When it was bound to its accelerators.
        ready_s: When it becomes ready.
        deadline_s: When it is killed if it is still draining.
        gone_s: When it ended.
        slot: Its slot in the engine; -1: none yet.
    """

    number: int
    service: int
    tier: int
    accelerator: str
    accelerators: int
    created_s: float
    life: Life = Life.PENDING
    placed_s: float = float("inf")
    ready_s: float = float("inf")
    deadline_s: float = float("inf")
    gone_s: float = float("inf")
    slot: int = -1


@dataclass(slots=True, kw_only=True)
class Market:
    """Capacity and price of accelerators over time, including faults."""

    pools: Mapping[str, Pool]
    faults: tuple[Fault, ...]

    def price_usd(self, name: str, time_s: float) -> float:
        """Price of one accelerator at a time, $/h."""
        changed = [f.amount for f in self._of(Trouble.PRICE_CHANGE, name) if f.active(time_s)]
        return changed[-1] if changed else self.pools[name].accelerator.price_usd_per_hour

    def capacity(self, name: str, time_s: float) -> int | None:
        """Accelerators that exist at a time; None: unlimited."""
        whole = self.pools[name].accelerator.capacity
        if whole is None:
            return None
        lost = sum(int(f.amount) for f in self.losses(name) if f.active(time_s))
        return max(0, whole - lost)

    def losses(self, name: str) -> list[Fault]:
        """Faults that take nodes of a class away."""
        return [*self._of(Trouble.LOST_NODES, name), *self._of(Trouble.SPOT_RECLAIM, name)]

    def bill_usd(self, pod: Pod, *, start_s: float, end_s: float) -> float:
        """Cost of a pod between two times, $; it counts from when it is bound to its accelerators until it is gone."""
        low, high = max(pod.placed_s, start_s), min(pod.gone_s, end_s)
        if high <= low:
            return 0.0
        edges = {low, high}
        for fault in self._of(Trouble.PRICE_CHANGE, pod.accelerator):
            edges |= {e for e in (fault.start_s, fault.end_s) if low < e < high}
        steps = sorted(edges)
        spans = pairwise(steps)
        return sum(self.price_usd(pod.accelerator, a) * (b - a) for a, b in spans) * pod.accelerators / SECONDS_PER_HOUR

    def _of(self, trouble: Trouble, name: str) -> list[Fault]:
        return [f for f in self.faults if f.trouble is trouble and f.hits(name)]


def startup_s(startup: Startup, *, factor: float, rng: np.random.Generator) -> float:
    """A random start-up time, s."""
    return float(startup.median_s * factor * np.exp(rng.normal(0.0, startup.spread)))


def held(pods: Iterable[Pod], accelerator: str) -> int:
    """Accelerators of a class that pods occupy."""
    return sum(p.accelerators for p in pods if p.accelerator == accelerator and p.life in HOLDING)


def first_to_go(pods: list[Pod], load: Mapping[int, int]) -> list[Pod]:
    """
    Pods in the order in which a ReplicaSet removes them: pending, starting, then ready; the youngest first in each.

    Among pods of the same age, the one with the fewest requests goes first.
    """
    rank = {Life.PENDING: 0, Life.STARTING: 1, Life.READY: 2}
    return sorted(pods, key=lambda p: (rank[p.life], -p.created_s, load.get(p.number, 0), -p.number))
