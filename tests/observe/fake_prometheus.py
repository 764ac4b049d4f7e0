"""A server with Prometheus' query API that fails on demand."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

Handler = Callable[[web.Request, dict[str, str]], Awaitable[web.StreamResponse]]


def vector(*series: dict[str, Any], **more: Any) -> web.Response:
    return web.json_response({"status": "success", "data": {"resultType": "vector", "result": list(series)}, **more})


def one(value: object, **labels: str) -> dict[str, Any]:
    return {"metric": labels, "value": [0, str(value)]}


@dataclass
class FakePrometheus:
    """`handler` answers; `asked` holds every received form, `headers` those of the last request."""

    handler: Handler
    url: str = ""
    asked: list[dict[str, str]] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    path: str = ""
    query_string: str = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        form = {name: str(value) for name, value in (await request.post()).items()}
        self.asked.append(form)
        self.headers, self.path, self.query_string = dict(request.headers), request.path, request.query_string
        return await self.handler(request, form)


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[FakePrometheus]:
    fake = FakePrometheus(handler)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", fake.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    fake.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield fake
    finally:
        await runner.cleanup()


def always(make: Callable[[], web.Response]) -> Handler:
    async def handler(_: web.Request, __: dict[str, str]) -> web.StreamResponse:
        return make()

    return handler


async def hang(_: web.Request, __: dict[str, str]) -> web.StreamResponse:
    await asyncio.sleep(60)
    return vector()


async def drip(request: web.Request, _: dict[str, str]) -> web.StreamResponse:
    """One byte every tenth of a second, so that no single read times out."""
    response = web.StreamResponse()
    await response.prepare(request)
    for _i in range(600):
        await response.write(b" ")
        await asyncio.sleep(0.1)
    return response


def failure(status: int, body: Any, **headers: str) -> Handler:
    text = body if isinstance(body, str) else json.dumps(body)
    kind = "text/html" if isinstance(body, str) else "application/json"
    return always(lambda: web.Response(status=status, text=text, content_type=kind, headers=headers))


FAILURES: dict[str, tuple[Handler, str]] = {
    "503 while it restarts": (failure(503, "starting"), "ServerError"),
    "429 with Retry-After": (failure(429, {"error": "slow down"}, **{"Retry-After": "1"}), "Throttled"),
    "401 without a token": (failure(401, "who are you?"), "Unauthorized"),
    "403 with a wrong one": (failure(403, "not you"), "Unauthorized"),
    "404 under a wrong prefix": (failure(404, "nothing here"), "NotFound"),
    "400 for bad PromQL": (
        failure(400, {"status": "error", "errorType": "bad_data", "error": "1:5: parse error"}),
        "BadQuery",
    ),
    "422 for a query that fails when it is run": (
        failure(422, {"status": "error", "errorType": "execution", "error": "many-to-many matching"}),
        "QueryFailed",
    ),
    "a login page with 200": (failure(200, "<html>log in</html>"), "NotJson"),
    "a redirect to a login page": (failure(302, "", Location="/login"), "Refused"),
    "half a JSON document": (failure(200, '{"status": "success", "data": {"resu'), "NotJson"),
    "200 with status error": (
        failure(200, {"status": "error", "errorType": "execution", "error": "too many"}),
        "QueryFailed",
    ),
    "200 with no data": (failure(200, {"status": "success"}), "QueryFailed"),
    "a list for an answer": (failure(200, []), "NotJson"),
    "a scalar for a vector": (
        failure(200, {"status": "success", "data": {"resultType": "scalar", "result": [0, "1"]}}),
        "Malformed",
    ),
    "a result that is no list": (
        failure(200, {"status": "success", "data": {"resultType": "vector", "result": {"a": 1}}}),
        "Malformed",
    ),
    "a warning: part of the data is missing": (
        always(lambda: vector(one(1), warnings=["receive series from store-2: unavailable"])),
        "PartialData",
    ),
    "VictoriaMetrics' own mark of partial data": (always(lambda: vector(one(1), isPartial=True)), "PartialData"),
    "no answer at all": (hang, "Timeout"),
    "an answer that drips": (drip, "Timeout"),
}
