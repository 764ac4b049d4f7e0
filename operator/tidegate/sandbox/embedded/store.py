"""
Objects, their versions and their history: the counterpart of etcd and the watch cache.

In:    complete new states of objects.
Out:   states, consistent lists at a version, streams of changes; 410 if the history is too short.
Rules: one version counter for all objects, as in etcd. A stored object is never modified in place.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from tidegate.sandbox.embedded.failures import expired

Object = dict[str, Any]
Key = tuple[str, str]  # (namespace, name); the namespace is empty for cluster-scoped kinds

# Length of the history in changes: about ten minutes of a busy sandbox. A real API server keeps five minutes.
HISTORY_LENGTH = 20_000


def copied(value: Any) -> Any:
    """A deep copy of JSON data; several times faster than `copy.deepcopy`."""
    return msgspec.json.decode(msgspec.json.encode(value))


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """
    One change of one object.

    Args:
        version: The store's version after the change.
        resource: `plural.group`.
        key: Key of the object.
        old: Previous state; None if it was created.
        new: New state; None if it was deleted.
        last: If it was deleted: its previous state with the version of the deletion.
    """

    version: int
    resource: str
    key: Key
    old: Object | None
    new: Object | None
    last: Object | None = None


class Store:
    """
    All objects of one control plane.

    Args:
        history: How many changes are kept.
    """

    def __init__(self, *, history: int = HISTORY_LENGTH) -> None:
        self.version = 1
        self._objects: dict[str, dict[Key, Object]] = {}
        self._history: deque[Change] = deque(maxlen=history)
        self._forgotten = 1  # newest version whose change is no longer in the history
        self._watchers: dict[str, set[asyncio.Queue[Change]]] = {}
        self.listeners: list[Callable[[Change], None]] = []

    def get(self, resource: str, key: Key) -> Object | None:
        """The current state of an object; do not modify it."""
        return self._objects.get(resource, {}).get(key)

    def objects(self, resource: str, namespace: str | None = None) -> list[Object]:
        """All current objects of a kind, in one namespace or (None) in all; do not modify them."""
        stored = self._objects.get(resource, {})
        return [each for key, each in stored.items() if namespace is None or key[0] == namespace]

    def snapshot(self, resource: str, version: int) -> dict[Key, Object]:
        """
        All objects of a kind as of a version, sorted by key.

        Raises:
            ApiError: 410 if the history does not reach back that far.
        """
        state = dict(self._objects.get(resource, {}))
        for change in self._since(version):
            if change.resource == resource:
                if change.old is None:
                    state.pop(change.key, None)
                else:
                    state[change.key] = change.old
        return dict(sorted(state.items()))

    def put(self, resource: str, key: Key, new: Object) -> Object:
        """Stores a new state under the next version; returns it with that version in its metadata."""
        self.version += 1
        new = {**new, "metadata": {**new["metadata"], "resourceVersion": str(self.version)}}
        old = self.get(resource, key)
        self._objects.setdefault(resource, {})[key] = new
        self._publish(Change(version=self.version, resource=resource, key=key, old=old, new=new))
        return new

    def remove(self, resource: str, key: Key) -> Object:
        """Removes an object; returns its last state with the version of the deletion."""
        self.version += 1
        old = self._objects[resource].pop(key)
        last = {**old, "metadata": {**old["metadata"], "resourceVersion": str(self.version)}}
        self._publish(Change(version=self.version, resource=resource, key=key, old=old, new=None, last=last))
        return last

    def forget(self) -> None:
        """Drops the whole history, as a compaction does: older versions give 410 from now on."""
        self._history.clear()
        self._forgotten = self.version

    def watch(self, resource: str, version: int) -> "Watch":
        """
        All changes of a kind after a version, past and future.

        Raises:
            ApiError: 410 if the history does not reach back that far.
        """
        return Watch(self, resource, [each for each in self._since(version) if each.resource == resource][::-1])

    def attach(self, resource: str, queue: "asyncio.Queue[Change]") -> None:
        """Sends the changes of a kind to the queue from now on."""
        self._watchers.setdefault(resource, set()).add(queue)

    def detach(self, resource: str, queue: "asyncio.Queue[Change]") -> None:
        """Sends no more changes to the queue."""
        self._watchers[resource].discard(queue)

    def _since(self, version: int) -> Iterator[Change]:
        """The changes after a version, newest first."""
        if version < self._forgotten:
            raise expired(f"too old resource version: {version} ({self._forgotten})")
        for change in reversed(self._history):
            if change.version <= version:
                return
            yield change

    def _publish(self, change: Change) -> None:
        if len(self._history) == self._history.maxlen:
            self._forgotten = self._history[0].version
        self._history.append(change)
        for queue in self._watchers.get(change.resource, ()):
            queue.put_nowait(change)
        for listener in self.listeners:
            listener(change)


class Watch:
    """Changes of one kind, beginning with those in the history; use as a context manager."""

    def __init__(self, store: Store, resource: str, past: list[Change]) -> None:
        self._store, self._resource = store, resource
        self._queue: asyncio.Queue[Change] = asyncio.Queue()
        for change in past:
            self._queue.put_nowait(change)

    def __enter__(self) -> "Watch":
        self._store.attach(self._resource, self._queue)
        return self

    def __exit__(self, *_: object) -> None:
        self._store.detach(self._resource, self._queue)

    async def next(self, timeout_s: float) -> Change | None:
        """The next change; None if there is none within the timeout."""
        try:
            return await asyncio.wait_for(self._queue.get(), timeout_s)
        except TimeoutError:
            return None
