"""
The cluster as the informers have it, joined to deployments and tiers.

In:    the API server; per tick the specs, the classes and what Prometheus reports of each pod.
Out:   a `Sight`: observations by deployment, the `ClusterView`, accelerators with their capacity filled in.
Rules: reads only. A pod belongs to the tier that its labels name (managed tiers) or whose workload selects it
       (targetRef). Nothing is evaluated before every cache is complete.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tidegate.domain.key import Key
from tidegate.domain.observation import DeploymentObservation, GatewayReading, Missing, TierState
from tidegate.domain.spec import Accelerator, DeploymentSpec, TierSpec
from tidegate.observe.collect import Harvest
from tidegate.observe.informer import Informer, Source
from tidegate.observe.kinds import BUILT_IN, Kind, KindWatch, collection_path
from tidegate.observe.leaving import leaving, tier_of
from tidegate.observe.lost import with_lost
from tidegate.observe.mismatch import mismatches
from tidegate.observe.objects import PodView, ScalerView, node_view, owned_view, pod_view, scaler_view
from tidegate.observe.pods import PodIndex
from tidegate.observe.replicas import Roster, TierKey, TierView
from tidegate.observe.selectors import parse_selector
from tidegate.observe.stock import accelerator_use, unprovisioned, usable_capacity, with_placeable
from tidegate.ports import (
    DEPLOYMENT_LABEL,
    TIER_LABEL,
    AcceleratorUse,
    ClusterView,
    KubeApi,
    ObjectRef,
    OwnedView,
    WorkloadView,
    own_workload,
    workload_ref,
)

# Tidegate creates a workload within a tick or two. If it is still missing after this, it was refused or its name is
# taken: the plan must not count on it until it exists.
UNMADE_S = 60.0

_DEPLOYMENT: Kind = ("apps/v1", "Deployment")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """
    What one look at the cluster shows.

    Args:
        accelerators: With `capacity` and `unprovisioned` filled in.
        absent: By deployment, tiers that cannot have a replica because their workload is missing and is not about to be
            created, or was made for another deployment.
        leaving: Tiers that the spec no longer has and whose pods still serve; their states are in `deployments`.
    """

    deployments: Mapping[Key, DeploymentObservation]
    view: ClusterView
    accelerators: Mapping[str, Accelerator]
    absent: Mapping[Key, frozenset[str]] = field(default_factory=dict)
    leaving: Mapping[Key, tuple[TierSpec, ...]] = field(default_factory=dict)


class Cluster:
    """
    Caches of everything the planner looks at.

    Args:
        api: Connection.
        roster: What is remembered of pods between ticks.
        clock: Monotonic seconds.
        namespace: The only one watched; None: all. Nodes and pods are watched everywhere, because a pod of any
            namespace may hold accelerators.
    """

    def __init__(
        self,
        api: KubeApi,
        roster: Roster,
        *,
        clock: Callable[[], float],
        namespace: str | None = None,
    ) -> None:
        self._api, self._roster, self._clock = api, roster, clock
        self._namespace = namespace
        self._group: asyncio.TaskGroup | None = None
        self._watches: dict[Kind, asyncio.Task[None]] = {}
        self._serving: set[Key] = set()
        self._unmade: dict[TierKey, float] = {}
        self.pods = Informer(api, Source(path="/api/v1/pods", trim=pod_view), clock=clock)
        self.nodes = Informer(api, Source(path="/api/v1/nodes", trim=node_view, optional=True), clock=clock)
        self.scalers: tuple[Informer[ScalerView], ...] = (
            self._scalers("autoscaling/v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler"),
            self._scalers("keda.sh/v1alpha1", "scaledobjects", "ScaledObject"),
        )
        self.services = self._owned("v1", "services", "Service")
        self.pod_monitors = self._owned("monitoring.coreos.com/v1", "podmonitors", "PodMonitor")
        self.kinds: dict[Kind, KindWatch] = {kind: self._kind(kind) for kind in BUILT_IN}

    def _scalers(self, api_version: str, plural: str, kind: str) -> Informer[ScalerView]:
        return Informer(
            self._api,
            Source(
                path=collection_path(api_version, plural, self._namespace),
                trim=lambda raw: scaler_view(raw, api_version=api_version, kind=kind, default_target=_DEPLOYMENT),
                optional=True,
            ),
            clock=self._clock,
        )

    def _owned(self, api_version: str, plural: str, kind: str) -> Informer[OwnedView]:
        return Informer(
            self._api,
            Source(
                path=collection_path(api_version, plural, self._namespace),
                trim=lambda raw: owned_view(raw, api_version=api_version, kind=kind),
                optional=True,
            ),
            clock=self._clock,
        )

    def _kind(self, kind: Kind) -> KindWatch:
        return KindWatch(self._api, kind, namespace=self._namespace, clock=self._clock)

    @property
    def informers(self) -> list[Informer[Any]]:
        """Every cache, for probes and metrics."""
        return [*self._fixed, *(watch.informer for watch in self.kinds.values() if watch.informer is not None)]

    @property
    def _fixed(self) -> list[Informer[Any]]:
        return [self.pods, self.nodes, *self.scalers, self.services, self.pod_monitors]

    @property
    def synced(self) -> bool:
        """Every cache is complete."""
        return all(i.synced for i in self.informers) and all(watch.synced for watch in self.kinds.values())

    def age_s(self) -> float:
        """
        Age of the oldest cache, seconds. Kinds that are not installed do not count, nor those that could not be listed
        yet: the webhook that converts a target's objects may be gone for good, and a restart does not bring it back.
        """
        return max((i.age_s() for i in self.informers if i.synced and not i.absent), default=0.0)

    async def run(self) -> None:
        """Keep every cache up to date until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            for informer in self._fixed:
                group.create_task(informer.run(), name=f"watch {informer.path}")
            for kind, watch in self.kinds.items():
                group.create_task(watch.run(), name=f"watch {kind[1]}")

    def follow(self, specs: Iterable[DeploymentSpec]) -> None:
        """From now on, watch the kinds that these deployments' tiers point at, and no others."""
        wanted: dict[Kind, set[ObjectRef]] = defaultdict(set)
        for spec in specs:
            for tier in spec.tiers:
                if tier.target_ref is not None:
                    ref = workload_ref(spec.key, tier)
                    wanted[ref.api_version, ref.kind].add(ref)
        for kind in self._watches.keys() - wanted.keys():
            self._watches.pop(kind).cancel()
            del self.kinds[kind]
        for kind, refs in wanted.items():
            if kind not in self.kinds and self._group is not None:
                self.kinds[kind] = self._kind(kind)
                self._watches[kind] = self._group.create_task(self.kinds[kind].run(), name=f"watch {kind[1]}")
            if kind in self.kinds:
                self.kinds[kind].want(frozenset(refs))

    def serves(self, key: Key) -> bool:
        """True if the deployment had a replica, ready or not, at the last look."""
        return key in self._serving

    def owners(self, specs: Iterable[DeploymentSpec]) -> dict[tuple[str, str], Key]:
        """The deployment of each workload, by (namespace, workload name)."""
        specs = list(specs)
        found = self._workloads(specs, self._managed(specs))
        return {(view.ref.namespace, view.ref.name): key for (key, _), view in found.items()}

    def look(
        self,
        specs: Iterable[DeploymentSpec],
        accelerators: Mapping[str, Accelerator],
        harvest: Harvest,
    ) -> Sight:
        """
        The current state of everything.

        Args:
            specs: Deployments to look at.
            accelerators: Classes by name, `capacity` as the user states it.
            harvest: Metrics of the same instant.
        """
        specs = list(specs)
        managed = self._managed(specs)
        workloads = self._workloads(specs, managed)
        known = (*managed.values(), *workloads.values())
        pods = list(with_lost(self.pods.items.values(), self.nodes.items.values(), time_s=harvest.time_s))
        index = PodIndex(pods, [view.ref for view in known])
        removed_views = self._leaving(specs, managed, index, accelerators.values())
        tiers = self._tiers(specs, workloads, index) | {name: view for name, (_, view) in removed_views.items()}
        states = self._roster.states(tiers, harvest.samples, time_s=harvest.time_s)
        self._serving = {key for (key, _), state in states.items() if state.wanted > 0}
        self._unmade = {name: since_s for name, since_s in self._unmade.items() if name in tiers}
        removed: dict[Key, tuple[TierSpec, ...]] = {}
        for (key, _), (tier, _) in removed_views.items():
            removed[key] = (*removed.get(key, ()), tier)
        joined = {spec.key: spec.joined(removed.get(spec.key, ())) for spec in specs}
        seen = [spec for spec in specs if self._knows(spec)]
        use = self._use(joined.values(), tiers, accelerators.values(), pods, time_s=harvest.time_s)
        states = with_placeable(states, joined.values(), tiers, accelerators, use)
        return Sight(
            deployments={
                spec.key: _observation(
                    {tier.name: states[spec.key, tier.name] for tier in joined[spec.key].tiers},
                    harvest.activations.get(spec.key),
                )
                for spec in seen
            },
            view=ClusterView(
                workloads={view.ref: view for view in (*known, *self._namesakes(specs, workloads))},
                scalers=self._scaler_refs(),
                owned={item.ref: item for item in self._shared(specs)},
                accelerators=use,
                mismatches=mismatches(specs, tiers, accelerators, self.nodes.items),
                has_pod_monitors=self.pod_monitors.synced and not self.pod_monitors.absent,
                seen_s=self._clock(),
            ),
            accelerators={
                name: replace(
                    accelerator,
                    capacity=usable_capacity(accelerator, use.get(name)),
                    unprovisioned=unprovisioned(accelerator, use.get(name)),
                )
                for name, accelerator in accelerators.items()
            },
            absent={spec.key: gone for spec in seen if (gone := self._absent(spec, workloads, harvest.time_s))},
            leaving=removed,
        )

    def _use(
        self,
        joined: Iterable[DeploymentSpec],
        views: Mapping[TierKey, TierView],
        classes: Collection[Accelerator],
        pods: Iterable[PodView],
        *,
        time_s: float,
    ) -> dict[str, AcceleratorUse]:
        """Who holds how many accelerators; empty if nodes may not be listed."""
        if self.nodes.absent:
            return {}
        own = {
            pod.uid: tier.accelerator
            for spec in joined
            for tier in spec.tiers
            for pod in views[spec.key, tier.name].all
        }
        return accelerator_use(classes, self.nodes.items.values(), pods, own, time_s=time_s)

    def _managed(self, specs: list[DeploymentSpec]) -> dict[TierKey, WorkloadView]:
        """
        The Deployments made for these deployments, including those of tiers that were removed from the spec.

        The name is checked, because a copy that somebody made of one has the same labels.
        """
        keys = {spec.key for spec in specs}
        managed: dict[TierKey, WorkloadView] = {}
        for view in self.kinds[_DEPLOYMENT].items():
            owner, tier = view.labels.get(DEPLOYMENT_LABEL, ""), view.labels.get(TIER_LABEL, "")
            key = Key(view.ref.namespace, owner)
            if key in keys and view.ref == own_workload(key, tier):
                managed[key, tier] = view
        return managed

    def _namesakes(
        self, specs: list[DeploymentSpec], workloads: Mapping[TierKey, WorkloadView]
    ) -> Iterator[WorkloadView]:
        """Workloads that tiers name, or would have, but that are somebody else's."""
        for spec in specs:
            for tier in spec.tiers:
                there = self._view(workload_ref(spec.key, tier))
                if there is not None and (spec.key, tier.name) not in workloads:
                    yield there

    def _shared(self, specs: list[DeploymentSpec]) -> Iterator[OwnedView]:
        """Services and PodMonitors with the names that those of the deployments have, whoever made them."""
        for informer in (self.services, self.pod_monitors):
            for spec in specs:
                if there := informer.items.get((spec.key.namespace, spec.key.name)):
                    yield there

    def _workloads(
        self, specs: list[DeploymentSpec], managed: Mapping[TierKey, WorkloadView]
    ) -> dict[TierKey, WorkloadView]:
        """The workload of each tier that has one; a target that was made for another deployment stays that one's."""
        found: dict[TierKey, WorkloadView] = {}
        for spec in specs:
            for tier in spec.tiers:
                name = spec.key, tier.name
                is_target = tier.target_ref is not None
                view = self._view(workload_ref(spec.key, tier)) if is_target else managed.get(name)
                if view is not None and view.labels.get(DEPLOYMENT_LABEL, spec.key.name) == spec.key.name:
                    found[name] = view
        return found

    def _knows(self, spec: DeploymentSpec) -> bool:
        """Every workload that the deployment points at has been looked up."""
        refs = [workload_ref(spec.key, tier) for tier in spec.tiers if tier.target_ref is not None]
        return all((watch := self.kinds.get((r.api_version, r.kind))) is not None and watch.knows(r) for r in refs)

    def _absent(self, spec: DeploymentSpec, workloads: Mapping[TierKey, WorkloadView], time_s: float) -> frozenset[str]:
        """
        Tiers without a workload: a target at once, one that Tidegate should have created after `UNMADE_S`.
        """
        absent: set[str] = set()
        for tier in spec.tiers:
            name = (spec.key, tier.name)
            if name in workloads or not spec.acts:
                self._unmade.pop(name, None)
            elif tier.target_ref is not None or time_s - self._unmade.setdefault(name, time_s) >= UNMADE_S:
                absent.add(tier.name)
        return frozenset(absent)

    def _view(self, ref: ObjectRef) -> WorkloadView | None:
        watch = self.kinds.get((ref.api_version, ref.kind))
        return watch.get(ref) if watch is not None else None

    def _leaving(
        self,
        specs: list[DeploymentSpec],
        managed: Mapping[TierKey, WorkloadView],
        index: PodIndex,
        classes: Collection[Accelerator],
    ) -> dict[TierKey, tuple[TierSpec, TierView]]:
        """Tiers that the spec no longer has, as long as they have pods."""
        found: dict[TierKey, tuple[TierSpec, TierView]] = {}
        for (key, name), label, workload in leaving(specs, managed):
            pods = index.select(key.namespace, parse_selector(_own_pods(key, label)))
            tier = tier_of(name, pods, self.nodes.items, classes)
            if tier is not None:
                found[key, name] = tier, TierView(pods=pods, wanted=workload.replicas, refused=workload.refused)
        return found

    def _tiers(
        self, specs: list[DeploymentSpec], workloads: Mapping[TierKey, WorkloadView], index: PodIndex
    ) -> dict[TierKey, TierView]:
        """Pods of each tier: by label if the tier is managed, else by its workload's selector."""
        tiers: dict[TierKey, TierView] = {}
        for spec in specs:
            for tier in spec.tiers:
                workload = workloads.get((spec.key, tier.name))
                ref = workload.ref if workload is not None else None
                selector = parse_selector(_selector_text(spec, tier, workload))
                tiers[spec.key, tier.name] = TierView(
                    pods=index.select(spec.key.namespace, selector, of=ref),
                    workers=index.select(spec.key.namespace, selector.of_workers),
                    wanted=workload.replicas if workload is not None else None,
                    refused=workload.refused if workload is not None else "",
                )
        return tiers

    def _scaler_refs(self) -> dict[ObjectRef, tuple[ObjectRef, ...]]:
        refs: dict[ObjectRef, tuple[ObjectRef, ...]] = {}
        for informer in self.scalers:
            for item in informer.items.values():
                refs[item.target] = (*refs.get(item.target, ()), item.ref)
        return refs


def _selector_text(spec: DeploymentSpec, tier: TierSpec, workload: WorkloadView | None) -> str:
    """Selector of a tier's pods; empty for a target that does not exist."""
    if tier.target_ref is None:
        return _own_pods(spec.key, tier.name)
    return workload.selector if workload is not None else ""


def _own_pods(key: Key, tier: str) -> str:
    return f"{DEPLOYMENT_LABEL}={key.name},{TIER_LABEL}={tier}"


def _observation(tiers: Mapping[str, TierState], activation: float | Missing | None) -> DeploymentObservation:
    """
    The answer of an activation query becomes the number of requests that wait at a gateway. Not queried, or no answer:
    no gateway.
    """
    if isinstance(activation, Missing):
        return DeploymentObservation(tiers=tiers, unheard=activation)
    gateway = None if activation is None else GatewayReading(arrival_rps=None, queued=max(0.0, activation))
    return DeploymentObservation(tiers=tiers, gateway=gateway)
