"""
Several hollow nodes in one process.

In:    machines, and a client of the API server.
Out:   Node objects that stay ready, and the pods that run on them.
"""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

import aiohttp
from aiohttp import web

from tidegate.errors import SourceError
from tidegate.sandbox.emulator.lag import Lag
from tidegate.sandbox.exporter import exposition
from tidegate.sandbox.kube import Change, Kube, KubeError, Object
from tidegate.sandbox.kubelet.addresses import Addresses, listening, node_address
from tidegate.sandbox.kubelet.gpus import Gpus
from tidegate.sandbox.kubelet.machines import (
    LEASE_NAMESPACE,
    RENEW_S,
    Machine,
    lease_object,
    node_object,
    node_status,
    timestamp,
)
from tidegate.sandbox.kubelet.pod import GRACE_S, NodeServices, Pod, Recorder
from tidegate.sandbox.kubelet.runtime import Place
from tidegate.sandbox.vllm.factory import Factory

log = logging.getLogger(__name__)

EXPORTER_PORT = 9400
PODS = "/api/v1/pods"


@dataclass(slots=True)
class Node:
    """One node, its accelerators and its pod addresses."""

    machine: Machine
    services: NodeServices
    gpus: Gpus
    addresses: Addresses
    lag: Lag = field(default_factory=Lag)


class HollowNodes:
    """
    The nodes.

    Args:
        kube: A client with the permissions of kubelets.
        machines: The nodes to create.
        pace: How many times faster than real time start-ups and probes are, >= 1.
        seed: Seed of start-up times and hardware.
        factory: Starts real vLLM servers; None: they are emulated.
    """

    def __init__(
        self, kube: Kube, machines: Sequence[Machine], *, pace: float, seed: int, factory: Factory | None = None
    ) -> None:
        self._kube, self._pace, self._seed, self._factory = kube, pace, seed, factory
        self._machines = machines
        self._nodes: dict[str, Node] = {}
        self._pods: dict[str, tuple[Pod, asyncio.Task[None]]] = {}
        self._events: set[asyncio.Task[None]] = set()
        self._exporters: list[web.AppRunner] = []

    async def run(self) -> None:
        """Register the nodes and run them until cancelled; then stop every server on them."""
        async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as tasks:
            try:
                for machine in self._machines:
                    node = self._nodes[machine.name] = self._node(machine, session)
                    await self._register(node)
                    tasks.create_task(self._renew(machine))
                    tasks.create_task(node.gpus.sample())
                await self._follow_pods()
            finally:
                await self._close()

    def _node(self, machine: Machine, session: aiohttp.ClientSession) -> Node:
        images: dict[str, asyncio.Task[None]] = {}

        async def pulled(image: str, pull_s: float) -> None:
            if image not in images:
                images[image] = asyncio.create_task(asyncio.sleep(pull_s))
            await asyncio.shield(images[image])

        services = NodeServices(
            kube=self._kube,
            session=session,
            pulled=pulled,
            record=self._recorder(machine),
            address=node_address(machine.number),
        )
        return Node(machine, services, Gpus(machine), Addresses(machine.number))

    async def _register(self, node: Node) -> None:
        machine, now = node.machine, datetime.now(UTC)
        for path, body in (
            ("/api/v1/nodes", node_object(machine)),
            (f"/apis/coordination.k8s.io/v1/namespaces/{LEASE_NAMESPACE}/leases", lease_object(machine, now)),
        ):
            try:
                await self._kube.create(path, body)
            except KubeError as refused:
                if refused.status != 409:
                    raise
        await self._kube.patch(f"/api/v1/nodes/{machine.name}/status", {"status": node_status(machine, now)})
        await self._export(node)

    async def _renew(self, machine: Machine) -> None:
        path = f"/apis/coordination.k8s.io/v1/namespaces/{LEASE_NAMESPACE}/leases/{machine.name}"
        while True:
            await asyncio.sleep(RENEW_S)
            with suppress(aiohttp.ClientError, TimeoutError, SourceError):
                await self._kube.patch(path, {"spec": lease_object(machine, datetime.now(UTC))["spec"]})

    async def _export(self, node: Node) -> None:
        async def metrics(_: web.Request) -> web.Response:
            return web.Response(body=exposition(node.gpus.readings), content_type="text/plain")

        async def emulator(_: web.Request) -> web.Response:
            return web.json_response(node.lag.figures())

        app = web.Application()
        app.router.add_get("/metrics", metrics)
        app.router.add_get("/emulator", emulator)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        self._exporters.append(runner)
        await web.TCPSite(
            runner, listening(node_address(node.machine.number)), EXPORTER_PORT, reuse_address=True
        ).start()

    async def _follow_pods(self) -> None:
        async for change in self._kube.follow(PODS):
            node = self._nodes.get(change.object["spec"].get("nodeName", ""))
            if node is not None:
                self._take(node, change)

    def _take(self, node: Node, change: Change) -> None:
        metadata = change.object["metadata"]
        uid, known = metadata["uid"], self._pods.get(metadata["uid"])
        if change.gone:
            if known is not None:
                known[0].vanish()
        elif known is None and change.object.get("status", {}).get("phase") not in ("Succeeded", "Failed"):
            self._begin(node, uid, change.object)
        if not change.gone and "deletionTimestamp" in metadata and uid in self._pods:
            self._pods[uid][0].delete(float(metadata.get("deletionGracePeriodSeconds", GRACE_S)))

    def _begin(self, node: Node, uid: str, found: Object) -> None:
        place = Place(
            address=node.addresses.take(),
            pod=str(found["metadata"]["name"]),
            product=node.machine.product,
            pace=self._pace,
            seed=self._seed,
            lag=node.lag,
            factory=self._factory,
        )
        pod = Pod(found, place=place, services=node.services)
        node.gpus.take(pod)
        self._pods[uid] = (pod, asyncio.create_task(self._live(node, uid, pod)))

    async def _live(self, node: Node, uid: str, pod: Pod) -> None:
        try:
            await pod.run()
        except Exception:
            # A failure of one pod must not end the node.
            log.exception("pod %s", pod.place.pod)
        finally:
            node.gpus.give_back(pod)
            node.addresses.give_back(pod.place.address)
            self._pods.pop(uid, None)

    def _recorder(self, machine: Machine) -> Recorder:
        def record(about: Object, kind: str, reason: str, message: str) -> None:
            task = asyncio.create_task(
                self._record(machine, about, {"type": kind, "reason": reason, "message": message})
            )
            self._events.add(task)
            task.add_done_callback(self._events.discard)

        return record

    async def _record(self, machine: Machine, about: Object, what: Object) -> None:
        metadata, stamp = about["metadata"], timestamp(datetime.now(UTC))
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"generateName": f"{metadata['name']}.", "namespace": metadata["namespace"]},
            "involvedObject": {
                "apiVersion": "v1",
                "kind": "Pod",
                "name": metadata["name"],
                "namespace": metadata["namespace"],
                "uid": metadata["uid"],
            },
            "source": {"component": "kubelet", "host": machine.name},
            "firstTimestamp": stamp,
            "lastTimestamp": stamp,
            "count": 1,
            **what,
        }
        with suppress(aiohttp.ClientError, TimeoutError, SourceError):
            await self._kube.create(f"/api/v1/namespaces/{metadata['namespace']}/events", event)

    async def _close(self) -> None:
        tasks = [task for _, task in self._pods.values()]
        for pod, _ in list(self._pods.values()):
            pod.vanish()
        await asyncio.gather(*tasks, return_exceptions=True)
        for runner in self._exporters:
            await runner.cleanup()
