"""
Deletion: preconditions, grace periods, finalizers, propagation policies.

In:    a `Request` with delete options.
Out:   (HTTP status, the object or a `Status`).
"""

from typing import Any

from tidegate.sandbox.embedded import failures
from tidegate.sandbox.embedded.reading import select
from tidegate.sandbox.embedded.request import Request
from tidegate.sandbox.embedded.resources import Resource
from tidegate.sandbox.embedded.store import Object, Store
from tidegate.sandbox.embedded.writing import deadline, may_go

FOREGROUND, ORPHAN = "foregroundDeletion", "orphan"
POD_GRACE_S = 30


class Deleter:
    """Deletes objects from one store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def delete(self, request: Request) -> tuple[int, Object]:
        """DELETE of one object."""
        found = self._store.get(request.resource.key, request.key)
        if found is None:
            raise failures.not_found(request.resource.key, request.name)
        options = _options(request)
        _check_preconditions(found, options, request)
        if request.dry_run:
            return 200, found
        last = self.end(request.resource, found, options)
        if self._store.get(request.resource.key, request.key) is not None:
            return 200, last
        details = {"name": request.name, "kind": request.resource.plural, "uid": found["metadata"]["uid"]}
        details |= {"group": request.resource.group} if request.resource.group else {}
        status: dict[str, Any] = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
        return 200, {**status, "details": details}

    def delete_all(self, request: Request) -> tuple[int, Object]:
        """DELETE of a collection."""
        options = _options(request)
        namespace = request.namespace or None
        chosen = select(self._store.objects(request.resource.key, namespace), request)
        if not request.dry_run:
            for item in chosen:
                self.end(request.resource, item, options)
        resource = request.resource
        listed = {"kind": f"{resource.kind}List", "apiVersion": resource.api_version}
        return 200, {**listed, "metadata": {"resourceVersion": str(self._store.version)}, "items": chosen}

    def end(self, resource: Resource, item: Object, options: dict[str, Any]) -> Object:
        """
        Marks an object for deletion, and removes it at once if no finalizer and no grace period holds it.

        Args:
            resource: Its kind.
            item: Its current state.
            options: `propagationPolicy`, `gracePeriodSeconds`.

        Returns:
            Its new state.
        """
        metadata = {**item["metadata"]}
        key = (metadata.get("namespace", ""), metadata["name"])
        grace = _grace(resource, item, options)
        finalizers = [*metadata.get("finalizers", [])]
        policy = {"Foreground": FOREGROUND, "Orphan": ORPHAN}.get(options.get("propagationPolicy", ""))
        if policy and policy not in finalizers and not metadata.get("deletionTimestamp"):
            finalizers.append(policy)
        if finalizers:
            metadata["finalizers"] = finalizers
        first = not metadata.get("deletionTimestamp")
        if first or grace < metadata.get("deletionGracePeriodSeconds", 0):
            metadata |= {"deletionTimestamp": deadline(grace), "deletionGracePeriodSeconds": grace}
            metadata |= {"generation": metadata["generation"] + 1} if first and "generation" in metadata else {}
        marked = {**item, "metadata": metadata}
        if resource.key == "namespaces":
            marked = {**marked, "status": {**item.get("status", {}), "phase": "Terminating"}}
        if may_go(marked):
            return self._store.remove(resource.key, key)
        return self._store.put(resource.key, key, marked) if marked != item else item


def _options(request: Request) -> dict[str, Any]:
    """Delete options from the body, or else from the URL."""
    options = request.item()
    names = ("gracePeriodSeconds", "propagationPolicy", "orphanDependents")
    options = {name: request.query[name] for name in names if name in request.query} | options
    if str(options.get("orphanDependents", "")).lower() == "true":
        options["propagationPolicy"] = "Orphan"
    return options


def _grace(resource: Resource, item: Object, options: dict[str, Any]) -> int:
    """Grace period of a pod, s; 0 if it is not bound or has ended, and for other kinds."""
    if resource.key != "pods":
        return 0
    if not item["spec"].get("nodeName") or item.get("status", {}).get("phase") in ("Succeeded", "Failed"):
        return 0
    own = item["spec"].get("terminationGracePeriodSeconds", POD_GRACE_S)
    asked = options.get("gracePeriodSeconds")
    return int(own if asked is None else asked)


def _check_preconditions(item: Object, options: dict[str, Any], request: Request) -> None:
    wanted = options.get("preconditions") or {}
    for name, words in (("uid", "UID"), ("resourceVersion", "ResourceVersion")):
        if name in wanted and wanted[name] != item["metadata"][name]:
            why = f"Precondition failed: {words} in precondition: {wanted[name]}, {words} in object meta: "
            raise failures.conflict(request.resource.key, request.name, why + item["metadata"][name])
