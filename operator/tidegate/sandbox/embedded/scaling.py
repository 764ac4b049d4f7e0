"""
The scale subresource: the same small object for every kind with replicas.

In:    an object and its kind's `Scale` paths.
Out:   a `Scale` object; the object with another replica count.
"""

from typing import Any

from tidegate.sandbox.embedded.apply import Managers, Path
from tidegate.sandbox.embedded.failures import cause, invalid
from tidegate.sandbox.embedded.resources import Resource, Scale
from tidegate.sandbox.embedded.selectors import selector_text
from tidegate.sandbox.embedded.store import copied

API_VERSION = "autoscaling/v1"


def to_scale(item: dict[str, Any], resource: Resource) -> dict[str, Any]:
    """The `Scale` object of an object."""
    paths = resource.scale
    assert paths is not None
    metadata = item["metadata"]
    selector = _at(item, paths.selector) if paths.selector else _labels(item)
    status = {"replicas": _at(item, paths.status_replicas) or 0} | ({"selector": selector} if selector else {})
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    return {
        "kind": "Scale",
        "apiVersion": API_VERSION,
        "metadata": {name: metadata[name] for name in kept if name in metadata} | _managed(item, paths),
        # A count of zero is omitted, as in a real API server, and therefore has no owner.
        "spec": {"replicas": replicas} if (replicas := _at(item, paths.replicas)) else {},
        "status": status,
    }


def _managed(item: dict[str, Any], paths: Scale) -> dict[str, Any]:
    """The entries of `managedFields` that own the replica count, with the field paths of a `Scale`."""
    target = tuple(f"f:{name}" for name in paths.replicas)
    entries = [
        {**entry, "apiVersion": API_VERSION, "fieldsV1": {"f:spec": {"f:replicas": {}}}}
        for entry in Managers(item).entries()
        if _has(entry["fieldsV1"], target)
    ]
    return {"managedFields": entries} if entries else {}


def _has(tree: dict[str, Any], path: Path) -> bool:
    for element in path:
        if element not in tree:
            return False
        tree = tree[element]
    return True


def with_scale(item: dict[str, Any], scale: dict[str, Any], resource: Resource) -> dict[str, Any]:
    """
    The object with the replica count of a `Scale`.

    Raises:
        ApiError: 422 if the count is not an integer >= 0.
    """
    paths = resource.scale
    assert paths is not None
    replicas = (scale.get("spec") or {}).get("replicas", 0)
    if not isinstance(replicas, int) or isinstance(replicas, bool) or replicas < 0:
        fault = cause("spec.replicas", f"Invalid value: {replicas}: must be greater than or equal to 0")
        raise invalid("Scale.autoscaling", item["metadata"]["name"], [fault])
    result = copied(item)
    here = result
    for name in paths.replicas[:-1]:
        here = here.setdefault(name, {})
    here[paths.replicas[-1]] = replicas
    return dict(result)


def nested(path: tuple[str, ...], value: Any) -> dict[str, Any]:
    """A value at the end of a path of field names."""
    result: dict[str, Any] = {path[-1]: value}
    for name in reversed(path[:-1]):
        result = {name: result}
    return result


def _labels(item: dict[str, Any]) -> str:
    return selector_text(item.get("spec", {}).get("selector") or {})


def _at(item: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        item = item.get(name) if isinstance(item, dict) else None
    return item
