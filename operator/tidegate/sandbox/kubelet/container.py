"""
One container of a pod: pull, start, probe, crash, back off, restart.

In:    a container of a pod spec, and where it runs.
Out:   its state as a kubelet reports it; `Host.changed` is called after each change.
"""

import asyncio
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

import aiohttp

from tidegate.errors import SpecError
from tidegate.sandbox.kube import Object
from tidegate.sandbox.kubelet.machines import timestamp
from tidegate.sandbox.kubelet.probes import Probe, probe_of
from tidegate.sandbox.kubelet.runtime import Place, VllmProcess, WaitingProcess, is_vllm, pull_s, start

# Back-off of a crashed container: 10 s, doubled each time up to 5 minutes; reset after it ran for 10 minutes.
BACKOFF_S, BACKOFF_S_MOST = 10.0, 300.0
BACKOFF_RESET_S = 600.0


class Host(Protocol):
    """What a container needs from its node and pod."""

    session: aiohttp.ClientSession

    async def pulled(self, image: str, pull_s: float) -> None:
        """Return when the image is on the node."""

    def changed(self) -> None:
        """Called when the container's state has changed."""

    def event(self, kind: str, reason: str, message: str) -> None:
        """Record an event about the pod."""


@dataclass(slots=True)
class Run:
    """One run of a container; `restarting`: the kubelet itself kills it, after a failed probe."""

    process: VllmProcess | WaitingProcess
    started: datetime
    restarting: bool = False


class Container:
    """One container; `restarts`: whether it is restarted when it ends (restart policy)."""

    def __init__(self, spec: Object, *, place: Place, host: Host, restarts: bool) -> None:
        self.spec, self.place, self._host, self._restarting = spec, place, host, restarts
        self.name = str(spec["name"])
        self.state: Object = {"waiting": {"reason": "ContainerCreating"}}
        self.last_state: Object = {}
        self.restart_count = 0
        self.ready = self.started = False
        self.run_now: Run | None = None
        address = place.address if is_vllm(spec) else None
        self._startup, self._ready_probe, self._liveness = (
            probe_of(spec, kind, address=address, pace=place.pace)
            for kind in ("startupProbe", "readinessProbe", "livenessProbe")
        )

    def status(self) -> Object:
        """Its entry in `containerStatuses`."""
        return {
            "name": self.name,
            "image": self.spec.get("image", ""),
            "imageID": f"sandbox://{self.spec.get('image', '')}",
            "containerID": f"sandbox://{self.place.pod}/{self.name}/{self.restart_count}",
            "ready": self.ready,
            "started": self.started,
            "restartCount": self.restart_count,
            "state": self.state,
            "lastState": self.last_state,
        }

    async def run(self) -> None:
        """Run until cancelled, or until it ends and is not restarted."""
        await self._host.pulled(str(self.spec.get("image", "")), self._pull_s())
        backoff_s = BACKOFF_S
        while True:
            began = datetime.now(UTC)
            code, reason = await self._live(began)
            self._ended(code, reason, began)
            if not self._restarting:
                return
            if (datetime.now(UTC) - began).total_seconds() * self.place.pace > BACKOFF_RESET_S:
                backoff_s = BACKOFF_S
            await self._back_off(backoff_s)
            backoff_s = min(BACKOFF_S_MOST, 2 * backoff_s)
            self.restart_count += 1

    async def stop(self, *, grace_s: float) -> None:
        """SIGTERM, and SIGKILL if it has not ended after `grace_s`."""
        run = self.run_now
        if run is None:
            return
        await run.process.terminate()
        try:
            await asyncio.wait_for(asyncio.shield(run.process.exited), max(0.0, grace_s))
        except TimeoutError:
            await run.process.kill()
        self._ended(await run.process.exited, "Completed", run.started)

    async def kill(self) -> None:
        """SIGKILL, without reporting it."""
        if self.run_now is not None:
            await self.run_now.process.kill()

    def _pull_s(self) -> float:
        try:
            return pull_s(self.spec, self.place)
        except SpecError:
            return 0.0  # the error is reported at the start

    async def _live(self, began: datetime) -> tuple[int, str]:
        """One run; returns its exit code and a kubelet's reason for it."""
        try:
            process = start(self.spec, self.place)
        except SpecError as wrong:
            self._host.event("Warning", "Failed", f"{self.name}: {wrong}")
            return 1, "Error"
        run = self.run_now = Run(process, began)
        self.state = {"running": {"startedAt": timestamp(began)}}
        self.started = self._startup is None
        self.ready = self.started and self._ready_probe is None
        self._host.event("Normal", "Started", f"Started container {self.name}")
        self._host.changed()
        watcher = asyncio.create_task(self._probe(run))
        try:
            code = await asyncio.shield(process.exited)
        finally:
            watcher.cancel()
            await asyncio.gather(watcher, return_exceptions=True)
        return code, "OOMKilled" if code == 137 and not run.restarting else "Error"

    async def _probe(self, run: Run) -> None:
        """Run the startup probe, then the readiness and liveness probes concurrently."""
        if self._startup is not None:
            async with aclosing(self._startup.verdicts(self._host.session)) as verdicts:
                async for passed in verdicts:
                    if not passed:
                        await self._restart(run, "startup probe failed")
                        return
                    break
        self.started = True
        self.ready = self._ready_probe is None
        self._host.changed()
        await asyncio.gather(self._watch_readiness(self._ready_probe), self._watch_liveness(run))

    async def _watch_readiness(self, probe: Probe | None) -> None:
        if probe is None:
            return
        async with aclosing(probe.verdicts(self._host.session)) as verdicts:
            async for passed in verdicts:
                if passed != self.ready:
                    self.ready = passed
                    if not passed:
                        self._host.event("Warning", "Unhealthy", f"Readiness probe failed: {self.name}")
                    self._host.changed()

    async def _watch_liveness(self, run: Run) -> None:
        if self._liveness is None:
            return
        async with aclosing(self._liveness.verdicts(self._host.session)) as verdicts:
            async for passed in verdicts:
                if not passed:
                    await self._restart(run, "liveness probe failed")
                    return

    async def _restart(self, run: Run, why: str) -> None:
        run.restarting = True
        self._host.event("Warning", "Unhealthy", f"{self.name}: {why}, container will be restarted")
        await run.process.kill()

    def _ended(self, code: int, reason: str, began: datetime) -> None:
        self.run_now = None
        self.ready = self.started = False
        self.state = {
            "terminated": {
                "exitCode": code,
                "reason": "Completed" if code == 0 else reason,
                "startedAt": timestamp(began),
                "finishedAt": timestamp(datetime.now(UTC)),
            }
        }
        self._host.changed()

    async def _back_off(self, backoff_s: float) -> None:
        self.last_state = self.state
        text = f"back-off {backoff_s:.0f}s restarting failed container={self.name}"
        self.state = {"waiting": {"reason": "CrashLoopBackOff", "message": text}}
        self._host.event("Warning", "BackOff", text)
        self._host.changed()
        await asyncio.sleep(backoff_s / self.place.pace)
