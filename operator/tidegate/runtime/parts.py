"""
Creates the parts, once, from settings.

In:    settings, a connection.
Out:   `Assembly`: every long-lived object of the process, wired.
Rules: no task is started here.
"""

import os
import socket
import time
import uuid
from dataclasses import dataclass
from functools import partial

from tidegate.actuate.cluster import ClusterActuator
from tidegate.observe.cluster import Cluster
from tidegate.observe.collect import Collector
from tidegate.observe.prometheus import Access, Prometheus
from tidegate.observe.queries import Dialect
from tidegate.observe.replicas import Roster
from tidegate.ports import Fence
from tidegate.report.events import EventPoster
from tidegate.report.metrics import Metrics
from tidegate.report.status import accelerator_status, deployment_status
from tidegate.runtime.elector import Elector, LeaseName
from tidegate.runtime.fenced import Bucket, FencedApi
from tidegate.runtime.hands import Hands, Reporting
from tidegate.runtime.inventory import FleetInventory
from tidegate.runtime.keeper import Keeper
from tidegate.runtime.kube import HttpKubeApi
from tidegate.runtime.planner import Parts, Planner
from tidegate.runtime.recovery import Recovery, Saver
from tidegate.runtime.sweep import Sweeper
from tidegate.settings import Settings


class Always:
    """A `Fence` without leader election."""

    epoch = 0

    def holds(self) -> bool:
        """Always."""
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembly:
    """Everything that lives as long as the process. `elector` is None without leader election."""

    settings: Settings
    api: HttpKubeApi
    elector: Elector | None
    fence: Fence
    inventory: FleetInventory
    cluster: Cluster
    planner: Planner
    hands: Hands
    sweeper: Sweeper
    recovery: Recovery
    saver: Saver
    metrics: Metrics
    clients: tuple[Prometheus, ...]


def assemble(settings: Settings, api: HttpKubeApi, metrics: Metrics) -> Assembly:
    """Create and connect the parts."""
    clock = time.monotonic
    inventory = FleetInventory()
    elector = _elector(settings, api) if settings.leader_election else None
    fence: Fence = elector if elector is not None else Always()
    fenced = FencedApi(api, fence, Bucket(settings.writes_per_second, clock=clock))
    client, patient = Prometheus(Access.of(settings)), Prometheus(Access.of(settings))
    actuator = ClusterActuator(fenced, fence, monitor_labels=settings.monitor_labels)
    reporting = _reporting(settings, fenced, fence)
    hands = Hands(fenced, fence, inventory, actuator=actuator, reporting=reporting, faulted=metrics.faulted)
    planner = Planner(
        parts=Parts(
            inventory=inventory,
            cluster=_cluster(settings, api),
            collector=Collector(client, Dialect.of(settings, window_s=settings.window), clock=clock),
            hands=hands,
            metrics=metrics,
            fence=fence,
        ),
        period_s=settings.tick,
        wall=time.time,
        clock=clock,
    )
    inventory.changed = planner.wake
    if elector is not None:
        # A new leader acts at once, not at its next regular tick.
        elector.changed = planner.wake
    keeper = Keeper(fenced, settings.operator_namespace, named("tidegate-memory", settings))
    return Assembly(
        settings=settings,
        api=api,
        elector=elector,
        fence=fence,
        inventory=inventory,
        cluster=planner.parts.cluster,
        planner=planner,
        hands=hands,
        sweeper=Sweeper(api=api, inventory=inventory, namespace=settings.namespace or None, clock=clock),
        recovery=_recovery(settings, keeper, planner, patient),
        saver=_saver(settings, keeper, planner),
        metrics=metrics,
        clients=(client, patient),
    )


def _cluster(settings: Settings, api: HttpKubeApi) -> Cluster:
    """Caches. A pod that is created or deleted does not wake the planner; the next tick sees it."""
    roster = Roster(window_s=settings.window, stale_s=settings.stale)
    return Cluster(api, roster, clock=time.monotonic, namespace=settings.namespace or None)


def _reporting(settings: Settings, fenced: FencedApi, fence: Fence) -> Reporting:
    serves_all = not settings.shard and not settings.namespace
    return Reporting(
        deployment_status=deployment_status,
        accelerator_status=partial(accelerator_status, serves_all=serves_all),
        poster=EventPoster(fenced, fence),
    )


def _recovery(settings: Settings, keeper: Keeper, planner: Planner, client: Prometheus) -> Recovery:
    return Recovery(
        keeper=keeper,
        planner=planner,
        inventory=planner.parts.inventory,
        cluster=planner.parts.cluster,
        client=client,
        dialect=Dialect.of(settings, window_s=settings.window),
        days=settings.history_days,
        wall=time.time,
    )


def _saver(settings: Settings, keeper: Keeper, planner: Planner) -> Saver:
    return Saver(
        keeper=keeper,
        planner=planner,
        inventory=planner.parts.inventory,
        fence=planner.parts.fence,
        metrics=planner.parts.metrics,
        period_s=settings.memory_interval,
    )


def named(name: str, settings: Settings) -> str:
    """A name that is unique per shard and per served namespace: neither contains a dot, so no two names collide."""
    name += f"-{settings.shard}" if settings.shard else ""
    return name + (f".{settings.namespace}" if settings.namespace else "")


def _elector(settings: Settings, api: HttpKubeApi) -> Elector:
    identity = settings.identity or f"{socket.gethostname()}_{os.getpid()}_{uuid.uuid4().hex[:8]}"
    lease = LeaseName(namespace=settings.operator_namespace, name=named("tidegate", settings), identity=identity)
    return Elector(api, lease, clock=time.monotonic)
