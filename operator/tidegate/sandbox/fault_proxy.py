"""
A proxy that misbehaves on request, before an API server or Prometheus, real or embedded.

In:    requests over HTTP; the faults that are switched on.
Out:   the upstream's answers, or a fault in their place; a record of what was asked and how it was answered.
Rules: without a fault it changes nothing but the connection. Loopback only: clients speak plain HTTP to it, it speaks
       HTTP or HTTPS to the upstream.
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
# Headers that belong to one connection, not to the message.
_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "host", "content-length", "content-encoding"})
_HTML = "<html><head><title>502 Bad Gateway</title></head><body>a load balancer was here</body></html>"
_REASONS = {401: "Unauthorized", 403: "Forbidden", 404: "NotFound", 409: "Conflict", 410: "Expired", 422: "Invalid"}
_REASONS |= {429: "TooManyRequests", 500: "InternalError", 503: "ServiceUnavailable", 504: "Timeout"}


class Kind(StrEnum):
    """What goes wrong."""

    STATUS = "status"  # the upstream refuses, with `code`
    HTML = "html"  # something in between answers, with `code` and a page
    HALF = "half"  # the answer breaks off in the middle
    GARBAGE = "garbage"  # 200, JSON by its header, and not JSON
    HANG = "hang"  # no answer until the fault is taken away
    SLOW = "slow"  # an answer after `delay_s`
    RESET = "reset"  # the connection closes without an answer
    GONE = "gone"  # a watch begins and says at once that its version is too old
    DROP = "drop"  # the upstream does what was asked, and its answer is lost


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """
    One way to misbehave.

    Args:
        kind: What goes wrong.
        path: Regular expression that must be found in `METHOD /path?query`; the first fault that fits wins.
        count: How many requests it hits; None: all, until it is taken away.
        code: HTTP status for STATUS and HTML.
        retry_after_s: `Retry-After` for STATUS, in whole seconds; None: no such header.
        delay_s: Seconds for SLOW.
        after: Requests that are let through before the first is hit.
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
    """One request as the proxy answered it; `status` 0: there was no answer; `fault` None: it was passed on."""

    method: str
    path: str
    status: int
    fault: Kind | None


@dataclass(slots=True)
class _Armed:
    """A fault that is switched on, and how often it may still strike."""

    fault: Fault
    left: int | None
    waiting: int
    lifted: asyncio.Event = field(default_factory=asyncio.Event)


class FaultProxy:
    """
    A proxy before one upstream, on a free port; use as an async context manager.

    Args:
        upstream: Address of the upstream.
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
        """A proxy before the API server of an account."""
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
        """Switches a fault on; returns its number."""
        number = next(self._numbers)
        self._armed[number] = _Armed(fault, fault.count, fault.after)
        return number

    def remove(self, number: int) -> None:
        """Switches a fault off; requests that hang on it go on to the upstream."""
        armed = self._armed.pop(number, None)
        if armed is not None:
            armed.lifted.set()

    def clear(self) -> None:
        """Switches all faults off."""
        for number in list(self._armed):
            self.remove(number)

    @contextlib.contextmanager
    def having(self, fault: Fault) -> Iterator[None]:
        """A fault for the time of a `with` block."""
        number = self.add(fault)
        try:
            yield
        finally:
            self.remove(number)

    def cut_watches(self) -> int:
        """Breaks off every answer that is being streamed; returns how many."""
        cut = [task for task in self._streams if not task.done()]
        for task in cut:
            task.cancel()
        return len(cut)

    def hits(self, kind: Kind | None = None) -> int:
        """How many requests a fault has struck, of one kind or of any."""
        return sum(each.fault is not None and kind in (None, each.fault) for each in self.seen)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        """One request: struck by a fault, or passed on."""
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
        """The first fault that fits the request, counted."""
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
        """Passes a request on and its answer back, as it comes."""
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
    """Promises the whole body, sends half of it, and hangs up."""
    response.content_length = len(body)
    await response.prepare(request)
    await response.write(body[: len(body) // 2])
    return _break_off(request, response)


def _break_off(request: web.Request, response: web.StreamResponse | None = None) -> web.StreamResponse:
    """Closes the connection under the client's feet."""
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
    """A refusal as an API server words it."""
    headers = {} if fault.retry_after_s is None else {"Retry-After": str(fault.retry_after_s)}
    body = _status(fault.code, f"the fault proxy refuses {request.method} {request.path}")
    return web.json_response(body, status=fault.code, headers=headers)


# Faults that the upstream never hears of.
_CANNED: dict[Kind, Callable[[Fault, web.Request], web.StreamResponse]] = {
    Kind.STATUS: _refusal,
    Kind.HTML: lambda fault, _: web.Response(status=fault.code, text=_HTML, content_type="text/html"),
    Kind.GARBAGE: lambda _, __: web.Response(body=b'{"kind": "List", "items": [', content_type="application/json"),
    Kind.GONE: _gone,
    Kind.RESET: lambda _, request: _break_off(request),
}
