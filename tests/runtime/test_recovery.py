"""
What a restart restores: saved memory, and the demand since then, or of a week.
"""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from tests.kube_fakes import down
from tests.runtime.test_edges import CHAT, ConfigMaps, resource
from tests.runtime.test_planner import Rig as PlannerRig
from tidegate.domain.key import Key
from tidegate.errors import SourceError
from tidegate.forecast import ForecastMemory, backfill
from tidegate.memory import DeploymentMemory, FleetMemory
from tidegate.observe.history import Curve, Workload
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
        self.owned: list[set[Key]] = []
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

    async def read_history(
        self, _client: Any, _dialect: Dialect, owners: dict[Workload, Key], *, start_s: float, end_s: float
    ) -> dict[Key, Curve]:
        self.asked.append(start_s)
        self.owned.append(set(owners.values()))
        if self.fails:
            raise SourceError(source="prometheus", reason="Timeout", detail="")
        return dict.fromkeys(owners.values(), CURVE)

    async def restart(self) -> None:
        uids = {key: self.inventory.deployments[key].uid for key in self.saved}
        await Keeper(self.api, "ns").save(FleetMemory(deployments=self.saved), uids)
        await self.recovery.load()
        self.planner._forget_namesakes()  # as the first tick does

    def replace_chat(self) -> None:
        """Another object under the same name, and the tick that finds it."""
        self.inventory.drop_deployment(CHAT, "u1")
        self.inventory.put_deployment(resource(uid="u2"))
        self.planner._forget_namesakes()

    async def recover(self, *, turns: int = 1) -> None:
        task = asyncio.create_task(self.recovery.run())
        async with asyncio.timeout(5):
            while len(self.asked) < turns or not (self.fails or self.owned[-1] <= self.planner._offered.keys()):
                await asyncio.sleep(0.001)
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
    assert rig.planner._offered[CHAT].time_s == CURVE[-1][0]


async def test_with_saved_memory_only_the_gap_is_read(rig: Rig) -> None:
    old = backfill(None, history=[(t - 7200, r) for t, r in CURVE])
    rig.saved = {CHAT: DeploymentMemory(forecast=old)}
    await rig.restart()
    await rig.recover()
    assert rig.asked == [old.time_s]


def fleet(rig: Rig, monkeypatch: pytest.MonkeyPatch, count: int) -> list[Key]:
    """Deployments with one workload each."""
    keys = [Key("prod", f"m{n:03d}") for n in range(count)]
    rig.inventory.drop_deployment(CHAT, "u1")
    for key in keys:
        rig.inventory.put_deployment(resource(key, uid=key.name))
    monkeypatch.setattr(
        rig.planner.parts.cluster, "owners", lambda specs: {(s.key.namespace, s.key.name): s.key for s in specs}
    )
    return keys


async def test_a_large_fleet_is_read_group_by_group(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = fleet(rig, monkeypatch, 120)
    built: list[int] = []
    read = rig.read_history

    async def watched(*arguments: Any, **more: Any) -> dict[Key, Curve]:
        built.append(len(rig.planner._offered))
        return await read(*arguments, **more)

    monkeypatch.setattr(module, "read_history", watched)
    await rig.restart()
    await rig.recover(turns=3)
    assert [len(group) for group in rig.owned] == [50, 50, 20]
    assert built == [0, 50, 100]
    assert rig.planner._offered.keys() == set(keys)


async def test_one_deployment_without_memory_does_not_cause_all_history_to_be_read(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = fleet(rig, monkeypatch, 101)
    old = backfill(None, history=[(t - 7200, r) for t, r in CURVE])
    rig.saved = {key: DeploymentMemory(forecast=old) for key in keys if key != keys[70]}
    await rig.restart()
    await rig.recover(turns=3)
    assert rig.asked == [NOW - 8 * SECONDS_PER_DAY, old.time_s, old.time_s]


async def test_after_a_failure_only_what_is_missing_is_read(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = fleet(rig, monkeypatch, 60)
    read, asked = rig.read_history, 0

    async def once(*arguments: Any, **more: Any) -> dict[Key, Curve]:
        nonlocal asked
        asked += 1
        rig.fails = asked == 2
        return await read(*arguments, **more)

    monkeypatch.setattr(module, "read_history", once)
    await rig.restart()
    await rig.recover(turns=12)
    assert [len(group) for group in rig.owned] == [50, 10, *[1] * 10]
    assert rig.planner._offered.keys() == set(keys)


async def test_a_history_that_is_too_large_keeps_no_other_from_being_read(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = fleet(rig, monkeypatch, 60)
    read = rig.read_history

    async def limited(*arguments: Any, **more: Any) -> dict[Key, Curve]:
        rig.fails = keys[7] in arguments[2].values()
        return await read(*arguments, **more)

    monkeypatch.setattr(module, "read_history", limited)
    await rig.restart()
    await rig.recover(turns=53)
    assert [len(group) for group in rig.owned[:52]] == [50, 10, *[1] * 50]
    assert rig.planner._offered.keys() == set(keys) - {keys[7]}


async def test_while_prometheus_is_down_one_group_is_tried(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet(rig, monkeypatch, 60)

    async def refused(*arguments: Any, **_: Any) -> dict[Key, Curve]:
        rig.owned.append(set(arguments[2].values()))
        raise SourceError(source="prometheus", reason="Unreachable", detail="")

    monkeypatch.setattr(module, "read_history", refused)
    await rig.restart()
    task = asyncio.create_task(rig.recovery.run())
    await asyncio.sleep(0.02)
    task.cancel()
    await asyncio.wait({task})
    assert {len(group) for group in rig.owned} == {50}


async def test_a_short_gap_is_not_read(rig: Rig) -> None:
    rig.saved = {CHAT: DeploymentMemory(forecast=backfill(None, history=CURVE))}
    await rig.restart()
    task = asyncio.create_task(rig.recovery.run())
    await asyncio.sleep(0.02)
    task.cancel()
    await asyncio.wait({task})
    assert rig.asked == []


async def test_a_failed_read_of_history_is_retried(rig: Rig) -> None:
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
async def test_only_a_leader_that_has_planned_saves(rig: Rig, leads: bool, ticks: int, saves: bool) -> None:
    rig.fence.held, rig.planner.ticks, rig.planner.uids = leads, ticks, {CHAT: "u1"}
    rig.planner.memory = FleetMemory(deployments={CHAT: DeploymentMemory(forecast=ForecastMemory())})
    await saver(rig).save()
    assert bool(rig.api.written()) is saves


async def test_a_failed_save_is_retried(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.planner.ticks, rig.planner.uids = 1, {CHAT: "u1"}
    rig.planner.memory = FleetMemory(deployments={CHAT: DeploymentMemory(forecast=ForecastMemory())})

    async def fails(*_: Any) -> dict[str, Any]:
        raise down()

    with monkeypatch.context() as patched:
        patched.setattr(rig.api, "send", fails)
        await saver(rig).save()
    await saver(rig).save()
    assert set(await Keeper(rig.api, "ns").load()) == {CHAT}


# Namesakes

OLD = DeploymentMemory(forecast=backfill(None, history=[(t - 7200, 500.0) for t, _ in CURVE]))
FRESH = backfill(None, history=CURVE)


async def test_a_deployment_recreated_while_we_run_gets_its_own_history(rig: Rig) -> None:
    rig.saved = {CHAT: OLD}
    await rig.restart()
    await rig.recover()
    rig.planner._offered.clear()
    rig.replace_chat()
    await rig.recover(turns=2)
    assert rig.asked[-1] == NOW - 8 * SECONDS_PER_DAY
    assert rig.planner._offered == {CHAT: FRESH}


async def _reloaded(rig: Rig, uid: str) -> None:
    """A planner started with old memory that was saved for the object with this uid."""
    rig.saved = {CHAT: OLD}
    await Keeper(rig.api, "ns").save(FleetMemory(deployments=rig.saved), {CHAT: uid})
    await rig.recovery.load()
    rig.planner._forget_namesakes()


async def test_a_deployment_recreated_while_we_were_down_inherits_nothing(rig: Rig) -> None:
    await _reloaded(rig, "u0")
    assert rig.planner.memory.deployments == {}
    await rig.recover()
    assert rig.planner._offered == {CHAT: FRESH}


async def test_history_of_a_deleted_deployment_is_not_given_to_its_successor(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.saved = {CHAT: OLD}
    await rig.restart()
    read = rig.read_history

    async def slow(*arguments: Any, **more: Any) -> dict[Key, Curve]:
        answer = await read(*arguments, **more)
        if len(rig.asked) == 1:
            rig.replace_chat()
        return answer

    monkeypatch.setattr(module, "read_history", slow)
    await rig.recover(turns=2)
    assert rig.planner._offered == {CHAT: FRESH}


async def test_an_offer_for_a_deleted_deployment_is_not_given_to_its_successor(rig: Rig) -> None:
    rig.saved = {CHAT: OLD}
    await rig.restart()
    await rig.recover()
    rig.replace_chat()
    assert rig.planner._offered == {}


async def test_a_save_right_after_recreation_saves_nothing_under_the_new_uid(rig: Rig) -> None:
    rig.planner.ticks, rig.planner.uids = 1, {CHAT: "u1"}
    rig.planner.memory = FleetMemory(deployments={CHAT: OLD})
    rig.inventory.put_deployment(resource(uid="u2"))
    await saver(rig).save()
    assert await Keeper(rig.api, "ns").load() == {}
