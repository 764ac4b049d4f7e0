"""
The HTTP routes of an emulated server.

`/emulator` is our own: how late the server's steps end. All other routes are vLLM's.
"""

import asyncio
from typing import TYPE_CHECKING

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from tidegate.sandbox.emulator.answers import Answer
from tidegate.sandbox.emulator.engine import EngineDead, Ticket
from tidegate.sandbox.emulator.prompts import Ask, BadRequest, block_contents, read
from tidegate.sandbox.emulator.scheduler import Request

if TYPE_CHECKING:
    from tidegate.sandbox.emulator.server import EmulatedServer

VERSION = "0.32.0"
BODY_BYTES = 16 * 2**20


class Routes:
    """The HTTP handlers of one server."""

    def __init__(self, server: "EmulatedServer") -> None:
        self.server = server
        self.in_flight = 0

    def app(self) -> web.Application:
        """The web application; the sleep endpoints exist in dev mode only, as in vLLM."""
        app = web.Application(client_max_size=BODY_BYTES, middlewares=[self._counted(), self._keyed()])
        app.router.add_get("/health", self.health)
        app.router.add_route("*", "/ping", self.health)
        app.router.add_get("/version", self.version)
        app.router.add_get("/load", self.load)
        app.router.add_get("/metrics", self.metrics)
        app.router.add_get("/emulator", self.emulator)
        app.router.add_get("/v1/models", self.models)
        app.router.add_post("/v1/completions", self.completions)
        app.router.add_post("/v1/chat/completions", self.chat)
        if self.server.spec.options.dev_mode:
            self._add_dev_routes(app)
        return app

    def _add_dev_routes(self, app: web.Application) -> None:
        app.router.add_post("/sleep", self.sleep)
        app.router.add_post("/wake_up", self.wake_up)
        app.router.add_get("/is_sleeping", self.is_sleeping)
        app.router.add_post("/pause", self.pause)
        app.router.add_post("/resume", self.wake_up)
        app.router.add_get("/is_paused", self.is_paused)
        app.router.add_post("/reset_prefix_cache", self.reset_prefix_cache)

    async def health(self, _: web.Request) -> web.Response:
        """200 as long as the engine lives, even while draining, asleep or paused."""
        return web.Response(status=503 if self.server.dead else 200)

    async def version(self, _: web.Request) -> web.Response:
        """vLLM's version."""
        return web.json_response({"version": VERSION})

    async def load(self, _: web.Request) -> web.Response:
        """Requests in flight; 0 without --enable-server-load-tracking, as in vLLM."""
        tracked = self.server.spec.options.load_tracking
        return web.json_response({"server_load": self.in_flight if tracked else 0})

    async def metrics(self, _: web.Request) -> web.Response:
        """Prometheus text."""
        return web.Response(
            body=generate_latest(self.server.metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST}
        )

    async def emulator(self, _: web.Request) -> web.Response:
        """Requests and lag of this server."""
        return web.json_response(self.server.describe())

    async def models(self, _: web.Request) -> web.Response:
        """Served names."""
        options = self.server.spec.options
        cards = [
            {
                "id": name,
                "object": "model",
                "owned_by": "vllm",
                "root": options.model,
                "max_model_len": self.server.model_len,
            }
            for name in options.served_names
        ]
        return web.json_response({"object": "list", "data": cards})

    async def completions(self, request: web.Request) -> web.StreamResponse:
        """/v1/completions."""
        return await self._generate(request, chat=False)

    async def chat(self, request: web.Request) -> web.StreamResponse:
        """/v1/chat/completions."""
        return await self._generate(request, chat=True)

    async def sleep(self, request: web.Request) -> web.Response:
        """Sleep at a level: 0 pauses steps, 1 offloads weights, 2 discards them. New requests wait."""
        level = int(request.query.get("level", "1"))
        await self._hold(request)
        self.server.sleep_level = level
        self.server.metrics.asleep(level or None)
        return web.Response()

    async def wake_up(self, _: web.Request) -> web.Response:
        """Resume steps, for /wake_up and /resume."""
        self.server.sleep_level = None
        self.server.metrics.asleep(None)
        self.server.engine.resume()
        return web.Response()

    async def is_sleeping(self, _: web.Request) -> web.Response:
        """Whether it sleeps."""
        return web.json_response({"is_sleeping": self.server.sleep_level is not None})

    async def pause(self, request: web.Request) -> web.Response:
        """Pause steps."""
        await self._hold(request)
        return web.Response()

    async def _hold(self, request: web.Request) -> None:
        """Pause steps; requests in flight are aborted (`mode=abort`), finished first (`wait`), or kept."""
        mode = request.query.get("mode", "abort")
        if mode == "abort":
            self.server.engine.abort_all()
        elif mode == "wait":
            await self.server.engine.drained()
        self.server.engine.pause()

    async def is_paused(self, _: web.Request) -> web.Response:
        """Whether steps are paused."""
        return web.json_response({"is_paused": self.server.engine.paused})

    async def reset_prefix_cache(self, _: web.Request) -> web.Response:
        """Evict cached prompts."""
        self.server.engine.scheduler.pool.forget()
        return web.Response()

    async def _generate(self, http: web.Request, *, chat: bool) -> web.StreamResponse:
        arrived_s = asyncio.get_running_loop().time()
        server = self.server
        try:
            ask = read(await http.read(), chat=chat, names=server.spec.options.served_names, model_len=server.model_len)
        except BadRequest as wrong:
            return _error(str(wrong), kind=wrong.kind, status=wrong.status)
        if server.draining or server.dead:
            return _error("cannot schedule new futures after shutdown", kind="InternalServerError", status=500)
        overflow = self._overflow()
        if overflow is not None:
            server.metrics.rejected(overflow)
            return await _rejection(http, ask, overflow)
        ticket = self._submit(ask, arrived_s)
        self.in_flight += 1
        try:
            answer = Answer(ask, ticket, metrics=server.spec.options.per_request_metrics)
            return await (answer.stream(http) if ask.stream else answer.whole())
        except EngineDead:
            return _cut(http)
        finally:
            self.in_flight -= 1
            server.engine.abort(ticket.request)

    def _submit(self, ask: Ask, arrived_s: float) -> Ticket:
        options = self.server.spec.options
        contents = block_contents(ask.content, options.block_tokens) if options.prefix_caching else []
        request = Request(
            prompt_tokens=ask.prompt_tokens, output_tokens=ask.output_tokens, contents=contents, arrived_s=arrived_s
        )
        reason = "stop" if ask.stopped else "length"
        return self.server.engine.submit(request, max_tokens=ask.max_tokens, finish_reason=reason)

    def _overflow(self) -> str | None:
        """The queue limit that rejects the next request; None: it is accepted."""
        options, engine = self.server.spec.options, self.server.engine
        if options.queued_reqs is not None and engine.unfinished >= options.queued_reqs:
            return "max_num_queued_reqs"
        if options.queued_tokens is not None and engine.queued_tokens >= options.queued_tokens:
            return "max_num_queued_tokens"
        return None

    def _counted(self) -> Middleware:
        @web.middleware
        async def counted(request: web.Request, handler: Handler) -> web.StreamResponse:
            clock = asyncio.get_running_loop().time
            start_s, status, size = clock(), 500, 0
            try:
                response = await handler(request)
            except web.HTTPException as known:
                status = known.status
                raise
            else:
                status, size = response.status, response.content_length or 0
                return response
            finally:
                route = request.match_info.route.resource
                self.server.http_metrics.answered(
                    handler=route.canonical if route is not None else "none",
                    method=request.method,
                    status=status,
                    sizes=(request.content_length or 0, size),
                    duration_s=clock() - start_s,
                )

        return counted

    def _keyed(self) -> Middleware:
        keys = self.server.spec.options.api_keys

        @web.middleware
        async def keyed(request: web.Request, handler: Handler) -> web.StreamResponse:
            given = request.headers.get("Authorization", "").removeprefix("Bearer ")
            if keys and request.path.startswith("/v1") and given not in keys:
                return web.json_response({"error": "Unauthorized"}, status=401)
            return await handler(request)

        return keyed


def _cut(http: web.Request) -> web.StreamResponse:
    """Cut the connection, as a dead process does."""
    if http.transport is not None:
        http.transport.abort()
    return web.Response(status=500)


def _error(message: str, *, kind: str, status: int) -> web.Response:
    body = {"error": {"message": message, "type": kind, "param": None, "code": status}}
    return web.json_response(body, status=status)


async def _rejection(http: web.Request, ask: Ask, reason: str) -> web.StreamResponse:
    """Reject a request: 503, or for a stream an error event in a response with status 200."""
    refused = _error(f"the queue is full ({reason})", kind="ServiceUnavailableError", status=503)
    if not ask.stream:
        return refused
    stream = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
    await stream.prepare(http)
    await stream.write(f"data: {refused.text}\n\ndata: [DONE]\n\n".encode())
    return stream
