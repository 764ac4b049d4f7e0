"""
Pods and accelerators: what Kubernetes does between a wish for replicas and a server that is ready.

In:    wanted replicas per tier, time, faults.
Out:   pods with a life: pending (no accelerator), starting, ready, draining, gone; and their bill.
Rules: all chance comes from one seeded generator.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from itertools import pairwise

import numpy as np

from tidegate.sim.scenario import Fault, Pool, Startup, Trouble
from tidegate.units import SECONDS_PER_HOUR


class Life(Enum):
    """Stages of a pod; a pod that is gone is only kept for the bill."""

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
        service, tier: Indices of its deployment, and of its tier over all deployments.
        accelerator, accelerators: What it occupies once it has a node.
        created_s: When it was asked for. placed_s: when it got its accelerators. ready_s: when it serves.
        deadline_s: When a draining one is killed. gone_s: when it left.
        slot: Replica in the engine, -1 without.
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
    """Capacity and price of accelerators over time, with the faults that change them."""

    pools: Mapping[str, Pool]
    faults: tuple[Fault, ...]

    def price_usd(self, name: str, time_s: float) -> float:
        """Price of one accelerator at a time, $/h."""
        changed = [f.amount for f in self._of(Trouble.PRICE_CHANGE, name) if f.active(time_s)]
        return changed[-1] if changed else self.pools[name].accelerator.price_usd_per_hour

    def capacity(self, name: str, time_s: float) -> int | None:
        """Accelerators that are there at a time; None: unlimited."""
        whole = self.pools[name].accelerator.capacity
        if whole is None:
            return None
        lost = sum(int(f.amount) for f in self.losses(name) if f.active(time_s))
        return max(0, whole - lost)

    def losses(self, name: str) -> list[Fault]:
        """Faults that take nodes of a class away."""
        return [*self._of(Trouble.LOST_NODES, name), *self._of(Trouble.SPOT_RECLAIM, name)]

    def bill_usd(self, pod: Pod, *, start_s: float, end_s: float) -> float:
        """What a pod costs between two times, from getting its accelerators to its end."""
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


def startup_s(startup: Startup, *, factor: float, dice: np.random.Generator) -> float:
    """One draw of a start-up time, s."""
    return float(startup.median_s * factor * np.exp(dice.normal(0.0, startup.spread)))


def held(pods: Iterable[Pod], accelerator: str) -> int:
    """Accelerators of a class that pods occupy."""
    return sum(p.accelerators for p in pods if p.accelerator == accelerator and p.life in HOLDING)


def first_to_go(pods: list[Pod], load: Mapping[int, int]) -> list[Pod]:
    """
    Pods in the order Kubernetes' ReplicaSet removes them: without a node, not ready, then the youngest ready.

    Among ready pods of the same age the one with fewest requests goes first.
    """
    rank = {Life.PENDING: 0, Life.STARTING: 1, Life.READY: 2}
    return sorted(pods, key=lambda p: (rank[p.life], -p.created_s, load.get(p.number, 0), -p.number))
