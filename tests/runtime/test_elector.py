"""
One leader at a time: acquired, kept, lost and released, by a clock that the test advances.
"""

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kube_fakes import Clock, down, not_found, until
from tidegate.ports import ApiError, Call
from tidegate.runtime import elector as module
from tidegate.runtime.elector import Elector, LeaseName


class LeaseServer:
    """One Lease with optimistic locking; refuses or hangs on demand, per client."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self.version = 0
        self.writes = 0

    def client(self) -> "LeaseClient":
        return LeaseClient(self)


class LeaseClient:
    def __init__(self, server: LeaseServer) -> None:
        self.server, self.mode = server, "up"

    async def send(self, call: Call) -> dict[str, Any]:
        if self.mode == "down":
            raise down()
        if self.mode == "hang":
            await asyncio.sleep(3600)
        server = self.server
        if call.method == "GET":
            if self.mode == "unreadable":
                raise down()
            if server.lease is None:
                raise not_found(call.path)
            return dict(server.lease)
        assert isinstance(call.body, dict)
        if call.method == "POST" and server.lease is not None:
            raise ApiError(status=409, reason="AlreadyExists", detail="")
        if call.method == "PUT":
            sent = call.body["metadata"].get("resourceVersion")
            if sent != str(server.version):
                raise ApiError(status=409, reason="Conflict", detail="")
        server.version += 1
        server.writes += 1
        spec = dict(call.body["spec"])
        assert spec["leaseDurationSeconds"] > 0, "the API server refuses 0"
        server.lease = {"metadata": {"name": "t", "resourceVersion": str(server.version)}, "spec": spec}
        if self.mode == "deaf":
            await asyncio.sleep(3600)
        return dict(server.lease)

    def watch(self, _: Call) -> Any:
        raise AssertionError("an elector does not watch")


def elector(server: LeaseServer, name: str, clock: Clock) -> tuple[Elector, LeaseClient]:
    client = server.client()
    return Elector(client, LeaseName(namespace="ns", name="t", identity=name), clock=clock), client


async def try_once(subject: Elector) -> None:
    await subject._attempt()
    subject._announce()


async def test_the_first_one_creates_the_lease_and_leads() -> None:
    server, clock = LeaseServer(), Clock()
    a, _ = elector(server, "a", clock)
    assert not a.holds()
    await try_once(a)
    assert (a.holds(), a.leads, a.epoch) == (True, True, 1)
    assert server.lease is not None
    assert server.lease["spec"]["holderIdentity"] == "a"


async def test_a_standby_waits_while_the_leader_renews() -> None:
    server, clock = LeaseServer(), Clock()
    (a, _), (b, _) = elector(server, "a", clock), elector(server, "b", clock)
    await try_once(a)
    for _ in range(20):
        clock.now_s += 2
        await try_once(a)
        await try_once(b)
        assert (a.holds(), b.holds()) == (True, False)
    assert (a.epoch, b.holder) == (1, "a")


@pytest.mark.parametrize("seen_after_s", [0.0, 2.4], ids=["just renewed as the other looked", "seen by the next look"])
async def test_a_leader_that_was_killed_is_followed_within_twenty_seconds(seen_after_s: float) -> None:
    server, clock = LeaseServer(), Clock()
    (a, _), (b, _) = elector(server, "a", clock), elector(server, "b", clock)
    await try_once(a)
    began_s = clock.now_s
    clock.now_s += seen_after_s
    await try_once(b)
    while not b.holds():
        clock.now_s += 2.4
        await try_once(b)
    assert clock.now_s - began_s <= 20
    assert b.epoch == 2


async def test_a_hung_api_server_ends_the_leadership_before_another_can_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    server, clock = LeaseServer(), Clock()
    (a, client), (b, _) = elector(server, "a", clock), elector(server, "b", clock)
    await try_once(a)
    await try_once(b)
    client.mode = "hang"
    began_s = clock.now_s
    monkeypatch.setattr(module, "RENEW_DEADLINE_S", 10.0)
    attempt = asyncio.create_task(a._attempt())
    await asyncio.sleep(0)
    clock.now_s = began_s + 7.9
    assert a.holds()
    clock.now_s = began_s + 8
    assert not a.holds(), "no write may start that could outlive the leadership"
    assert a.leads
    clock.now_s = began_s + 10
    assert not a.leads, "although its attempt still hangs"
    await try_once(b)
    assert not b.leads, "the lease has not expired yet"
    clock.now_s = began_s + 15.1
    await try_once(b)
    assert b.holds()
    attempt.cancel()
    await asyncio.wait({attempt})


async def test_a_refusing_api_server_ends_the_leadership_too() -> None:
    server, clock = LeaseServer(), Clock()
    a, client = elector(server, "a", clock)
    await try_once(a)
    client.mode = "down"
    for _ in range(3):
        clock.now_s += 2
        await try_once(a)
        assert a.holds()
    clock.now_s += 2
    await try_once(a)
    assert not a.holds()
    client.mode = "up"
    await try_once(a)
    assert (a.holds(), a.epoch) == (True, 1), "nobody led in between"


async def test_a_renewal_that_arrived_but_was_not_confirmed_is_read_back() -> None:
    server, clock = LeaseServer(), Clock()
    a, client = elector(server, "a", clock)
    await try_once(a)
    client.mode = "deaf"
    clock.now_s += 9.6  # half a second is left for the attempt
    await try_once(a)
    client.mode = "up"
    await try_once(a)
    assert (a.holds(), a.epoch) == (True, 1)


async def test_only_one_of_two_simultaneous_candidates_wins() -> None:
    server, clock = LeaseServer(), Clock()
    (a, _), (b, _) = elector(server, "a", clock), elector(server, "b", clock)
    stale = await _stale(a, b)
    assert sorted(stale) == [False, True]


async def _stale(a: Elector, b: Elector) -> list[bool]:
    """Both read the empty Lease before either writes."""
    await asyncio.gather(a._attempt(), b._attempt())
    return [a.holds(), b.holds()]


async def test_an_unreadable_lease_does_not_count_as_free() -> None:
    server, clock = LeaseServer(), Clock()
    a, client = elector(server, "a", clock)
    client.mode = "unreadable"
    await try_once(a)
    assert (a.holds(), server.writes) == (False, 0)


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        pytest.param(down(), 1, id="a server that is down is told once"),
        pytest.param(TimeoutError(), 1, id="one that hangs too"),
        pytest.param(ApiError(status=409, reason="Conflict", detail=""), 0, id="one that was quicker is no trouble"),
    ],
)
async def test_failures_to_reach_the_lease_are_logged(
    fault: Exception, told: int, caplog: pytest.LogCaptureFixture
) -> None:
    a, client = elector(LeaseServer(), "a", Clock())

    async def send(_: Call) -> dict[str, Any]:
        raise fault

    client.send = send  # type: ignore[method-assign]
    for _ in range(3 * module.FAILURES_LOGGED):
        await try_once(a)
    assert caplog.text.count("cannot reach the Lease") == told


async def test_a_deleted_lease_still_belongs_to_the_leader() -> None:
    server, clock = LeaseServer(), Clock()
    (a, _), (b, _) = elector(server, "a", clock), elector(server, "b", clock)
    for each in (a, b):
        await try_once(each)
    server.lease = None
    await try_once(b)
    assert (a.holds(), b.holds()) == (True, False), "it may not have noticed"
    clock.now_s += 2
    await try_once(a)
    assert (a.holds(), a.epoch) == (True, 1), "made anew by who led"
    server.lease, began_s = None, clock.now_s
    while not b.holds() and clock.now_s < began_s + 60:
        clock.now_s += 2
        await try_once(b)
        assert not (a.holds() and b.holds())
    assert (b.holds(), b.epoch) == (True, 2), "and who led before is gone"


async def test_a_lost_lease_is_noticed_at_the_next_renewal() -> None:
    server, clock = LeaseServer(), Clock()
    a, _ = elector(server, "a", clock)
    await try_once(a)
    server.lease, server.version = None, server.version + 1
    b, _ = elector(server, "b", clock)
    await try_once(b)
    assert b.holds(), "it never saw another holder"
    await try_once(a)
    assert (a.holds(), b.holds()) == (False, True)


async def test_a_clean_stop_releases_the_lease_at_once() -> None:
    server, clock = LeaseServer(), Clock()
    (a, _), (b, _) = elector(server, "a", clock), elector(server, "b", clock)
    task = asyncio.create_task(a.run())
    while not a.holds():
        await asyncio.sleep(0)
    await try_once(b)
    task.cancel()
    await asyncio.wait({task})
    assert not a.holds()
    await try_once(b)
    assert (b.holds(), b.epoch) == (True, 2)


async def test_a_stop_during_a_renewal_still_releases_the_lease() -> None:
    server, clock = LeaseServer(), Clock()
    (a, client), (b, _) = elector(server, "a", clock), elector(server, "b", clock)
    await try_once(a)
    await try_once(b)
    client.mode = "deaf"  # the renewal arrives; its answer does not
    task = asyncio.create_task(a.run())
    await until(lambda: server.writes == 2)
    client.mode = "up"
    task.cancel()
    await asyncio.wait({task})
    await try_once(b)
    assert (b.holds(), b.epoch) == (True, 2)


async def test_a_stop_does_not_release_another_leaders_lease() -> None:
    server, clock = LeaseServer(), Clock()
    a, _ = elector(server, "a", clock)
    await try_once(a)
    assert server.lease is not None
    server.version += 1
    server.lease = {"metadata": {"name": "t", "resourceVersion": str(server.version)}, "spec": {"holderIdentity": "b"}}
    await a._release()
    assert server.lease["spec"]["holderIdentity"] == "b"


async def test_wall_clocks_are_not_compared() -> None:
    server, clock = LeaseServer(), Clock()
    (a, _), (b, _) = elector(server, "a", clock), elector(server, "b", clock)
    await try_once(a)
    assert server.lease is not None
    server.lease["spec"]["renewTime"] = "1999-01-01T00:00:00.000000Z"
    await try_once(b)
    assert not b.holds(), "a holder with a wrong clock is still a holder"


async def test_gain_and_loss_of_leadership_are_announced_once() -> None:
    server, clock, told = LeaseServer(), Clock(), list[bool]()
    client = server.client()
    a = Elector(
        client, LeaseName(namespace="ns", name="t", identity="a"), clock=clock, changed=lambda: told.append(a.leads)
    )
    for _ in range(3):
        await try_once(a)
    client.mode = "down"
    clock.now_s += 11
    for _ in range(3):
        await try_once(a)
    assert told == [True, False]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from(["up", "down"]), st.floats(0.1, 6.0)), min_size=5, max_size=60
    )
)
def test_two_processes_never_hold_the_fence_at_once(steps: list[tuple[str, str, float]]) -> None:
    async def play() -> None:
        server, clock = LeaseServer(), Clock()
        all_of_them = {name: elector(server, name, clock) for name in "abc"}
        for name, mode, pause_s in steps:
            subject, client = all_of_them[name]
            client.mode = mode
            await try_once(subject)
            clock.now_s += pause_s
            holders = [e for e, _ in all_of_them.values() if e.holds()]
            assert len(holders) <= 1

    asyncio.run(play())


async def test_leadership_ends_as_soon_as_another_holder_is_seen() -> None:
    server, clock = LeaseServer(), Clock()
    a, _ = elector(server, "a", clock)
    await try_once(a)
    server.version += 1
    spec = {"holderIdentity": "b", "leaseDurationSeconds": 15, "leaseTransitions": 2}
    server.lease = {"metadata": {"name": "t", "resourceVersion": str(server.version)}, "spec": spec}
    clock.now_s += 2
    await try_once(a)  # refused: what it holds of the Lease is out of date
    await try_once(a)
    assert not a.holds()
    assert not a.leads


async def test_a_leadership_is_counted_from_when_the_renewal_was_sent() -> None:
    """The other processes may count from then on, while the answer can be seconds late."""
    server, clock = LeaseServer(), Clock()
    a, client = elector(server, "a", clock)
    send = client.send

    async def slowly(call: Call) -> dict[str, Any]:
        answer = await send(call)
        clock.now_s += 5
        return answer

    client.send = slowly  # type: ignore[method-assign]
    await try_once(a)
    clock.now_s += module.RENEW_DEADLINE_S - module.WRITE_S - 5
    assert not a.holds()


async def test_the_lease_duration_of_the_holder_is_respected() -> None:
    """Another version of the operator may use a longer lease."""
    server, clock = LeaseServer(), Clock()
    (a, _), (b, _) = elector(server, "a", clock), elector(server, "b", clock)
    await try_once(a)
    assert server.lease is not None
    server.lease["spec"]["leaseDurationSeconds"] = 60
    await try_once(b)
    clock.now_s += module.LEASE_S + 1
    await try_once(b)
    assert not b.holds()
    clock.now_s += 60
    await try_once(b)
    assert b.holds()
