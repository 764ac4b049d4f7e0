"""
What every policy sees, and what it answers.

A policy is called once per tick (15 s). Rivals that run faster or slower loops say in their docstring what that
changes. A rival steers one tier (it knows no others); its name carries it: `slo-keda@fp8`.
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
    One instant as a policy sees it.

    Args:
        time_s: Seconds since the run began.
        observation: What Prometheus and the API server say.
        policy: What users want, with the prices and capacities of now.
        wanted: Replicas asked for and in force, by tier.
        gauges: Per-pod gauges of a tier's ready pods, for rules that look at pods.
        history: Demand before the run as Prometheus remembers it: (unix s, requests/s) by rising time.
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
        """Metrics of one tier; None where there are none."""
        reading = self.state(tier).reading
        return None if isinstance(reading, Missing) else reading

    def answered(self, tier: TierKey) -> bool:
        """Whether Prometheus answered at all: an empty answer is one, a refused connection is none."""
        reading = self.state(tier).reading
        return not (isinstance(reading, Missing) and reading.reason == NO_ANSWER)

    def spec(self, tier: TierKey) -> DeploymentSpec:
        """Deployment that a tier belongs to."""
        return self.policy.deployments[tier[0]]

    def limits(self, key: Key) -> Limits:
        """Bounds of a deployment that are in force now."""
        return in_force(self.policy.deployments[key], self.observation.time_s)

    def queued(self, key: Key) -> float:
        """Requests that wait at the gateway; 0 where there is no gateway."""
        gateway = self.observation.deployments[key].gateway
        return 0.0 if gateway is None else gateway.queued


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Replicas to set by tier (unnamed ones stay), and the sentence for each deployment."""

    replicas: Mapping[TierKey, int]
    reasons: Mapping[Key, str] = field(default_factory=dict)


class Policy(Protocol):
    """A scaling rule in closed loop."""

    name: str

    def decide(self, view: View) -> Choice:
        """What to set now."""
        ...


def bounds(view: View, tier: TierKey) -> tuple[int, int]:
    """
    Fewest and most replicas of a rival's only tier, now: the deployment's bounds less the others' minimum, and its own.

    A rival's autoscaler knows no schedules: the bounds are those that a cron job of its user patches into it.
    """
    limits = view.limits(tier[0])
    others = sum(low for name, (low, _) in limits.tiers.items() if name != tier[1])
    low, high = limits.tiers[tier[1]]
    high = max(0, min(high, limits.high - others))
    return min(high, max(low, limits.idle - others)), high


def held(view: View, tier: TierKey, count: int) -> int:
    """A count inside the bounds of a rival's only tier."""
    low, high = bounds(view, tier)
    return max(low, min(high, count))


def mean_of_last(seen: deque[tuple[float, float]], view: View, value: float, *, window_s: float) -> float:
    """Mean of a value over the last seconds, the one of now included; `seen` keeps (time, value)."""
    seen.append((view.time_s, value))
    while seen[0][0] <= view.time_s - window_s:
        seen.popleft()
    return sum(each for _, each in seen) / len(seen)


def chosen_tiers(scenario: Scenario, name: str) -> list[TierKey]:
    """The tier of that name in every deployment; where a deployment has none of that name, its first tier."""
    picked = []
    for service in scenario.services:
        names = [t.name for t in service.spec.tiers]
        picked.append((service.spec.key, name if name in names else names[0]))
    return picked


def others_at_minimum(view: View, tiers: list[TierKey], replicas: Mapping[TierKey, int]) -> dict[TierKey, int]:
    """
    A rival's wish for every tier: its own as decided; the others go down to their minimum, mostly none, once its own
    are ready to take over.

    Make before break: the fleet a run starts with may be of other tiers than the policy's own.
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
    """A rival that steers one tier of each deployment: its rule for that tier, and the others at their minimum."""

    name: str
    _tiers: list[TierKey]

    def decide(self, view: View) -> Choice:
        """The rule, once for each deployment; whatever it says, the bounds hold."""
        wish = {tier: held(view, tier, self._one(view, tier)) for tier in self._tiers}
        return Choice(replicas=others_at_minimum(view, self._tiers, wish))

    @abstractmethod
    def _one(self, view: View, tier: TierKey) -> int:
        """Replicas to set for the tier."""
