"""
From a batch to writes: only what differs, only what may be touched, the newest batch first.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from tests.kube_fakes import ScriptedApi, down, until
from tests.runtime.test_edges import CHAT, Fence, accelerator, resource, spec
from tidegate.domain.decision import Condition, Decision, Reason, Status, TierDecision
from tidegate.domain.key import Key
from tidegate.domain.spec import Mode
from tidegate.errors import SpecError
from tidegate.ports import (
    ApiError,
    Call,
    ClusterView,
    DeploymentResource,
    ObjectRef,
    Order,
    Outcome,
    Report,
    WorkloadView,
    workload_ref,
)
from tidegate.runtime import hands as module
from tidegate.runtime.hands import Batch, Hands, Reporting
from tidegate.runtime.inventory import FleetInventory

STATUS = "/apis/tidegate.io/v1alpha1/namespaces/prod/inferencedeployments/chat/status"
OTHER = Key("prod", "code")
DECISION = Decision(key=CHAT, tiers={"bf16": TierDecision(replicas=2)}, reason=Reason.INITIAL, message="m")


class Room:
    """An actuator and a report package with the test's answers."""

    def __init__(self) -> None:
        self.orders: list[Order] = []
        self.posted: list[dict[str, Any]] = []
        self.posted_from: list[Mapping[str, Any]] = []
        self.status: dict[str, Any] = {"replicas": 2}
        self.gate: asyncio.Event | None = None
        self.broken: dict[Key, str] = {}
        self.reports: list[Report] = []

    async def carry_out(self, order: Order, goes_on: Callable[[], bool]) -> Outcome:
        self.orders.append(order)
        self.goes_on = goes_on
        if self.gate is not None:
            await self.gate.wait()
        if self.broken.get(order.resource.key) == "in carrying out":
            raise ValueError("a bug")
        return Outcome(actions=("moved",))

    def deployment_status(self, report: Report) -> dict[str, Any]:
        self.reports.append(report)
        if self.broken.get(report.resource.key) == "in telling":
            raise ValueError("a bug")
        return dict(self.status)

    async def post(self, report: Report, status: dict[str, Any]) -> None:
        self.posted_from.append(report.resource.status)
        self.posted.append(status)


class Rig:
    def __init__(self) -> None:
        self.api, self.room, self.fence, self.inventory = ScriptedApi(), Room(), Fence(), FleetInventory()
        self.api.answers["PATCH", STATUS] = lambda call: {"status": call.body[1]["value"]}
        reporting = Reporting(
            deployment_status=self.room.deployment_status,
            accelerator_status=lambda _class, _use, _time_s: {"observedGeneration": 1},
            poster=self.room,
        )
        self.faults = 0
        self.hands = Hands(
            self.api, self.fence, self.inventory, actuator=self.room, reporting=reporting, faulted=self.fault
        )

    def fault(self) -> None:
        self.faults += 1

    async def do(self, *resources: DeploymentResource, decision: Decision | None = DECISION) -> None:
        for each in resources:
            self.inventory.put_deployment(each)
        batch = Batch(
            time_s=1.0,
            epoch=1,
            resources={each.key: each for each in resources},
            decisions={DECISION.key: decision} if decision is not None else {},
        )
        await self.hands._carry_out(batch)

    @property
    def stored(self) -> DeploymentResource:
        return self.inventory.deployments[CHAT]


@pytest.fixture
def rig() -> Rig:
    return Rig()


async def test_a_decision_is_carried_out_and_reported(rig: Rig) -> None:
    await rig.do(resource())
    assert [order.decision for order in rig.room.orders] == [DECISION]
    assert rig.room.posted == [{"replicas": 2}]
    (write,) = rig.api.written()
    assert write.path == STATUS
    assert write.body == [
        {"op": "test", "path": "/metadata/uid", "value": "u1"},
        {"op": "add", "path": "/status", "value": {"replicas": 2}},
    ]
    assert rig.stored.status == {"replicas": 2}


async def test_a_status_that_is_already_there_is_not_written(rig: Rig) -> None:
    await rig.do(resource())
    await rig.do(rig.stored)
    assert len(rig.api.written()) == 1
    assert len(rig.room.posted) == 1


async def test_a_field_that_an_older_crd_drops_is_not_written_repeatedly(rig: Rig) -> None:
    rig.room.status = {"replicas": 2, "new": 1}
    rig.api.answers["PATCH", STATUS] = {"status": {"replicas": 2}}
    await rig.do(resource())
    await rig.do(rig.stored)
    assert len(rig.api.written()) == 1
    rig.room.status = {"replicas": 3, "new": 1}
    await rig.do(rig.stored)
    assert len(rig.api.written()) == 2


async def test_a_removed_status_is_written_again(rig: Rig) -> None:
    await rig.do(resource())
    await rig.do(resource(status={}))
    assert len(rig.api.written()) == 2


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"spec": spec(mode=Mode.RECOMMEND)}, id="mode Recommend"),
        pytest.param({"spec": spec(mode=Mode.OFF)}, id="mode Off"),
        pytest.param({"spec": spec(paused=True)}, id="paused"),
        pytest.param({"spec": SpecError(field="spec", value=0, allowed="more")}, id="an invalid spec"),
    ],
)
async def test_workloads_are_untouched_but_the_status_is_written(rig: Rig, changes: dict[str, Any]) -> None:
    await rig.do(replace(resource(), **changes))
    assert rig.room.orders == []
    assert len(rig.api.written()) == 1


async def test_a_deployment_the_planner_failed_on_keeps_its_replicas(rig: Rig) -> None:
    await rig.do(resource(), decision=replace(DECISION, tiers={}, error="boom"))
    assert [order.decision for order in rig.room.orders] == [None]


@pytest.mark.parametrize(
    ("absent", "decided"),
    [
        pytest.param({"bf16", "fp8"}, None, id="no accelerators are kept for what has no workload"),
        pytest.param({"fp8"}, DECISION, id="the other tier serves"),
    ],
)
async def test_what_could_not_be_created_for_a_while_is_scaled_by_a_later_plan(
    rig: Rig, absent: set[str], decided: Decision | None
) -> None:
    tier = spec().tiers[0]
    there = resource(spec=spec(tiers=(tier, replace(tier, name="fp8"))))
    rig.inventory.put_deployment(there)
    await rig.hands._carry_out(
        Batch(time_s=1.0, epoch=1, resources={CHAT: there}, decisions={CHAT: DECISION}, absent={CHAT: absent})
    )
    assert [order.decision for order in rig.room.orders] == [decided]
    assert [report.decision for report in rig.room.reports] == [DECISION]


async def test_a_failure_of_one_deployment_does_not_affect_the_others(rig: Rig) -> None:
    rig.api.answers["PATCH", STATUS] = down()
    good = STATUS.replace("chat", "code")
    rig.api.answers["PATCH", good] = {"status": {"replicas": 2}}
    await rig.do(resource(), resource(OTHER, uid="u2"))
    assert rig.inventory.deployments[OTHER].status == {"replicas": 2}
    assert rig.stored.status == {}


async def test_a_status_for_a_recreated_deployment_is_refused_and_dropped(rig: Rig) -> None:
    rig.api.answers["PATCH", STATUS] = ApiError(status=422, reason="Invalid", detail="test failed")
    await rig.do(resource())
    assert rig.stored.status == {}


@pytest.mark.parametrize("where", ["in carrying out", "in telling"])
async def test_a_bug_is_logged_once_and_counted_while_it_lasts_and_the_others_go_on(
    rig: Rig, where: str, caplog: pytest.LogCaptureFixture
) -> None:
    rig.room.broken = {CHAT: where}
    rig.api.answers["PATCH", STATUS.replace("chat", "code")] = {"status": {"replicas": 2}}
    for _ in range(2):
        await rig.do(resource(), resource(OTHER, uid="u2"))
    assert rig.inventory.deployments[OTHER].status == {"replicas": 2}
    assert rig.faults == 2
    assert [(r.levelname, r.exc_info is not None) for r in caplog.records if "bug in Tidegate" in r.getMessage()] == [
        ("ERROR", True)
    ]


async def test_a_bug_is_reported_in_the_deployments_status(rig: Rig) -> None:
    rig.room.broken = {CHAT: "in carrying out"}
    await rig.do(resource())
    (report,) = rig.room.reports
    assert report.outcome is not None
    assert [(c.type, c.reason) for c in report.outcome.conditions] == [("Stalled", "OperatorFault")]
    assert "a bug" in report.outcome.conditions[0].message
    assert report.outcome.asked is None, "what was asked for before stays known"


async def test_a_recurring_bug_is_logged_again(rig: Rig) -> None:
    for broken in ({CHAT: "in carrying out"}, {}, {CHAT: "in carrying out"}):
        rig.room.broken = broken
        await rig.do(resource())
    assert rig.faults == 2


async def test_a_status_that_is_never_accepted_is_logged_once(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.api.answers["PATCH", STATUS] = [
        ApiError(status=422, reason="Invalid", detail=f"decision.time: {second}") for second in range(3)
    ]
    for _ in range(3):
        await rig.do(resource())
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warnings == ["prod/chat: kubernetes: Invalid: decision.time: 0"]


async def test_classes_have_a_status_too(rig: Rig) -> None:
    class_, path = accelerator(), "/apis/tidegate.io/v1alpha1/acceleratorclasses/h100/status"
    rig.inventory.put_accelerator(class_)
    rig.api.answers["PATCH", path] = {"status": {"observedGeneration": 1}}
    for _ in range(2):
        await rig.hands._carry_out(Batch(time_s=1.0, epoch=1, classes=tuple(rig.inventory.accelerators.values())))
    assert [call.path for call in rig.api.written()] == [path]


async def test_only_the_newest_waiting_batch_is_carried_out(rig: Rig) -> None:
    rig.room.gate = asyncio.Event()
    rig.inventory.put_deployment(resource())
    task = asyncio.create_task(rig.hands.run())
    try:
        for replicas in (2, 3, 4):
            decision = replace(DECISION, tiers={"bf16": TierDecision(replicas=replicas)})
            rig.hands.give(Batch(time_s=1.0, epoch=1, resources={CHAT: resource()}, decisions={CHAT: decision}))
            if replicas == 2:
                await until(lambda: rig.room.orders)
        rig.room.gate.set()
        await until(rig.hands.idle.is_set)
        carried = [order.decision.tiers["bf16"].replicas for order in rig.room.orders if order.decision]
        assert carried == [2, 4]
    finally:
        task.cancel()
        await asyncio.wait({task})


async def test_a_standby_carries_nothing_out(rig: Rig) -> None:
    rig.fence.held = False
    rig.inventory.put_deployment(resource())
    task = asyncio.create_task(rig.hands.run())
    rig.hands.give(Batch(time_s=1.0, epoch=1, resources={CHAT: resource()}, decisions={CHAT: DECISION}))
    await until(rig.hands.idle.is_set)
    task.cancel()
    await asyncio.wait({task})
    assert rig.room.orders == []
    assert rig.api.calls == []


async def test_what_was_planned_under_another_leadership_is_not_carried_out(rig: Rig) -> None:
    """The lease went to another process and came back: this batch's view does not contain what that process did."""
    rig.fence.epoch = 3
    rig.inventory.put_deployment(resource())
    task = asyncio.create_task(rig.hands.run())
    rig.hands.give(Batch(time_s=1.0, epoch=1, resources={CHAT: resource()}, decisions={CHAT: DECISION}))
    await until(rig.hands.idle.is_set)
    assert rig.room.orders == []
    rig.hands.give(Batch(time_s=2.0, epoch=3, resources={CHAT: resource()}, decisions={CHAT: DECISION}))
    await until(rig.hands.idle.is_set)
    task.cancel()
    await asyncio.wait({task})
    assert len(rig.room.orders) == 1


async def in_the_middle(rig: Rig) -> asyncio.Task[None]:
    """The hands while they carry out a batch of a hundred, blocked at a gate."""
    rig.room.gate = asyncio.Event()
    many = {Key("prod", f"d{i}"): resource(Key("prod", f"d{i}"), uid=f"u{i}") for i in range(100)}
    for each in many.values():
        rig.inventory.put_deployment(each)
    task = asyncio.create_task(rig.hands.run())
    rig.hands.give(Batch(time_s=1.0, epoch=1, resources=many))
    await until(lambda: rig.room.orders)
    return task


async def test_a_batch_ends_with_its_leadership(rig: Rig) -> None:
    task = await in_the_middle(rig)
    begun = len(rig.room.orders)
    rig.fence.epoch = 3
    rig.room.gate.set()
    await until(rig.hands.idle.is_set)
    task.cancel()
    await asyncio.wait({task})
    assert len(rig.room.orders) == begun


async def test_a_stop_in_the_middle_of_a_batch_leaves_nothing_behind(rig: Rig) -> None:
    task = await in_the_middle(rig)
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()


# First the workloads, then the telling


def fleet(rig: Rig, count: int) -> dict[Key, DeploymentResource]:
    """That many deployments, each with a status to write."""
    made = {key: resource(key, uid=key.name) for key in (Key("prod", f"d{i:02d}") for i in range(count))}
    for key, each in made.items():
        rig.inventory.put_deployment(each)
        path = STATUS.replace("chat", key.name)
        rig.api.answers["PATCH", path] = lambda call: {"status": call.body[1]["value"]}
    return made


async def test_no_workload_waits_for_a_status(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 1)
    rig = Rig()
    order: list[str] = []
    many = fleet(rig, 20)
    carry_out, send = rig.room.carry_out, rig.api.send

    async def carried(each: Order, goes_on: Callable[[], bool]) -> Outcome:
        order.append("workload")
        return await carry_out(each, goes_on)

    async def sent(call: Call) -> dict[str, Any]:
        order.append("status")
        return await send(call)

    monkeypatch.setattr(rig.room, "carry_out", carried)
    monkeypatch.setattr(rig.api, "send", sent)
    await rig.hands._carry_out(Batch(time_s=1.0, epoch=1, resources=many))
    assert order == ["workload"] * 20 + ["status"] * 20


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"spec": spec(paused=True)}, id="paused"),
        pytest.param({"generation": 2}, id="edited"),
        pytest.param({"uid": "u9"}, id="recreated"),
        pytest.param(None, id="deleted"),
    ],
)
async def test_what_was_changed_while_its_order_waited_is_left_alone(
    change: dict[str, Any] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 1)
    rig = Rig()
    carry_out = rig.room.carry_out

    async def changed(order: Order, goes_on: Callable[[], bool]) -> Outcome:
        if change is None:
            rig.inventory.drop_deployment(CHAT, "u1")
        else:
            rig.inventory.put_deployment(replace(resource(), **change))
        return await carry_out(order, goes_on)

    monkeypatch.setattr(rig.room, "carry_out", changed)
    await rig.do(resource(OTHER, uid="u2"), resource())
    assert [order.resource.key for order in rig.room.orders] == [OTHER]
    assert {report.resource.key for report in rig.room.reports} == {OTHER}, "the next plan tells the rest"


def with_workloads(batch: Batch, replicas: dict[str, tuple[int, int]]) -> Batch:
    """The batch, with workloads of these deployments: how many replicas each has, and how many were decided."""
    there: dict[ObjectRef, WorkloadView] = {}
    decisions: dict[Key, Decision] = {}
    for name, (has, decided) in replicas.items():
        key = Key("prod", name)
        ref = workload_ref(key, batch.resources[key].valid_spec.tiers[0])
        there[ref] = WorkloadView(ref=ref, uid=name, path="", replicas=has, selector="")
        decisions[key] = replace(DECISION, key=key, tiers={"bf16": TierDecision(replicas=decided)})
    return replace(batch, view=ClusterView(workloads=there), decisions=decisions)


def carried(rig: Rig) -> list[str]:
    return [order.resource.key.name for order in rig.room.orders]


async def test_what_grows_comes_first_then_what_shrinks_then_what_is_new(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 1)
    rig = Rig()
    many = fleet(rig, 4)
    many[Key("prod", "d01")] = replace(many[Key("prod", "d01")], spec=SpecError(field="f", value="v", allowed="a"))
    batch = Batch(time_s=1.0, epoch=1, resources=many)
    await rig.hands._carry_out(with_workloads(batch, {"d02": (4, 2), "d03": (2, 3)}))
    assert carried(rig) == ["d03", "d02", "d00"]


async def test_an_urgent_decision_does_not_wait_for_the_rest_of_an_older_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Creating a hundred deployments of sixteen tiers takes minutes."""
    monkeypatch.setattr(module, "AT_ONCE", 1)
    rig = Rig()
    rig.room.gate = asyncio.Event()
    batch = Batch(time_s=1.0, epoch=1, resources=fleet(rig, 4))
    rig.hands.give(batch)
    task = asyncio.create_task(rig.hands.run())
    await until(lambda: rig.room.orders)
    assert rig.room.goes_on()
    rig.hands.give(with_workloads(replace(batch, time_s=2.0), {"d03": (2, 3)}))
    assert not rig.room.goes_on(), "nor for the rest of an order"
    rig.room.gate.set()
    await until(rig.hands.idle.is_set)
    task.cancel()
    await asyncio.wait({task})
    assert carried(rig) == ["d00", "d03", "d01", "d02", "d00"], "the rest follows, what has waited longest first"


async def test_reporting_stops_for_a_newer_batch_which_reports_the_rest_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 1)
    rig = Rig()
    many = fleet(rig, 4)
    send = rig.api.send

    async def sent(call: Call) -> dict[str, Any]:
        if len(rig.api.written()) == 1:
            rig.hands.give(Batch(time_s=2.0, epoch=1, resources=many))
        return await send(call)

    monkeypatch.setattr(rig.api, "send", sent)
    rig.hands.give(Batch(time_s=1.0, epoch=1, resources=many))
    task = asyncio.create_task(rig.hands.run())
    await until(rig.hands.idle.is_set)
    task.cancel()
    await asyncio.wait({task})
    told = [call.path.split("/")[-2] for call in rig.api.written()]
    assert told == ["d00", "d01", "d02", "d03"]
    actions = {r.resource.key.name: r.outcome.actions for r in rig.room.reports if r.outcome is not None}
    assert actions["d03"] == ("moved", "moved"), "what the first batch did is told with what the second one did"
    times = {report.resource.key.name: report.time_s for report in rig.room.reports}
    assert times["d03"] == 2.0
    assert len(rig.room.posted) == 4, (
        "nothing is told twice, although the second batch was made before the first was told"
    )


async def test_statuses_that_are_never_accepted_do_not_keep_the_others_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 1)
    rig = Rig()
    many = fleet(rig, 4)
    refusing = STATUS.replace("chat", "d00")

    def refuse(_: Call) -> dict[str, Any]:
        rig.hands.give(Batch(time_s=2.0, epoch=1, resources=many))  # it took until the next tick
        raise down()

    rig.api.answers["PATCH", refusing] = refuse
    for _ in range(2):
        await rig.hands._carry_out(Batch(time_s=1.0, epoch=1, resources=many))
        rig.hands._next = None
    told = [call.path.split("/")[-2] for call in rig.api.written()]
    assert told == ["d00", "d01", "d02", "d03", "d00"]


async def test_an_event_is_not_posted_again_if_only_the_status_write_failed(rig: Rig) -> None:
    rig.api.answers["PATCH", STATUS] = [down(), {"status": {"replicas": 2}}]
    await rig.do(resource(), decision=None)
    rig.room.broken = {CHAT: "in carrying out"}
    await rig.do(resource(), decision=None)
    assert [report.outcome.actions for report in rig.room.reports if report.outcome] == [("moved",), ()]


async def test_events_are_about_what_changed_since_the_last_ones_even_if_the_status_is_never_accepted(rig: Rig) -> None:
    rig.api.answers["PATCH", STATUS] = [down(), down(), {"status": {"replicas": 4}}]
    for replicas in (2, 3, 4, 5):
        rig.room.status = {"replicas": replicas}
        await rig.do(rig.inventory.deployments.get(CHAT, resource()))
    assert rig.room.posted_from == [{}, {"replicas": 2}, {"replicas": 3}, {"replicas": 4}]


async def test_a_deployment_deleted_before_it_was_reported_stops_nothing(rig: Rig) -> None:
    rig.api.answers["PATCH", STATUS] = down()
    await rig.do(resource())
    rig.api.answers["PATCH", STATUS.replace("chat", "code")] = {"status": {"replicas": 2}}
    await rig.do(resource(OTHER, uid="u2"))
    assert rig.inventory.deployments[OTHER].status == {"replicas": 2}


async def test_a_deployment_that_became_another_shards_before_it_was_reported_is_left_alone(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    carry_out = rig.room.carry_out

    async def dropped(order: Order, goes_on: Callable[[], bool]) -> Outcome:
        rig.inventory.drop_deployment(CHAT, "u1")
        return await carry_out(order, goes_on)

    monkeypatch.setattr(rig.room, "carry_out", dropped)
    await rig.do(resource())
    assert (rig.api.written(), rig.room.posted) == ([], [])


async def test_nothing_is_kept_of_a_deployment_deleted_before_it_was_reported(rig: Rig) -> None:
    await rig.do(resource())
    rig.api.answers["PATCH", STATUS] = down()
    rig.room.status = {"replicas": 3}
    await rig.do(rig.stored)
    assert rig.hands._unreported.keys() == rig.hands._sent.keys() == {"u1"}
    rig.inventory.drop_deployment(CHAT, "u1")
    await rig.do()
    assert not rig.hands._unreported
    assert not rig.hands._sent
    assert not rig.hands._posted


async def test_a_conflicting_deployment_is_reported_and_not_carried_out(rig: Rig) -> None:
    rig.inventory.put_deployment(resource())
    found = Condition(type="Stalled", status=Status.TRUE, reason="DuplicateTarget", message="m")
    await rig.hands._carry_out(
        Batch(time_s=1.0, epoch=1, resources={CHAT: resource()}, decisions={CHAT: DECISION}, rivals={CHAT: found})
    )
    assert rig.room.orders == []
    assert [report.outcome for report in rig.room.reports] == [Outcome(conditions=(found,))]


async def test_what_was_done_before_a_pause_is_told_in_it(rig: Rig) -> None:
    rig.room.broken = {CHAT: "in telling"}
    await rig.do(resource())
    rig.room.broken = {}
    await rig.do(replace(resource(), spec=spec(paused=True)))
    assert [report.outcome.actions for report in rig.room.reports if report.outcome] == [("moved",), ("moved",)]
