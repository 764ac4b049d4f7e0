"""
The interface of a policy: what it sees, and what it decides.

A policy is called once per tick (15 s). If a rival's own loop is faster or slower, its docstring says what that
changes. Most rivals scale one tier and know no others; the tier is part of the name: `slo-keda@fp8`.
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from tidegate.domain.key import Key
from tidegate.domain.observation import FleetObservation, Missing, TierReading, TierState
from tidegate.domain.spec import DeploymentSpec, FleetPolicy
from tidegate.sim.limits import Limits, in_force
from tidegate.sim.metrics import NO_ANSWER, Gauges
from tidegate.sim.scenario import Scenario

TierKey = tuple[Key, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """
    The state of a tick as a policy sees it.

    Args:
        time_s: Seconds since the start of the run.
        observation: What Prometheus and the API server report.
        policy: The users' specs, with the current prices and capacities.
        wanted: Requested replicas by tier.
        gauges: Returns the gauges of each ready pod of a tier, for rules that look at pods.
        history: Demand before the run, as Prometheus has it: (unix s, requests/s), ascending. Only at the first tick.
    """

    time_s: float
    observation: FleetObservation
    policy: FleetPolicy
    wanted: Mapping[TierKey, int]
    gauges: Callable[[TierKey], list[Gauges]]
    history: Mapping[Key, Sequence[tuple[float, float]]] = field(default_factory=dict)

    def state(self, tier: TierKey) -> TierState:
        """Replicas and reading of one tier."""
        return self.observation.deployments[tier[0]].tiers[tier[1]]

    def reading(self, tier: TierKey) -> TierReading | None:
        """Metrics of one tier; None if they are missing."""
        reading = self.state(tier).reading
        return None if isinstance(reading, Missing) else reading

    def answered(self, tier: TierKey) -> bool:
        """Whether Prometheus answered at all; an empty answer counts, a refused connection does not."""
        reading = self.state(tier).reading
        return not (isinstance(reading, Missing) and reading.reason == NO_ANSWER)

    def spec(self, tier: TierKey) -> DeploymentSpec:
        """Deployment that a tier belongs to."""
        return self.policy.deployments[tier[0]]

    def limits(self, key: Key) -> Limits:
        """Bounds of a deployment that are in force now."""
        return in_force(self.policy.deployments[key], self.observation.time_s)

    def queued(self, key: Key) -> float:
        """Requests waiting at the gateway; 0 if there is no gateway."""
        gateway = self.observation.deployments[key].gateway
        return 0.0 if gateway is None else gateway.queued


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A decision: replicas by tier (others keep theirs), and the reason by deployment."""

    replicas: Mapping[TierKey, int]
    reasons: Mapping[Key, str] = field(default_factory=dict)


class Policy(Protocol):
    """A scaling policy."""

    name: str

    def decide(self, view: View) -> Choice:
        """Decide the replicas."""
        ...


def bounds(view: View, tier: TierKey) -> tuple[int, int]:
    """
    Minimum and maximum of the tier that a rival scales: the tier's own, and the deployment's less the other tiers'
    minima.

    Rivals know no schedules: their users are assumed to patch these bounds into the autoscaler with a cron job.
    """
    limits = view.limits(tier[0])
    others = sum(low for name, (low, _) in limits.tiers.items() if name != tier[1])
    low, high = limits.tiers[tier[1]]
    high = max(0, min(high, limits.high - others))
    return min(high, max(low, limits.idle - others)), high


def held(view: View, tier: TierKey, count: int) -> int:
    """A count moved within the bounds of the tier that a rival scales."""
    low, high = bounds(view, tier)
    return max(low, min(high, count))


def mean_of_last(seen: deque[tuple[float, float]], view: View, value: float, *, window_s: float) -> float:
    """Mean of a value over the last `window_s`, including the current one; `seen` stores (time, value)."""
    seen.append((view.time_s, value))
    while seen[0][0] <= view.time_s - window_s:
        seen.popleft()
    return sum(each for _, each in seen) / len(seen)


def chosen_tiers(scenario: Scenario, name: str) -> list[TierKey]:
    """The tier of that name in each deployment; its first tier if a deployment has none of that name."""
    picked = []
    for service in scenario.services:
        names = [t.name for t in service.spec.tiers]
        picked.append((service.spec.key, name if name in names else names[0]))
    return picked


def others_at_minimum(view: View, tiers: list[TierKey], replicas: Mapping[TierKey, int]) -> dict[TierKey, int]:
    """
    A rival's decision for all tiers: its own as decided, the others at their minimum (usually 0) once its own are
    ready.

    Make before break: a run may start with replicas of tiers that the policy does not use.
    """
    wish = dict(replicas)
    for key in view.policy.deployments:
        own = [t for t in tiers if t[0] == key]
        up = sum(view.state(t).ready for t in own) >= min(1, sum(replicas.get(t, 0) for t in own))
        whole = all(view.state(t).ready >= replicas.get(t, 0) for t in own)
        others = {(key, n): low for n, (low, _) in view.limits(key).tiers.items() if own and (key, n) not in own}
        wish |= {t: low for t, low in others.items() if (up and whole) or view.wanted[t] < low}
    return wish


class OneTier(ABC):
    """A rival that scales one tier of each deployment by its rule and keeps the others at their minimum."""

    name: str
    _tiers: list[TierKey]

    def decide(self, view: View) -> Choice:
        """Apply the rule to each deployment, within the bounds."""
        wish = {tier: held(view, tier, self._one(view, tier)) for tier in self._tiers}
        return Choice(replicas=others_at_minimum(view, self._tiers, wish))

    @abstractmethod
    def _one(self, view: View, tier: TierKey) -> int:
        """Replicas to set for the tier."""
