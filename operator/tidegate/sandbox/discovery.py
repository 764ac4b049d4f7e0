"""
Kubernetes service discovery for a Prometheus that was built without it, as Debian's is.

In:    pods and nodes, through the API server.
Out:   Prometheus' HTTP service discovery, with the targets and labels of its Kubernetes discovery for the roles `pod`
       and `node` that our relabelling rules use, so that the rules are the same for both.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

from tidegate.sandbox.kube import Kube, Object

PREFIX = "__meta_kubernetes"
KUBELET_PORT = 10250
COLLECTIONS = {"pods": "/api/v1/pods", "nodes": "/api/v1/nodes"}
# Part of the import path of Prometheus' own discovery; every binary that includes it contains this string.
OWN_DISCOVERY = b"discovery/kubernetes"
CHUNK_BYTES = 1 << 20


def finds_pods_itself(program: Path) -> bool:
    """Whether a Prometheus binary includes Kubernetes service discovery."""
    before = b""
    with program.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            if OWN_DISCOVERY in before + chunk:
                return True
            before = chunk[-len(OWN_DISCOVERY) :]
    return False


def pod_targets(pod: Object) -> Iterator[Object]:
    """One target per container port of a pod; none until the pod has an address."""
    status, metadata = pod.get("status") or {}, pod["metadata"]
    if not status.get("podIP"):
        return
    labels = {
        f"{PREFIX}_namespace": metadata["namespace"],
        f"{PREFIX}_pod_name": metadata["name"],
        f"{PREFIX}_pod_phase": status.get("phase", ""),
        f"{PREFIX}_pod_node_name": pod["spec"].get("nodeName", ""),
    }
    for container in pod["spec"]["containers"]:
        for port in container.get("ports") or []:
            own = {
                f"{PREFIX}_pod_container_name": container["name"],
                f"{PREFIX}_pod_container_port_name": port.get("name", ""),
            }
            yield {"targets": [f"{status['podIP']}:{port['containerPort']}"], "labels": labels | own}


def node_targets(node: Object) -> Iterator[Object]:
    """The target of a node: its kubelet's address."""
    for address in (node.get("status") or {}).get("addresses") or []:
        if address["type"] == "InternalIP":
            labels = {f"{PREFIX}_node_name": node["metadata"]["name"]}
            yield {"targets": [f"{address['address']}:{KUBELET_PORT}"], "labels": labels}


@dataclass(slots=True)
class Discovery:
    """Watches pods and nodes, and serves them at `/targets/pods` and `/targets/nodes`."""

    kube: Kube
    _seen: dict[str, dict[str, Object]] = field(default_factory=lambda: {name: {} for name in COLLECTIONS})

    async def run(self) -> None:
        """Watch until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for name, path in COLLECTIONS.items():
                tasks.create_task(self._follow(name, path))

    def add_routes(self, app: web.Application) -> None:
        """Add the routes that serve the targets."""
        app.router.add_get("/targets/pods", self._pods)
        app.router.add_get("/targets/nodes", self._nodes)

    async def _follow(self, name: str, path: str) -> None:
        async for change in self.kube.follow(path):
            uid = change.object["metadata"]["uid"]
            if change.gone:
                self._seen[name].pop(uid, None)
            else:
                self._seen[name][uid] = change.object

    async def _pods(self, _: web.Request) -> web.Response:
        return web.json_response([target for pod in self._seen["pods"].values() for target in pod_targets(pod)])

    async def _nodes(self, _: web.Request) -> web.Response:
        return web.json_response([target for node in self._seen["nodes"].values() for target in node_targets(node)])
