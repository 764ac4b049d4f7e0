"""
Events are served twice, as `v1` and as `events.k8s.io/v1`, with other names for the same fields; they are stored once.

In:    an Event in one form.
Out:   the same in the other.
"""

from typing import Any

GROUP = "events.k8s.io"
# Name in events.k8s.io -> name in the core group, which is how it is stored.
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
    """An Event of `events.k8s.io/v1` (or a patch of one) as it is stored."""
    renamed = {_NAMES.get(name, name): value for name, value in event.items()}
    return renamed | ({"apiVersion": "v1"} if "apiVersion" in event else {})


def from_core(event: dict[str, Any]) -> dict[str, Any]:
    """A stored Event as `events.k8s.io/v1` shows it."""
    return {**{_BACK.get(name, name): value for name, value in event.items()}, "apiVersion": f"{GROUP}/v1"}
