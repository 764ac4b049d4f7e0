"""
The queue of objects to reconcile, and the task that works it off.

In:    changes in the store.
Out:   calls of the controllers, each with one object.
Rules: an object is queued once for any number of changes. All controllers run in one task, so they never race.
"""

import asyncio
import contextlib

from tidegate.sandbox.embedded.controllers import cluster as names
from tidegate.sandbox.embedded.controllers.cluster import Cluster, controller_of, key_of
from tidegate.sandbox.embedded.controllers.endpoints import Endpoints
from tidegate.sandbox.embedded.controllers.garbage import Garbage
from tidegate.sandbox.embedded.controllers.scheduling import Scheduler
from tidegate.sandbox.embedded.controllers.workloads import Deployments, ReplicaSets
from tidegate.sandbox.embedded.deleting import Deleter
from tidegate.sandbox.embedded.resources import Registry
from tidegate.sandbox.embedded.store import Change, Key, Object, Store
from tidegate.sandbox.embedded.writing import Writer

# Period at which rollouts are checked, s, because a rollout without progress causes no change.
RELOOK_S = 1.0


class Controllers:
    """All controllers of the embedded control plane."""

    def __init__(self, store: Store, registry: Registry, writer: Writer, deleter: Deleter) -> None:
        self._cluster = Cluster(store=store, registry=registry, writer=writer, deleter=deleter)
        self._garbage = Garbage(self._cluster)
        self._deployments, self._replica_sets = Deployments(self._cluster), ReplicaSets(self._cluster)
        self._scheduler, self._endpoints = Scheduler(self._cluster), Endpoints(self._cluster)
        self._steps = {
            names.DEPLOYMENTS: self._deployments.look,
            names.REPLICA_SETS: self._replica_sets.look,
            names.SERVICES: self._endpoints.look,
            names.PODS: self._scheduler.look,
        }
        self._dirty: dict[tuple[str, Key], None] = {}  # a dict as a set that keeps its order
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        store.listeners.append(self._notice)

    async def start(self) -> None:
        """Reconciles all objects once, then those that change."""
        for resource in self._steps:
            for item in self._cluster.store.objects(resource):
                self._mark(resource, key_of(item))
        for namespace in self._cluster.store.objects("namespaces"):
            self._garbage.furnish(namespace)
        self._tasks = [asyncio.create_task(self._run()), asyncio.create_task(self._relook())]

    async def stop(self) -> None:
        """Stops the tasks."""
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def _mark(self, resource: str, key: Key) -> None:
        self._dirty[resource, key] = None
        self._wake.set()

    def _notice(self, change: Change) -> None:
        """Queues the objects that a change affects."""
        self._garbage.notice(change)
        self._wake.set()
        item = change.new or change.old or {}
        if change.resource in self._steps:
            self._mark(change.resource, change.key)
        if change.resource in (names.PODS, names.REPLICA_SETS) and (owner := controller_of(item)):
            owners = {"ReplicaSet": names.REPLICA_SETS, "Deployment": names.DEPLOYMENTS}
            if owner["kind"] in owners:
                self._mark(owners[owner["kind"]], (change.key[0], owner["name"]))
        if change.resource == names.PODS:
            self._services_of(change.key[0])
        if change.resource == names.NODES or (change.resource == names.PODS and _frees_room(change)):
            self._waiting_pods()

    def _services_of(self, namespace: str) -> None:
        for service in self._cluster.store.objects(names.SERVICES, namespace):
            self._mark(names.SERVICES, key_of(service))

    def _waiting_pods(self) -> None:
        for pod in self._cluster.store.objects(names.PODS):
            if not pod["spec"].get("nodeName"):
                self._mark(names.PODS, key_of(pod))

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._dirty or self._garbage.waiting:
                self._garbage.look()
                if self._dirty:
                    resource, key = next(iter(self._dirty))
                    del self._dirty[resource, key]
                    item: Object | None = self._cluster.store.get(resource, key)
                    if item is not None:
                        self._steps[resource](item)
                await asyncio.sleep(0)

    async def _relook(self) -> None:
        while True:
            await asyncio.sleep(RELOOK_S)
            for item in self._cluster.store.objects(names.DEPLOYMENTS):
                if self._deployments.is_moving(item):
                    self._mark(names.DEPLOYMENTS, key_of(item))


def _frees_room(change: Change) -> bool:
    """Whether a pod's change may free resources for another pod."""
    return change.new is None or change.new.get("status", {}).get("phase") in ("Succeeded", "Failed")
