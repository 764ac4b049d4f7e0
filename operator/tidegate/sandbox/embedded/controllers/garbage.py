"""
Garbage collection: objects whose owners were deleted, and everything in a namespace that is being deleted.

In:    changes in the store.
Out:   deletions.
Rules: dependents are found by an index of owner uids, so the work is proportional to the number of deletions.
"""

from tidegate.sandbox.embedded.controllers.cluster import Cluster
from tidegate.sandbox.embedded.deleting import FOREGROUND, ORPHAN
from tidegate.sandbox.embedded.store import Change, Key, Object
from tidegate.sandbox.embedded.writing import may_go

Place = tuple[str, Key]  # (resource, key)


class Garbage:
    """The garbage collector and the namespace controller."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._dependents: dict[str, dict[Place, None]] = {}
        self._alive: dict[str, Place] = {}  # by uid
        self._pending: dict[Place, None] = {}

    @property
    def waiting(self) -> bool:
        """Whether objects are queued."""
        return bool(self._pending)

    def notice(self, change: Change) -> None:
        """Updates the index, and queues the objects that a change affects."""
        place = (change.resource, change.key)
        self._index(change.old, place, present=False)
        self._index(change.new, place, present=True)
        if change.new is None:
            assert change.old is not None
            uid = change.old["metadata"]["uid"]
            self._alive.pop(uid, None)
            self._pending |= self._dependents.get(uid, {})
            for owner in change.old["metadata"].get("ownerReferences") or []:
                self._wake_owner(owner["uid"])
            if change.key[0]:
                self._wake_namespace(change.key[0])
        else:
            self._alive[change.new["metadata"]["uid"]] = place
            if change.new["metadata"].get("deletionTimestamp") or change.new["metadata"].get("ownerReferences"):
                self._pending[place] = None
            if change.old is None and change.resource == "namespaces":
                self._pending[place] = None

    def look(self) -> None:
        """Handles one queued object."""
        if not self._pending:
            return
        place = next(iter(self._pending))
        del self._pending[place]
        item = self._cluster.store.get(*place)
        if item is None:
            return
        if place[0] == "namespaces":
            self._namespace(item)
        elif item["metadata"].get("deletionTimestamp"):
            self._finish(place, item)
        elif self._is_orphan(item):
            self._cluster.delete(place[0], item)

    def furnish(self, namespace: Object) -> None:
        """Creates the default service account of a namespace."""
        name = namespace["metadata"]["name"]
        if self._cluster.store.get("serviceaccounts", (name, "default")) is None:
            self._cluster.create("serviceaccounts", {"metadata": {"name": "default", "namespace": name}})

    def _index(self, item: Object | None, place: Place, *, present: bool) -> None:
        for owner in (item or {}).get("metadata", {}).get("ownerReferences") or []:
            dependents = self._dependents.setdefault(owner["uid"], {})
            if present:
                dependents[place] = None
            else:
                dependents.pop(place, None)
                if not dependents:
                    del self._dependents[owner["uid"]]

    def _wake_owner(self, uid: str) -> None:
        """Queues an owner, whose deletion may wait for its dependents."""
        if place := self._alive.get(uid):
            self._pending[place] = None

    def _wake_namespace(self, name: str) -> None:
        namespace = self._cluster.store.get("namespaces", ("", name))
        if namespace is not None and namespace["metadata"].get("deletionTimestamp"):
            self._pending["namespaces", ("", name)] = None

    def _is_orphan(self, item: Object) -> bool:
        owners = item["metadata"].get("ownerReferences") or []
        return bool(owners) and not any(owner["uid"] in self._alive for owner in owners)

    def _finish(self, place: Place, item: Object) -> None:
        """Carries out a foreground or orphan deletion."""
        uid, finalizers = item["metadata"]["uid"], item["metadata"].get("finalizers") or []
        dependents = [
            (where, found) for where in self._dependents.get(uid, {}) if (found := self._cluster.store.get(*where))
        ]
        if ORPHAN in finalizers:
            for (resource, key), each in dependents:
                owners = [owner for owner in each["metadata"]["ownerReferences"] if owner["uid"] != uid]
                self._cluster.store.put(
                    resource, key, {**each, "metadata": {**each["metadata"], "ownerReferences": owners}}
                )
            self._release(place, ORPHAN)
        elif FOREGROUND in finalizers:
            for (resource, _), each in dependents:
                if not each["metadata"].get("deletionTimestamp"):
                    self._cluster.delete(resource, each)
            if not any(self._cluster.store.get(*where) for where, _ in dependents):
                self._release(place, FOREGROUND)

    def _release(self, place: Place, finalizer: str) -> None:
        item = self._cluster.store.get(*place)
        if item is None:
            return
        left = [each for each in item["metadata"].get("finalizers") or [] if each != finalizer]
        metadata = {name: value for name, value in item["metadata"].items() if name != "finalizers"}
        metadata |= {"finalizers": left} if left else {}
        if may_go({**item, "metadata": metadata}):
            self._cluster.store.remove(*place)
        else:
            self._cluster.store.put(*place, {**item, "metadata": metadata})

    def _namespace(self, namespace: Object) -> None:
        """Sets up a new namespace; empties one that is being deleted, and removes it once it is empty."""
        if not namespace["metadata"].get("deletionTimestamp"):
            self.furnish(namespace)
            return
        name = namespace["metadata"]["name"]
        left = [
            (resource.key, item)
            for resource in self._cluster.registry
            if resource.namespaced
            for item in self._cluster.store.objects(resource.key, name)
        ]
        if not left:
            self._cluster.store.remove("namespaces", ("", name))
        for resource_key, item in left:
            if not item["metadata"].get("deletionTimestamp"):
                self._cluster.delete(resource_key, item)
