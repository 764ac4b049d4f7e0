"""
One kind in memory: complete after a list, up to date after a watch, and never with deleted objects.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from tests.kube_fakes import Clock, ScriptedApi, down, gone, not_found, until
from tidegate.observe import informer as module
from tidegate.observe.informer import Informer, Source
from tidegate.ports import ApiError, Call

PATH = "/api/v1/pods"


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BACKOFF_MIN_S", 0.0)
    monkeypatch.setattr(module, "ABSENT_RETRY_S", 0.0)


def pod(name: str, version: int, value: str = "") -> dict[str, Any]:
    return {"metadata": {"namespace": "a", "name": name, "resourceVersion": str(version)}, "value": value}


def page(*items: dict[str, Any], version: int = 1, more: str = "") -> dict[str, Any]:
    return {"items": list(items), "metadata": {"resourceVersion": str(version), "continue": more}}


def event(kind: str, item: dict[str, Any]) -> dict[str, Any]:
    return {"type": kind, "object": item}


@asynccontextmanager
async def informing(
    api: ScriptedApi, *, optional: bool = False
) -> AsyncIterator[tuple[Informer[str], Clock, list[int]]]:
    clock, changes = Clock(), list[int]()
    source = Source(path=PATH, trim=lambda raw: str(raw.get("value")), params={"labelSelector": "x"}, optional=optional)
    informer = Informer(api, source, clock=clock, changed=lambda: changes.append(1))
    task = asyncio.create_task(informer.run())
    try:
        yield informer, clock, changes
    finally:
        task.cancel()
        await asyncio.wait({task})


def names(informer: Informer[str]) -> set[str]:
    return {name for _, name in informer.items}


async def test_a_list_in_pages_is_complete_only_at_its_end() -> None:
    api = ScriptedApi()
    api.answers["GET", PATH] = [page(pod("p", 1), more="next"), page(pod("q", 1), version=7)]
    async with informing(api) as (informer, _, _changes):
        await until(lambda: informer.synced)
        assert names(informer) == {"p", "q"}
        await until(lambda: api.watches)
    assert api.calls[0].params["limit"] == "500"
    assert api.calls[1].params["continue"] == "next"
    assert api.watches[0].params["resourceVersion"] == "7"
    assert api.watches[0].params["allowWatchBookmarks"] == "true"
    assert api.watches[0].params["labelSelector"] == "x"
    assert api.watches[0].timeout_s == 70.0


async def test_events_change_the_cache_and_an_event_that_changes_nothing_wakes_nobody() -> None:
    api = ScriptedApi()
    api.answers["GET", PATH] = page(pod("p", 1, "old"))
    async with informing(api) as (informer, _, changes):
        await until(lambda: informer.synced)
        changes.clear()
        for item in (event("MODIFIED", pod("p", 2, "new")), event("MODIFIED", pod("p", 3, "new"))):
            api.events(PATH).put_nowait(item)
        api.events(PATH).put_nowait(event("ADDED", pod("q", 4)))
        api.events(PATH).put_nowait(event("DELETED", pod("p", 5)))
        api.events(PATH).put_nowait(event("DELETED", pod("p", 5)))
        await until(lambda: "a" and names(informer) == {"q"})
        await until(lambda: api.events(PATH).empty())
    assert len(changes) == 3


async def test_a_bookmark_moves_the_version_and_confirms_the_cache() -> None:
    api = ScriptedApi()
    api.answers["GET", PATH] = page(version=3)
    async with informing(api) as (informer, clock, changes):
        await until(lambda: informer.synced)
        changes.clear()
        clock.now_s += 60
        assert informer.age_s() == 60
        api.events(PATH).put_nowait(event("BOOKMARK", {"metadata": {"resourceVersion": "99"}}))
        await until(lambda: informer.age_s() == 0)
        api.events(PATH).put_nowait(None)
        await until(lambda: len(api.watches) == 2)
    assert api.watches[1].params["resourceVersion"] == "99"
    assert changes == []


@pytest.mark.parametrize(
    "expiry",
    [
        pytest.param(gone(), id="the watch is refused"),
        pytest.param(event("ERROR", {"code": 410, "reason": "Expired"}), id="the watch says so in the stream"),
    ],
)
async def test_objects_deleted_while_the_watch_was_expired_are_gone_after_the_relist(expiry: Any) -> None:
    api = ScriptedApi()
    api.answers["GET", PATH] = [page(pod("p", 1), pod("q", 1)), page(pod("q", 1), version=50)]
    async with informing(api) as (informer, _, _changes):
        await until(lambda: names(informer) == {"p", "q"})
        api.events(PATH).put_nowait(expiry)
        await until(lambda: names(informer) == {"q"})
        await until(lambda: len(api.watches) == 2)
    assert api.watches[1].params["resourceVersion"] == "50"


async def test_a_silent_watch_is_resumed_where_it_was() -> None:
    api = ScriptedApi()
    api.answers["GET", PATH] = page(pod("p", 1), version=5)
    async with informing(api) as (informer, _, _changes):
        await until(lambda: informer.synced)
        api.events(PATH).put_nowait(ApiError(status=0, reason="Silence", detail=""))
        await until(lambda: len(api.watches) == 2)
        assert names(informer) == {"p"}
    assert len(api.calls) == 1, "no relist"


@pytest.mark.parametrize("end", [None, down()], ids=["ended", "cut"])
async def test_a_cache_whose_watches_all_end_before_a_bookmark_is_confirmed_by_a_list(
    end: ApiError | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy between us and the server closes connections that were idle for 50 s."""
    monkeypatch.setattr(module, "BACKOFF_MIN_S", 0.01)
    monkeypatch.setattr(module, "random", SimpleNamespace(uniform=lambda low, high: high))
    api, paused = ScriptedApi(), list[float]()
    api.answers["GET", PATH] = page(pod("p", 1), version=5)

    async def sleep(pause_s: float) -> None:
        paused.append(pause_s)

    async with informing(api) as (informer, clock, _changes):
        monkeypatch.setattr(module, "asyncio", SimpleNamespace(sleep=sleep))
        for count in range(1, 6):
            await until(lambda: len(api.watches) == count)  # noqa: B023
            assert informer.age_s() < 70
            clock.now_s += 50
            api.events(PATH).put_nowait(end)
        assert names(informer) == {"p"}
    assert set(paused) <= {0.02}, "a watch that was up for a while is reopened soon"


@pytest.mark.parametrize(
    ("lasts_s", "pauses"),
    [
        pytest.param(0.2, [1.0, 2.0, 4.0], id="at once, ever more slowly"),
        pytest.param(20.0, [], id="after a while, without a pause"),
    ],
)
async def test_a_watch_that_ends_at_once_is_resumed(
    lasts_s: float, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    api, paused = ScriptedApi(), list[float]()
    api.answers["GET", PATH] = page(version=5)
    clock = Clock()

    async def watch(call: Call) -> AsyncIterator[dict[str, Any]]:
        api.watches.append(call)
        if len(api.watches) > 3:
            await asyncio.Event().wait()
        clock.now_s += lasts_s
        for nothing in ():
            yield nothing

    async def sleep(pause_s: float) -> None:
        paused.append(pause_s)

    monkeypatch.setattr(api, "watch", watch)
    monkeypatch.setattr(module, "BACKOFF_MIN_S", 0.5)
    monkeypatch.setattr(module, "asyncio", SimpleNamespace(sleep=sleep))
    monkeypatch.setattr(module, "random", SimpleNamespace(uniform=lambda low, high: high))
    running = asyncio.create_task(Informer(api, Source(path=PATH, trim=str), clock=clock).run())
    await until(lambda: len(api.watches) == 4)
    running.cancel()
    await asyncio.wait({running})
    assert paused == pauses
    assert len(api.calls) == 1, "no relist"


async def test_the_cache_stays_while_the_server_is_away() -> None:
    api = ScriptedApi()
    api.answers["GET", PATH] = page(pod("p", 1), version=5)
    async with informing(api) as (informer, clock, _changes):
        await until(lambda: informer.synced)
        for _ in range(4):
            api.events(PATH).put_nowait(down())
        clock.now_s += 33
        await until(lambda: len(api.watches) == 5)
        assert names(informer) == {"p"}
        assert informer.age_s() == 33, "nothing has confirmed it"


async def test_a_list_that_expires_between_two_pages_starts_over() -> None:
    api = ScriptedApi()
    api.answers["GET", PATH] = [page(pod("p", 1), more="next"), gone(), page(pod("q", 9), version=9)]
    async with informing(api) as (informer, _, _changes):
        await until(lambda: informer.synced)
        assert names(informer) == {"q"}
    assert "continue" not in api.calls[2].params


@pytest.mark.parametrize("status", [404, 403])
async def test_a_missing_kind_is_empty_until_it_is_installed(status: int) -> None:
    api = ScriptedApi()
    absent = ApiError(status=status, reason="NotFound", detail=PATH)
    api.answers["GET", PATH] = [absent, absent, page(pod("p", 1))]
    async with informing(api, optional=True) as (informer, _, _changes):
        await until(lambda: informer.synced)
        assert informer.absent
        await until(lambda: names(informer) == {"p"})
        assert not informer.absent


@pytest.mark.parametrize("status", [404, 403])
async def test_a_temporary_refusal_keeps_the_cache(status: int) -> None:
    """An API server that has just started refuses permitted requests until its own caches are filled."""
    api = ScriptedApi()
    api.answers["GET", PATH] = page(pod("p", 1), version=5)
    api.answers["GET", "/api/v1"] = {"resources": [{"name": "pods"}]}
    async with informing(api, optional=True) as (informer, clock, _changes):
        await until(lambda: informer.synced)
        clock.now_s += 33
        api.events(PATH).put_nowait(ApiError(status=status, reason="Forbidden", detail="clusterrole not found"))
        await until(lambda: len(api.watches) == 2)
        assert names(informer) == {"p"}
        assert not informer.absent
        assert informer.age_s() == 33, "nothing has confirmed it"


@pytest.mark.parametrize(
    "discovery",
    [pytest.param({"resources": [{"name": "nodes"}]}, id="the kind"), pytest.param(not_found(PATH), id="its group")],
)
async def test_a_kind_that_was_removed_is_gone(discovery: Any) -> None:
    api = ScriptedApi()
    api.answers["GET", PATH] = [page(pod("p", 1), version=5), not_found(PATH)]
    api.answers["GET", "/api/v1"] = discovery
    async with informing(api, optional=True) as (informer, _, _changes):
        await until(lambda: informer.synced)
        api.events(PATH).put_nowait(not_found(PATH))
        await until(lambda: informer.absent)
        assert names(informer) == set()


async def test_an_object_of_unexpected_shape_is_logged_and_left_out(caplog: pytest.LogCaptureFixture) -> None:
    broken = {"metadata": {"namespace": "a", "name": "odd", "resourceVersion": "2"}, "spec": "text"}
    source = Source(path=PATH, trim=lambda raw: str(raw.get("spec", {}).get("x")))
    api = ScriptedApi()
    api.answers["GET", PATH] = page(pod("p", 1), broken, version=5)
    informer = Informer(api, source, clock=Clock())
    task = asyncio.create_task(informer.run())
    await until(lambda: informer.synced)
    assert (names(informer), informer.unreadable) == ({"p"}, {("a", "odd")})
    assert caplog.text.count("cannot parse a/odd") == 1
    api.events(PATH).put_nowait(event("MODIFIED", {**pod("p", 6), "spec": "text"}))
    await until(lambda: len(informer.unreadable) == 2)
    assert names(informer) == {"p"}, "its last known state stands for it"
    api.events(PATH).put_nowait(event("MODIFIED", pod("p", 7)))
    api.events(PATH).put_nowait(event("DELETED", broken))
    await until(lambda: not informer.unreadable)
    task.cancel()
    await asyncio.wait({task})


async def test_a_required_kind_that_is_missing_is_not_empty() -> None:
    api = ScriptedApi()
    api.answers["GET", PATH] = [not_found(PATH), not_found(PATH), page(pod("p", 1))]
    async with informing(api) as (informer, _, _changes):
        await until(lambda: len(api.calls) == 2)
        assert not informer.synced
        await until(lambda: informer.synced)


async def test_retry_after_is_respected() -> None:
    informer = Informer(ScriptedApi(), Source(path=PATH, trim=str), clock=Clock())
    busy = ApiError(status=429, reason="TooManyRequests", detail="", retry_after_s=60.0)
    assert await informer._after(busy) >= 60.0
