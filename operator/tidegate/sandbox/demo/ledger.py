"""
Cost of the fleet: an accelerator costs from when a pod is bound to it until the pod is gone.

In:    pods as they change, prices by tier, time.
Out:   dollars and accelerator hours so far, current dollars per hour, the most expensive fleet so far.
Rules: starting and terminating replicas cost as much as ready ones; a pending pod costs nothing.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf

from tidegate.units import SECONDS_PER_HOUR


@dataclass(slots=True)
class Ledger:
    """
    Cost account of one deployment.

    Args:
        price: Returns dollars per hour of one replica of a tier.
        gpus: Returns accelerators of one replica of a tier.
        usd, gpu_hours: Totals so far.
        peak: The most expensive fleet so far, replicas by tier.
    """

    price: Callable[[str], float]
    gpus: Callable[[str], int]
    usd: float = 0.0
    gpu_hours: float = 0.0
    peak: Counter[str] = field(default_factory=Counter)
    _bound: dict[str, str] = field(default_factory=dict)  # pod uid -> tier
    _since_s: float | None = None
    _until_s: float = inf

    def open(self, now_s: float, *, until_s: float = inf) -> None:
        """Start to count at `now_s`, including pods that are already bound, and stop at `until_s`."""
        self._since_s, self._until_s = now_s, until_s
        self.peak = self.replicas

    def bound(self, uid: str, tier: str, now_s: float) -> None:
        """A pod was bound to its accelerators."""
        self.pass_time(now_s)
        self._bound[uid] = tier
        if now_s < self._until_s and self.usd_per_hour > self._cost(self.peak):
            self.peak = self.replicas

    def gone(self, uid: str, now_s: float) -> None:
        """A pod has released its accelerators."""
        self.pass_time(now_s)
        self._bound.pop(uid, None)

    def pass_time(self, now_s: float) -> None:
        """Count up to that time."""
        if self._since_s is None:
            return
        now_s = min(now_s, self._until_s)
        hours = (now_s - self._since_s) / SECONDS_PER_HOUR
        self.usd += hours * self.usd_per_hour
        self.gpu_hours += hours * sum(self.gpus(tier) for tier in self._bound.values())
        self._since_s = now_s

    @property
    def replicas(self) -> Counter[str]:
        """Replicas that currently hold accelerators, by tier."""
        return Counter(self._bound.values())

    @property
    def usd_per_hour(self) -> float:
        """Current dollars per hour."""
        return self._cost(self.replicas)

    def _cost(self, replicas: Counter[str]) -> float:
        return sum(count * self.price(tier) for tier, count in replicas.items())
