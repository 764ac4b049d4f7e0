"""
The inputs of a run: deployments with their traffic and true performance, accelerators, faults.

A `Scenario` is a value: the same scenario with the same seed gives the same run, to the last bit.
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
    Time from getting a node to a ready server: lognormal.

    Args:
        median_s: Median, s, > 0.
        spread: Standard deviation of the logarithm; 0: always the median.

    Source: loading 8B on one GPU takes 35 to 126 s (AccelMark), plus image pull and graph capture.
    """

    median_s: float = 120.0
    spread: float = 0.15


@dataclass(frozen=True, slots=True, kw_only=True)
class TierTruth:
    """True performance of a tier. Policies see only the metrics that result from it."""

    server: Server
    startup: Startup = field(default_factory=Startup)


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """
    One deployment of a run.

    Args:
        spec: The user's deployment.
        traffic: Requests, from second 0 of the run.
        truths: True performance by tier name.
        initial: Replicas ready at second 0, by tier name.
        gateway: Whether a gateway in front reports arrivals and its queue.
        history: Demand before the run, as Prometheus has it: (second, requests/s), seconds < 0 and ascending.
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
    STUCK_TIER = "StuckTier"  # target: deployment/tier; pods placed meanwhile begin to start only at the fault's end
    SLOW_START = "SlowStart"  # target: deployment/tier, or empty for all; amount: factor on the start-up time
    LOST_NODES = "LostNodes"  # target: accelerator; amount: accelerators lost at once, back at the fault's end
    SPOT_RECLAIM = "SpotReclaim"  # the same with a notice of `NOTICE_S`
    PRICE_CHANGE = "PriceChange"  # target: accelerator; amount: $/h until the fault's end


# AWS gives 120 s of notice, GCP and Azure 30 s. The shorter one is harder.
NOTICE_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault in [start_s, end_s), seconds of the run; see `Trouble` for target and amount."""

    trouble: Trouble
    start_s: float
    end_s: float
    target: str = ""
    amount: float = 0.0

    def active(self, time_s: float) -> bool:
        """Whether the fault is active at that time."""
        return self.start_s <= time_s < self.end_s

    def hits(self, name: str) -> bool:
        """Whether the fault's target is `name` or everything."""
        return self.target in ("", name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """
    Accelerators of one class and their nodes.

    Args:
        accelerator: Class, price and capacity as the user states them.
        warm: Accelerators on nodes that are already up; None: all. Others must wait for a new node.
        provision_s: Time until a new node is up, s.
    """

    accelerator: Accelerator
    warm: int | None = None
    provision_s: float = 180.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """
    All inputs of a run.

    Args:
        name: Name in tables.
        services: The deployments that share the pools.
        pools: By accelerator name.
        duration_s: Length of the run; later arrivals are cut off.
        start_s: Unix time of second 0, for schedules and daily patterns.
        drain_s: Longest time that a terminating replica may take to finish its requests.
        scrape_s, scrape_age_s: Prometheus' scrape interval, and the age of the newest sample when a tick reads it.
        random_router: Route at random instead of to the replica with the fewest outstanding requests.
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
        """ISO 4217 code of the currency of all amounts."""
        return currency_of(self.services[0].spec, {name: pool.accelerator for name, pool in self.pools.items()})

    def hindrance(self, key: Key, tier: str, time_s: float) -> tuple[float, float]:
        """Effect of faults on a pod that is placed now: factor on its start-up time, and when its start-up begins."""
        active = [f for f in self.faults if f.active(time_s) and f.hits(f"{key.name}/{tier}")]
        factor = prod((f.amount for f in active if f.trouble is Trouble.SLOW_START), start=1.0)
        return factor, max((f.end_s for f in active if f.trouble is Trouble.STUCK_TIER), default=time_s)

    def service(self, key: Key) -> Service:
        """The service of that deployment; KeyError if there is none."""
        for service in self.services:
            if service.spec.key == key:
                return service
        raise KeyError(key)
