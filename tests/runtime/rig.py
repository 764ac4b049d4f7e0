"""
The whole operator in one process: an embedded control plane, pods that become ready, a Prometheus with the test's
answers, and time that runs fast.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from tests.cluster import install_crds
from tests.observe.fake_prometheus import FakePrometheus, Handler, one, serving, vector
from tidegate.runtime import parts, planner, process
from tidegate.sandbox.control_plane.account import Account
from tidegate.sandbox.embedded import EmbeddedControlPlane
from tidegate.sandbox.fault_proxy import FaultProxy
from tidegate.settings import Settings

Json = dict[str, Any]
OURS = "/apis/tidegate.io/v1alpha1"
DEPLOYMENTS = "/apis/apps/v1/namespaces/prod/deployments"
CHAT = f"{OURS}/namespaces/prod/inferencedeployments/chat"

# One second of the test is so many of the operator's wall clock: a tick of 0.3 s looks like 15 s.
SPEED = 50.0
TICK_S = 0.3


def accelerator(**spec: Any) -> Json:
    return {
        "apiVersion": "tidegate.io/v1alpha1",
        "kind": "AcceleratorClass",
        "metadata": {"name": "nvidia-h100"},
        "spec": {"resourceName": "nvidia.com/gpu", "pricePerHour": "3.00", "capacity": 64, **spec},
    }


def inference_deployment(name: str = "chat", *, namespace: str = "prod", target: str = "", **spec: Any) -> Json:
    tier = {
        "name": "bf16",
        "quality": "1",
        "accelerator": "nvidia-h100",
        "acceleratorsPerReplica": 1,
        "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": target or f"{name}-bf16"},
    }
    body = {
        "model": "meta-llama/Llama-3.1-8B-Instruct",
        "minReplicas": 2,
        "maxReplicas": 8,
        "slo": {"ttftMilliseconds": 500, "itlMilliseconds": 40, "attainment": "0.99"},
        "tiers": [tier],
        **spec,
    }
    meta = {"name": name, "namespace": namespace}
    return {"apiVersion": "tidegate.io/v1alpha1", "kind": "InferenceDeployment", "metadata": meta, "spec": body}


def workload(name: str = "chat-bf16", *, replicas: int = 1) -> Json:
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": "prod"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "vllm", "image": "x"}]}},
        },
    }


@dataclass
class Rig:
    """
    The cluster around the operator.

    Args:
        proxy: Between the operator and the control plane; sees every request of the operator and can misbehave.
        reports: What one ready pod reports by signal and query; empty: Prometheus knows no pod.
        handler: Takes the place of the healthy Prometheus where it is set.
        tick_s: Seconds between two ticks of the operator.
        queued: What the activation query of `chat` gives.
    """

    plane: EmbeddedControlPlane
    kube: aiohttp.ClientSession
    prometheus: FakePrometheus
    proxy: FaultProxy
    kubeconfig: Path
    reports: dict[str, float] = field(default_factory=dict)
    handler: Handler | None = None
    tick_s: float = TICK_S
    queued: float = 0.0

    async def get(self, path: str) -> Json:
        async with self.kube.get(path) as answer:
            return dict(await answer.json())

    async def create(self, path: str, body: Json) -> Json:
        async with self.kube.post(path, json=body) as answer:
            made = dict(await answer.json())
            assert answer.status in (200, 201), made
            return made

    async def patch(self, path: str, body: Json) -> Json:
        headers = {"Content-Type": "application/merge-patch+json"}
        async with self.kube.patch(path, json=body, headers=headers) as answer:
            made = dict(await answer.json())
            assert answer.status == 200, made
            return made

    async def delete(self, path: str) -> None:
        async with self.kube.delete(path) as answer:
            assert answer.status == 200, await answer.text()

    async def chat(self, **spec: Any) -> None:
        """One class, one workload, one deployment that points at it."""
        await self.create(f"{OURS}/acceleratorclasses", accelerator())
        await self.create(DEPLOYMENTS, workload())
        await self.create(f"{OURS}/namespaces/prod/inferencedeployments", inference_deployment(**spec))

    async def replicas(self, name: str = "chat-bf16") -> int:
        return int((await self.get(f"{DEPLOYMENTS}/{name}"))["spec"]["replicas"])

    def writes(self) -> list[str]:
        """The operator's write requests, without renewals of the Lease."""
        reads = {"GET", "HEAD"}
        return [f"{r.method} {r.path}" for r in self.proxy.seen if r.method not in reads and "/leases" not in r.path]

    async def until(self, condition: Callable[[], Any], *, limit_s: float = 15.0) -> None:
        end_s = time.monotonic() + limit_s
        while time.monotonic() < end_s:
            if await condition():
                return
            await asyncio.sleep(0.05)
        raise AssertionError("it never came true")

    async def answer(self, request: web.Request, form: dict[str, str]) -> web.StreamResponse:
        if self.handler is not None:
            return await self.handler(request, form)
        if "start" in form:
            return web.json_response({"status": "success", "data": {"resultType": "matrix", "result": []}})
        now_s, query = float(form["time"]), form["query"]
        if "tidegate_owner" in query:
            return vector(one(self.queued, tidegate_owner="prod/chat"))
        series: list[Json] = []
        for pod in await self.ready_pods() if self.reports else ():
            labels = {"namespace": "prod", "pod": pod}
            if "timestamp(" in query:
                series.append(one(now_s - 5, signal="seen", **labels))
                series += [
                    one(self.reports.get(s, 0.0), signal=s, **labels) for s in ("running", "waiting", "kv_usage")
                ]
            elif "rate(" in query:
                gauges = {"running", "waiting", "kv_usage"}
                series += [one(v, signal=s, **labels) for s, v in self.reports.items() if s not in gauges]
        return vector(*series)

    async def ready_pods(self) -> list[str]:
        pods = (await self.get("/api/v1/namespaces/prod/pods"))["items"]
        return [p["metadata"]["name"] for p in pods if p.get("status", {}).get("phase") == "Running"]

    def settings(self, **changes: Any) -> Settings:
        base: Json = {
            "prometheus_url": self.prometheus.url,
            "kubeconfig": str(self.kubeconfig),
            "listen": "127.0.0.1:0",
            "history_days": 0.0,
            "writes_per_second": 500.0,
        }
        made = Settings(**(base | changes))
        object.__setattr__(made, "tick", self.tick_s)
        return made

    @asynccontextmanager
    async def operator(self, **changes: Any) -> AsyncIterator[asyncio.Event]:
        """The operator; it is stopped cleanly at the end, or when the event is set."""
        stop = asyncio.Event()
        task = asyncio.create_task(process.run(self.settings(**changes), stop))
        try:
            yield stop
            assert not task.done() or stop.is_set(), task.exception()
        finally:
            stop.set()
            await task


async def _kubelet(rig: Rig) -> None:
    """Make pods ready as soon as they appear."""
    while True:
        with suppress(aiohttp.ClientError, KeyError, AssertionError):
            for pod in (await rig.get("/api/v1/pods"))["items"]:
                if pod.get("status", {}).get("phase") != "Running" and not pod["metadata"].get("deletionTimestamp"):
                    await rig.patch(f"/api/v1/namespaces/prod/pods/{pod['metadata']['name']}/status", as_ready(pod))
        await asyncio.sleep(0.1)


def as_ready(pod: Json) -> Json:
    """Ready, as if starting had taken a minute and a half."""
    created = datetime.fromisoformat(pod["metadata"]["creationTimestamp"])
    ready = (created + timedelta(seconds=90)).isoformat()
    conditions = [{"type": kind, "status": "True", "lastTransitionTime": ready} for kind in ("PodScheduled", "Ready")]
    return {"status": {"phase": "Running", "conditions": conditions}}


@asynccontextmanager
async def rigged(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *, kubelet: bool = True, speed: float = SPEED
) -> AsyncIterator[Rig]:
    base_s = time.time()
    fast = SimpleNamespace(monotonic=time.monotonic, time=lambda: base_s + (time.time() - base_s) * speed)
    monkeypatch.setattr(parts, "time", fast)
    monkeypatch.setattr(planner, "GAP_S", 0.1)
    monkeypatch.setattr(planner, "DEBOUNCE_S", 0.02)
    monkeypatch.setattr(planner, "ACTIVATION_S", 0.1)
    async with EmbeddedControlPlane(controllers=kubelet) as plane:
        account: Account = plane.admin
        async with account.session() as kube:
            await install_crds(kube)
            rigs: list[Rig] = []

            async def answer(request: web.Request, form: dict[str, str]) -> web.StreamResponse:
                return await rigs[0].answer(request, form)

            async with serving(answer) as prometheus, FaultProxy.before(account) as proxy:
                kubeconfig = proxy.account(account).write_kubeconfig(folder / "kubeconfig")
                rig = Rig(plane, kube, prometheus, proxy, kubeconfig)
                rigs.append(rig)
                for name in ("prod", "tidegate-system"):
                    await rig.create("/api/v1/namespaces", {"metadata": {"name": name}})
                task = asyncio.create_task(_kubelet(rig)) if kubelet else None
                try:
                    yield rig
                finally:
                    if task is not None:
                        task.cancel()
                        await asyncio.wait({task})
