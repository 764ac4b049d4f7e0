"""
What a run is made of: deployments with their traffic and hidden truth, accelerators, faults.

A `Scenario` is a value: the same one with the same seed gives the same run, to the last bit.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from math import prod

from tidegate.domain.key import Key
from tidegate.domain.spec import Accelerator, DeploymentSpec
from tidegate.errors import SpecError
from tidegate.report.currency import currency_of
from tidegate.sim.engine.fleet import Server
from tidegate.sim.traces import Trace
from tidegate.units import TICK_S

START_S = 1_767_225_600.0  # Thu 2026-01-01 00:00 UTC


@dataclass(frozen=True, slots=True, kw_only=True)
class Startup:
    """
    Time from a pod's node to a ready server: lognormal around a median.

    Args:
        median_s: Half of the starts are faster, s, > 0.
        spread: Standard deviation of the logarithm; 0: always the median.

    Source: 8B on one GPU 35 to 126 s to load (AccelMark), image pull and graph capture on top.
    """

    median_s: float = 120.0
    spread: float = 0.15


@dataclass(frozen=True, slots=True, kw_only=True)
class TierTruth:
    """What a tier really is; the policies see only what it does."""

    server: Server
    startup: Startup = field(default_factory=Startup)


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """
    One deployment of a run.

    Args:
        spec: What the user asked for.
        traffic: Who comes, from second 0 of the run.
        truths: By tier name.
        initial: Replicas ready at second 0, by tier name.
        gateway: Whether a gateway in front reports arrivals and its queue.
        history: What Prometheus remembers from before the run: (second, requests/s), seconds < 0 and rising.
    """

    spec: DeploymentSpec
    traffic: Trace
    truths: Mapping[str, TierTruth]
    initial: Mapping[str, int]
    gateway: bool = True
    history: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        unknown = sorted(set(self.initial) - {t.name for t in self.spec.tiers})
        if unknown:
            raise SpecError(field="initial", value=unknown, allowed=f"must be tiers of {self.spec.key}")
        missing = [t.name for t in self.spec.tiers if t.name not in self.truths]
        if missing:
            raise SpecError(field="truths", value=missing, allowed="every tier needs a truth")


class Trouble(StrEnum):
    """Kinds of faults."""

    NO_METRICS = "NoMetrics"  # target: deployment name, or empty for all
    STUCK_TIER = "StuckTier"  # target: deployment/tier; pods created in the span become ready after it
    SLOW_START = "SlowStart"  # target: deployment/tier or empty; amount: factor on start-up
    LOST_NODES = "LostNodes"  # target: accelerator; amount: accelerators gone at once, back at the end
    SPOT_RECLAIM = "SpotReclaim"  # the same with `NOTICE_S` of warning
    PRICE_CHANGE = "PriceChange"  # target: accelerator; amount: $/h until the end


# AWS warns 120 s ahead, GCP and Azure 30 s: the shorter one is the harder one.
NOTICE_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that goes wrong in [start_s, end_s); see `Trouble` for target and amount."""

    trouble: Trouble
    start_s: float
    end_s: float
    target: str = ""
    amount: float = 0.0

    def active(self, time_s: float) -> bool:
        """Whether it holds at that time."""
        return self.start_s <= time_s < self.end_s

    def hits(self, name: str) -> bool:
        """Whether its target is that one, or everybody."""
        return self.target in ("", name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """
    Accelerators of one class and the nodes they come on.

    Args:
        accelerator: Class, price and capacity as the user states them.
        warm: Accelerators on nodes that are already up; None: all. Further ones wait for a node.
        provision_s: Time until a new node is up, s.
    """

    accelerator: Accelerator
    warm: int | None = None
    provision_s: float = 180.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """
    A run.

    Args:
        name: What the table calls it.
        services: The deployments that share the pools.
        pools: By accelerator name.
        duration_s: Length of the run; arrivals after it are cut off.
        start_s: Unix time of second 0 (schedules and daily patterns see it).
        drain_s: Longest time a replica on its way out may finish its requests.
        scrape_s, scrape_age_s: Prometheus interval, and age of the newest sample when a tick reads it.
        random_router: Route at random instead of by least outstanding.
    """

    name: str
    services: tuple[Service, ...]
    pools: Mapping[str, Pool]
    duration_s: float
    faults: tuple[Fault, ...] = ()
    seed: int = 0
    start_s: float = START_S
    drain_s: float = 120.0
    scrape_s: float = 15.0
    scrape_age_s: float = 5.0
    tick_s: float = TICK_S
    random_router: bool = False

    @property
    def currency(self) -> str:
        """ISO 4217 code of all its money."""
        return currency_of(self.services[0].spec, {name: pool.accelerator for name, pool in self.pools.items()})

    def hindrance(self, key: Key, tier: str, time_s: float) -> tuple[float, float]:
        """What faults do to a pod that gets its node now: a factor on its start-up, and when the start-up begins."""
        active = [f for f in self.faults if f.active(time_s) and f.hits(f"{key.name}/{tier}")]
        factor = prod((f.amount for f in active if f.trouble is Trouble.SLOW_START), start=1.0)
        return factor, max((f.end_s for f in active if f.trouble is Trouble.STUCK_TIER), default=time_s)

    def service(self, key: Key) -> Service:
        """The service of that deployment; KeyError where there is none."""
        for service in self.services:
            if service.spec.key == key:
                return service
        raise KeyError(key)
