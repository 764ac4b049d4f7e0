"""
Watch streams: all changes since a version, until a timeout or until the client disconnects.

In:    a `Request` with `watch=true`.
Out:   events ADDED, MODIFIED, DELETED, BOOKMARK; a single ERROR with 410 if the history is too short.
"""

import random
import time
from collections.abc import AsyncGenerator
from typing import Any

from tidegate.sandbox.embedded import failures
from tidegate.sandbox.embedded.reading import selection
from tidegate.sandbox.embedded.request import Request
from tidegate.sandbox.embedded.selectors import Predicate
from tidegate.sandbox.embedded.store import Change, Object, Store

BOOKMARK_S = 60.0
# A real API server ends a watch after 30 to 60 minutes if the client gives no timeout.
LIFETIME_S = 1800.0
INITIAL_EVENTS_END = "k8s.io/initial-events-end"
Event = tuple[str, Object]


def watch(store: Store, request: Request) -> AsyncGenerator[Event, None]:
    """
    The events of one watch, in order.

    Raises:
        ApiError: The request is invalid; raised before the stream begins.
    """
    chosen = selection(request)
    with_initial = request.query.get("sendInitialEvents")
    if with_initial is not None and request.query.get("resourceVersionMatch") != "NotOlderThan":
        fault = failures.cause("resourceVersionMatch", "Forbidden: resourceVersionMatch is required to be NotOlderThan")
        raise failures.invalid("ListOptions.meta.k8s.io", "", [fault])
    return _events(store, request, chosen)


async def _events(store: Store, request: Request, chosen: Predicate) -> AsyncGenerator[Event, None]:
    asked = request.query.get("resourceVersion") or "0"
    with_initial = request.query.get("sendInitialEvents")
    start = store.version if with_initial or asked == "0" else int(asked)
    deadline = time.monotonic() + float(request.query.get("timeoutSeconds") or LIFETIME_S * (1 + random.random()))
    try:
        stream = store.watch(request.resource.key, start)
    except failures.ApiError as error:
        yield "ERROR", error.status()
        return
    with stream:
        if with_initial == "true" or (with_initial is None and asked == "0"):
            for item in store.objects(request.resource.key, request.namespace or None):
                if chosen(item):
                    yield "ADDED", item
        if with_initial == "true" and request.flag("allowWatchBookmarks"):
            yield "BOOKMARK", bookmark(request, start, annotations={INITIAL_EVENTS_END: "true"})
        while (left := deadline - time.monotonic()) > 0:
            change = await stream.next(min(left, BOOKMARK_S))
            if change is None:
                if request.flag("allowWatchBookmarks"):
                    yield "BOOKMARK", bookmark(request, store.version)
                continue
            if (not request.namespace or change.key[0] == request.namespace) and (event := seen(change, chosen)):
                yield event


def bookmark(request: Request, version: int, annotations: dict[str, str] | None = None) -> Object:
    """A bookmark: an object with nothing but a resourceVersion."""
    metadata: dict[str, Any] = {"resourceVersion": str(version), "creationTimestamp": None}
    metadata |= {"annotations": annotations} if annotations else {}
    return {"kind": request.resource.kind, "apiVersion": request.resource.api_version, "metadata": metadata}


def seen(change: Change, chosen: Predicate) -> Event | None:
    """The event for a change: an object that stops matching the selector is DELETED, one that starts is ADDED."""
    was = change.old is not None and chosen(change.old)
    if change.new is None:
        return ("DELETED", change.last or {}) if was else None
    is_now = chosen(change.new)
    if is_now:
        return ("MODIFIED" if was else "ADDED"), change.new
    if was:
        assert change.old is not None
        version = change.new["metadata"]["resourceVersion"]
        return "DELETED", {**change.old, "metadata": {**change.old["metadata"], "resourceVersion": version}}
    return None
