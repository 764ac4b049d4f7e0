"""
Workloads of any kind that has /scale, kept in memory.

In:    the kinds that tiers point at.
Out:   a `WorkloadView` per object.
Rules: Deployments and StatefulSets contain everything and are always watched. For other kinds only /scale tells
       replicas and selector, so it is read again whenever the object changes, only for objects that a tier points at.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from tidegate.observe.informer import Informer, Source
from tidegate.observe.objects import scaled_view, workload_view
from tidegate.ports import ApiError, Call, KubeApi, ObjectRef, WorkloadView

log = logging.getLogger(__name__)

# (apiVersion, kind), as a manifest names it.
Kind = tuple[str, str]

BUILT_IN: Mapping[Kind, str] = {("apps/v1", "Deployment"): "deployments", ("apps/v1", "StatefulSet"): "statefulsets"}

# A kind that is not installed, or a /scale that did not answer, is retried after this.
RETRY_S = 30.0


def group_path(api_version: str) -> str:
    """`/apis/apps/v1` for `apps/v1`, `/api/v1` for `v1`."""
    return f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"


def collection_path(api_version: str, plural: str, namespace: str | None) -> str:
    """Path of a collection, in one namespace, or in all (None)."""
    scope = f"/namespaces/{namespace}" if namespace else ""
    return f"{group_path(api_version)}{scope}/{plural}"


async def find_plural(api: KubeApi, kind: Kind) -> str | None:
    """The plural of a kind that has /scale; None if it is not installed or cannot be scaled."""
    api_version, name = kind
    listed = await api.send(Call(method="GET", path=group_path(api_version)))
    resources = {str(r["name"]): r for r in listed.get("resources") or ()}
    for plural, resource in resources.items():
        if resource.get("kind") == name and "/" not in plural and f"{plural}/scale" in resources:
            return plural
    return None


class KindWatch:
    """
    All workloads of one kind.

    Args:
        api: Connection.
        kind: Which.
        namespace: The only one watched; None: all.
        clock: Monotonic seconds.
    """

    def __init__(self, api: KubeApi, kind: Kind, *, namespace: str | None, clock: Callable[[], float]) -> None:
        self._api, self._kind, self._namespace, self._clock = api, kind, namespace, clock
        self._changed = asyncio.Event()
        self._scales: dict[ObjectRef, WorkloadView] = {}
        self._read: dict[ObjectRef, str] = {}
        self._absent = False
        self._wanted: frozenset[ObjectRef] = frozenset()
        self.informer: Informer[tuple[str, WorkloadView]] | None = None
        if kind in BUILT_IN:
            self._make_informer(BUILT_IN[kind])

    @property
    def synced(self) -> bool:
        """The cache is complete. Kinds that are not built in do not block the start."""
        return self._kind not in BUILT_IN or (self.informer is not None and self.informer.synced)

    def knows(self, ref: ObjectRef) -> bool:
        """
        True once it is certain what `ref` is, or that it does not exist.

        Until then its deployment is not planned: five replicas that have not been seen yet are not zero.
        """
        if self.informer is None:
            return self._absent
        if not self.informer.synced:
            return False
        name = ref.namespace, ref.name
        if name not in self.informer.items:
            return name not in self.informer.unreadable
        return self._kind in BUILT_IN or ref in self._read

    def get(self, ref: ObjectRef) -> WorkloadView | None:
        """The workload as last seen; None if it does not exist, or its /scale has not answered yet."""
        if self.informer is None:
            return None
        item = self.informer.items.get((ref.namespace, ref.name))
        if item is None:
            return None
        if self._kind in BUILT_IN:
            return item[1]
        scaled = self._scales.get(ref)
        return replace(item[1], replicas=scaled.replicas, selector=scaled.selector) if scaled else None

    def items(self) -> list[WorkloadView]:
        """All workloads, with replicas and selector only for a built-in kind."""
        return [view for _, view in self.informer.items.values()] if self.informer is not None else []

    async def run(self) -> None:
        """Keep the cache up to date until cancelled."""
        while self.informer is None:
            plural = await self._discover()
            if plural is None:
                await asyncio.sleep(RETRY_S)
            else:
                self._make_informer(plural)
        async with asyncio.TaskGroup() as group:
            group.create_task(self.informer.run(), name=f"watch {self.informer.path}")
            if self._kind not in BUILT_IN:
                group.create_task(self._read_scales(), name=f"scales of {self.informer.path}")

    async def _discover(self) -> str | None:
        try:
            plural = await find_plural(self._api, self._kind)
        except ApiError as error:
            self._absent = error.status == 404
            return None
        self._absent = plural is None
        return plural

    def want(self, refs: frozenset[ObjectRef]) -> None:
        """Set the objects whose /scale is read. It is read again for newly wanted objects."""
        if refs != self._wanted:
            for ref in self._read.keys() - (refs & self._wanted):
                self._forget(ref)
            self._wanted = refs
            self._changed.set()

    def _forget(self, ref: ObjectRef) -> None:
        """Drop what its /scale said: it is outdated, or belongs to an earlier object of the same name."""
        self._read.pop(ref, None)
        self._scales.pop(ref, None)

    def _make_informer(self, plural: str) -> None:
        api_version, kind = self._kind

        def trim(raw: Mapping[str, Any]) -> tuple[str, WorkloadView]:
            path = collection_path(api_version, plural, raw["metadata"].get("namespace", ""))
            view = workload_view if self._kind in BUILT_IN else scaled_view
            return raw["metadata"].get("resourceVersion", ""), view(raw, api_version=api_version, kind=kind, path=path)

        path, optional = collection_path(api_version, plural, self._namespace), self._kind not in BUILT_IN
        source = Source(path=path, trim=trim, optional=optional)
        self.informer = Informer(self._api, source, clock=self._clock, changed=self._changed.set)

    async def _read_scales(self) -> None:
        """Read /scale of each wanted object once per change of the object."""
        while True:
            self._changed.clear()
            failed = False
            for ref in sorted(self._wanted, key=str):
                failed |= not await self._read_scale(ref)
            with suppress(TimeoutError):
                async with asyncio.timeout(RETRY_S if failed else None):
                    await self._changed.wait()

    async def _read_scale(self, ref: ObjectRef) -> bool:
        """False if the object exists and its /scale did not answer."""
        assert self.informer is not None
        version, view = self.informer.items.get((ref.namespace, ref.name), ("", None))
        if view is None:
            self._forget(ref)
            return True
        if self._read.get(ref) == version:
            return True
        try:
            scale = await self._api.send(Call(method="GET", path=f"{view.path}/scale"))
        except ApiError as error:
            if error.status in {403, 404} and ref not in self._read:
                log.warning("%s cannot be scaled: %s", ref, error)
                self._read[ref] = ""  # known, but retried: the refusal may be temporary
            return False
        spec, status = scale.get("spec") or {}, scale.get("status") or {}
        self._scales[ref] = replace(view, replicas=spec.get("replicas", 0), selector=status.get("selector", ""))
        self._read[ref] = version
        return True
