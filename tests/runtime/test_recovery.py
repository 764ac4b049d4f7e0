"""What a restart finds again: saved memory, and the demand since, or of a week."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from tests.kube_fakes import down
from tests.runtime.test_edges import CHAT, ConfigMaps, resource
from tests.runtime.test_planner import Rig as PlannerRig
from tidegate.errors import SourceError
from tidegate.forecast import ForecastMemory, backfill
from tidegate.memory import DeploymentMemory, FleetMemory
from tidegate.observe.queries import Dialect
from tidegate.report.metrics import Metrics
from tidegate.runtime import recovery as module
from tidegate.runtime.keeper import Keeper
from tidegate.runtime.recovery import Recovery, Saver
from tidegate.units import SECONDS_PER_DAY

NOW = 10 * SECONDS_PER_DAY
CURVE = [(NOW - 3600 + 300 * i, 2.0) for i in range(13)]


class Rig(PlannerRig):
    def __init__(self, *, saved: dict[Any, DeploymentMemory] | None = None) -> None:
        super().__init__()
        self.api, self.asked = ConfigMaps(), list[float]()
        self.fails = False
        self.inventory.put_deployment(resource())
        self.keeper = Keeper(self.api, "ns")
        self.recovery = Recovery(
            keeper=self.keeper,
            planner=self.planner,
            inventory=self.inventory,
            cluster=self.planner.parts.cluster,
            client=None,  # type: ignore[arg-type]
            dialect=Dialect(),
            days=8.0,
            wall=lambda: NOW,
        )
        self.saved = saved or {}

    async def read_history(self, *_: Any, start_s: float, end_s: float) -> dict[Any, Any]:
        self.asked.append(start_s)
        if self.fails:
            raise SourceError(source="prometheus", reason="Timeout", detail="")
        return {CHAT: CURVE}

    async def restart(self) -> None:
        await Keeper(self.api, "ns").save(FleetMemory(deployments=self.saved), self.saved.keys())
        await self.recovery.load()

    async def recover(self, *, turns: int = 1) -> None:
        task = asyncio.create_task(self.recovery.run())
        async with asyncio.timeout(5):
            while len(self.asked) < turns:
                await asyncio.sleep(0.001)
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Rig:
    made = Rig()
    monkeypatch.setattr(module, "read_history", made.read_history)
    monkeypatch.setattr(module, "LOOK_S", 0.001)
    monkeypatch.setattr(module, "RETRY_S", 0.001)
    monkeypatch.setattr(made.planner.parts.cluster, "owners", lambda _: {("prod", "chat-bf16"): CHAT})
    return made


async def test_saved_memory_is_there_before_the_first_tick(rig: Rig) -> None:
    rig.saved = {CHAT: DeploymentMemory(forecast=backfill(None, history=CURVE))}
    await rig.restart()
    assert rig.planner.memory.deployments == rig.saved


async def test_without_saved_memory_the_last_days_are_read_back(rig: Rig) -> None:
    await rig.restart()
    await rig.recover()
    assert rig.asked == [NOW - 8 * SECONDS_PER_DAY]
    offered = rig.planner._offered[CHAT]()
    assert offered.time_s == CURVE[-1][0]


async def test_with_saved_memory_only_the_gap_is_read(rig: Rig) -> None:
    old = backfill(None, history=[(t - 7200, r) for t, r in CURVE])
    rig.saved = {CHAT: DeploymentMemory(forecast=old)}
    await rig.restart()
    await rig.recover()
    assert rig.asked == [old.time_s]


async def test_a_short_gap_is_not_worth_a_question(rig: Rig) -> None:
    rig.saved = {CHAT: DeploymentMemory(forecast=backfill(None, history=CURVE))}
    await rig.restart()
    task = asyncio.create_task(rig.recovery.run())
    await asyncio.sleep(0.02)
    task.cancel()
    await asyncio.wait({task})
    assert rig.asked == []


async def test_a_past_that_could_not_be_read_is_asked_for_again(rig: Rig) -> None:
    rig.fails = True
    await rig.restart()
    await rig.recover(turns=2)
    assert rig.planner._offered == {}
    rig.fails = False
    await rig.recover(turns=3)
    assert set(rig.planner._offered) == {CHAT}


async def test_zero_days_read_nothing(rig: Rig) -> None:
    rig.recovery = replace(rig.recovery, days=0.0)
    await rig.recovery.run()
    assert rig.asked == []


def saver(rig: Rig) -> Saver:
    return Saver(
        keeper=rig.keeper,
        planner=rig.planner,
        inventory=rig.inventory,
        fence=rig.fence,
        metrics=Metrics("1"),
        period_s=300.0,
    )


@pytest.mark.parametrize(
    ("leads", "ticks", "saves"),
    [
        pytest.param(True, 1, True, id="a leader that has planned saves"),
        pytest.param(False, 1, False, id="a standby does not"),
        pytest.param(True, 0, False, id="nor does one that has not planned: it would forget what it could not load"),
    ],
)
async def test_who_saves(rig: Rig, leads: bool, ticks: int, saves: bool) -> None:
    rig.fence.held, rig.planner.ticks = leads, ticks
    rig.planner.memory = FleetMemory(deployments={CHAT: DeploymentMemory(forecast=ForecastMemory())})
    await saver(rig).save()
    assert bool(rig.api.written()) is saves


async def test_a_save_that_fails_is_made_again(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.planner.ticks = 1
    rig.planner.memory = FleetMemory(deployments={CHAT: DeploymentMemory(forecast=ForecastMemory())})

    async def fails(*_: Any) -> dict[str, Any]:
        raise down()

    with monkeypatch.context() as patched:
        patched.setattr(rig.api, "send", fails)
        await saver(rig).save()
    await saver(rig).save()
    assert set(await Keeper(rig.api, "ns").load()) == {CHAT}
