"""
What is worth keeping between two orders, so that a thousand deployments at rest cost little.

In:    orders.
Out:   the manifests of a deployment, made anew only where its spec or its accelerators changed; the workloads it owns,
       found through one index per view.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tidegate.actuate.manifests import Manifest, wanted
from tidegate.domain.spec import Accelerator, DeploymentSpec
from tidegate.ports import ClusterView, DeploymentResource, Order, WorkloadView

# Deployments whose manifests are kept; more than one operator is meant to serve.
REMEMBERED = 50_000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    """Manifests, and what they were made of."""

    key: tuple[object, ...]
    manifests: tuple[Manifest, ...]


@dataclass(slots=True)
class Stock:
    """Remembers manifests by uid, and the index of the last view."""

    _made: dict[str, _Made] = field(default_factory=dict)
    _view: ClusterView | None = None
    _owned: dict[str, tuple[WorkloadView, ...]] = field(default_factory=dict)

    def manifests(self, order: Order) -> tuple[Manifest, ...]:
        """What the deployment should own."""
        resource, pod_monitor = order.resource, order.view.has_pod_monitors
        key = (*_needs(resource, order.accelerators), pod_monitor)
        known = self._made.get(resource.uid)
        if known is None or known.key != key:
            if len(self._made) >= REMEMBERED:
                self._made.clear()  # most of them are gone by now; the others are made anew
            known = _Made(key=key, manifests=wanted(resource, order.accelerators, pod_monitor=pod_monitor))
            self._made[resource.uid] = known
        return known.manifests

    def owned(self, order: Order) -> tuple[WorkloadView, ...]:
        """Workloads that carry the deployment's uid."""
        if self._view is not order.view:
            self._view, self._owned = order.view, _by_owner(order.view)
        return self._owned.get(order.resource.uid, ())


def _needs(resource: DeploymentResource, accelerators: Mapping[str, Accelerator]) -> tuple[object, ...]:
    """What a manifest is made of; capacity and price move without changing it."""
    assert isinstance(resource.spec, DeploymentSpec)
    used = [accelerators.get(tier.accelerator) for tier in resource.spec.tiers]
    places = tuple(a and (a.resource_name, tuple(sorted(a.node_selector.items()))) for a in used)
    return resource.generation, places


def _by_owner(view: ClusterView) -> dict[str, tuple[WorkloadView, ...]]:
    owned: dict[str, tuple[WorkloadView, ...]] = {}
    for workload in view.workloads.values():
        for uid in workload.owner_uids:
            owned[uid] = (*owned.get(uid, ()), workload)
    return owned
