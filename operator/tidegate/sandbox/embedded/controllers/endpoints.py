"""
Service -> EndpointSlice: the addresses of a Service's pods, and which of them are ready.

In:    a Service with a selector.
Out:   one EndpointSlice, owned by the Service.
"""

from typing import Any

from tidegate.sandbox.embedded.controllers.cluster import PODS, SLICES, Cluster, is_ready, key_of, owner_reference
from tidegate.sandbox.embedded.store import Object
from tidegate.sandbox.embedded.writing import random_suffix

NAME_LABEL = "kubernetes.io/service-name"
MANAGER_LABEL = {"endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"}


class Endpoints:
    """Keeps each Service's EndpointSlice up to date."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def look(self, service: Object) -> None:
        """Creates the slice, or updates it if it differs."""
        selector = service["spec"].get("selector")
        if not selector or service["metadata"].get("deletionTimestamp"):
            return
        namespace, name = key_of(service)
        pods = [
            pod
            for pod in self._cluster.store.objects(PODS, namespace)
            if selector.items() <= (pod["metadata"].get("labels") or {}).items() and pod.get("status", {}).get("podIP")
        ]
        content = {
            "addressType": "IPv4",
            "endpoints": [_endpoint(pod, service) for pod in sorted(pods, key=key_of)],
            "ports": [_port(each, pods) for each in service["spec"].get("ports", [])],
        }
        owned = self._cluster.owned(SLICES, service)
        if not owned:
            labels = {**(service["metadata"].get("labels") or {}), NAME_LABEL: name, **MANAGER_LABEL}
            metadata = {"name": f"{name}-{random_suffix()}", "namespace": namespace, "labels": labels}
            metadata |= {"ownerReferences": [owner_reference(service)]}
            self._cluster.create(SLICES, {"metadata": metadata, **content})
        elif any(owned[0].get(field) != value for field, value in content.items()):
            self._cluster.store.put(SLICES, key_of(owned[0]), {**owned[0], **content})


def _endpoint(pod: Object, service: Object) -> dict[str, Any]:
    going = bool(pod["metadata"].get("deletionTimestamp"))
    serving = is_ready(pod) or bool(service["spec"].get("publishNotReadyAddresses"))
    target = {"kind": "Pod", "name": pod["metadata"]["name"], "namespace": pod["metadata"]["namespace"]}
    return {
        "addresses": [pod["status"]["podIP"]],
        "conditions": {"ready": serving and not going, "serving": serving, "terminating": going},
        "nodeName": pod["spec"].get("nodeName"),
        "targetRef": {**target, "uid": pod["metadata"]["uid"]},
    }


def _port(port: dict[str, Any], pods: list[Object]) -> dict[str, Any]:
    """The pods' port behind a Service port; a target port given by name is looked up in their containers."""
    target = port.get("targetPort", port["port"])
    if isinstance(target, str):
        listening = (
            each["containerPort"]
            for pod in pods
            for container in pod["spec"]["containers"]
            for each in container.get("ports", [])
            if each.get("name") == target
        )
        target = next(listening, None)
    return {"name": port.get("name", ""), "port": target, "protocol": port.get("protocol", "TCP")}
