"""
Events are served by two API groups, `v1` and `events.k8s.io/v1`, with different field names, and stored once.

In:    an Event in one form.
Out:   the Event in the other form.
"""

from typing import Any

GROUP = "events.k8s.io"
# Field name in events.k8s.io -> field name in the core group, under which it is stored.
_NAMES = {
    "regarding": "involvedObject",
    "note": "message",
    "reportingController": "reportingComponent",
    "deprecatedSource": "source",
    "deprecatedFirstTimestamp": "firstTimestamp",
    "deprecatedLastTimestamp": "lastTimestamp",
    "deprecatedCount": "count",
}
_BACK = {core: new for new, core in _NAMES.items()}


def to_core(event: dict[str, Any]) -> dict[str, Any]:
    """An Event of `events.k8s.io/v1`, or a patch of one, in its stored form."""
    renamed = {_NAMES.get(name, name): value for name, value in event.items()}
    return renamed | ({"apiVersion": "v1"} if "apiVersion" in event else {})


def from_core(event: dict[str, Any]) -> dict[str, Any]:
    """A stored Event in the form of `events.k8s.io/v1`."""
    return {**{_BACK.get(name, name): value for name, value in event.items()}, "apiVersion": f"{GROUP}/v1"}
