"""
The current state of a demo, collected from everything that runs.

In:    pods and the custom resource from the API server, outcomes from the replayer, Prometheus, the nodes' lag.
Out:   a `Scene`, updated in place.
"""

import asyncio
import json
from collections import Counter, deque
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from tidegate.errors import SourceError
from tidegate.ports import DEPLOYMENT_LABEL, DEPLOYMENTS, GROUP, TIER_LABEL, VERSION
from tidegate.sandbox.demo.ledger import Ledger
from tidegate.sandbox.demo.scenario import Scenario
from tidegate.sandbox.demo.stage import Stage
from tidegate.sandbox.kube import Change, Object
from tidegate.sandbox.traffic.outcomes import Outcome, Summary, summary

POLL_S = 1.0
# Window of the figures labelled "now".
RECENT_S = 20.0
# How far back the operator's figures reach: its rate window plus a tick.
CLAIM_S = 15.0


@dataclass(slots=True)
class Scene:
    """
    Everything that the view shows.

    Args:
        scenario: The inputs.
        ledger: The cost.
        started_s: Start of the replay, event loop time; None: not started.
        outcomes: Requests that have ended.
        pods: The deployment's pods by uid.
        status: The deployment's status.
        decisions: Recent decisions: (seconds of the replay, reason, message).
        gpu_utilization: Mean over accelerators in use, in [0, 1]; None: unknown.
        lag: How late the servers' steps ended; see `Lag.figures`.
        queued: Requests that wait for a replica.
        claims: The operator's own attainment: (seconds of the replay, attainment).
    """

    scenario: Scenario
    ledger: Ledger
    started_s: float | None = None
    outcomes: list[Outcome] = field(default_factory=list)
    pods: dict[str, Object] = field(default_factory=dict)
    status: dict[str, Any] = field(default_factory=dict)
    decisions: deque[tuple[float, str, str]] = field(default_factory=lambda: deque(maxlen=6))
    gpu_utilization: float | None = None
    lag: dict[str, float] = field(default_factory=dict)
    queued: int = 0
    claims: list[tuple[float, float]] = field(default_factory=list)

    def elapsed_s(self, now_s: float) -> float:
        """Seconds of the replay; 0 before it starts."""
        return max(0.0, now_s - self.started_s) if self.started_s is not None else 0.0

    def replicas(self) -> dict[str, Counter[str]]:
        """Pods by tier and state: `ready`, `starting`, `pending`, `leaving`."""
        found: dict[str, Counter[str]] = {tier.name: Counter() for tier in self.scenario.deployment.tiers}
        for pod in self.pods.values():
            found.setdefault(tier_of(pod), Counter())[state_of(pod)] += 1
        return found

    def offered_rps(self, elapsed_s: float) -> float:
        """Arrivals per second over the last seconds."""
        window_s = min(RECENT_S / 2, elapsed_s)
        if window_s <= 0:
            return 0.0
        return sum(1 for a in self.scenario.arrivals if elapsed_s - window_s < a.time_s <= elapsed_s) / window_s

    def in_flight(self, elapsed_s: float) -> int:
        """Requests that were due and have not ended."""
        return sum(1 for a in self.scenario.arrivals if a.time_s <= elapsed_s) - len(self.outcomes)

    def recent(self, elapsed_s: float) -> Summary:
        """What clients saw in the last `RECENT_S`."""
        ended = [o for o in self.outcomes if o.ended_s > elapsed_s - RECENT_S]
        return summary(ended, self.scenario.deployment.slo)

    def compared(self) -> tuple[float, float] | None:
        """
        Attainment according to the operator and according to clients, in the same windows; None: the operator gave
        none.

        Each value of the operator is weighted by the requests that ended in its window.
        """
        claimed = seen = weight = 0.0
        for at_s, claim in self.claims:
            ended = [o for o in self.outcomes if at_s - CLAIM_S < o.ended_s <= at_s]
            found = summary(ended, self.scenario.deployment.slo)
            if found.attainment is not None:
                claimed += claim * found.requests
                seen += found.attainment * found.requests
                weight += found.requests
        return (claimed / weight, seen / weight) if weight else None

    def close(self, now_s: float) -> None:
        """End the replay: requests without an outcome count as failed."""
        missing = len(self.scenario.arrivals) - len(self.outcomes)
        silent = Outcome(
            arrival_s=self.scenario.duration_s,
            late_s=0.0,
            ttft_s=None,
            itl_s=None,
            output_tokens=0,
            ended_s=self.elapsed_s(now_s),
            error="not answered",
        )
        self.outcomes += [silent] * missing

    def whole(self) -> Summary:
        """What clients saw in the whole replay so far."""
        return summary(self.outcomes, self.scenario.deployment.slo)


def tier_of(pod: Object) -> str:
    """The tier of a pod."""
    return str(pod["metadata"].get("labels", {}).get(TIER_LABEL, "?"))


def state_of(pod: Object) -> str:
    """State of a pod: `ready`, `starting`, `pending` or `leaving`."""
    if "deletionTimestamp" in pod["metadata"]:
        return "leaving"
    if not pod["spec"].get("nodeName"):
        return "pending"
    conditions = pod.get("status", {}).get("conditions", [])
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
    return "ready" if ready else "starting"


def holds_accelerators(pod: Object) -> bool:
    """Whether the pod occupies its accelerators: it is bound and has not ended."""
    ended = pod.get("status", {}).get("phase") in ("Succeeded", "Failed")
    return bool(pod["spec"].get("nodeName")) and not ended


class Observer:
    """Keeps a scene up to date while it runs."""

    def __init__(self, stage: Stage, scene: Scene) -> None:
        self._stage, self._scene = stage, scene
        self._read = 0

    async def run(self) -> None:
        """Update the scene until cancelled."""
        async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow_pods())
            tasks.create_task(self._follow_status())
            tasks.create_task(self._poll(session))

    def read_outcomes(self, path: Path) -> None:
        """Read the outcomes that the replayer wrote since the last call."""
        if not path.exists():
            return
        with path.open() as file:
            file.seek(self._read)
            while (line := file.readline()).endswith("\n"):
                self._read = file.tell()
                value = json.loads(line)
                if isinstance(value, dict):
                    self._scene.outcomes.append(Outcome(**value))

    async def _follow_pods(self) -> None:
        key = self._scene.scenario.deployment.key
        path = f"/api/v1/namespaces/{key.namespace}/pods"
        async for change in self._stage.kube.follow(path, labelSelector=f"{DEPLOYMENT_LABEL}={key.name}"):
            self._take(change)

    def _take(self, change: Change) -> None:
        now_s = asyncio.get_running_loop().time()
        uid = change.object["metadata"]["uid"]
        if change.gone:
            self._scene.pods.pop(uid, None)
            self._scene.ledger.gone(uid, now_s)
            return
        self._scene.pods[uid] = change.object
        if holds_accelerators(change.object):
            self._scene.ledger.bound(uid, tier_of(change.object), now_s)
        else:
            self._scene.ledger.gone(uid, now_s)

    async def _follow_status(self) -> None:
        key = self._scene.scenario.deployment.key
        path = f"/apis/{GROUP}/{VERSION}/namespaces/{key.namespace}/{DEPLOYMENTS}"
        async for change in self._stage.kube.follow(path, fieldSelector=f"metadata.name={key.name}"):
            status = change.object.get("status") or {}
            decision = status.get("decision") or {}
            known = (self._scene.status.get("decision") or {}).get("time")
            self._scene.status = status
            if decision and decision.get("time") != known:
                elapsed_s = self._scene.elapsed_s(asyncio.get_running_loop().time())
                self._scene.decisions.append((elapsed_s, decision["reason"], decision["message"]))

    async def _poll(self, session: aiohttp.ClientSession) -> None:
        while True:
            self._note_claim()
            with suppress(aiohttp.ClientError, TimeoutError, SourceError, ValueError):
                await self._poll_lag(session)
            with suppress(aiohttp.ClientError, TimeoutError, SourceError, ValueError, KeyError):
                await self._poll_prometheus(session)
            await asyncio.sleep(POLL_S)

    def _note_claim(self) -> None:
        claimed = (self._scene.status.get("goodput") or {}).get("attainment")
        elapsed_s = self._scene.elapsed_s(asyncio.get_running_loop().time())
        if claimed is not None and 0 < elapsed_s <= self._scene.scenario.duration_s:
            self._scene.claims.append((elapsed_s, float(claimed)))

    async def _poll_lag(self, session: aiohttp.ClientSession) -> None:
        total: Counter[str] = Counter()
        worst_s = 0.0
        for url in self._stage.lag_urls:
            async with session.get(url) as response:
                figures = await response.json()
            worst_s = max(worst_s, figures.pop("lag_worst_s"))
            total.update(figures)
        self._scene.lag = {**total, "lag_worst_s": worst_s}

    async def _poll_prometheus(self, session: aiohttp.ClientSession) -> None:
        self._scene.gpu_utilization = await self._query(session, 'avg(DCGM_FI_DEV_GPU_UTIL{pod!=""}) / 100')
        queued = await self._query(session, "sum(front_queued_requests)")
        self._scene.queued = round(queued or 0.0)

    async def _query(self, session: aiohttp.ClientSession, text: str) -> float | None:
        async with session.get(f"{self._stage.prometheus_url}/api/v1/query", params={"query": text}) as response:
            answer = await response.json()
        result = answer["data"]["result"]
        return float(result[0]["value"][1]) if result else None
