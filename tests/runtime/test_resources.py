"""
kopf in its thread: it gives up, and is restarted.
"""

import asyncio
import json
import logging
import threading
from contextlib import suppress
from typing import Any

import kopf
import pytest
from aiohttp import web
from kubernetes.aio.client import Configuration

from tests.observe.fake_prometheus import serving
from tests.runtime.rig import inference_deployment
from tidegate.domain.key import Key
from tidegate.domain.spec import DeploymentSpec
from tidegate.errors import SpecError
from tidegate.runtime import resources
from tidegate.runtime.inventory import FleetInventory
from tidegate.runtime.resources import ResourceWatcher

REFUSED = kopf.PermanentError("Ran out of valid credentials.", {"status": 401})


class FakeKopf:
    """
    Each run ends with the next fault, or watches. Like the real one, it has a thread that waits for the flag, and a
    watch that has not failed goes on.
    """

    def __init__(self, *faults: Exception | None) -> None:
        self.faults, self.runs = list(faults), 0
        self.watching = threading.Event()

    async def spawn_tasks(self, *, stop_flag: threading.Event, **_: Any) -> list[asyncio.Task[None]]:
        self.runs += 1

        async def orchestrator() -> None:
            self.other = asyncio.create_task(asyncio.Event().wait(), name="watcher for acceleratorclasses")
            if fault := self.faults.pop(0):
                raise fault
            self.watching.set()
            await asyncio.Event().wait()

        async def stop_flag_checker() -> None:
            await asyncio.get_running_loop().run_in_executor(None, stop_flag.wait)

        return [asyncio.create_task(orchestrator()), asyncio.create_task(stop_flag_checker())]

    async def run_tasks(self, tasks: list[asyncio.Task[None]]) -> None:
        await asyncio.wait({self.other})
        orchestrator, _ = tasks
        orchestrator.cancel()
        with suppress(asyncio.CancelledError):
            await orchestrator


async def test_a_failed_watch_is_restarted(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    fake, resumed = FakeKopf(REFUSED, REFUSED, None), list[int]()
    monkeypatch.setattr(kopf, "spawn_tasks", fake.spawn_tasks)
    monkeypatch.setattr(kopf, "run_tasks", fake.run_tasks)
    monkeypatch.setattr(resources, "PAUSE_MIN_S", 0.01)
    watcher = ResourceWatcher(
        inventory=FleetInventory(),
        configuration=Configuration(),
        namespace=None,
        wants=lambda labels: True,
        resumed=lambda: resumed.append(fake.runs),
    )
    with caplog.at_level(logging.WARNING):
        running = asyncio.create_task(watcher.run())
        assert await asyncio.to_thread(fake.watching.wait, 5.0)
        running.cancel()
        await asyncio.wait({running})
    assert running.cancelled()
    assert resumed == [1, 2], "what was deleted meanwhile is looked for"
    assert [r.getMessage() for r in caplog.records] == [
        "cannot watch custom resources, retrying in 0.01 s: PermanentError: Ran out of valid credentials.",
        "cannot watch custom resources, retrying in 0.02 s: PermanentError: Ran out of valid credentials.",
    ]


DISCOVERY: dict[str, dict[str, Any]] = {
    "/api": {"versions": ["v1"]},
    "/api/v1": {"resources": [{"name": "namespaces", "kind": "Namespace"}]},
    "/apis": {
        "groups": [
            {
                "name": "tidegate.io",
                "versions": [{"version": "v1alpha1"}],
                "preferredVersion": {"version": "v1alpha1"},
            }
        ]
    },
    "/apis/tidegate.io/v1alpha1": {
        "resources": [{"name": "inferencedeployments", "kind": "InferenceDeployment", "namespaced": True}]
    },
}


def stored(name: str, *, levels: int = 1) -> str:
    """A deployment as the server sends it, with a pod template of so many levels."""
    raw = inference_deployment(name)
    raw["metadata"] |= {"uid": name, "generation": 1, "resourceVersion": "1"}
    raw["spec"]["tiers"][0] |= {"targetRef": None, "workload": {"image": "x", "podTemplate": {"deep": "HERE"}}}
    return json.dumps(raw).replace('"HERE"', '{"a": ' * levels + "1" + "}" * levels)


async def kubernetes(request: web.Request, _: dict[str, str]) -> web.StreamResponse:
    """Discovery, one list and one watch, each with an object that is nested deeply and one that is not."""
    if request.path in DISCOVERY:
        more = {"singularName": "", "verbs": ["list", "watch"], "namespaced": False}
        answer = DISCOVERY[request.path]
        return web.json_response({**answer, "resources": [more | each for each in answer.get("resources", ())]})
    if "watch" not in request.query:
        items = f"{stored('listed-deep', levels=3_000)}, {stored('listed')}"
        return web.Response(
            text=f'{{"metadata": {{"resourceVersion": "1"}}, "items": [{items}]}}', content_type="application/json"
        )
    stream = web.StreamResponse()
    await stream.prepare(request)
    for each in (stored("watched-deep", levels=3_000), stored("watched")):
        await stream.write(f'{{"type": "ADDED", "object": {each}}}\n'.encode())
    await asyncio.sleep(60)
    return stream


async def test_an_object_that_is_nested_deeply_hides_no_other(caplog: pytest.LogCaptureFixture) -> None:
    inventory, configuration = FleetInventory(), Configuration()
    async with serving(kubernetes) as server:
        configuration.host = server.url
        watcher = ResourceWatcher(
            inventory=inventory, configuration=configuration, namespace=None, wants=lambda labels: True
        )
        running = asyncio.create_task(watcher.run())
        async with asyncio.timeout(10):
            while len(inventory.deployments) < 4:
                await asyncio.sleep(0.02)
        running.cancel()
        await asyncio.wait({running})
    kinds = {key.name: type(resource.spec) for key, resource in inventory.deployments.items()}
    assert kinds == {
        "listed": DeploymentSpec,
        "watched": DeploymentSpec,
        "listed-deep": SpecError,
        "watched-deep": SpecError,
    }
    assert "nested at most 32 levels" in str(inventory.deployments[Key("prod", "watched-deep")].spec)
    assert "cannot watch" not in caplog.text
