"""
What is kept between two orders, so that a thousand deployments at rest cost little and outdated caches do no harm.

In:    orders, and our own writes.
Out:   the `Scene` of an order: manifests, rebuilt only if the spec or the accelerators changed; owned workloads, from
       one index per view; our last writes; what each workload was last asked for; and when other writers were first
       seen.
Rules: all of it can be lost: a new operator writes nothing that the old one would not have written.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tidegate.actuate.manifests import Manifest, wanted
from tidegate.actuate.ownership import Sighting, asked_before, held_since, sighting_of
from tidegate.actuate.scene import PATIENCE_S, Scene, Write
from tidegate.domain.spec import Accelerator
from tidegate.ports import ClusterView, DeploymentResource, ObjectRef, Order, WorkloadView, workload_ref

# Entries of each kind that are kept; beyond this most belong to deleted objects.
REMEMBERED = 50_000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    """Manifests, and what they were made from."""

    key: tuple[object, ...]
    manifests: tuple[Manifest, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """Replicas that a workload was asked for; `uid` of that workload, empty while the view does not show it yet."""

    uid: str
    replicas: int

    def of(self, workload: WorkloadView | None) -> int | None:
        """What this workload was asked for; None: it was another one of the same name."""
        return self.replicas if workload is None or self.uid in ("", workload.uid) else None


@dataclass(slots=True)
class Stock:
    """The actuator's memory; `monitor_labels` are extra labels of the PodMonitors that are created."""

    monitor_labels: Mapping[str, str] = field(default_factory=dict)
    _made: dict[str, _Made] = field(default_factory=dict)
    _made_before: dict[str, _Made] = field(default_factory=dict)
    _view: ClusterView | None = None
    _owned: dict[str, tuple[WorkloadView, ...]] = field(default_factory=dict)
    _written: dict[str, tuple[float, int | None]] = field(default_factory=dict)
    _marks: dict[str, str] = field(default_factory=dict)
    _seen: dict[str, tuple[Sighting, float]] = field(default_factory=dict)
    _asked: dict[tuple[str, ObjectRef], _Asked] = field(default_factory=dict)

    def scene(self, order: Order, *, now_s: float, clock_s: float) -> Scene:
        """Everything that is known when an order is carried out; `now_s` and `clock_s` as in `Scene`."""
        self._prune(clock_s)
        scene = Scene(
            order=order,
            now_s=now_s,
            clock_s=clock_s,
            manifests=self.manifests(order),
            owned=self.owned(order),
            written=self._written,
            marks=self._marks,
            seen=self._seen,
            asked=self._last_asked(order),
        )
        self._observe(scene)
        return scene

    def wrote(self, write: Write, *, clock_s: float) -> None:
        """Remember a write that the server accepted."""
        self._written[write.call.path] = clock_s, write.replicas
        self._marks.pop(write.call.path, None)  # recorded again once the cluster shows the write

    def ask(self, order: Order, replicas: Mapping[str, int]) -> dict[str, int]:
        """Remember what workloads were asked for now; returns what all tiers' workloads were last asked for."""
        resource = order.resource
        for tier in resource.valid_spec.tiers:
            if tier.name in replicas:
                ref = workload_ref(resource.key, tier)
                there = order.view.workloads.get(ref)
                uid = there.uid if there is not None else ""
                self._asked[resource.uid, ref] = _Asked(uid=uid, replicas=replicas[tier.name])
        return self._last_asked(order)

    def _last_asked(self, order: Order) -> dict[str, int]:
        """By tier; from the status if we have not scaled it since we lead."""
        resource = order.resource
        asked: dict[str, int] = {}
        for tier in resource.valid_spec.tiers:
            ref = workload_ref(resource.key, tier)
            known = self._asked.get((resource.uid, ref))
            last = asked_before(resource, tier.name) if known is None else known.of(order.view.workloads.get(ref))
            if last is not None:
                asked[tier.name] = last
        return asked

    def manifests(self, order: Order) -> tuple[Manifest, ...]:
        """What the deployment should own."""
        self._index(order.view)
        resource, known_kind = order.resource, order.view.has_pod_monitors
        key = (*_needs(resource, order.accelerators), known_kind)
        known = self._made.get(resource.uid) or self._made_before.get(resource.uid)
        if known is None or known.key != key:
            pod_monitor = self.monitor_labels if known_kind else None
            known = _Made(key=key, manifests=wanted(resource, order.accelerators, pod_monitor=pod_monitor))
        self._made[resource.uid] = known
        return known.manifests

    def owned(self, order: Order) -> tuple[WorkloadView, ...]:
        """Workloads that carry the deployment's uid."""
        self._index(order.view)
        return self._owned.get(order.resource.uid, ())

    def _index(self, view: ClusterView) -> None:
        """
        Index a new view, and drop the manifests of deployments without an order under the previous view.

        The manifests of a deployment with two tiers take 20 KiB: ten thousand deployments that came and went over weeks
        would take 200 MiB.
        """
        if self._view is not view:
            self._view, self._owned = view, _by_owner(view)
            self._made_before, self._made = self._made, {}

    def _observe(self, scene: Scene) -> None:
        """Remember who set which replicas when, and `applied` of our objects while they are right."""
        for workload in scene.owned:
            if not scene.settles(workload.path):
                self._marks.setdefault(workload.path, workload.applied)
        for tier in scene.spec.tiers:
            there = scene.workload(workload_ref(scene.spec.key, tier))
            if there is not None:
                self._seen[there.path] = self._sighted(scene, there)

    def _sighted(self, scene: Scene, workload: WorkloadView) -> tuple[Sighting, float]:
        """Who else set a workload's replicas, and since when we see that, unix seconds."""
        sighting, known = sighting_of(workload), self._seen.get(workload.path)
        if known is None:
            # After a restart the status still tells since when.
            return sighting, min(held_since(scene.order.resource.status) or scene.now_s, scene.now_s)
        before, since_s = known
        # A time in the future was recorded before the wall clock was set back.
        return sighting, min(since_s, scene.now_s) if sighting == before else scene.now_s

    def _prune(self, clock_s: float) -> None:
        """Keep the memory small; what is lost here is rebuilt or recorded again."""
        for memory in (self._marks, self._seen, self._asked):
            if len(memory) > REMEMBERED:
                memory.clear()
        if len(self._written) > REMEMBERED:
            self._written = {path: last for path, last in self._written.items() if clock_s - last[0] < PATIENCE_S}


def _needs(resource: DeploymentResource, accelerators: Mapping[str, Accelerator]) -> tuple[object, ...]:
    """What manifests depend on; capacity and price change without changing them."""
    used = [accelerators.get(tier.accelerator) for tier in resource.valid_spec.tiers]
    places = tuple(a and (a.resource_name, tuple(sorted(a.node_selector.items()))) for a in used)
    return resource.generation, places


def _by_owner(view: ClusterView) -> dict[str, tuple[WorkloadView, ...]]:
    owned: dict[str, tuple[WorkloadView, ...]] = {}
    for workload in view.workloads.values():
        for uid in workload.owner_uids:
            owned[uid] = (*owned.get(uid, ()), workload)
    return owned
