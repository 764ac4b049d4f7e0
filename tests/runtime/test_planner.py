"""
The loop itself: when it wakes, what it remembers, what it logs.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from tests.kube_fakes import Clock, ScriptedApi
from tests.runtime.test_edges import CHAT, Fence, accelerator, resource, spec
from tidegate import cycle
from tidegate.domain.decision import Decision, FleetDecision, Reason, TierDecision
from tidegate.domain.key import Key
from tidegate.domain.observation import DeploymentObservation, FleetObservation, Missing, TierState
from tidegate.domain.spec import (
    Accelerator,
    FleetPolicy,
    Mode,
    ScaleToZero,
    TargetRef,
    WorkloadTemplate,
)
from tidegate.errors import SpecError
from tidegate.estimate.memory import EstimateMemory, TierMemory
from tidegate.forecast.memory import ForecastMemory
from tidegate.memory import DeploymentMemory, FleetMemory
from tidegate.observe.cluster import Cluster, Sight
from tidegate.observe.collect import Harvest
from tidegate.observe.replicas import Roster
from tidegate.plan.memory import PlanMemory, TierProgress
from tidegate.report.metrics import Metrics
from tidegate.runtime import planner as module
from tidegate.runtime.hands import Batch
from tidegate.runtime.inventory import FleetInventory
from tidegate.runtime.planner import Parts, Planner

DOWN = Missing(reason="Timeout", detail="no answer")
OTHER = TargetRef(api_version="apps/v1", kind="Deployment", name="other")
DARK = Harvest(time_s=0.0, samples=DOWN)


class Collector:
    """Returns what the test sets."""

    def __init__(self) -> None:
        self.samples: Any = {}
        self.waiting: dict[Key, float | Missing] = {}
        self.asked: list[Mapping[Key, str]] = []
        self.times: list[float] = []

    async def collect(self, time_s: float, asked: Mapping[Key, str]) -> Harvest:
        self.asked.append(asked)
        self.times.append(time_s)
        return Harvest(time_s=time_s, samples=self.samples, activations={k: self.waiting.get(k, 0.0) for k in asked})

    async def activations(self, _: float, asked: Mapping[Key, str]) -> dict[Key, float | Missing]:
        return {key: self.waiting.get(key, 0.0) for key in asked}


class Hands:
    def __init__(self) -> None:
        self.batches: list[Batch] = []

    def give(self, batch: Batch) -> None:
        self.batches.append(batch)


class Rig:
    """A planner among fakes; the core is faked too if a test sets `decide`."""

    def __init__(self, *, leads: bool = True) -> None:
        self.inventory, self.collector, self.hands, self.fence = FleetInventory(), Collector(), Hands(), Fence(leads)
        self.wall_s = 1_000_000.0
        self.seen: list[tuple[FleetMemory, FleetObservation, FleetPolicy]] = []
        self.reason, self.replicas = Reason.INITIAL, 2
        cluster = Cluster(ScriptedApi(), Roster(window_s=60.0, stale_s=60.0), clock=Clock())
        parts: Any = Parts(
            inventory=self.inventory,
            cluster=cluster,
            collector=self.collector,  # type: ignore[arg-type]
            hands=self.hands,  # type: ignore[arg-type]
            metrics=Metrics("1"),
            fence=self.fence,
        )
        self.planner = Planner(parts=parts, period_s=3600.0, wall=lambda: self.wall_s, clock=time.monotonic)
        self.inventory.changed = self.planner.wake
        self.inventory.put_accelerator(accelerator())

    def step(
        self, memory: FleetMemory, observation: FleetObservation, policy: FleetPolicy
    ) -> tuple[FleetMemory, FleetDecision]:
        self.seen.append((memory, observation, policy))
        decisions = {
            key: Decision(
                key=key,
                tiers={"bf16": TierDecision(replicas=self.replicas)},
                reason=self.reason,
                message=f"{self.reason}",
            )
            for key in observation.deployments
        }
        kept = {key: memory.deployments.get(key, DeploymentMemory(plan=PlanMemory())) for key in policy.deployments}
        return FleetMemory(deployments=kept), FleetDecision(time_s=observation.time_s, deployments=decisions)

    async def tick(self) -> None:
        self.wall_s += 15
        await self.planner.tick()


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Rig:
    made = Rig()
    monkeypatch.setattr(cycle, "step", made.step)
    monkeypatch.setattr(module, "GAP_S", 0.0)
    monkeypatch.setattr(module, "DEBOUNCE_S", 0.0)
    monkeypatch.setattr(module, "ACTIVATION_S", 0.01)
    return made


@asynccontextmanager
async def running(rig: Rig) -> AsyncIterator[None]:
    task = asyncio.create_task(rig.planner.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


async def ticks(rig: Rig, count: int) -> None:
    async with asyncio.timeout(5):
        while rig.planner.ticks < count:
            await asyncio.sleep(0.001)


async def test_nothing_is_planned_on_a_cluster_that_was_not_seen_for_minutes(rig: Rig) -> None:
    """Replicas that started before an outage of the API server would look late."""
    rig.inventory.put_deployment(resource())
    pods = rig.planner.parts.cluster.pods
    pods.synced = True
    pods.seen_s -= module.UNSEEN_S + 1
    await rig.tick()
    assert (rig.seen, rig.hands.batches, rig.planner.ticks) == ([], [], 1)
    pods.seen_s += 2
    await rig.tick()
    assert len(rig.seen) == len(rig.hands.batches) == 1


async def test_a_change_wakes_it_and_an_echo_does_not(rig: Rig) -> None:
    async with running(rig):
        await ticks(rig, 1)
        rig.inventory.put_deployment(resource())
        await ticks(rig, 2)
        rig.inventory.put_deployment(resource(status={"replicas": 1}))
        await asyncio.sleep(0.05)
        assert rig.planner.ticks == 2


async def test_a_request_waiting_at_zero_replicas_wakes_it(rig: Rig) -> None:
    idle = spec(scale_to_zero=ScaleToZero(idle_s=900.0, activation_query="queue"))
    rig.inventory.put_deployment(resource(spec=idle))
    async with running(rig):
        await ticks(rig, 1)
        await asyncio.sleep(0.05)
        before = rig.planner.ticks
        rig.collector.waiting[CHAT] = 1.0
        await ticks(rig, before + 1)
    assert rig.collector.asked[-1] == {CHAT: "queue"}
    gateway = rig.seen[-1][1].deployments[CHAT].gateway
    assert gateway is not None
    assert gateway.queued == 1.0


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"paused": True}, id="by a pause"),
        pytest.param({"tiers": (replace(spec().tiers[0], target_ref=OTHER),)}, id="because its target does not exist"),
    ],
)
async def test_a_request_for_a_deployment_kept_at_zero_wakes_it_once(rig: Rig, changes: dict[str, Any]) -> None:
    deployments = rig.planner.parts.cluster.kinds["apps/v1", "Deployment"].informer
    assert deployments is not None
    deployments.synced = True
    kept = spec(scale_to_zero=ScaleToZero(idle_s=900.0, activation_query="queue"), **changes)
    rig.inventory.put_deployment(resource(spec=kept))
    async with running(rig):
        await ticks(rig, 1)
        for times in (1, 2):
            rig.collector.waiting[CHAT] = 1.0
            before = rig.planner.ticks
            await ticks(rig, before + 1)
            await asyncio.sleep(0.05)
            assert rig.planner.ticks == before + 1, times
            del rig.collector.waiting[CHAT]
            await rig.tick()


async def test_after_a_step_of_the_wall_clock_prometheus_is_asked_for_now_and_the_core_goes_on(rig: Rig) -> None:
    rig.inventory.put_deployment(resource())
    for step_s in (0, -3600, 0):
        rig.wall_s += step_s
        await rig.tick()
    times = [observation.time_s for _, observation, _ in rig.seen]
    assert times[0] < times[1] < times[2]
    assert rig.collector.times == [1_000_015.0, 996_430.0, 996_445.0]
    assert [batch.time_s for batch in rig.hands.batches] == rig.collector.times, "what is told has the time of people"


async def test_a_standby_plans_and_hands_over_nothing(rig: Rig) -> None:
    rig.fence.held = False
    rig.inventory.put_deployment(resource())
    await rig.tick()
    assert len(rig.seen) == 1
    assert rig.hands.batches == []
    assert b'name="chat"' not in rig.planner.parts.metrics.page()
    rig.fence.held = True
    await rig.tick()
    assert rig.hands.batches[0].decisions[CHAT].reason is Reason.INITIAL
    page = rig.planner.parts.metrics.page()
    assert b'tidegate_desired_replicas{name="chat",namespace="prod",tier="bf16"} 2.0' in page
    rig.fence.held = False
    await rig.tick()
    assert b'name="chat"' not in rig.planner.parts.metrics.page(), "who leads by now shows it"


async def test_however_often_it_is_woken_the_core_is_not_asked_before_it_can_tell_two_looks_apart(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GAP_S", 0.1)
    began_s = time.monotonic()
    async with running(rig):
        for count in (1, 2, 3):
            rig.planner.wake()
            await ticks(rig, count)
    assert time.monotonic() - began_s >= 0.2


AWAKE = DeploymentMemory(plan=PlanMemory(names=("bf16",), ideal=(1,), target=(1,)))


@pytest.mark.parametrize(
    ("leads", "ticks", "reason", "asleep"),
    [
        pytest.param(False, 9, "ScaledToZero", True, id="a standby that planned a moment later"),
        pytest.param(True, 0, "ScaledToZero", True, id="a process that starts and remembers what was before"),
        pytest.param(False, 9, "Activated", False, id="a standby where the leader has woken it"),
        pytest.param(True, 9, "ScaledToZero", False, id="the leader knows better than what it told"),
    ],
)
async def test_what_was_put_to_sleep_is_known_by_its_status(
    rig: Rig, *, leads: bool, ticks: int, reason: str, asleep: bool
) -> None:
    rig.fence.held, rig.planner.ticks = leads, ticks
    rig.planner.memory = FleetMemory(deployments={CHAT: AWAKE})
    rig.inventory.put_deployment(resource(status={"decision": {"reason": reason}}))
    await rig.tick()
    kept = rig.seen[-1][0].deployments[CHAT].plan
    assert kept is not None
    assert kept.asleep is asleep


async def test_what_was_put_to_sleep_is_known_by_its_status_even_if_the_memory_is_lost(rig: Rig) -> None:
    rig.inventory.put_deployment(resource(status={"decision": {"reason": "ScaledToZero"}}))
    await rig.tick()
    assert rig.seen[-1][0].deployments == {CHAT: DeploymentMemory(plan=PlanMemory(asleep=True))}


@pytest.mark.parametrize(
    ("edit", "failures", "windows"),
    [
        pytest.param({"workload": WorkloadTemplate(image="vllm:2")}, 0, 0, id="another image"),
        pytest.param({"accelerators_per_replica": 2}, 0, 0, id="more accelerators"),
        pytest.param({"accelerator": "nvidia-a100"}, 0, 0, id="other accelerators"),
        pytest.param({"workload": None, "target_ref": OTHER}, 0, 0, id="another workload"),
        pytest.param({"replicas_min": 1}, 3, 50, id="nothing of its pods"),
    ],
)
async def test_a_tier_whose_pods_are_edited_gets_its_chance_at_once(
    rig: Rig, edit: dict[str, Any], failures: int, windows: int
) -> None:
    blocked = TierProgress(ready=1, failures=3, blocked_until_s=9e9)
    plan = PlanMemory(names=("bf16",), ideal=(1,), target=(1,), capacities=(1.0,), progress=(blocked,))
    tier = replace(spec().tiers[0], target_ref=None, workload=WorkloadTemplate(image="vllm:1"))
    rig.inventory.put_accelerator(accelerator("nvidia-a100"))
    rig.inventory.put_deployment(resource(spec=spec(tiers=(tier,))))
    await rig.tick()
    estimate = EstimateMemory(tiers={"bf16": TierMemory(mark=1, base=1, windows=50, ready=0)})
    rig.planner.memory = FleetMemory(deployments={CHAT: DeploymentMemory(estimate=estimate, plan=plan)})
    rig.inventory.put_deployment(resource(spec=spec(tiers=(replace(tier, **edit),), priority=5), generation=2))
    await rig.tick()
    kept = rig.seen[-1][0].deployments[CHAT]
    assert kept.plan is not None
    assert (kept.plan.progress[0].ready, kept.plan.progress[0].failures) == (1, failures)
    assert kept.estimate is not None
    assert kept.estimate.tiers["bf16"].windows == windows


async def test_a_tier_whose_class_selects_other_nodes_gets_its_chance_at_once(rig: Rig) -> None:
    blocked = TierProgress(ready=1, failures=3, blocked_until_s=9e9)
    plan = PlanMemory(names=("bf16",), ideal=(1,), target=(1,), capacities=(1.0,), progress=(blocked,))
    known = FleetMemory(deployments={CHAT: DeploymentMemory(plan=plan)})
    rig.inventory.put_deployment(resource())
    await rig.tick()
    failures = []
    dearer, moved = {"price_usd_per_hour": 9.0}, {"node_selector": {"pool": "new"}}
    edits: list[dict[str, Any]] = [dearer, moved, moved]
    for changes in edits:
        rig.planner.memory = known
        class_ = accelerator()
        assert isinstance(class_.accelerator, Accelerator)
        rig.inventory.put_accelerator(replace(class_, accelerator=replace(class_.accelerator, **changes)))
        await rig.tick()
        kept = rig.seen[-1][0].deployments[CHAT].plan
        assert kept is not None
        failures.append(kept.progress[0].failures)
    assert failures == [3, 0, 3]


async def test_a_tier_whose_target_is_missing_gets_no_replica_from_the_core(rig: Rig) -> None:
    ref = TargetRef(api_version="apps/v1", kind="Deployment", name="gone")
    (one,) = spec().tiers
    two = spec(tiers=(one, replace(one, name="fp8", replicas_min=2, target_ref=ref)))
    deployments = rig.planner.parts.cluster.kinds["apps/v1", "Deployment"].informer
    assert deployments is not None
    deployments.synced = True
    rig.inventory.put_deployment(resource(spec=two))
    await rig.tick()
    policy = rig.seen[-1][2]
    assert [(t.name, t.replicas_min, t.replicas_max) for t in policy.deployments[CHAT].tiers] == [
        ("bf16", 0, 4),
        ("fp8", 0, 0),
    ]


async def test_a_deployment_whose_only_target_is_missing_takes_no_accelerators_from_others(rig: Rig) -> None:
    ref = TargetRef(api_version="apps/v1", kind="Deployment", name="gone")
    deployments = rig.planner.parts.cluster.kinds["apps/v1", "Deployment"].informer
    assert deployments is not None
    deployments.synced = True
    rig.inventory.put_deployment(resource(spec=spec(tiers=(replace(spec().tiers[0], target_ref=ref),))))
    await rig.tick()
    policy = rig.seen[-1][2]
    assert not policy.deployments[CHAT].acts
    assert policy.deployments[CHAT].tiers[0].replicas_max == 4, "what it would do is still planned"
    assert rig.hands.batches[-1].absent == {CHAT: {"bf16"}}


async def test_a_namesake_starts_with_an_empty_memory(rig: Rig) -> None:
    learned = DeploymentMemory(forecast=ForecastMemory())
    rig.inventory.put_deployment(resource())
    await rig.tick()
    rig.planner.memory = FleetMemory(deployments={CHAT: learned})
    await rig.tick()
    assert rig.seen[-1][0].deployments == {CHAT: learned}
    rig.inventory.put_deployment(resource(uid="u2"))
    await rig.tick()
    assert rig.seen[-1][0].deployments == {}


async def test_a_deployment_recreated_while_its_deletion_is_planned_starts_with_an_empty_memory(rig: Rig) -> None:
    rig.inventory.put_deployment(resource())
    await rig.tick()
    collect = rig.collector.collect

    async def recreated(time_s: float, asked: Mapping[Key, str]) -> Harvest:
        rig.inventory.put_deployment(resource(uid="u2"))
        return await collect(time_s, asked)

    rig.inventory.drop_deployment(CHAT, "u1")
    rig.collector.collect = recreated  # type: ignore[method-assign]
    await rig.tick()
    rig.collector.collect = collect  # type: ignore[method-assign]
    await rig.tick()
    assert rig.seen[-1][0].deployments == {}


async def test_a_class_that_is_missing_for_a_moment_does_not_lose_memory(rig: Rig) -> None:
    learned = DeploymentMemory(forecast=ForecastMemory())
    rig.inventory.put_deployment(resource())
    await rig.tick()
    rig.planner.memory = FleetMemory(deployments={CHAT: learned})
    rig.inventory.drop_accelerator("h100", "a1")
    await rig.tick()
    assert rig.seen[-1][2].deployments == {}
    assert rig.planner.memory.deployments == {CHAT: learned}


async def test_an_invalid_spec_is_remembered_and_not_planned(rig: Rig) -> None:
    from tidegate.errors import SpecError

    rig.inventory.put_deployment(resource())
    rig.inventory.put_deployment(resource(generation=2, spec=SpecError(field="spec", value=0, allowed="more")))
    await rig.tick()
    assert set(rig.seen[-1][2].deployments) == {CHAT}
    assert rig.seen[-1][1].deployments == {}
    assert rig.hands.batches[-1].decisions == {}


async def test_memory_survives_a_restart_while_the_spec_is_invalid(rig: Rig) -> None:
    rig.planner.memory = FleetMemory(deployments={CHAT: DeploymentMemory(plan=PlanMemory())})
    rig.inventory.put_deployment(resource(spec=SpecError(field="tiers", value="", allowed="at least one")))
    await rig.tick()
    assert CHAT in rig.planner.memory.deployments


async def test_an_edit_during_a_tick_waits_for_the_next_one(rig: Rig) -> None:
    """The decision was made for another spec; carried out under the new one, it would remove serving replicas."""
    other = Key("prod", "code")
    for each in (resource(), resource(other, uid="u2")):
        rig.inventory.put_deployment(each)
    collect = rig.collector.collect

    async def edited(time_s: float, asked: Mapping[Key, str]) -> Harvest:
        rig.inventory.put_deployment(replace(resource(), generation=2))
        rig.inventory.put_deployment(resource(Key("prod", "new"), uid="u3"))
        return await collect(time_s, asked)

    rig.collector.collect = edited  # type: ignore[method-assign]
    await rig.tick()
    assert set(rig.hands.batches[-1].resources) == {other}
    rig.collector.collect = collect  # type: ignore[method-assign]
    await rig.tick()
    assert set(rig.hands.batches[-1].resources) == {CHAT, other, Key("prod", "new")}


async def test_demand_read_back_is_used_at_the_next_tick(rig: Rig) -> None:
    rig.inventory.put_deployment(resource())
    await rig.tick()
    known = ForecastMemory()
    rig.planner.offer({CHAT: known})
    await rig.tick()
    await rig.tick()
    assert [m.deployments[CHAT].forecast is known for m, _, _ in rig.seen[1:]] == [True, True]


async def test_demand_read_back_while_a_class_is_missing_is_used_once_it_is_there(rig: Rig) -> None:
    known = ForecastMemory()
    rig.inventory.put_deployment(resource())
    rig.inventory.drop_accelerator("h100", "a1")
    await rig.tick()
    rig.planner.offer({CHAT: known})
    await rig.tick()
    rig.inventory.put_accelerator(accelerator())
    await rig.tick()
    assert rig.seen[-1][0].deployments[CHAT].forecast is known


async def test_one_line_per_decision_that_changed(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.inventory.put_deployment(resource())
    with caplog.at_level(logging.INFO, logger="tidegate"):
        for reason, replicas in [
            (Reason.INITIAL, 2),
            (Reason.STEADY, 2),
            (Reason.STEADY, 2),
            (Reason.DEMAND_RISING, 3),
            (Reason.STEADY, 3),
            (Reason.STEADY, 3),
        ]:
            rig.reason, rig.replicas = reason, replicas
            await rig.tick()
    assert [r.getMessage() for r in caplog.records] == ["Initial", "DemandRising"]
    assert caplog.records[-1].__dict__["replicas"] == {"bf16": 3}


async def test_a_new_leader_logs_nothing_about_steady_deployments(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.inventory.put_deployment(resource())
    rig.reason = Reason.STEADY
    with caplog.at_level(logging.INFO, logger="tidegate"):
        await rig.tick()
        rig.fence.held = False
        await rig.tick()
        rig.fence.held = True
        await rig.tick()
    assert caplog.records == []


async def test_the_start_and_end_of_missing_metrics_are_logged_once(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="tidegate"):
        said: list[Any] = [{}, DOWN, DOWN, Missing(reason="ServerError"), {}, {}]
        for samples in said:
            rig.collector.samples = samples
            await rig.tick()
    assert [r.levelname for r in caplog.records] == ["WARNING", "INFO"]


async def test_a_fault_of_the_planner_leaves_the_others_alone(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.inventory.put_deployment(resource())
    rig.inventory.put_deployment(resource(Key("prod", "code"), uid="u2"))
    before = rig.step

    def step(memory: FleetMemory, observation: FleetObservation, policy: FleetPolicy) -> Any:
        after, decided = before(memory, observation, policy)
        wrong = Decision(key=CHAT, tiers={}, reason=Reason.PLANNER_FAULT, message="m", error="boom")
        return after, FleetDecision(time_s=decided.time_s, deployments={**decided.deployments, CHAT: wrong})

    monkeypatch.setattr(cycle, "step", step)
    await rig.tick()
    assert rig.hands.batches[-1].decisions[Key("prod", "code")].error is None
    assert b"tidegate_planner_faults_total 1.0" in rig.planner.parts.metrics.page()


async def test_accelerators_of_a_deployment_with_an_invalid_spec_are_not_given_to_others(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, cluster = Key("prod", "code"), rig.planner.parts.cluster
    pool = Accelerator(name="h100", price_usd_per_hour=3.0, capacity=8)
    there = DeploymentObservation(tiers={"bf16": TierState(ready=3, starting=1)})
    sight = Sight(
        deployments={CHAT: there, other: there}, view=cluster.look([], {}, DARK).view, accelerators={"h100": pool}
    )
    monkeypatch.setattr(cluster, "look", lambda *_: sight)
    for key, uid in ((CHAT, "u1"), (other, "u2")):
        rig.inventory.put_deployment(resource(key, uid=uid))
    await rig.tick()
    broken = SpecError(field="spec.model", value=None, allowed="is required")
    rig.inventory.put_deployment(resource(generation=2, spec=broken))
    await rig.tick()
    rooms = [policy.accelerators["h100"].capacity for _, _, policy in rig.seen]
    assert rooms == [8, 4], "of 8, the four that the broken one holds"
    assert set(rig.seen[-1][1].deployments) == {other}
    assert rig.hands.batches[-1].accelerators["h100"].capacity == 8, "what is reported of the class stays as it is"


async def test_messages_use_the_currency_of_the_prices(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    step = rig.step

    def priced(*args: Any) -> tuple[FleetMemory, FleetDecision]:
        memory, made = step(*args)
        told = {key: replace(each, message="needs 2 x bf16: $6.00/h") for key, each in made.deployments.items()}
        return memory, replace(made, deployments=told)

    monkeypatch.setattr(cycle, "step", priced)
    class_ = accelerator()
    assert isinstance(class_.accelerator, Accelerator)
    rig.inventory.put_accelerator(replace(class_, accelerator=replace(class_.accelerator, currency="EUR")))
    rig.inventory.put_deployment(resource())
    await rig.tick()
    assert rig.hands.batches[-1].decisions[CHAT].message == "needs 2 x bf16: 6.00 EUR/h"


@pytest.mark.parametrize("mode", [Mode.AUTO, Mode.RECOMMEND])
async def test_a_later_deployment_with_the_same_target_takes_nothing_from_the_first(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, mode: Mode
) -> None:
    first, later, cluster = CHAT, Key("prod", "a-trial"), rig.planner.parts.cluster
    tier = replace(spec().tiers[0], target_ref=TargetRef(api_version="apps/v1", kind="Deployment", name="llm"))
    there = DeploymentObservation(tiers={"bf16": TierState(ready=3)})
    pool = Accelerator(name="h100", price_usd_per_hour=3.0, capacity=8)
    sight = Sight(
        deployments={first: there, later: there}, view=cluster.look([], {}, DARK).view, accelerators={"h100": pool}
    )
    monkeypatch.setattr(cluster, "look", lambda *_: sight)
    for key, created, how in ((later, "2026-11-02T00:00:00Z", mode), (first, "2026-11-01T00:00:00Z", Mode.AUTO)):
        wanted = spec(key, tiers=(tier,), mode=how)
        rig.inventory.put_deployment(resource(key, uid=str(key), created=created, spec=wanted))
    await rig.tick()
    policy = rig.seen[-1][2]
    assert policy.accelerators["h100"].capacity == 11, "of 8, the three pods count for each of the two"
    assert {key: each.acts for key, each in policy.deployments.items()} == {first: True, later: False}
    assert set(rig.hands.batches[-1].rivals) == {later}
