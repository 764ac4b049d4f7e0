"""
A small Kubernetes client for the sandbox: raw objects, and an endless list-and-watch.

In:    an authenticated aiohttp session.
Out:   JSON objects as the API server sends them.

Not the generated client: the emulated kubelet sends a status patch per pod and state, and building models for each
would cost more than all its other work.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import aiohttp
import msgspec

from tidegate.errors import SourceError

Object = dict[str, Any]

RETRY_S = 0.5
WATCH_S = 300


class KubeError(SourceError):
    """The API server rejected a request; `status` is the HTTP code."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        self.status = status
        super().__init__(source="kubernetes", reason=reason, detail=message)


class Kind(StrEnum):
    """Content type of a patch."""

    MERGE = "application/merge-patch+json"
    STRATEGIC = "application/strategic-merge-patch+json"
    APPLY = "application/apply-patch+yaml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One change of a watched collection; `gone`: the object was deleted."""

    object: Object
    gone: bool


class Kube:
    """
    A client of one API server.

    Args:
        session: Contains base URL, credentials and trusted certificates.
    """

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def get(self, path: str, **parameters: str) -> Object:
        """An object or a list."""
        return await self._ask("GET", path, params=parameters)

    async def create(self, path: str, body: Object) -> Object:
        """POST to a collection."""
        return await self._ask("POST", path, body=body)

    async def patch(self, path: str, body: Object, kind: Kind = Kind.MERGE) -> Object:
        """PATCH an object; APPLY is server-side apply with force, as field manager `tidegate-sandbox`."""
        parameters = {"fieldManager": "tidegate-sandbox", "force": "true"} if kind is Kind.APPLY else {}
        return await self._ask("PATCH", path, body=body, params=parameters, content=kind.value)

    async def delete(self, path: str, body: Object | None = None) -> Object:
        """DELETE an object."""
        return await self._ask("DELETE", path, body=body)

    async def follow(self, path: str, **selectors: str) -> AsyncIterator[Change]:
        """
        Yield every object of a collection, then every change, endlessly.

        After a broken watch it lists again and reports what was deleted meanwhile as gone. An object whose
        resourceVersion is already known is not reported again.

        Args:
            path: The collection.
            selectors: `labelSelector`, `fieldSelector`.
        """
        known: dict[str, Object] = {}
        while True:
            try:
                listing = await self.get(path, **selectors)
                for change in _difference(known, listing.get("items") or []):
                    yield change
                async for change in self._watch(path, str(listing["metadata"]["resourceVersion"]), known, selectors):
                    yield change
            except (aiohttp.ClientError, TimeoutError, SourceError, msgspec.DecodeError):
                await asyncio.sleep(RETRY_S)

    async def _watch(
        self, path: str, version: str, known: dict[str, Object], selectors: Mapping[str, str]
    ) -> AsyncIterator[Change]:
        parameters = {**selectors, "watch": "true", "resourceVersion": version, "timeoutSeconds": str(WATCH_S)}
        limit = aiohttp.ClientTimeout(total=None, sock_read=WATCH_S + 30)
        async with self._session.get(path, params=parameters, timeout=limit) as response:
            if response.status >= 400:
                raise await _error(response)
            async for line in _lines(response.content):
                event = msgspec.json.decode(line, type=dict[str, Any])
                if event["type"] == "ERROR":
                    return
                if event["type"] == "BOOKMARK":
                    continue
                uid = event["object"]["metadata"]["uid"]
                if event["type"] == "DELETED":
                    known.pop(uid, None)
                else:
                    known[uid] = event["object"]
                yield Change(object=event["object"], gone=event["type"] == "DELETED")

    async def _ask(
        self,
        method: str,
        path: str,
        *,
        body: Object | None = None,
        params: Mapping[str, str] | None = None,
        content: str = "application/json",
    ) -> Object:
        data = msgspec.json.encode(body) if body is not None else None
        headers = {"Content-Type": content}
        async with self._session.request(method, path, data=data, params=params, headers=headers) as response:
            if response.status >= 400:
                raise await _error(response)
            return msgspec.json.decode(await response.read(), type=dict[str, Any])


def _difference(known: dict[str, Object], items: list[Object]) -> list[Change]:
    """The changes from `known` to a new list; `known` is updated to it."""
    found = {item["metadata"]["uid"]: item for item in items}
    gone = [Change(object=item, gone=True) for uid, item in known.items() if uid not in found]
    fresh = [
        Change(object=item, gone=False)
        for uid, item in found.items()
        if uid not in known or _version(known[uid]) != _version(item)
    ]
    known.clear()
    known.update(found)
    return gone + fresh


def _version(item: Object) -> str:
    return str(item["metadata"].get("resourceVersion"))


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Lines of any length; aiohttp's own reader limits their length."""
    rest = b""
    async for part in content.iter_any():
        *whole, rest = (rest + part).split(b"\n")
        for line in whole:
            if line.strip():
                yield line


async def _error(response: aiohttp.ClientResponse) -> KubeError:
    text = await response.text()
    try:
        status = msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.DecodeError:
        status = {}
    return KubeError(response.status, str(status.get("reason") or "Refused"), str(status.get("message") or text[:200]))
