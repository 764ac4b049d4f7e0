"""
The HTTP pages /metrics, /healthz and /readyz.

In:    metrics, and the two health checks.
Out:   an HTTP server; each probe's text says what is wrong.
Rules: readiness means warm caches, not leadership: a standby is ready. Liveness fails only for what a restart solves.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from tidegate.report.metrics import Metrics


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
        return web.Response(body=self._metrics.page(), headers={"Content-Type": "text/plain; version=0.0.4"})

    async def _alive(self, _: web.Request) -> web.Response:
        return _probe(self._probes.alive())

    async def _ready(self, _: web.Request) -> web.Response:
        return _probe(self._probes.ready())


def _probe(wrong: str) -> web.Response:
    return web.Response(status=503 if wrong else 200, text=(wrong or "ok") + "\n")
