"""The front end: choice of the next replica, and unchanged bytes."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from tests.sandbox.hosts import host
from tidegate.sandbox.front import Backends, Front, Policy
from tidegate.sandbox.front.balance import backends_in

Backend = tuple[str, int]


def balancer(ready: list[Backend], policy: Policy = Policy.LEAST) -> Backends:
    backends = Backends(policy, random.Random(1))
    backends.update("slice", frozenset(ready))
    return backends


@asynccontextmanager
async def replica(*, pause_s: float = 0.0) -> AsyncIterator[Backend]:
    """A server that answers with its own address, in two parts."""
    address = host()

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(address.encode() + b"\n")
        await asyncio.sleep(pause_s)
        await response.write(await request.read())
        return response

    app = web.Application()
    app.router.add_post("/", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, address, 8000)
    await site.start()
    try:
        yield address, 8000
    finally:
        await runner.cleanup()


@asynccontextmanager
async def front(backends: Backends, *, patience_s: float = 5.0) -> AsyncIterator[str]:
    it = Front(backends, patience_s=patience_s)
    port = await it.start("127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{port}/"
    finally:
        await it.stop()


async def ask(url: str, body: bytes = b"x") -> tuple[str, bytes]:
    connector = aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(connector=connector) as client, client.post(url, data=body) as response:
        address, _, echo = (await response.read()).partition(b"\n")
        return address.decode(), echo


async def settled(backends: Backends) -> dict[Backend, int]:
    """Open connections once nothing moves any more."""
    for _ in range(100):
        if not backends.open:
            break
        await asyncio.sleep(0.01)
    return dict(backends.open)


async def test_what_goes_in_comes_out() -> None:
    body = random.Random(1).randbytes(300_000)
    async with replica() as one:
        backends = balancer([one])
        async with front(backends) as url:
            assert await ask(url, body) == (one[0], body)


async def test_requests_that_overlap_are_spread_evenly() -> None:
    async with replica(pause_s=0.2) as one, replica(pause_s=0.2) as two, replica(pause_s=0.2) as three:
        backends = balancer([one, two, three])
        async with front(backends) as url:
            answers = await asyncio.gather(*(ask(url) for _ in range(9)))
    assert Counter(address for address, _ in answers) == {one[0]: 3, two[0]: 3, three[0]: 3}


async def test_a_request_that_is_over_is_not_counted_any_more() -> None:
    async with replica() as one, replica() as two:
        backends = balancer([one, two])
        async with front(backends) as url:
            for _ in range(6):
                await ask(url)
            assert await settled(backends) == {}


async def test_a_client_that_leaves_early_is_not_counted_any_more() -> None:
    async with replica(pause_s=30) as one:
        backends = balancer([one])
        async with front(backends) as url, aiohttp.ClientSession() as client:
            response = await client.post(url, data=b"x")
            await response.content.readline()
            response.close()
            assert await settled(backends) == {}


async def test_without_a_replica_a_request_waits_for_the_first_one() -> None:
    backends = balancer([])
    async with replica() as one, front(backends) as url:
        waiting = asyncio.create_task(ask(url))
        await asyncio.sleep(0.05)
        assert backends.queued == 1
        backends.update("slice", frozenset([one]))
        assert (await waiting)[0] == one[0]
        assert backends.queued == 0


async def test_without_a_replica_in_time_a_request_is_refused() -> None:
    async with front(balancer([]), patience_s=0.05) as url, aiohttp.ClientSession() as client:
        response = await client.post(url, data=b"x")
        assert response.status == 503
        assert "no replica" in (await response.json())["error"]["message"]


async def test_a_replica_that_is_gone_is_answered_with_503_and_not_retried() -> None:
    async with front(balancer([("127.99.2.9", 1)])) as url, aiohttp.ClientSession() as client:
        assert (await client.post(url, data=b"x")).status == 503


async def test_a_replica_that_is_cut_off_cuts_its_client_off() -> None:
    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        await writer.drain()
        writer.transport.abort()

    server = await asyncio.start_server(cut, "127.99.2.8", 8000)
    async with server, front(balancer([("127.99.2.8", 8000)])) as url, aiohttp.ClientSession() as client:
        with pytest.raises(aiohttp.ClientError):
            await (await client.post(url, data=b"x")).read()


def test_random_picks_whatever_is_open() -> None:
    backends = balancer([("a", 1), ("b", 1)], Policy.RANDOM)
    for _ in range(50):
        backends.opened(("a", 1))
    picked = Counter(backends.pick() for _ in range(400))
    assert min(picked[("a", 1)], picked[("b", 1)]) > 150


def endpoint(address: str, **conditions: bool) -> dict[str, Any]:
    return {"addresses": [address], "conditions": conditions}


def test_only_ready_endpoints_get_connections_at_the_address_they_listen_on() -> None:
    found = backends_in(
        {
            "ports": [{"port": 8000}],
            "endpoints": [
                endpoint("10.244.1.2", ready=True),
                endpoint("10.244.1.3", ready=False, serving=True, terminating=True),
                endpoint("10.244.1.4"),
            ],
        }
    )
    assert found == {("127.244.1.2", 8000), ("127.244.1.4", 8000)}


def test_a_slice_that_goes_takes_its_replicas_along() -> None:
    backends = balancer([("a", 1)])
    backends.update("other", frozenset([("b", 1)]))
    backends.update("slice", frozenset())
    assert backends.ready == [("b", 1)]
