"""
What all controllers share: access to the objects, and the few ways to write them.

In:    the store and the write path.
Out:   a `Cluster`.
"""

from dataclasses import dataclass
from typing import Any

import msgspec

from tidegate.sandbox.embedded.deleting import Deleter
from tidegate.sandbox.embedded.failures import ApiError
from tidegate.sandbox.embedded.request import Request
from tidegate.sandbox.embedded.resources import Registry
from tidegate.sandbox.embedded.store import Key, Object, Store
from tidegate.sandbox.embedded.writing import Writer, random_suffix, timestamp

PODS, NODES, SERVICES = "pods", "nodes", "services"
DEPLOYMENTS, REPLICA_SETS = "deployments.apps", "replicasets.apps"
SLICES = "endpointslices.discovery.k8s.io"


def key_of(item: Object) -> Key:
    """(namespace, name) of an object."""
    return item["metadata"].get("namespace", ""), item["metadata"]["name"]


def controller_of(item: Object) -> dict[str, Any] | None:
    """The owner reference to the object's controller; None if it has none."""
    owners = item["metadata"].get("ownerReferences") or []
    return next((owner for owner in owners if owner.get("controller")), None)


def owner_reference(item: Object) -> dict[str, Any]:
    """An owner reference to a controlling object."""
    head = {"apiVersion": item["apiVersion"], "kind": item["kind"], "name": item["metadata"]["name"]}
    return {**head, "uid": item["metadata"]["uid"], "controller": True, "blockOwnerDeletion": True}


def is_ready(pod: Object) -> bool:
    """Whether a pod is ready."""
    conditions = pod.get("status", {}).get("conditions", [])
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """The objects, and the ways in which controllers write them."""

    store: Store
    registry: Registry
    writer: Writer
    deleter: Deleter

    def owned(self, resource: str, owner: Object) -> list[Object]:
        """The objects of a kind that `owner` controls."""
        uid = owner["metadata"]["uid"]
        mine = self.store.objects(resource, owner["metadata"].get("namespace"))
        return [each for each in mine if (controller_of(each) or {}).get("uid") == uid]

    def create(self, resource: str, item: Object) -> Object | None:
        """Creates an object; None if that is rejected, e.g. in a namespace that is being deleted."""
        request = Request(
            verb="create",
            resource=self.registry.by_key(resource),
            namespace=item["metadata"].get("namespace", ""),
            body=msgspec.json.encode(item),
            agent="kube-controller-manager/embedded",
        )
        try:
            return self.writer.create(request)[1]
        except ApiError:
            return None

    def write_status(self, resource: str, item: Object, status: dict[str, Any]) -> None:
        """Stores a status if it differs."""
        if status != item.get("status"):
            self.store.put(resource, key_of(item), {**item, "status": status})

    def write_spec(self, resource: str, item: Object, **fields: Any) -> Object:
        """Stores changed fields of a spec and increments the generation."""
        metadata = {**item["metadata"], "generation": item["metadata"].get("generation", 0) + 1}
        return self.store.put(
            resource, key_of(item), {**item, "metadata": metadata, "spec": {**item["spec"], **fields}}
        )

    def delete(self, resource: str, item: Object) -> None:
        """Deletes an object."""
        self.deleter.end(self.registry.by_key(resource), item, {})

    def record(self, item: Object, *, reason: str, message: str, kind: str = "Normal", component: str) -> None:
        """Records an Event about an object; a repeated one only increases the count."""
        namespace, name = key_of(item)
        about = {"kind": item["kind"], "apiVersion": item["apiVersion"], "name": name, "uid": item["metadata"]["uid"]}
        about |= {"namespace": namespace} if namespace else {}
        now = timestamp()
        for event in self.store.objects("events", namespace or "default"):
            if event["involvedObject"].get("uid") == about["uid"] and event["message"] == message:
                seen = {**event, "count": event.get("count", 1) + 1, "lastTimestamp": now}
                self.store.put("events", key_of(event), seen)
                return
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"namespace": namespace or "default", "name": f"{name}.{random_suffix(16)}"},
            "involvedObject": about,
            "reason": reason,
            "message": message,
            "type": kind,
            "source": {"component": component},
            "count": 1,
            "firstTimestamp": now,
            "lastTimestamp": now,
        }
        self.create("events", event)
