"""
The operator while the API server misbehaves: nothing is lost, nothing is done twice, nothing hangs.
"""

import asyncio
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.runtime.rig import (
    CHAT,
    DEPLOYMENTS,
    OURS,
    Rig,
    accelerator,
    as_ready,
    inference_deployment,
    rigged,
    workload,
)
from tidegate.runtime import planner, sweep
from tidegate.sandbox.fault_proxy import Fault, Kind

IDLE = {"running": 1.0, "started": 0.1, "finished": 0.1, "prompt_tokens": 100.0, "output_tokens": 20.0}
# Each of these starts the whole operator and waits for it several times.
pytestmark = pytest.mark.slow

LEASE = "/apis/coordination.k8s.io/v1/namespaces/tidegate-system/leases/tidegate"


@pytest_asyncio.fixture
async def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    async with rigged(tmp_path, monkeypatch) as made:
        made.reports = IDLE
        await made.chat()
        yield made


async def settled(rig: Rig) -> None:
    """Wait for two ready replicas and no more writes."""

    async def calm() -> bool:
        before = len(rig.writes())
        await asyncio.sleep(1.0)
        return len(await rig.ready_pods()) == 2 and len(rig.writes()) == before and before > 0

    await rig.until(calm)


async def follows(rig: Rig, count: int) -> None:
    """A change of the resource still arrives and is carried out."""
    await rig.patch(CHAT, {"spec": {"minReplicas": count}})

    async def done() -> bool:
        return await rig.replicas() == count

    await rig.until(done, limit_s=30.0)


async def test_interrupted_watches_are_resumed(rig: Rig) -> None:
    async with rig.operator():
        await settled(rig)
        assert rig.proxy.cut_watches() > 0
        await follows(rig, 3)


async def test_expired_watches_are_relisted(rig: Rig) -> None:
    async with rig.operator():
        await settled(rig)
        rig.proxy.add(Fault(kind=Kind.GONE, path="watch=true", count=8))
        rig.proxy.cut_watches()
        await follows(rig, 3)


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault(kind=Kind.STATUS, path="tidegate.io.*watch=true", code=401, count=1), id="refused once"),
        pytest.param(Fault(kind=Kind.GARBAGE, path="tidegate.io.*watch=true", count=1), id="not JSON"),
    ],
)
async def test_a_watch_that_kopf_gives_up_is_restarted(rig: Rig, fault: Fault) -> None:
    async with rig.operator():
        await settled(rig)
        rig.proxy.add(fault)
        rig.proxy.cut_watches()
        await follows(rig, 3)


async def test_a_resource_deleted_while_the_watch_was_down_leaves_the_plan(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "PERIOD_S", 0.5)
    monkeypatch.setattr(sweep, "AGAIN_S", 0.2)
    async with rig.operator():
        await settled(rig)
        with rig.proxy.having(Fault(kind=Kind.STATUS, path="watch=true", code=503)):
            rig.proxy.cut_watches()
            await rig.delete(CHAT)
            await rig.patch(f"{DEPLOYMENTS}/chat-bf16", {"spec": {"replicas": 1}})
            await asyncio.sleep(1.5)
        await asyncio.sleep(1.0)
        assert await rig.replicas() == 1, "nobody scales it any more"


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault(kind=Kind.STATUS, path="^(PATCH|PUT).*/(scale|status)", code=409, count=3), id="conflicts"),
        pytest.param(Fault(kind=Kind.STATUS, path="^(PATCH|PUT).*/(scale|status)", code=429, count=3), id="throttled"),
        pytest.param(
            Fault(kind=Kind.STATUS, path="^(PATCH|PUT).*/(scale|status)", code=500, count=3), id="server errors"
        ),
        pytest.param(Fault(kind=Kind.DROP, path="^(PATCH|PUT).*/scale", count=2), id="done, but the answer is lost"),
        pytest.param(Fault(kind=Kind.RESET, path="^(PATCH|PUT).*/(scale|status)", count=3), id="connections reset"),
        pytest.param(Fault(kind=Kind.HALF, path="^(PATCH|PUT).*/(scale|status)", count=2), id="half an answer"),
    ],
)
async def test_a_failed_write_is_retried_with_the_same_result(rig: Rig, fault: Fault) -> None:
    async with rig.operator():
        await settled(rig)
        rig.proxy.add(fault)
        await follows(rig, 3)

        async def told() -> bool:
            return bool((await rig.get(CHAT))["status"]["replicas"] == 3)

        await rig.until(told, limit_s=20.0)
        assert rig.proxy.hits() > 0


async def test_an_unreadable_list_is_not_an_empty_cluster(rig: Rig) -> None:
    rig.proxy.add(Fault(kind=Kind.GARBAGE, path="GET /api/v1/pods", count=2))
    async with rig.operator():
        await settled(rig)
    assert await rig.replicas() == 2


async def test_a_hung_api_server_stops_the_leader_before_its_lease_expires(rig: Rig) -> None:
    async with rig.operator():
        await settled(rig)
        rig.proxy.seen.clear()
        with rig.proxy.having(Fault(kind=Kind.HANG, path="leases")):
            await asyncio.sleep(10.5)
            before = len(rig.writes())
            await rig.patch(CHAT, {"spec": {"minReplicas": 5}})
            await asyncio.sleep(4.0)
            assert len(rig.writes()) == before, "the rest of the API answers, and still it does not write"
        await follows(rig, 5)


async def test_a_standby_takes_over_from_a_killed_leader_and_nothing_is_written_twice(rig: Rig, tmp_path: Path) -> None:
    children = {name: _start(rig, name) for name in ("first", "second")}
    try:

        async def led() -> bool:
            return bool((await rig.get(LEASE)).get("spec", {}).get("holderIdentity"))

        await rig.until(led, limit_s=30.0)
        leader = (await rig.get(LEASE))["spec"]["holderIdentity"]
        await _status(rig)
        children[leader].send_signal(signal.SIGKILL)

        async def followed() -> bool:
            return bool((await rig.get(LEASE))["spec"]["holderIdentity"] != leader)

        await rig.until(followed, limit_s=60.0)
        assert (await rig.get(LEASE))["spec"]["leaseTransitions"] == 2
        await rig.patch(CHAT, {"spec": {"minReplicas": 4}})

        async def done() -> bool:
            return await rig.replicas() == 4

        await rig.until(done, limit_s=30.0)
        survivor = next(child for name, child in children.items() if name != leader)
        began_s = time.monotonic()
        survivor.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(survivor.wait, 10) == 0
        assert time.monotonic() - began_s < 3.0
        assert (await rig.get(LEASE))["spec"]["holderIdentity"] == ""
    finally:
        for child in children.values():
            child.kill()
            child.wait()


def _start(rig: Rig, name: str) -> "subprocess.Popen[bytes]":
    """Start a real operator process; it uses our wall clock."""
    options = {
        "TIDEGATE_PROMETHEUS_URL": rig.prometheus.url,
        "TIDEGATE_KUBECONFIG": str(rig.kubeconfig),
        "TIDEGATE_LISTEN": "127.0.0.1:0",
        "TIDEGATE_IDENTITY": name,
        "TIDEGATE_TICK": "5",
    }
    root = Path(__file__).resolve().parents[2] / "operator"
    return subprocess.Popen(
        [sys.executable, "-m", "tidegate", "run"],
        env={**os.environ, **options, "PYTHONPATH": str(root)},
        stderr=subprocess.DEVNULL,
    )


async def _status(rig: Rig) -> None:
    async def has() -> bool:
        return "conditions" in (await rig.get(CHAT)).get("status", {})

    await rig.until(has, limit_s=30.0)


FLEET = 1000


async def test_a_thousand_resources_at_rest_cause_no_write_and_no_log_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with rigged(tmp_path, monkeypatch, kubelet=False, speed=4.0) as rig:
        monkeypatch.setattr(planner, "GAP_S", 3.0)
        await _fleet(rig)
        rig.reports, rig.tick_s = IDLE, 4.0
        names = await rig.ready_pods()

        async def pods() -> list[str]:
            return names

        rig.ready_pods = pods  # type: ignore[method-assign]
        async with rig.operator():

            async def calm() -> bool:
                before = len(rig.writes())
                await asyncio.sleep(10.0)
                return len(rig.writes()) == before and before >= FLEET

            await rig.until(calm, limit_s=300.0)
            caplog.clear()
            rig.proxy.seen.clear()
            with caplog.at_level(logging.INFO, logger="tidegate"):
                await asyncio.sleep(20.0)
            assert rig.writes() == []
            assert [r.getMessage() for r in caplog.records if r.name.startswith("tidegate")] == []


async def _fleet(rig: Rig) -> None:
    """A thousand deployments with one ready replica each; created directly, since no controller runs here."""
    await rig.create(f"{OURS}/acceleratorclasses", accelerator(capacity=4 * FLEET))
    limit = asyncio.Semaphore(8)

    async def one(number: int) -> None:
        async with limit:
            name = f"d{number:04d}"
            made = workload(f"{name}-bf16")
            await rig.create(DEPLOYMENTS, made)
            body = inference_deployment(name, minReplicas=1, maxReplicas=1)
            await rig.create(f"{OURS}/namespaces/prod/inferencedeployments", body)
            template = made["spec"]["template"]
            pod = {"metadata": {"name": f"{name}-0", **template["metadata"]}, "spec": template["spec"]}
            pod = await rig.create("/api/v1/namespaces/prod/pods", pod)
            await rig.patch(f"/api/v1/namespaces/prod/pods/{name}-0/status", as_ready(pod))

    await asyncio.gather(*(one(number) for number in range(FLEET)))
