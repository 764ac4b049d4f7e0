"""Events: on transitions only, and rate-limited."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.report.reports import decision, observation, reading, report
from tidegate.domain.decision import Condition, Reason, Status
from tidegate.errors import SpecError
from tidegate.ports import ApiError, Call, Outcome, Report
from tidegate.report.events import FLEET_BURST, OBJECT_BURST, OBJECT_PERIOD_S, Event, EventPoster, event_body, events
from tidegate.report.status import deployment_status

RISING = decision(Reason.DEMAND_RISING, "needs 2 x fp8")
SCALED = Outcome(actions=("Deployment prod/chat-fp8: replicas 1 -> 2",))


def told(before: dict[str, Any], **more: Any) -> list[tuple[str, bool]]:
    now = report(status=before, **more)
    return [(event.reason, event.warning) for event in events(now, deployment_status(now))]


def limited(reason: str) -> Outcome:
    return Outcome(conditions=(Condition(type="ScalingLimited", status=Status.TRUE, reason=reason, message="m"),))


SERVING = deployment_status(report(decision=RISING))
MISSED = deployment_status(report(decision=RISING, status=SERVING, observation=observation(seen=reading(good=0.5))))


@pytest.mark.parametrize(
    ("before", "more", "expected"),
    [
        pytest.param(SERVING, {"decision": RISING}, [], id="nothing happened"),
        pytest.param(SERVING, {"decision": RISING, "outcome": SCALED}, [("DemandRising", False)], id="replicas moved"),
        pytest.param(
            SERVING,
            {"decision": RISING, "observation": observation(seen=reading(good=0.5))},
            [("Missed", True)],
            id="a promise is broken",
        ),
        pytest.param(
            MISSED,
            {"decision": RISING, "observation": observation(seen=reading(good=0.5))},
            [],
            id="it is still broken",
        ),
        pytest.param(MISSED, {"decision": RISING}, [("SLOMetRecovered", False)], id="it is kept again"),
        pytest.param(
            MISSED,
            {"decision": None, "observation": None},
            [],
            id="what is not known any more is not well again",
        ),
        pytest.param(
            SERVING,
            {"decision": RISING, "observation": observation(ready=0, starting=2)},
            [("NoReplicaReady", True)],
            id="nothing answers any more",
        ),
        pytest.param(
            SERVING,
            {"decision": RISING, "outcome": limited("OtherWriter")},
            [("OtherWriter", True)],
            id="another writer",
        ),
        pytest.param(
            deployment_status(report(decision=RISING, outcome=limited("OtherWriter"))),
            {"decision": RISING, "outcome": limited("OtherAutoscaler")},
            [("OtherAutoscaler", True)],
            id="another one still",
        ),
        pytest.param(
            SERVING,
            {"decision": decision(Reason.BUDGET_LIMITED, "the budget allows no more")},
            [("BudgetLimited", False)],
            id="a decision not to act",
        ),
        pytest.param(
            {},
            {"decision": RISING, "outcome": SCALED, "observation": observation(ready=0, starting=2)},
            [("DemandRising", False)],
            id="a new one is made, and is not blamed for not being ready",
        ),
        pytest.param(
            SERVING, {"decision": RISING, "accelerators": {}}, [("UnknownAccelerator", True)], id="a stall is told once"
        ),
        pytest.param(
            {},
            {"decision": None, "spec": SpecError(field="spec.tiers", value=[], allowed="one tier at least is")},
            [("InvalidSpec", True)],
            id="a spec that was wrong from the start",
        ),
        pytest.param({}, {"decision": RISING, "outcome": None}, [("DemandRising", False)], id="nobody acts on a plan"),
        pytest.param(
            {}, {"decision": None, "outcome": SCALED}, [("Applied", False)], id="objects are put right before any plan"
        ),
    ],
)
def test_an_event_reports_a_changed_condition(
    before: dict[str, Any], more: dict[str, Any], expected: list[Any]
) -> None:
    assert told(before, **more) == expected


class Server:
    """Keeps events; refuses them on demand."""

    def __init__(self, fault: ApiError | None = None) -> None:
        self.calls: list[Call] = []
        self.fault = fault

    async def send(self, call: Call) -> dict[str, Any]:
        self.calls.append(call)
        if self.fault is not None:
            raise self.fault
        return {}

    def watch(self, call: Call) -> AsyncIterator[dict[str, Any]]:
        raise AssertionError("events are not watched")


class Fence:
    epoch = 1

    def __init__(self, leads: bool = True) -> None:
        self.leads = leads

    def holds(self) -> bool:
        return self.leads


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def poster(server: Server, *, leads: bool = True, clock: Clock | None = None) -> EventPoster:
    return EventPoster(server, Fence(leads), clock=clock or Clock())


def turn(now: Report | None = None) -> tuple[Report, dict[str, Any]]:
    now = now or report(status=SERVING, decision=RISING, outcome=SCALED)
    return now, deployment_status(now)


async def test_an_event_is_on_the_custom_resource() -> None:
    server = Server()
    await poster(server).post(*turn())
    (call,) = server.calls
    assert call.path == "/apis/events.k8s.io/v1/namespaces/prod/events"
    body: Any = call.body
    assert body["regarding"] | {"apiVersion": ""} == {
        "apiVersion": "",
        "kind": "InferenceDeployment",
        "namespace": "prod",
        "name": "chat",
        "uid": "uid-of-chat",
    }
    assert body["note"] == "Deployment prod/chat-fp8: replicas 1 -> 2 (needs 2 x fp8)"
    assert (body["reason"], body["type"], body["action"]) == ("DemandRising", "Normal", "Scale")


@pytest.mark.parametrize(("bad", "kind"), [(True, "Warning"), (False, "Normal")], ids=["bad news", "good news"])
def test_bad_news_is_a_warning(bad: bool, kind: str) -> None:
    event = Event(reason="Missed", message="m", action="SLOMet", warning=bad)
    assert event_body(report().resource, event, name="chat.1", time_s=0.0)["type"] == kind


@pytest.mark.parametrize("message", ["a" * 2000, "a" + "文" * 999], ids=["long", "of three bytes each"])
def test_a_note_is_as_long_as_the_api_server_takes(message: str) -> None:
    event = Event(reason="WriteFailed", message=message, action="ScalingLimited")
    note = event_body(report().resource, event, name="chat.1", time_s=0.0)["note"]
    assert 990 < len(note.encode()) <= 1024
    assert message.startswith(note)


async def test_names_are_never_used_twice() -> None:
    server = Server()
    post = poster(server)
    for _ in range(5):
        await post.post(*turn())
    names = [call.body["metadata"]["name"] for call in server.calls]  # type: ignore[index,call-overload]
    assert len(set(names)) == 5


async def test_a_flapping_deployment_has_an_allowance() -> None:
    server, clock = Server(), Clock()
    post = poster(server, clock=clock)
    for _ in range(100):
        await post.post(*turn())
    assert len(server.calls) == OBJECT_BURST
    clock.now_s = 2 * OBJECT_PERIOD_S
    for _ in range(100):
        await post.post(*turn())
    assert len(server.calls) == OBJECT_BURST + 2


async def test_the_whole_fleet_has_an_allowance() -> None:
    from dataclasses import replace

    server = Server()
    post = poster(server)
    now, status = turn()
    for i in range(FLEET_BURST + 20):
        await post.post(replace(now, resource=replace(now.resource, uid=f"u{i}")), status)
    assert len(server.calls) == FLEET_BURST


async def test_a_standby_posts_nothing() -> None:
    server = Server()
    await poster(server, leads=False).post(*turn())
    assert server.calls == []


async def test_a_lost_event_stops_nothing() -> None:
    server = Server(ApiError(status=500, reason="InternalError", detail="no"))
    await poster(server).post(*turn())
    assert len(server.calls) == 1
