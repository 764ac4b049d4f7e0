"""
kopf in its thread: it gives up, and is restarted.
"""

import asyncio
import logging
import threading
from contextlib import suppress
from typing import Any

import kopf
import pytest
from kubernetes.aio.client import Configuration

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
