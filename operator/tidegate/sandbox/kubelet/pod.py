"""
One pod on a hollow node: its containers, its status, its deletion.

In:    a pod bound to the node, and its later changes.
Out:   status patches, events, and the removal of the object after a deletion.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

import aiohttp

from tidegate.errors import SourceError
from tidegate.sandbox.kube import Kube, KubeError, Object
from tidegate.sandbox.kubelet.addresses import listening
from tidegate.sandbox.kubelet.container import Container
from tidegate.sandbox.kubelet.probes import named_port
from tidegate.sandbox.kubelet.runtime import Place
from tidegate.sandbox.kubelet.status import condition_values, merged_conditions, phase_of, pod_status

GRACE_S = 30.0
RETRY_S = 0.5

Recorder = Callable[[Object, str, str, str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeServices:
    """
    What a node provides to its pods.

    Args:
        kube: The API client.
        session: HTTP session for probes and hooks.
        pulled: Returns when an image is on the node; arguments: image, pull time (s).
        record: Writes an event about an object; arguments: object, type, reason, message.
        address: The node's own address.
    """

    kube: Kube
    session: aiohttp.ClientSession
    pulled: Callable[[str, float], Awaitable[None]]
    record: Recorder
    address: str


class Pod:
    """One pod. `run` runs it; `delete` begins its deletion; `vanish` says that its object no longer exists."""

    def __init__(self, pod: Object, *, place: Place, services: NodeServices) -> None:
        self.object, self.place, self._services = pod, place, services
        self.session = services.session
        restarts = pod["spec"].get("restartPolicy", "Always") == "Always"
        self.containers = [
            Container(spec, place=place, host=self, restarts=restarts) for spec in pod["spec"]["containers"]
        ]
        metadata = pod["metadata"]
        self.path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"
        self._began = datetime.now(UTC)
        self._conditions: list[Object] = list((pod.get("status") or {}).get("conditions") or [])
        self._news, self._ending, self._vanished = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._grace_s = GRACE_S

    async def pulled(self, image: str, pull_s: float) -> None:
        """See `Host`."""
        await self._services.pulled(image, pull_s)

    def changed(self) -> None:
        """See `Host`."""
        self._news.set()

    def event(self, kind: str, reason: str, message: str) -> None:
        """See `Host`."""
        self._services.record(self.object, kind, reason, message)

    def delete(self, grace_s: float) -> None:
        """Its object was marked for deletion: end within `grace_s`."""
        self._grace_s = grace_s
        self._ending.set()

    def vanish(self) -> None:
        """Its object no longer exists: end at once."""
        self._vanished.set()

    async def run(self) -> None:
        """Run the containers until the pod is deleted or vanishes; then end them and remove the object."""
        lives = [asyncio.create_task(container.run()) for container in self.containers]
        reporter = asyncio.create_task(self._report())
        self._news.set()
        try:
            await self._until_over()
        finally:
            for task in lives:
                task.cancel()
            await asyncio.gather(*lives, return_exceptions=True)
            if self._ending.is_set() and not self._vanished.is_set():
                await self._end()
            reporter.cancel()
            await asyncio.gather(reporter, return_exceptions=True)
            for container in self.containers:
                await container.kill()
        if not self._vanished.is_set():
            await self._remove()

    async def _until_over(self) -> None:
        waits = [asyncio.create_task(event.wait()) for event in (self._ending, self._vanished)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _end(self) -> None:
        """preStop, SIGTERM and SIGKILL within the grace period; aborted if the pod vanishes meanwhile."""
        ends = asyncio.create_task(self._end_containers())
        vanished = asyncio.create_task(self._vanished.wait())
        await asyncio.wait({ends, vanished}, return_when=asyncio.FIRST_COMPLETED)
        ends.cancel()
        vanished.cancel()
        await asyncio.gather(ends, vanished, return_exceptions=True)

    async def _end_containers(self) -> bool:
        await asyncio.gather(*(self._end_container(container) for container in self.containers))
        return True

    async def _end_container(self, container: Container) -> None:
        clock = asyncio.get_running_loop().time
        deadline_s = clock() + self._grace_s
        self.event("Normal", "Killing", f"Stopping container {container.name}")
        hook = ((container.spec.get("lifecycle") or {}).get("preStop")) or {}
        if container.run_now is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._hook(container, hook), self._grace_s)
        await container.stop(grace_s=deadline_s - clock())

    async def _hook(self, container: Container, hook: Object) -> None:
        """Run a preStop hook: a sleep (at the sandbox's pace) or an HTTP request. Other commands succeed at once."""
        if "sleep" in hook:
            await asyncio.sleep(float(hook["sleep"]["seconds"]) / self.place.pace)
        elif "exec" in hook:
            found = re.search(r"\bsleep\s+(\d+(?:\.\d+)?)", " ".join(hook["exec"].get("command") or []))
            await asyncio.sleep(float(found[1]) / self.place.pace if found else 0.0)
        elif "httpGet" in hook:
            port = named_port(container.spec, hook["httpGet"]["port"])
            path = str(hook["httpGet"].get("path") or "/").lstrip("/")
            with suppress(aiohttp.ClientError):
                await self.session.get(f"http://{listening(self.place.address)}:{port}/{path}")

    async def _report(self) -> None:
        """Patch the status after each change; changes during a patch go into the next one."""
        while True:
            await self._news.wait()
            self._news.clear()
            try:
                await self._services.kube.patch(f"{self.path}/status", {"status": self._status()})
            except KubeError as refused:
                if refused.status != 404:
                    await self._later()
            except (aiohttp.ClientError, TimeoutError, SourceError):
                await self._later()

    async def _later(self) -> None:
        await asyncio.sleep(RETRY_S)
        self._news.set()

    def _status(self) -> Object:
        containers = [container.status() for container in self.containers]
        self._conditions = merged_conditions(self._conditions, condition_values(containers), datetime.now(UTC))
        return pod_status(
            containers,
            phase=phase_of(containers),
            addresses=(self.place.address, self._services.address),
            started=self._began,
            conditions=self._conditions,
        )

    async def _remove(self) -> None:
        """Write the last status, then delete the object with grace period 0, as a kubelet does."""
        uid = self.object["metadata"]["uid"]
        body = {"gracePeriodSeconds": 0, "preconditions": {"uid": uid}}
        while not self._vanished.is_set():
            try:
                await self._services.kube.patch(f"{self.path}/status", {"status": self._status()})
                await self._services.kube.delete(self.path, body)
            except KubeError as refused:
                if refused.status in (404, 409):
                    return
                await asyncio.sleep(RETRY_S)
            except (aiohttp.ClientError, TimeoutError):
                await asyncio.sleep(RETRY_S)
            else:
                return
