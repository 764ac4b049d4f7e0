"""
Objects as tables for kubectl, with the columns of a real API server.

In:    objects of one kind.
Out:   a `Table`; or `PartialObjectMetadata` for clients that want metadata only.
"""

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from tidegate.sandbox.embedded.resources import Resource
from tidegate.sandbox.embedded.store import Object

Cell = str | int | float | bool | None
Column = tuple[str, str, Callable[[Object], Cell]]  # name, type, value
_STEP = re.compile(r"\.?([A-Za-z0-9_-]+)|\[\?\(@\.([\w.]+)==[\"']([^\"']*)[\"']\)\]|\[(\d+)\]|\['([^']+)'\]")


def table(items: Sequence[Object], resource: Resource, metadata: dict[str, Any]) -> dict[str, Any]:
    """Objects as a `Table`; each row includes its object's metadata."""
    columns = _columns(resource)
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": [
            {"name": name, "type": kind, "format": "name" if name == "Name" else "", "description": "", "priority": 0}
            for name, kind, _ in columns
        ],
        "rows": [{"cells": [value(item) for _, _, value in columns], "object": partial(item)} for item in items],
    }


def partial(item: Object) -> dict[str, Any]:
    """An object's metadata as `PartialObjectMetadata`."""
    head = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1"}
    return {**head, "metadata": item["metadata"]}


def age(text: str | None) -> str:
    """Time since a timestamp in kubectl's format: `42s`, `7m5s`, `3h2m`, `5d`."""
    if not text:
        return "<unknown>"
    seconds = max(0, int((datetime.now(UTC) - datetime.fromisoformat(text)).total_seconds()))
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if seconds < 120:
        return f"{seconds}s"
    if minutes < 10:
        return f"{minutes}m{seconds % 60}s" if seconds % 60 else f"{minutes}m"
    if hours < 3:
        return f"{minutes}m"
    if hours < 8:
        return f"{hours}h{minutes % 60}m" if minutes % 60 else f"{hours}h"
    return f"{hours}h" if hours < 48 else f"{days}d"


def at_path(item: Any, path: str) -> Any:
    """The value at a printer column's JSONPath; None if there is none."""
    for step in _STEP.finditer(path):
        name, filter_path, wanted, index, quoted = step.groups()
        if filter_path is not None:
            found = [each for each in item or [] if str(at_path(each, filter_path)) == wanted]
            item = found[0] if found else None
        elif index is not None:
            item = item[int(index)] if isinstance(item, list) and int(index) < len(item) else None
        else:
            item = item.get(name or quoted) if isinstance(item, dict) else None
        if item is None:
            return None
    return item


def _columns(resource: Resource) -> list[Column]:
    own = [_custom(column) for column in resource.columns] if resource.schema else _BUILT_IN.get(resource.key, [])
    if resource.key == "events":
        return own
    ages = [] if any(name == "Age" for name, _, _ in own) or resource.columns else [_AGE]
    return [("Name", "string", lambda item: str(item["metadata"]["name"])), *own, *ages]


def _custom(column: dict[str, Any]) -> Column:
    path, kind = column["jsonPath"], column["type"]

    def value(item: Object) -> Cell:
        found = at_path(item, path)
        if kind == "date":
            return age(found)
        return found if found is None or isinstance(found, str | int | float) else str(found)

    return column["name"], kind, value


def _pod_status(item: Object) -> str:
    """A pod's status in kubectl: the reason why a container waits or ended, else the phase."""
    if item["metadata"].get("deletionTimestamp"):
        return "Terminating"
    status = item.get("status", {})
    for each in status.get("containerStatuses", []):
        state = each.get("state", {})
        reason = (state.get("waiting") or state.get("terminated") or {}).get("reason")
        if reason:
            return str(reason)
    return str(status.get("reason") or status.get("phase", "Pending"))


def _ready(item: Object) -> str:
    statuses = item.get("status", {}).get("containerStatuses", [])
    return f"{sum(bool(each.get('ready')) for each in statuses)}/{len(item['spec']['containers'])}"


def _restarts(item: Object) -> int:
    return sum(each.get("restartCount", 0) for each in item.get("status", {}).get("containerStatuses", []))


def _node_status(item: Object) -> str:
    ready = at_path(item, '.status.conditions[?(@.type=="Ready")].status')
    words = {"True": "Ready", "False": "NotReady"}.get(str(ready), "Unknown")
    return words + (",SchedulingDisabled" if item.get("spec", {}).get("unschedulable") else "")


def _ports(item: Object) -> str:
    return (
        ",".join(f"{each['port']}/{each.get('protocol', 'TCP')}" for each in item["spec"].get("ports", [])) or "<none>"
    )


def _at(path: str, default: Cell = "") -> Callable[[Object], Cell]:
    def value(item: Object) -> Cell:
        found = at_path(item, path)
        return default if found is None else found

    return value


_AGE: Column = ("Age", "string", lambda item: age(item["metadata"].get("creationTimestamp")))
_BUILT_IN: dict[str, list[Column]] = {
    "pods": [("Ready", "string", _ready), ("Status", "string", _pod_status), ("Restarts", "integer", _restarts)],
    "nodes": [
        ("Status", "string", _node_status),
        ("Roles", "string", lambda item: "<none>"),
        _AGE,
        ("Version", "string", _at(".status.nodeInfo.kubeletVersion")),
    ],
    "namespaces": [("Status", "string", _at(".status.phase"))],
    "services": [
        ("Type", "string", _at(".spec.type")),
        ("Cluster-IP", "string", _at(".spec.clusterIP", "<none>")),
        ("External-IP", "string", lambda item: "<none>"),
        ("Port(s)", "string", _ports),
    ],
    "deployments.apps": [
        ("Ready", "string", lambda item: f"{_at('.status.readyReplicas', 0)(item)}/{_at('.spec.replicas', 0)(item)}"),
        ("Up-to-date", "integer", _at(".status.updatedReplicas", 0)),
        ("Available", "integer", _at(".status.availableReplicas", 0)),
    ],
    "replicasets.apps": [
        ("Desired", "integer", _at(".spec.replicas", 0)),
        ("Current", "integer", _at(".status.replicas", 0)),
        ("Ready", "integer", _at(".status.readyReplicas", 0)),
    ],
    "events": [
        ("Last Seen", "string", lambda item: age(item.get("lastTimestamp") or item.get("eventTime"))),
        ("Type", "string", _at(".type")),
        ("Reason", "string", _at(".reason")),
        (
            *("Object", "string"),
            lambda item: f"{item['involvedObject'].get('kind', '').lower()}/{item['involvedObject'].get('name', '')}",
        ),
        ("Message", "string", _at(".message")),
    ],
    "leases.coordination.k8s.io": [("Holder", "string", _at(".spec.holderIdentity"))],
}
