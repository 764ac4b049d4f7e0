"""
One kind of object, kept in memory: list once, then watch.

In:    a collection of the API server, and a function that trims its objects.
Out:   `Informer.items`, always the last known state, and whether and when it was last confirmed.
Rules: lists in pages. A relist replaces everything, so objects deleted while the watch was down disappear. A watch that
       is silent for longer than the interval of bookmarks is reopened; if all end before a bookmark comes, because a
       proxy cuts them, lists confirm the cache. A server that fails or refuses is asked again with a back-off;
       meanwhile the cache stays and ages. An object that cannot be read keeps its last known state. Raises nothing but
       cancellation.

Source:
    Behaviour of client-go's Reflector (`tools/cache/reflector.go`): Replace after a relist, 410 handling, bookmarks.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from tidegate.ports import ApiError, Call, KubeApi

log = logging.getLogger(__name__)

Item = TypeVar("Item")

PAGE = 500
# The server closes a watch after this, and sends a bookmark about every minute: 70 s of silence is a dead connection.
WATCH_S, SILENCE_S = 290, 70.0
BACKOFF_MIN_S, BACKOFF_MAX_S = 0.5, 30.0
# A watch that ends sooner than this without an event is a failure: a server or proxy that shuts down may end each at
# once.
SHORT_S = 1.0
# Interval of checks for a kind that is not installed.
ABSENT_RETRY_S = 60.0
# What a trim function raises for an object of an unexpected shape.
_UNREADABLE = (AttributeError, KeyError, TypeError, ValueError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source(Generic[Item]):
    """
    What an informer watches.

    Args:
        path: Collection, e.g. `/api/v1/pods`.
        trim: Reduces an object to what is kept of it.
        params: More query parameters, e.g. `{"labelSelector": ...}`.
        optional: The kind may be missing or forbidden from the start; the cache is then empty.
    """

    path: str
    trim: Callable[[Mapping[str, Any]], Item]
    params: Mapping[str, str] = field(default_factory=dict)
    optional: bool = False


class Informer(Generic[Item]):
    """
    A cache of one collection.

    Args:
        api: Connection.
        source: What to watch.
        clock: Monotonic seconds.
        changed: Called after each change, on the event loop.

    `unreadable` holds the names of existing objects whose current state cannot be read.
    """

    def __init__(
        self,
        api: KubeApi,
        source: Source[Item],
        *,
        clock: Callable[[], float],
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._api, self._source, self._clock, self._changed = api, source, clock, changed
        self._version = ""
        self._failures = 0
        self.items: dict[tuple[str, str], Item] = {}
        self.unreadable: set[tuple[str, str]] = set()
        self.synced = False
        self.absent = False
        self.seen_s = clock()

    @property
    def path(self) -> str:
        """The watched collection."""
        return self._source.path

    def age_s(self) -> float:
        """Seconds since the server last confirmed the state, by a list, an event or a bookmark."""
        return self._clock() - self.seen_s

    async def run(self) -> None:
        """Keep the cache up to date until cancelled."""
        while True:
            try:
                if not self._version or self.age_s() > SILENCE_S:
                    await self._list()
                await self._watch()
                self._failures = 0
            except ApiError as error:
                await asyncio.sleep(await self._after(error))

    async def _after(self, error: ApiError) -> float:
        """Apply what the error means for the cache; return the seconds to wait before the next try."""
        if error.status == 410:
            self._version = ""
            return random.uniform(0.0, BACKOFF_MIN_S)
        if error.status in {403, 404} and self._source.optional and await self._is_absent(error.status):
            self._version = ""
            self.unreadable.clear()
            self._replace({}, absent=True)
            return ABSENT_RETRY_S
        if error.reason == "Silence":
            return 0.0
        self._failures += 1
        if self._failures in {3, 30, 300}:
            log.warning("cannot watch %s: %s", self.path, error)
        pause_s = min(BACKOFF_MAX_S, BACKOFF_MIN_S * 2.0 ** min(self._failures, 10))
        return float(max(error.retry_after_s or 0.0, pause_s * random.uniform(0.5, 1.0)))

    async def _is_absent(self, status: int) -> bool:
        """
        Whether a refusal means that the kind does not exist.

        A kind that was listed before is gone only if discovery says so: a server that has just started refuses
        permitted requests until its own caches are filled.
        """
        if self.absent or not self.synced:
            return True
        if status != 404:
            return False
        parts = self.path.split("/")
        group, plural = "/".join(parts[: 3 if parts[1] == "api" else 4]), parts[-1]
        try:
            listed = await self._api.send(Call(method="GET", path=group))
        except ApiError as error:
            return error.status == 404
        return all(resource.get("name") != plural for resource in listed.get("resources") or ())

    async def _list(self) -> None:
        found: dict[tuple[str, str], Item] = {}
        there = set[tuple[str, str]]()
        params = {**self._source.params, "limit": str(PAGE)}
        while True:
            page = await self._api.send(Call(method="GET", path=self.path, params=params, timeout_s=30.0))
            for raw in page.get("items") or ():
                there.add(_key(raw))
                if (item := self._read(raw)) is not None:
                    found[_key(raw)] = item
            meta = page.get("metadata") or {}
            if not meta.get("continue"):
                break
            params["continue"] = meta["continue"]
        self._version = meta.get("resourceVersion", "")
        self.unreadable &= there
        self._replace(found)

    def _replace(self, found: dict[tuple[str, str], Item], *, absent: bool = False) -> None:
        """Take over a complete list: what is not in it does not exist."""
        differs = found != self.items or not self.synced
        self.items, self.synced, self.absent = found, True, absent
        self.seen_s = self._clock()
        if differs:
            self._changed()

    async def _watch(self) -> None:
        """Follow events from the known version until the server ends the watch; `ApiError` if it fails."""
        params = {
            **self._source.params,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version,
            "timeoutSeconds": str(WATCH_S),
        }
        began_s, heard = self._clock(), False
        try:
            async for event in self._api.watch(Call(method="GET", path=self.path, params=params, timeout_s=SILENCE_S)):
                heard = True
                self._apply(event)
        except ApiError:
            if self._clock() - began_s > BACKOFF_MAX_S:
                self._failures = 0  # it worked meanwhile
            raise
        if not heard and self._clock() - began_s < SHORT_S:
            raise ApiError(status=0, reason="ShortWatch", detail=f"the watch of {self.path} ended immediately")

    def _apply(self, event: Mapping[str, Any]) -> None:
        kind, raw = event.get("type"), event.get("object") or {}
        if kind == "ERROR":
            raise ApiError(
                status=int(raw.get("code") or 500), reason=raw.get("reason", "Error"), detail=raw.get("message", "")
            )
        self._version = raw.get("metadata", {}).get("resourceVersion", self._version)
        self.seen_s = self._clock()
        self._failures = 0
        if kind == "BOOKMARK":
            return
        key = _key(raw)
        if kind == "DELETED":
            self.unreadable.discard(key)
            differs = self.items.pop(key, None) is not None
        else:
            trimmed = self._read(raw)
            differs = self.items.get(key) != trimmed
            if trimmed is not None:
                self.items[key] = trimmed
        if differs:
            self._changed()

    def _read(self, raw: Mapping[str, Any]) -> Item | None:
        """The trimmed object; its last known state if it cannot be read, None if there is none."""
        key = _key(raw)
        try:
            item = self._source.trim(raw)
        except _UNREADABLE as error:
            if key not in self.unreadable:
                self.unreadable.add(key)
                text = "%s: cannot parse %s (%r), one of %d such objects: its last known state is used, if there is one"
                log.warning(text, self.path, "/".join(key), error, len(self.unreadable))
            return self.items.get(key)
        self.unreadable.discard(key)
        return item


def _key(raw: Mapping[str, Any]) -> tuple[str, str]:
    meta = raw["metadata"]
    return meta.get("namespace", ""), meta["name"]
