"""
The pages: what a probe says, and when a restart would help.
"""

import asyncio
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest

from tidegate.report.metrics import Metrics
from tidegate.runtime.process import _not_alive, _not_ready, _probes
from tidegate.runtime.server import Probes, Server
from tidegate.sandbox.control_plane.real import free_ports
from tidegate.settings import Settings


async def test_pages_are_served() -> None:
    wrong = {"alive": "", "ready": "not listed yet: /api/v1/pods"}
    probes = Probes(alive=lambda: wrong["alive"], ready=lambda: wrong["ready"])
    server = Server(("127.0.0.1", 0), Metrics("9.9"), probes)
    task = asyncio.create_task(server.run())
    try:
        async with asyncio.timeout(5), aiohttp.ClientSession() as client:
            while not server.port:
                await asyncio.sleep(0.001)
            base = f"http://127.0.0.1:{server.port}"
            async with client.get(f"{base}/healthz") as answer:
                assert (answer.status, await answer.text()) == (200, "ok\n")
            async with client.get(f"{base}/readyz") as answer:
                assert (answer.status, await answer.text()) == (503, "not listed yet: /api/v1/pods\n")
            async with client.get(f"{base}/metrics") as answer:
                assert 'tidegate_info{version="9.9"} 1.0' in await answer.text()
    finally:
        task.cancel()
        await asyncio.wait({task})


class SlowMetrics(Metrics):
    """Metrics of a large fleet: while the page is written, the operator does something else."""

    def __init__(self) -> None:
        super().__init__("9.9")
        self.begun, self.written = threading.Event(), threading.Event()
        self.pages = 0

    def page(self) -> bytes:
        self.pages += 1
        self.begun.set()
        assert self.written.wait(5), "nothing else was done meanwhile"
        return super().page()


async def test_many_requests_for_metrics_do_not_stop_the_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = SlowMetrics()
    server = Server(("127.0.0.1", 0), metrics, Probes(alive=lambda: "", ready=lambda: ""))
    task = asyncio.create_task(server.run())

    async def get(client: aiohttp.ClientSession) -> str:
        async with client.get(f"http://127.0.0.1:{server.port}/metrics") as answer:
            return await answer.text()

    try:
        async with asyncio.timeout(10), aiohttp.ClientSession() as client:
            while not server.port:
                await asyncio.sleep(0.001)
            asking = asyncio.gather(*(get(client) for _ in range(30)))
            while not metrics.begun.is_set():
                await asyncio.sleep(0.001)
            metrics.written.set()
            assert all('tidegate_info{version="9.9"} 1.0' in page for page in await asking)
            assert metrics.pages == 1
            monkeypatch.setattr("tidegate.runtime.server.PAGE_S", 0.0)
            metrics.leader.set(1.0)
            assert "tidegate_leader 1.0" in await get(client)
    finally:
        task.cancel()
        await asyncio.wait({task})


SPEAKS_IPV6 = Path("/proc/net/if_inet6").exists() and Path("/proc/net/if_inet6").read_text() != ""


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", pytest.param("::1", marks=pytest.mark.skipif(not SPEAKS_IPV6, reason="this machine has no IPv6"))],
)
async def test_the_pages_are_served_on_ipv4_and_ipv6(host: str) -> None:
    (port,) = free_ports(1)
    address, _ = Settings(prometheus_url="http://prometheus").address
    server = Server((address, port), Metrics("9.9"), Probes(alive=lambda: "", ready=lambda: ""))
    task = asyncio.create_task(server.run())
    try:
        async with asyncio.timeout(5):
            while not server.port:
                await asyncio.sleep(0.001)
            _, writer = await asyncio.open_connection(host, port)
        writer.close()
    finally:
        task.cancel()
        await asyncio.wait({task})


def assembly(
    *,
    since_tick_s: float = 1.0,
    cache_age_s: float = 1.0,
    answered: bool = True,
    behind: int = 0,
    behind_s: float = 0.0,
) -> Any:
    now_s = time.monotonic()
    pods = SimpleNamespace(path="/api/v1/pods", synced=behind == 0)
    return SimpleNamespace(
        planner=SimpleNamespace(ticks=1, last_tick_s=now_s - since_tick_s, period_s=15.0),
        cluster=SimpleNamespace(age_s=lambda: cache_age_s, informers=[pods], synced=pods.synced),
        api=SimpleNamespace(answered_within=lambda _: answered),
        inventory=SimpleNamespace(behind=lambda: behind),
        sweeper=SimpleNamespace(behind_s=now_s - behind_s if behind else None),
    )


@pytest.mark.parametrize(
    ("state", "wrong"),
    [
        pytest.param({}, "", id="all is well"),
        pytest.param({"since_tick_s": 151.0}, "no plan for", id="the loop stands still"),
        pytest.param({"cache_age_s": 181.0}, "a cache has not been confirmed", id="a watch is dead"),
        pytest.param(
            {"cache_age_s": 999.0, "answered": False}, "", id="the API server is away: a restart cures nothing"
        ),
        pytest.param(
            {"behind": 3, "behind_s": 200.0}, "existing custom resources have not arrived", id="kopf's watch is dead"
        ),
        pytest.param({"behind": 3, "behind_s": 10.0}, "", id="they may still be on their way"),
        pytest.param({"behind": 3, "behind_s": 200.0, "answered": False}, "", id="nothing can arrive just now"),
    ],
)
def test_liveness_fails_for_what_a_restart_solves(state: dict[str, Any], wrong: str) -> None:
    found = _not_alive(assembly(**state))
    assert found.startswith(wrong)
    assert bool(found) == bool(wrong)


def test_readiness_stays_after_the_caches_were_complete() -> None:
    subject = assembly(behind=2)
    probes = _probes(subject)
    assert probes.ready() == _not_ready(subject) != ""
    subject.inventory.behind = lambda: 0
    subject.cluster.informers[0].synced = subject.cluster.synced = True
    assert probes.ready() == ""
    subject.inventory.behind = lambda: 1
    assert probes.ready() == ""
