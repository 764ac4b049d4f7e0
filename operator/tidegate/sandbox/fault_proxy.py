"""
A proxy that injects faults, in front of an API server or Prometheus, real or embedded.

In:    HTTP requests; the active faults.
Out:   the upstream's responses, or faults instead; a record of all requests and how they were answered.
Rules: without a fault, requests and responses pass unchanged. Loopback only: plain HTTP towards clients, HTTP or HTTPS
       towards the upstream.
"""

import asyncio
import contextlib
import itertools
import json
import re
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Self

import aiohttp
from aiohttp import web

from tidegate.sandbox.control_plane.account import Account

HOST = "127.0.0.1"
# Hop-by-hop headers, and those that the proxy sets itself; they are not forwarded.
_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "host", "content-length", "content-encoding"})
_HTML = "<html><head><title>502 Bad Gateway</title></head><body>a load balancer was here</body></html>"
_REASONS = {401: "Unauthorized", 403: "Forbidden", 404: "NotFound", 409: "Conflict", 410: "Expired", 422: "Invalid"}
_REASONS |= {429: "TooManyRequests", 500: "InternalError", 503: "ServiceUnavailable", 504: "Timeout"}


class Kind(StrEnum):
    """Kinds of faults."""

    STATUS = "status"  # an error of the upstream with `code`
    HTML = "html"  # an HTML page of something in between, with `code`
    HALF = "half"  # the body is cut off in the middle
    GARBAGE = "garbage"  # 200 with Content-Type JSON and a body that is not JSON
    HANG = "hang"  # no response until the fault is removed
    SLOW = "slow"  # the response comes after `delay_s`
    RESET = "reset"  # the connection is closed without a response
    GONE = "gone"  # a watch starts and reports at once that its version is too old (410)
    DROP = "drop"  # the upstream executes the request, but its response is lost


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """
    One fault.

    Args:
        kind: What goes wrong.
        path: Regular expression searched in `METHOD /path?query`; the first matching fault applies.
        count: How many requests it hits; None: all, until it is removed.
        code: HTTP status for STATUS and HTML.
        retry_after_s: `Retry-After` for STATUS, in whole seconds; None: no such header.
        delay_s: Seconds for SLOW.
        after: Matching requests that pass before the first one is hit.
    """

    kind: Kind
    path: str = ""
    count: int | None = None
    code: int = 500
    retry_after_s: int | None = None
    delay_s: float = 1.0
    after: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One request; `status` 0: there was no response; `fault` None: it was forwarded unchanged."""

    method: str
    path: str
    status: int
    fault: Kind | None


@dataclass(slots=True)
class _Armed:
    """An active fault, and how many requests it may still hit."""

    fault: Fault
    left: int | None
    waiting: int
    lifted: asyncio.Event = field(default_factory=asyncio.Event)


class FaultProxy:
    """
    A proxy in front of one upstream, on a free port; use as an async context manager.

    Args:
        upstream: URL of the upstream.
        ca_file: Certificate to trust; None for plain HTTP.
    """

    def __init__(self, upstream: str, *, ca_file: Path | None = None) -> None:
        self._upstream, self._ca_file = upstream.rstrip("/"), ca_file
        self._armed: dict[int, _Armed] = {}
        self._numbers = itertools.count()
        self._streams: set[asyncio.Task[object]] = set()
        self.seen: list[Seen] = []

    @classmethod
    def before(cls, account: Account) -> Self:
        """A proxy in front of the API server of an account."""
        return cls(account.url, ca_file=account.ca_file)

    def account(self, account: Account) -> Account:
        """The same identity, through this proxy."""
        return replace(account, url=self.url, ca_file=None)

    async def __aenter__(self) -> Self:
        context = ssl.create_default_context(cafile=str(self._ca_file)) if self._ca_file else None
        connector = aiohttp.TCPConnector(ssl=context if context is not None else True, limit=0)
        self._session = aiohttp.ClientSession(
            connector=connector, timeout=aiohttp.ClientTimeout(total=None), auto_decompress=True
        )
        app = web.Application(client_max_size=1 << 26)
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.2)
        await self._runner.setup()
        await web.TCPSite(self._runner, HOST, 0).start()
        self.url = f"http://{HOST}:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clear()
        self.cut_watches()
        await self._runner.cleanup()
        await self._session.close()

    def add(self, fault: Fault) -> int:
        """Activates a fault; returns its number."""
        number = next(self._numbers)
        self._armed[number] = _Armed(fault, fault.count, fault.after)
        return number

    def remove(self, number: int) -> None:
        """Removes a fault; requests that hang because of it are forwarded."""
        armed = self._armed.pop(number, None)
        if armed is not None:
            armed.lifted.set()

    def clear(self) -> None:
        """Removes all faults."""
        for number in list(self._armed):
            self.remove(number)

    @contextlib.contextmanager
    def having(self, fault: Fault) -> Iterator[None]:
        """A fault that is active during a `with` block."""
        number = self.add(fault)
        try:
            yield
        finally:
            self.remove(number)

    def cut_watches(self) -> int:
        """Cuts off every response that is being streamed; returns how many."""
        cut = [task for task in self._streams if not task.done()]
        for task in cut:
            task.cancel()
        return len(cut)

    def hits(self, kind: Kind | None = None) -> int:
        """How many requests were hit by faults of one kind, or of any kind."""
        return sum(each.fault is not None and kind in (None, each.fault) for each in self.seen)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        """Handles one request: applies a fault or forwards it."""
        armed = self._pick(request)
        fault = armed.fault if armed else None
        try:
            response = await self._respond(request, armed)
        except (aiohttp.ClientError, ConnectionError):
            self._note(request, 0, fault)
            raise
        self._note(request, response.status, fault)
        return response

    async def _respond(self, request: web.Request, armed: _Armed | None) -> web.StreamResponse:
        if armed is None:
            return await self._pass(request)
        fault = armed.fault
        if canned := _CANNED.get(fault.kind):
            return canned(fault, request)
        if fault.kind is Kind.SLOW:
            await asyncio.sleep(fault.delay_s)
        elif fault.kind is Kind.HANG:
            await armed.lifted.wait()
        return await self._pass(request, cut=fault.kind)

    def _pick(self, request: web.Request) -> _Armed | None:
        """The first matching fault, if any; counts the hit."""
        line = f"{request.method} {request.path_qs}"
        for number, armed in list(self._armed.items()):
            if not re.search(armed.fault.path, line):
                continue
            if armed.waiting > 0:
                armed.waiting -= 1
                continue
            if armed.left is not None:
                armed.left -= 1
                if armed.left <= 0 and armed.fault.kind is not Kind.HANG:
                    del self._armed[number]
                elif armed.left < 0:
                    continue
            return armed
        return None

    async def _pass(self, request: web.Request, *, cut: Kind | None = None) -> web.StreamResponse:
        """Forwards a request and streams the response back; `cut` may cut it off or drop it."""
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP}
        body = await request.read() if request.can_read_body else None
        task = asyncio.current_task()
        assert task is not None
        async with self._session.request(
            request.method, self._upstream + request.path_qs, headers=headers, data=body, allow_redirects=False
        ) as answer:
            if cut is Kind.DROP:
                await answer.read()
                return _break_off(request)
            kept = [(name, value) for name, value in answer.headers.items() if name.lower() not in _HOP]
            response = web.StreamResponse(status=answer.status, reason=answer.reason)
            for name, value in kept:
                response.headers.add(name, value)
            if cut is Kind.HALF:
                return await _half(request, response, await answer.read())
            await response.prepare(request)
            self._streams.add(task)
            try:
                async for chunk in answer.content.iter_any():
                    await response.write(chunk)
                await response.write_eof()
            except asyncio.CancelledError:
                _break_off(request)
                raise
            finally:
                self._streams.discard(task)
            return response

    def _note(self, request: web.Request, status: int, fault: Fault | None) -> None:
        kind = fault.kind if fault else None
        self.seen.append(Seen(method=request.method, path=request.path_qs, status=status, fault=kind))


async def _half(request: web.Request, response: web.StreamResponse, body: bytes) -> web.StreamResponse:
    """Announces the whole body, sends half of it, and aborts the connection."""
    response.content_length = len(body)
    await response.prepare(request)
    await response.write(body[: len(body) // 2])
    return _break_off(request, response)


def _break_off(request: web.Request, response: web.StreamResponse | None = None) -> web.StreamResponse:
    """Aborts the connection to the client."""
    if request.transport is not None:
        request.transport.abort()
    return response if response is not None else web.Response(status=444)


def _gone(_: Fault, __: web.Request) -> web.StreamResponse:
    event = {"type": "ERROR", "object": _status(410, "too old resource version: 1 (2)")}
    return web.Response(body=json.dumps(event).encode() + b"\n", content_type="application/json")


def _status(code: int, message: str) -> dict[str, object]:
    head = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
    return {**head, "message": message, "reason": _REASONS.get(code, "Unknown"), "code": code}


def _refusal(fault: Fault, request: web.Request) -> web.Response:
    """An error response in the form of an API server's."""
    headers = {} if fault.retry_after_s is None else {"Retry-After": str(fault.retry_after_s)}
    body = _status(fault.code, f"the fault proxy refuses {request.method} {request.path}")
    return web.json_response(body, status=fault.code, headers=headers)


# Faults whose requests never reach the upstream.
_CANNED: dict[Kind, Callable[[Fault, web.Request], web.StreamResponse]] = {
    Kind.STATUS: _refusal,
    Kind.HTML: lambda fault, _: web.Response(status=fault.code, text=_HTML, content_type="text/html"),
    Kind.GARBAGE: lambda _, __: web.Response(body=b'{"kind": "List", "items": [', content_type="application/json"),
    Kind.GONE: _gone,
    Kind.RESET: lambda _, request: _break_off(request),
}
