"""The fault proxy changes nothing without a fault, and injects exactly the configured faults."""

import asyncio
import time
from collections.abc import AsyncIterator

import aiohttp
import pytest

from tests.sandbox.kube import CORE, MERGE, Kube, config_map
from tidegate.sandbox.embedded import EmbeddedControlPlane
from tidegate.sandbox.fault_proxy import Fault, FaultProxy, Kind

MAPS = f"{CORE}/namespaces/default/configmaps"


@pytest.fixture
async def proxy() -> AsyncIterator[FaultProxy]:
    """A proxy before an embedded control plane that holds one object."""
    async with EmbeddedControlPlane() as control_plane, FaultProxy.before(control_plane.admin) as proxy:
        proxy.admin = proxy.account(control_plane.admin)  # type: ignore[attr-defined]
        yield proxy


@pytest.fixture
async def kube(proxy: FaultProxy) -> AsyncIterator[Kube]:
    """A client that speaks through the proxy."""
    async with proxy.admin.session() as session:  # type: ignore[attr-defined]
        client = Kube(session, "default")
        await client.create(MAPS, config_map("a", x="1" * 1000))
        proxy.seen.clear()
        yield client


async def test_without_a_fault_nothing_changes(proxy: FaultProxy, kube: Kube) -> None:
    item = await kube.get(f"{MAPS}/a")
    assert item["data"]["x"] == "1" * 1000
    patched = await kube.patch(f"{MAPS}/a", {"data": {"y": "2"}}, MERGE)
    assert patched["data"]["y"] == "2"
    assert (await kube.call("GET", f"{MAPS}/ghost"))[0] == 404
    assert [(each.method, each.status, each.fault) for each in proxy.seen] == [
        ("GET", 200, None),
        ("PATCH", 200, None),
        ("GET", 404, None),
    ]


async def test_a_watch_streams_through(proxy: FaultProxy, kube: Kube) -> None:
    async with kube.watch(MAPS, fieldSelector="metadata.name=a") as following:
        assert (await following())["type"] == "ADDED"
        await kube.patch(f"{MAPS}/a", {"data": {"y": "2"}}, MERGE)
        assert (await following())["type"] == "MODIFIED"


@pytest.mark.parametrize(
    ("code", "reason"),
    [(403, "Forbidden"), (409, "Conflict"), (410, "Expired"), (429, "TooManyRequests"), (500, "InternalError")],
)
async def test_an_error_looks_like_an_api_servers(proxy: FaultProxy, kube: Kube, code: int, reason: str) -> None:
    proxy.add(Fault(kind=Kind.STATUS, code=code, retry_after_s=3, count=1))
    async with kube.session.get(f"{MAPS}/a") as answer:
        body = await answer.json()
        assert (answer.status, answer.headers["Retry-After"]) == (code, "3")
    assert (body["kind"], body["reason"], body["code"]) == ("Status", reason, code)
    assert (await kube.call("GET", f"{MAPS}/a"))[0] == 200


async def test_a_fault_hits_only_matching_requests_and_only_count_times(proxy: FaultProxy, kube: Kube) -> None:
    proxy.add(Fault(kind=Kind.STATUS, path=r"^PATCH .*/configmaps/a", code=409, count=2, after=1))
    statuses = [(await kube.call("PATCH", f"{MAPS}/a", {"data": {}}, content_type=MERGE))[0] for _ in range(5)]
    assert statuses == [200, 409, 409, 200, 200]
    assert (await kube.call("GET", f"{MAPS}/a"))[0] == 200
    assert proxy.hits(Kind.STATUS) == proxy.hits() == 2


async def test_a_page_of_html_comes_instead_of_json(proxy: FaultProxy, kube: Kube) -> None:
    proxy.add(Fault(kind=Kind.HTML, code=502, count=1))
    async with kube.session.get(f"{MAPS}/a") as answer:
        assert (answer.status, answer.content_type) == (502, "text/html")


async def test_half_a_body_is_an_error_of_the_connection(proxy: FaultProxy, kube: Kube) -> None:
    proxy.add(Fault(kind=Kind.HALF, count=1))
    with pytest.raises(aiohttp.ClientError):
        await kube.get(f"{MAPS}/a")


async def test_garbage_is_not_json(proxy: FaultProxy, kube: Kube) -> None:
    proxy.add(Fault(kind=Kind.GARBAGE, count=1))
    with pytest.raises(ValueError, match="Expecting value"):
        await kube.get(f"{MAPS}/a")


async def test_a_reset_answers_nothing(proxy: FaultProxy, kube: Kube) -> None:
    proxy.add(Fault(kind=Kind.RESET, path="POST"))
    with pytest.raises(aiohttp.ClientError):
        await kube.create(MAPS, config_map("b"))
    proxy.clear()
    assert (await kube.call("GET", f"{MAPS}/b"))[0] == 404


async def test_a_request_whose_answer_is_dropped_was_executed(proxy: FaultProxy, kube: Kube) -> None:
    """The client cannot know that; it must read before it retries."""
    proxy.add(Fault(kind=Kind.DROP, path="POST", count=1))
    with pytest.raises(aiohttp.ClientError):
        await kube.create(MAPS, config_map("b"))
    assert (await kube.call("GET", f"{MAPS}/b"))[0] == 200


async def test_a_slow_answer_comes_late(proxy: FaultProxy, kube: Kube) -> None:
    proxy.add(Fault(kind=Kind.SLOW, delay_s=0.3, count=1))
    began = time.monotonic()
    await kube.get(f"{MAPS}/a")
    assert time.monotonic() - began >= 0.3


async def test_a_hanging_request_goes_on_when_the_fault_is_lifted(proxy: FaultProxy, kube: Kube) -> None:
    with proxy.having(Fault(kind=Kind.HANG)):
        asking = asyncio.create_task(kube.get(f"{MAPS}/a"))
        await asyncio.sleep(0.2)
        assert not asking.done()
    assert (await asking)["metadata"]["name"] == "a"


async def test_a_hang_holds_as_many_as_told(proxy: FaultProxy, kube: Kube) -> None:
    number = proxy.add(Fault(kind=Kind.HANG, count=1))
    first = asyncio.create_task(kube.get(f"{MAPS}/a"))
    await asyncio.sleep(0.1)
    assert (await kube.get(f"{MAPS}/a"))["metadata"]["name"] == "a"
    assert not first.done()
    proxy.remove(number)
    await first


async def test_watches_are_cut_in_the_middle(proxy: FaultProxy, kube: Kube) -> None:
    async with kube.session.get(MAPS, params={"watch": "true"}) as answer:
        await answer.content.readline()
        assert proxy.cut_watches() == 1
        with pytest.raises(aiohttp.ClientError):
            await answer.content.read()


async def test_a_watch_can_be_told_that_its_version_is_gone(proxy: FaultProxy, kube: Kube) -> None:
    proxy.add(Fault(kind=Kind.GONE, path="watch=true", count=1))
    async with kube.watch(MAPS, resourceVersion="1") as following:
        event = await following()
    assert (event["type"], event["object"]["code"], event["object"]["reason"]) == ("ERROR", 410, "Expired")


@pytest.mark.cluster
async def test_it_stands_before_a_real_api_server_too(real_control_plane: object) -> None:
    admin = real_control_plane.admin  # type: ignore[attr-defined]
    async with FaultProxy.before(admin) as proxy, proxy.account(admin).session() as session:
        kube = Kube(session, "default")
        assert (await kube.get(f"{CORE}/namespaces"))["kind"] == "NamespaceList"
        proxy.add(Fault(kind=Kind.STATUS, code=429, count=1, retry_after_s=1))
        assert (await kube.call("GET", f"{CORE}/namespaces"))[0] == 429
