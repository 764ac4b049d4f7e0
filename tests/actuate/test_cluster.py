"""
The actuator on an API server: a recording one for failures, a real one for what only it can answer.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
import pytest_asyncio

from tests.actuate.orders import (
    H100,
    NOW_S,
    OURS,
    decided,
    managed,
    order_of,
    pointing,
    resource_of,
    settled,
    spec_of,
    view_of,
    workload,
)
from tests.cluster import install_crds
from tidegate.actuate.cluster import FAILURES_REPORTED, REFUSED_S, ClusterActuator
from tidegate.actuate.ownership import HOLD_S
from tidegate.actuate.scene import SETTLE_S
from tidegate.domain.decision import Condition
from tidegate.domain.key import Key
from tidegate.domain.spec import DeploymentSpec
from tidegate.observe.objects import owned_view, workload_view
from tidegate.ports import ApiError, Call, ClusterView, DeploymentResource, ObjectRef, Order, Outcome, Writer
from tidegate.runtime.kube import HttpKubeApi, load_configuration
from tidegate.sandbox.control_plane import RealControlPlane

TWO = spec_of(managed("bf16"), managed("fp8"))


class Leader:
    """A fence that falls after some writes."""

    epoch = 1

    def __init__(self, writes: int = 1000) -> None:
        self.left = writes

    def holds(self) -> bool:
        self.left -= 1
        return self.left >= 0


class Recorder:
    """An API server that records what it gets, and refuses some paths."""

    def __init__(self, refuses: dict[str, ApiError] | None = None) -> None:
        self.calls: list[Call] = []
        self.refuses = refuses or {}

    async def send(self, call: Call) -> dict[str, Any]:
        self.calls.append(call)
        for end, fault in self.refuses.items():
            if call.path.endswith(end):
                raise fault
        return {}

    def watch(self, call: Call) -> AsyncIterator[dict[str, Any]]:
        raise AssertionError("the hands do not watch")


def actuator(api: Any, fence: Any = None) -> ClusterActuator:
    return at_times(api, lambda: NOW_S, fence)


def at_times(api: Any, time: Callable[[], float], fence: Any = None) -> ClusterActuator:
    """An actuator for which both clocks show the same time."""
    return ClusterActuator(api, fence or Leader(), wall=time, clock=time)


async def test_the_outcome_says_what_was_done() -> None:
    outcome = await actuator(Recorder()).carry_out(order_of(TWO, ClusterView(), decided(bf16=0, fp8=1)))
    assert outcome.actions == (
        "Service prod/chat: created",
        "Deployment prod/chat-fp8: created",
        "Deployment prod/chat-fp8: replicas 0 -> 1",
        "Deployment prod/chat-bf16: created",
    )
    assert (outcome.errors, outcome.conditions) == ((), ())


async def test_a_refusal_ends_its_own_chain_and_no_other() -> None:
    refusal = ApiError(status=422, reason="Invalid", detail="spec.template: is wrong")
    api = Recorder({"/chat-bf16": refusal})
    outcome = await actuator(api).carry_out(order_of(TWO, ClusterView(), decided(bf16=2, fp8=1)))
    assert [c.path.rsplit("/", 1)[1] for c in api.calls if "chat-bf16" in c.path] == ["chat-bf16"]
    assert "Deployment prod/chat-fp8: replicas 0 -> 1" in outcome.actions
    assert outcome.errors == (refusal,)
    assert [(c.type, c.reason, c.message) for c in outcome.conditions] == [
        ("Stalled", "WorkloadRejected", "spec.template: is wrong")
    ]


async def test_a_workload_whose_update_is_refused_is_still_scaled() -> None:
    refusal = ApiError(status=422, reason="Invalid", detail="spec.template: is wrong")
    api = Recorder({"/chat-bf16": refusal})
    view = settled(resource_of(TWO), {"bf16": 2, "fp8": 0})
    other = spec_of(managed("bf16", args=("--max-model-len", "4096")), managed("fp8"))
    outcome = await actuator(api).carry_out(order_of(other, view, decided(bf16=5, fp8=0)))
    assert outcome.actions == ("Deployment prod/chat-bf16: replicas 2 -> 5",)
    assert [c.reason for c in outcome.conditions] == ["WorkloadRejected"]


async def test_a_refused_write_is_reported_but_not_repeated_at_each_tick() -> None:
    now = [NOW_S]
    api = Recorder({"/chat-bf16": ApiError(status=422, reason="Invalid", detail="spec.template: is wrong")})
    hands = at_times(api, lambda: now[0])

    async def tick(spec: DeploymentSpec = TWO) -> int:
        before = sum(c.path.endswith("/chat-bf16") for c in api.calls)
        outcome = await hands.carry_out(order_of(spec, ClusterView(), decided(bf16=2, fp8=0)))
        assert [c.reason for c in outcome.conditions] == ["WorkloadRejected"]
        return sum(c.path.endswith("/chat-bf16") for c in api.calls) - before

    assert await tick() == 1
    now[0] += 15
    assert await tick() == 0
    now[0] += REFUSED_S
    assert await tick() == 1, "a quota may have been raised"


async def test_expired_refusals_are_not_kept() -> None:
    """Each holds a manifest, and most of their deployments are deleted."""
    now = [NOW_S]
    hands = at_times(Recorder({"-bf16": ApiError(status=422, reason="Invalid", detail="no")}), lambda: now[0])
    for number in range(20):
        spec = replace(TWO, key=Key("prod", f"preview-{number}"))
        order = order_of(spec, ClusterView(), decided(bf16=2, fp8=0))
        await hands.carry_out(replace(order, resource=replace(order.resource, uid=f"uid-{number}")))
        now[0] += REFUSED_S / 2
    assert [path.rsplit("/", 1)[1] for path in hands._refused] == ["preview-18-bf16", "preview-19-bf16"]


@pytest.mark.parametrize(
    "fault",
    [
        ApiError(status=500, reason="InternalError", detail="failed calling webhook"),
        ApiError(status=429, reason="TooManyRequests", detail="try later"),
        ApiError(status=409, reason="Conflict", detail="the object has been modified"),
        ApiError(status=0, reason="Timeout", detail="no answer in time"),
    ],
    ids=lambda fault: fault.reason,
)
async def test_a_write_that_fails_repeatedly_is_reported(fault: ApiError) -> None:
    api = Recorder({"/chat-old/scale": fault})
    hands, view = actuator(api), view_of(workload("chat-old", 2, writers=(OURS,)))

    async def tick() -> list[tuple[str, str, str]]:
        outcome = await hands.carry_out(order_of(spec_of(pointing()), view, decided(fp8=3)))
        return [(c.type, c.reason, c.message) for c in outcome.conditions]

    assert [await tick() for _ in range(FAILURES_REPORTED - 1)] == [[]] * (FAILURES_REPORTED - 1), "it may be chance"
    told = f"the API server does not accept the change: {fault.detail}"
    assert await tick() == await tick() == [("ScalingLimited", "WriteFailed", told)]
    api.refuses = {}
    assert await tick() == []
    api.refuses = {"/chat-old/scale": fault}
    assert await tick() == [], "counted anew"


async def test_a_write_changed_after_a_refusal_is_sent_at_once() -> None:
    api = Recorder({"/chat-bf16": ApiError(status=422, reason="Invalid", detail="spec.template: is wrong")})
    hands = actuator(api)
    await hands.carry_out(order_of(TWO, ClusterView(), decided(bf16=2, fp8=0)))
    api.refuses = {}
    cured = spec_of(managed("bf16", image="vllm/vllm-openai:v0.32.1"), managed("fp8"))
    order = order_of(cured, ClusterView(), decided(bf16=2, fp8=0))
    outcome = await hands.carry_out(replace(order, resource=replace(order.resource, generation=2)))
    assert "Deployment prod/chat-bf16: replicas 0 -> 2" in outcome.actions


@pytest.mark.parametrize(
    "detail",
    [
        "failed to create typed patch object (prod/chat-bf16; apps/v1, Kind=Deployment): .spec.template.spec.foo: "
        "field not declared in schema",
        "failed to convert new object (prod/chat-bf16; apps/v1, Kind=Deployment) to proper version: unable to convert "
        "unstructured object to apps/v1, Kind=Deployment: quantities must match the regular expression",
    ],
    ids=["an unknown field", "a malformed quantity"],
)
async def test_a_body_of_the_wrong_shape_is_refused_although_the_status_is_500(detail: str) -> None:
    api = Recorder({"/chat-bf16": ApiError(status=500, reason="Internal Server Error", detail=detail)})
    outcome = await actuator(api).carry_out(order_of(TWO, ClusterView(), decided(bf16=2, fp8=1)))
    assert [(c.type, c.reason, c.message) for c in outcome.conditions] == [("Stalled", "WorkloadRejected", detail)]


async def test_a_busy_server_does_not_stall_the_deployment() -> None:
    api = Recorder({"/chat-bf16": ApiError(status=503, reason="ServiceUnavailable", detail="later")})
    outcome = await actuator(api).carry_out(order_of(TWO, ClusterView(), decided(bf16=2, fp8=1)))
    assert outcome.conditions == ()
    assert [e.reason for e in outcome.errors] == ["ServiceUnavailable"]


async def test_a_process_that_lost_leadership_writes_nothing() -> None:
    api = Recorder()
    outcome = await actuator(api, Leader(writes=2)).carry_out(order_of(TWO, ClusterView(), decided(bf16=2, fp8=1)))
    assert len(api.calls) == 2
    assert [e.reason for e in outcome.errors] == ["NotLeader"]


async def test_an_order_ends_with_the_leadership_under_which_it_came() -> None:
    class Regained(Leader):
        """Holds all the time, but another process led in between."""

        @property
        def epoch(self) -> int:  # type: ignore[override]
            return 1 if self.left > 998 else 3

    api = Recorder()
    outcome = await actuator(api, Regained()).carry_out(order_of(TWO, ClusterView(), decided(bf16=2, fp8=1)))
    assert len(api.calls) == 1
    assert [e.reason for e in outcome.errors] == ["NotLeader"]


async def test_an_outdated_view_after_a_write_causes_no_second_write() -> None:
    api, clock = Recorder(), [NOW_S]
    hands = at_times(api, lambda: clock[0])
    order = order_of(TWO, ClusterView(), decided(bf16=0, fp8=1))
    await hands.carry_out(order)
    first = len(api.calls)
    clock[0] += SETTLE_S / 2
    assert await hands.carry_out(order) == Outcome(asked={"fp8": 1})
    assert len(api.calls) == first
    clock[0] += SETTLE_S
    await hands.carry_out(order)
    assert len(api.calls) == 2 * first


async def test_a_view_that_waited_since_before_a_write_causes_no_second_write() -> None:
    api, clock = Recorder(), [NOW_S]
    hands = at_times(api, lambda: clock[0])
    await hands.carry_out(order_of(TWO, ClusterView(), decided(bf16=0, fp8=1)))
    first = len(api.calls)
    clock[0] += 2 * SETTLE_S
    await hands.carry_out(order_of(TWO, ClusterView(seen_s=NOW_S - 1), decided(bf16=0, fp8=1)))
    assert len(api.calls) == first


async def test_an_order_that_is_overtaken_ends_with_a_whole_chain_and_a_later_one_does_the_rest() -> None:
    api = Recorder()
    hands = actuator(api)
    order = order_of(TWO, ClusterView(), decided(bf16=0, fp8=1))
    outcome = await hands.carry_out(order, goes_on=lambda: len(api.calls) < 2)
    assert outcome.actions[1:] == ("Deployment prod/chat-fp8: created", "Deployment prod/chat-fp8: replicas 0 -> 1")
    assert outcome.asked == {"fp8": 1}
    assert (await hands.carry_out(order)).actions == ("Deployment prod/chat-bf16: created",)


async def test_an_outdated_view_after_a_scale_is_not_another_writer() -> None:
    api = Recorder()
    hands = actuator(api)
    before = Writer(manager="kubectl-create", operation="Update", time="2026-11-18T11:06:00Z")
    view = view_of(workload("chat-old", 1, writers=(before,)))
    await hands.carry_out(order_of(spec_of(pointing()), view, decided(fp8=3)))
    again = await hands.carry_out(order_of(spec_of(pointing()), view, decided(fp8=3)))
    assert again == Outcome(asked={"fp8": 3})
    after = await hands.carry_out(order_of(spec_of(pointing()), view, decided(fp8=4)))
    assert after.actions == ("Deployment prod/chat-old: replicas 3 -> 4",)


# What was asked for

ARGO = Writer(manager="argocd-controller", operation="Update", time="2026-11-18T11:06:00Z")


def told(outcome: Outcome) -> dict[str, Any]:
    """What a status keeps of an outcome."""
    tiers = [{"name": name, "asked": count} for name, count in (outcome.asked or {}).items()]
    return {"observedGeneration": 1, "tiers": tiers}


def argos(replicas: int) -> ClusterView:
    return view_of(workload("chat-old", replicas, writers=(ARGO,)))


async def test_a_failed_write_does_not_count_as_asked_and_is_retried() -> None:
    api = Recorder({"/scale": ApiError(status=503, reason="ServiceUnavailable", detail="later")})
    hands = actuator(api)
    first = await hands.carry_out(order_of(spec_of(pointing()), argos(1), decided(fp8=3)))
    assert first.asked == {}
    api.refuses = {}
    second = await hands.carry_out(order_of(spec_of(pointing()), argos(1), decided(fp8=3), status=told(first)))
    assert (second.actions, second.asked) == (("Deployment prod/chat-old: replicas 1 -> 3",), {"fp8": 3})


@pytest.mark.parametrize("life", ["the same", "a restart", "another leadership"])
async def test_another_writer_who_reverts_our_replicas_is_detected_in(life: str) -> None:
    api, fence, now = Recorder(), Leader(), [NOW_S]
    hands = at_times(api, lambda: now[0], fence)
    first = await hands.carry_out(order_of(spec_of(pointing()), argos(1), decided(fp8=3)))
    now[0] += 2 * SETTLE_S
    if life == "a restart":
        hands = at_times(api, lambda: now[0])
    fence.epoch += life == "another leadership"
    # In the same life the status need not be written yet.
    status = {} if life == "the same" else told(first)
    second = await hands.carry_out(order_of(spec_of(pointing()), argos(1), decided(fp8=3), status=status))
    assert (second.actions, [c.reason for c in second.conditions]) == ((), ["OtherWriter"])
    assert second.asked == {"fp8": 3}, "the status must not lose it"


async def test_what_another_leader_asked_for_replaces_what_we_asked_for_before() -> None:
    api, fence, now = Recorder(), Leader(), [NOW_S]
    hands = at_times(api, lambda: now[0], fence)
    await hands.carry_out(order_of(spec_of(pointing()), argos(1), decided(fp8=3)))
    fence.epoch, now[0] = 3, NOW_S + 60
    status = told(Outcome(asked={"fp8": 5}))
    after = await hands.carry_out(order_of(spec_of(pointing()), argos(3), decided(fp8=5), status=status))
    assert [c.reason for c in after.conditions] == ["OtherWriter"]


async def test_a_tier_with_a_new_target_has_asked_nothing_there() -> None:
    hands = actuator(Recorder())
    first = await hands.carry_out(order_of(spec_of(pointing()), argos(1), decided(fp8=3)))
    moved = order_of(spec_of(pointing(target="other")), view_of(workload("other", 1, writers=(ARGO,))), decided(fp8=2))
    moved = replace(moved, resource=replace(moved.resource, generation=2, status=told(first)))
    after = await hands.carry_out(moved)
    assert (after.actions, after.asked) == (("Deployment prod/other: replicas 1 -> 2",), {"fp8": 2})


async def test_a_recreated_workload_was_asked_for_nothing() -> None:
    """`kubectl replace --force`, or a pipeline: the replicas in its manifest are no objection to the plan."""
    now = [NOW_S]
    hands = at_times(Recorder(), lambda: now[0])
    first = await hands.carry_out(order_of(spec_of(pointing()), argos(1), decided(fp8=3)))
    now[0] += 2 * SETTLE_S
    again = view_of(replace(workload("chat-old", 1, writers=(ARGO,)), uid="another"))
    after = await hands.carry_out(order_of(spec_of(pointing()), again, decided(fp8=3), status=told(first)))
    assert (after.actions, after.conditions) == (("Deployment prod/chat-old: replicas 1 -> 3",), ())
    now[0] += 2 * SETTLE_S
    back = await hands.carry_out(order_of(spec_of(pointing()), again, decided(fp8=3), status=told(after)))
    assert [c.reason for c in back.conditions] == ["OtherWriter"], "who sets it again is a writer"


async def test_another_leadership_keeps_the_pod_monitor_labels() -> None:
    api, fence = Recorder(), Leader()
    hands = ClusterActuator(api, fence, wall=lambda: NOW_S, clock=lambda: NOW_S, monitor_labels={"release": "stack"})
    order = order_of(TWO, ClusterView(has_pod_monitors=True), decided(bf16=0, fp8=0))
    fence.epoch = 3
    await hands.carry_out(order)
    (made,) = [call.body for call in api.calls if call.path.endswith("/podmonitors/chat")]
    assert made["metadata"]["labels"]["release"] == "stack"  # type: ignore[call-overload,index]


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(ApiError(status=409, reason="Conflict", detail="the object has been modified"), id="a conflict"),
        pytest.param(
            ApiError(
                status=422, reason="Invalid", detail="the server rejected our request due to an error in our request"
            ),
            id="other replicas than were seen",
        ),
    ],
)
async def test_a_scale_that_met_a_conflict_is_retried_at_the_next_tick(fault: ApiError) -> None:
    api = Recorder({"/scale": fault})
    hands = actuator(api)
    order = order_of(spec_of(pointing()), argos(1), decided(fp8=3))
    await hands.carry_out(order)
    api.refuses = {}
    assert (await hands.carry_out(order)).actions == ("Deployment prod/chat-old: replicas 1 -> 3",)


async def test_the_latest_request_for_replicas_counts() -> None:
    now, ours = [NOW_S], Writer(manager="tidegate", operation="Update", time="")
    hands = at_times(Recorder(), lambda: now[0])
    for before, after in ((1, 3), (3, 4)):
        view = view_of(workload("chat-old", before, writers=(ours,)))
        outcome = await hands.carry_out(order_of(spec_of(pointing()), view, decided(fp8=after)))
        assert outcome.asked == {"fp8": after}
        now[0] += 2 * SETTLE_S
    back = await hands.carry_out(order_of(spec_of(pointing()), argos(3), decided(fp8=4)))
    assert [c.reason for c in back.conditions] == ["OtherWriter"]


def by_hand(replicas: int) -> ClusterView:
    """A person scaled the target; the API server keeps no time for a write to /scale."""
    return view_of(workload("chat-old", replicas, writers=(Writer(manager="kubectl", operation="Update", time=""),)))


def limited_since(seconds_ago: float, reason: str) -> dict[str, Any]:
    """A status that reports another limit or writer since then."""
    since = datetime.fromtimestamp(NOW_S - seconds_ago, tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    limited = {"type": "ScalingLimited", "status": "True", "reason": reason, "lastTransitionTime": since}
    return {**told(Outcome(asked={"fp8": 3})), "conditions": [limited]}


async def test_a_hold_goes_on_after_a_restart_and_does_not_begin_anew() -> None:
    """The status tells since when it was reported."""
    status = limited_since(HOLD_S + 1, "OtherWriter")
    order = order_of(spec_of(pointing()), by_hand(5), decided(fp8=3), status=status)
    outcome = await actuator(Recorder()).carry_out(order)
    assert outcome.actions == ("Deployment prod/chat-old: replicas 5 -> 3",)


async def test_a_limit_of_the_plan_is_no_hold_that_began_before_a_restart() -> None:
    status = limited_since(2 * HOLD_S, "MaxReplicas")
    order = order_of(spec_of(pointing()), by_hand(5), decided(fp8=3), status=status)
    outcome = await actuator(Recorder()).carry_out(order)
    assert (outcome.actions, [c.reason for c in outcome.conditions]) == ((), ["OtherWriter"])


async def test_the_same_change_by_hand_a_day_later_is_held_as_long_as_the_first() -> None:
    now = [NOW_S]
    hands = at_times(Recorder(), lambda: now[0])
    ours = view_of(workload("chat-old", 3, writers=(replace(OURS, time=""),)))
    seen = []
    for view, pause_s in ((ours, 0.0), (by_hand(5), 60.0), (by_hand(5), HOLD_S), (ours, 60.0), (by_hand(5), 86_400.0)):
        now[0] += pause_s
        seen.append((await hands.carry_out(order_of(spec_of(pointing()), view, decided(fp8=3)))).actions)
    assert seen == [(), (), ("Deployment prod/chat-old: replicas 5 -> 3",), (), ()]


async def test_a_second_change_by_hand_is_held_from_its_own_time() -> None:
    """The condition dates from the limit of the plan that it replaced: its status has been True since then."""
    now = [NOW_S]
    hands = at_times(Recorder(), lambda: now[0])
    ours = view_of(workload("chat-old", 3, writers=(replace(OURS, time=""),)))
    status = {reason: limited_since(2 * HOLD_S, reason) for reason in ("MaxReplicas", "OtherWriter")}
    for view, reason in ((ours, "MaxReplicas"), (by_hand(5), "MaxReplicas"), (by_hand(6), "OtherWriter")):
        order = order_of(spec_of(pointing()), view, decided(fp8=3), status=status[reason])
        assert (await hands.carry_out(order)).actions == ()
        now[0] += 60
    now[0] += HOLD_S
    assert (await hands.carry_out(order)).actions == ("Deployment prod/chat-old: replicas 6 -> 3",)


# Clocks


async def test_a_wall_clock_that_is_set_back_hides_nothing() -> None:
    """Neither the current state of the cluster nor the end of a hold."""
    wall, clock = [NOW_S], [0.0]
    hands = ClusterActuator(Recorder(), Leader(), wall=lambda: wall[0], clock=lambda: clock[0])

    async def tick(view: ClusterView) -> tuple[str, ...]:
        return (await hands.carry_out(order_of(spec_of(pointing()), view, decided(fp8=3)))).actions

    async def pass_s(seconds: float) -> None:
        wall[0], clock[0] = wall[0] + seconds, clock[0] + seconds

    assert await tick(argos(1)) == ("Deployment prod/chat-old: replicas 1 -> 3",)
    wall[0] -= 3600
    await pass_s(2 * SETTLE_S)
    nobody = view_of(workload("chat-old", 2))
    assert await tick(nobody) == ("Deployment prod/chat-old: replicas 2 -> 3",), "our own write is long settled"
    person = view_of(workload("chat-old", 5, writers=(replace(ARGO, manager="kubectl", time=""),)))
    await pass_s(2 * SETTLE_S)
    assert await tick(person) == ()
    wall[0] -= 3600
    await pass_s(15)
    assert await tick(person) == ()
    await pass_s(HOLD_S)
    assert await tick(person) == ("Deployment prod/chat-old: replicas 5 -> 3",)


# On a real API server


@pytest_asyncio.fixture(loop_scope="session")
async def api(real_control_plane: RealControlPlane) -> AsyncIterator[HttpKubeApi]:
    kubeconfig = real_control_plane.admin.write_kubeconfig(real_control_plane.folder / "actuate.kubeconfig")
    async with real_control_plane.admin.session() as session:
        await install_crds(session)
    async with HttpKubeApi(await load_configuration(str(kubeconfig))) as connection:
        yield connection


class Scene:
    """One namespace with one deployment, and the actuator."""

    def __init__(self, api: HttpKubeApi, namespace: str, spec: DeploymentSpec) -> None:
        self.api, self.namespace = api, namespace
        self.spec = replace(spec, key=Key(namespace, "chat"))
        self.resource: DeploymentResource
        self.clock_s = NOW_S
        self.conditions: tuple[Condition, ...] = ()
        self.restart()

    async def make(self) -> "Scene":
        await self.send("POST", "/api/v1/namespaces", {"metadata": {"name": self.namespace}})
        path = f"/apis/tidegate.io/v1alpha1/namespaces/{self.namespace}/inferencedeployments"
        tier = {
            "name": "x",
            "accelerator": "a",
            "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "x"},
        }
        body = {
            "apiVersion": "tidegate.io/v1alpha1",
            "kind": "InferenceDeployment",
            "metadata": {"name": "chat"},
            "spec": {"model": "m", "slo": {"ttftMilliseconds": 1, "itlMilliseconds": 1}, "tiers": [tier]},
        }
        made = await self.send("POST", path, body)
        self.resource = replace(resource_of(self.spec), uid=made["metadata"]["uid"])
        return self

    async def send(self, method: str, path: str, body: Any = None, **more: Any) -> dict[str, Any]:
        return await self.api.send(Call(method=method, path=path, body=body, **more))

    def restart(self) -> None:
        """An operator without memory."""
        self.hands = at_times(self.api, lambda: self.clock_s)

    async def patch(self, path: str, body: Any) -> None:
        """Like `kubectl set` and `kubectl rollout restart`."""
        kind = "application/merge-patch+json" if path.endswith("/scale") else "application/strategic-merge-patch+json"
        await self.send("PATCH", path, body, content_type=kind, params={"fieldManager": "kubectl"})

    def path(self, kind: str, name: str = "") -> str:
        group = "/api/v1" if kind == "services" else "/apis/apps/v1"
        return f"{group}/namespaces/{self.namespace}/{kind}" + (f"/{name}" if name else "")

    async def view(self) -> ClusterView:
        items = (await self.send("GET", self.path("deployments")))["items"]
        workloads = [
            workload_view(item, api_version="apps/v1", kind="Deployment", path=self.path("deployments"))
            for item in items
        ]
        services = (await self.send("GET", self.path("services")))["items"]
        owned = [owned_view(item, api_version="v1", kind="Service") for item in services]
        return ClusterView(workloads={w.ref: w for w in workloads}, owned={o.ref: o for o in owned})

    async def carry_out(self, spec: DeploymentSpec | None = None, **replicas: int) -> tuple[str, ...]:
        changed = replace(spec or self.spec, key=self.spec.key)
        resource = replace(self.resource, spec=changed, generation=1 if spec is None else 2)
        order = Order(
            resource=resource,
            decision=decided(**replicas),
            view=await self.view(),
            accelerators={"nvidia-h100": H100},
        )
        outcome = await self.hands.carry_out(order)
        assert outcome.errors == (), outcome.errors
        self.conditions = outcome.conditions
        return tuple(action.replace(f"{self.namespace}/", "") for action in outcome.actions)

    async def replicas(self, name: str) -> int:
        return int((await self.send("GET", self.path("deployments", name)))["spec"]["replicas"])

    async def gone(self, kind: str, name: str) -> bool:
        for _ in range(400):  # the garbage collector looks for new kinds every 30 s
            try:
                await self.send("GET", self.path(kind, name))
            except ApiError as fault:
                return fault.status == 404
            await asyncio.sleep(0.2)
        return False


on_cluster = pytest.mark.cluster
shared_loop = pytest.mark.asyncio(loop_scope="session")


@on_cluster
@shared_loop
async def test_a_second_round_writes_nothing(api: HttpKubeApi, namespace_name: str) -> None:
    scene = await Scene(api, namespace_name, TWO).make()
    assert len(await scene.carry_out(bf16=0, fp8=2)) == 4
    assert await scene.carry_out(bf16=0, fp8=2) == ()
    assert (await scene.replicas("chat-bf16"), await scene.replicas("chat-fp8")) == (0, 2)


@on_cluster
@shared_loop
@pytest.mark.parametrize("fp8", [0, 2], ids=["never scaled", "scaled"])
async def test_a_new_template_keeps_the_replicas(api: HttpKubeApi, namespace_name: str, fp8: int) -> None:
    scene = await Scene(api, namespace_name, TWO).make()
    await scene.carry_out(bf16=0, fp8=fp8)
    other = spec_of(managed("bf16"), managed("fp8", args=("--max-model-len", "4096")))
    scene.clock_s += 15
    assert await scene.carry_out(other, bf16=0, fp8=fp8) == ("Deployment chat-fp8: pod template updated",)
    assert await scene.replicas("chat-fp8") == fp8
    found = await scene.send("GET", scene.path("deployments", "chat-fp8"))
    assert found["spec"]["template"]["spec"]["containers"][0]["args"][-1] == "4096"


@on_cluster
@shared_loop
@pytest.mark.parametrize(
    ("template", "words"),
    [
        ({"metadata": {"annotations": {"prometheus.io/port": 8000}}}, "annotations.prometheus.io/port"),
        ({"spec": {"runtimeClass": "nvidia"}}, ".spec.template.spec.runtimeClass"),
        ({"spec": {"containers": [{"name": "vllm", "resources": {"limits": {"cpu": "1.2.3"}}}]}}, "quantities"),
        ({"spec": {"ephemeralContainers": [{"name": "shell", "image": "busybox"}]}}, "ephemeralContainers"),
    ],
    ids=["a number as text", "an unknown field", "a malformed quantity", "a field that templates must not have"],
)
async def test_a_template_that_the_server_refuses_is_rejected_for_good(
    api: HttpKubeApi, namespace_name: str, template: dict[str, Any], words: str
) -> None:
    scene = await Scene(api, namespace_name, spec_of(managed("bf16", pod_template=template))).make()
    order = Order(
        resource=scene.resource, decision=decided(bf16=1), view=await scene.view(), accelerators={"nvidia-h100": H100}
    )
    (found,) = (await scene.hands.carry_out(order)).conditions
    assert (found.type, found.reason) == ("Stalled", "WorkloadRejected")
    assert words in found.message


@on_cluster
@shared_loop
async def test_changed_fields_are_restored_and_added_fields_stay(api: HttpKubeApi, namespace_name: str) -> None:
    scene = await Scene(api, namespace_name, TWO).make()
    await scene.carry_out(bf16=0, fp8=2)
    scene.clock_s += 15
    assert await scene.carry_out(bf16=0, fp8=2) == ()
    path = scene.path("deployments", "chat-fp8")
    restart = {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": "2026-11-21T00:00:00Z"}}}
    await scene.patch(path, {"spec": {"template": restart}})
    scene.clock_s += 700
    assert await scene.carry_out(bf16=0, fp8=2) == (), "a roll-out restart is no change of ours"
    container = {"name": "vllm", "image": "vllm/vllm-openai:v0.11.0"}
    await scene.patch(path, {"spec": {"template": {"spec": {"containers": [container]}}}})
    assert await scene.carry_out(bf16=0, fp8=2) == ("Deployment chat-fp8: reverted a change by somebody else",)
    found = (await scene.send("GET", path))["spec"]["template"]
    assert found["spec"]["containers"][0]["image"] == "vllm/vllm-openai:v0.32.0"
    assert "kubectl.kubernetes.io/restartedAt" in found["metadata"]["annotations"]
    await scene.patch(path, {"spec": {"template": {"spec": {"containers": [container]}}}})
    scene.clock_s += 15
    assert await scene.carry_out(bf16=0, fp8=2) == (), "once is enough for now"


@on_cluster
@shared_loop
async def test_an_argument_that_the_user_removes_is_gone(api: HttpKubeApi, namespace_name: str) -> None:
    scene = await Scene(api, namespace_name, spec_of(managed("bf16", env=({"name": "A", "value": "1"},)))).make()
    await scene.carry_out(bf16=1)
    scene.clock_s += 15
    await scene.carry_out(spec_of(managed("bf16")), bf16=1)
    container = (await scene.send("GET", scene.path("deployments", "chat-bf16")))["spec"]["template"]["spec"][
        "containers"
    ][0]
    assert "env" not in container


@on_cluster
@shared_loop
async def test_deleting_the_resource_removes_created_objects_and_keeps_targets(
    api: HttpKubeApi, namespace_name: str
) -> None:
    scene = await Scene(api, namespace_name, spec_of(managed("bf16"), pointing("fp8", "old"))).make()
    labels = {"app": "old"}
    pod = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    await scene.send(
        "POST",
        scene.path("deployments"),
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "old"},
            "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": pod},
        },
    )
    assert "Deployment old: replicas 1 -> 3" in await scene.carry_out(bf16=1, fp8=3)
    path = f"/apis/tidegate.io/v1alpha1/namespaces/{namespace_name}/inferencedeployments/chat"
    await scene.send("DELETE", path)
    assert await scene.gone("deployments", "chat-bf16")
    assert await scene.gone("services", "chat")
    assert await scene.replicas("old") == 3


@on_cluster
@shared_loop
async def test_real_managed_fields_of_a_scale_are_understood(api: HttpKubeApi, namespace_name: str) -> None:
    scene = await Scene(api, namespace_name, TWO).make()
    await scene.carry_out(bf16=1, fp8=2)
    ref = ObjectRef(api_version="apps/v1", kind="Deployment", namespace=namespace_name, name="chat-fp8")
    assert [w.manager for w in (await scene.view()).workloads[ref].writers] == ["tidegate"]
    await scene.send(
        "PATCH",
        f"{scene.path('deployments', 'chat-fp8')}/scale",
        {"spec": {"replicas": 7}},
        params={"fieldManager": "kubectl"},
        content_type="application/merge-patch+json",
    )
    (writer,) = (await scene.view()).workloads[ref].writers
    assert writer.manager == "kubectl"


@on_cluster
@shared_loop
async def test_a_scale_from_an_outdated_view_overwrites_nothing(api: HttpKubeApi, namespace_name: str) -> None:
    """As after an outage, or while two processes lead for a moment."""
    scene = await Scene(api, namespace_name, TWO).make()
    await scene.carry_out(bf16=0, fp8=2)
    outdated = await scene.view()
    for name, replicas in {"chat-bf16": 3, "chat-fp8": 12}.items():
        await scene.patch(f"{scene.path('deployments', name)}/scale", {"spec": {"replicas": replicas}})
    scene.restart()
    order = Order(
        resource=scene.resource,
        decision=decided(bf16=1, fp8=8),
        view=outdated,
        accelerators={"nvidia-h100": H100},
    )
    outcome = await scene.hands.carry_out(order)
    assert (outcome.actions, outcome.conditions) == ((), ())
    assert (await scene.replicas("chat-bf16"), await scene.replicas("chat-fp8")) == (3, 12)


@on_cluster
@shared_loop
@pytest.mark.parametrize("restarted", [False, True], ids=["in one life", "over a restart of the operator"])
async def test_scaling_by_hand_is_respected_for_ten_minutes(
    api: HttpKubeApi, namespace_name: str, restarted: bool
) -> None:
    scene = await Scene(api, namespace_name, TWO).make()
    await scene.carry_out(bf16=0, fp8=2)
    asked = {"observedGeneration": 1, "tiers": [{"name": "fp8", "asked": 2}]}
    scene.resource = replace(scene.resource, status=asked)
    await scene.patch(f"{scene.path('deployments', 'chat-fp8')}/scale", {"spec": {"replicas": 5}})
    scene.clock_s += 15
    assert await scene.carry_out(bf16=0, fp8=2) == ()
    assert [c.reason for c in scene.conditions] == ["OtherWriter"]
    if restarted:
        since = datetime.fromtimestamp(scene.clock_s, tz=UTC).isoformat()
        limited = {"type": "ScalingLimited", "status": "True", "reason": "OtherWriter", "lastTransitionTime": since}
        scene.resource = replace(scene.resource, status={**asked, "conditions": [limited]})
        scene.clock_s += 300
        scene.restart()
        assert await scene.carry_out(bf16=0, fp8=2) == ()
        scene.clock_s += 290
    else:
        scene.clock_s += 590
    assert await scene.carry_out(bf16=0, fp8=2) == ()
    scene.clock_s += 15
    assert await scene.carry_out(bf16=0, fp8=2) == ("Deployment chat-fp8: replicas 5 -> 2",)


@on_cluster
@shared_loop
async def test_a_foreign_service_of_that_name_is_left_as_it_is(api: HttpKubeApi, namespace_name: str) -> None:
    scene = await Scene(api, namespace_name, TWO).make()
    body = {"metadata": {"name": "chat"}, "spec": {"selector": {"app": "theirs"}, "ports": [{"port": 80}]}}
    await scene.send("POST", scene.path("services"), body)
    order = Order(
        resource=scene.resource,
        decision=None,
        view=replace(await scene.view(), owned={}),  # it carries no label of ours, so no informer shows it
        accelerators={"nvidia-h100": H100},
    )
    outcome = await actuator(api).carry_out(order)
    assert [e.reason for e in outcome.errors] == ["Conflict"]
    assert [c.reason for c in outcome.conditions] == ["WorkloadRejected"]
    there = await scene.send("GET", scene.path("services", "chat"))
    assert there["spec"]["selector"] == {"app": "theirs"}
