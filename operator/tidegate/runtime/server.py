"""
The HTTP pages /metrics, /healthz and /readyz.

In:    metrics, and the two health checks.
Out:   an HTTP server; each probe's text says what is wrong.
Rules: readiness means warm caches, not leadership: a standby is ready. Liveness fails only for what a restart solves.
       Anybody in the cluster may ask, as often as they like: it must not slow down the rest of the operator.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from tidegate.observe.threads import in_thread
from tidegate.report.metrics import Metrics

# The metrics are written at most this often: for a thousand deployments it takes half a second.
PAGE_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Probes:
    """The health checks; each returns what is wrong, in words, or an empty text."""

    alive: Callable[[], str]
    ready: Callable[[], str]


class Server:
    """
    Serves the pages until cancelled.

    Args:
        address: Host (empty: all addresses, IPv4 and IPv6) and port; port 0 takes any free one.
        metrics: The metrics to serve.
        probes: The health checks.
    """

    def __init__(self, address: tuple[str, int], metrics: Metrics, probes: Probes) -> None:
        self._address, self._metrics, self._probes = address, metrics, probes
        self._written: asyncio.Future[bytes] | None = None
        self._written_s = 0.0
        self.port = 0

    async def run(self) -> None:
        """Serve until cancelled."""
        app = web.Application()
        app.router.add_get("/metrics", self._page)
        app.router.add_get("/healthz", self._alive)
        app.router.add_get("/readyz", self._ready)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await runner.setup()
        try:
            site = web.TCPSite(runner, *self._address)
            await site.start()
            self.port = runner.addresses[0][1]
            await asyncio.Event().wait()
        finally:
            await runner.cleanup()

    async def _page(self, _: web.Request) -> web.Response:
        """The metrics, written once for all requests of the next moments, and off the event loop."""
        now_s = time.monotonic()
        if self._written is None or (self._written.done() and now_s - self._written_s >= PAGE_S):
            self._written, self._written_s = asyncio.ensure_future(in_thread(self._metrics.page)), now_s
        body = await asyncio.shield(self._written)
        return web.Response(body=body, headers={"Content-Type": "text/plain; version=0.0.4"})

    async def _alive(self, _: web.Request) -> web.Response:
        return _probe(self._probes.alive())

    async def _ready(self, _: web.Request) -> web.Response:
        return _probe(self._probes.ready())


def _probe(wrong: str) -> web.Response:
    return web.Response(status=503 if wrong else 200, text=(wrong or "ok") + "\n")
