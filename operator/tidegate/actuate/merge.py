"""
Strategic merge of a user's pod template onto ours, as `kubectl patch` does it.

Rules: a value replaces, a mapping merges, null removes. A list of named items merges by its key; `$patch: delete`
       removes an item, `$patch: replace` replaces the whole list or mapping. Any other list replaces. An item without
       its key is a SpecError: it would be lost, or be mistaken for another one.

Source: patch strategies of Kubernetes' PodTemplateSpec (k8s.io/api/core/v1, patchMergeKey).
"""

from collections.abc import Mapping
from typing import Any

from tidegate.errors import SpecError, shown

Json = Any

# Field -> merge key of its items.
MERGE_KEYS = {
    "containers": "name",
    "initContainers": "name",
    "ephemeralContainers": "name",
    "env": "name",
    "volumes": "name",
    "volumeMounts": "mountPath",
    "volumeDevices": "devicePath",
    "ports": "containerPort",
    "imagePullSecrets": "name",
    "hostAliases": "ip",
    "topologySpreadConstraints": "topologyKey",
    "resourceClaims": "name",
    "schedulingGates": "name",
    "readinessGates": "conditionType",
}
DIRECTIVE = "$patch"


def strategic(base: Json, patch: Json, *, path: str = "") -> Json:
    """
    The base with the patch on top; neither is changed.

    Args:
        base: The current value; None: none.
        patch: What the user wrote.
        path: The field that holds both, as the user wrote it.

    Raises:
        SpecError: something else in place of a list of named items, or an item without its key.
    """
    key = MERGE_KEYS.get(path.rpartition(".")[2])
    if key is not None and isinstance(base, list) and not isinstance(patch, list):
        raise wrong_shape(path, patch, "must be a list")
    if isinstance(patch, Mapping):
        return _mapping(base if isinstance(base, Mapping) else {}, patch, path)
    if isinstance(patch, list) and key is not None:
        return _list(base if isinstance(base, list) else [], patch, key, path)
    return patch


def wrong_shape(path: str, value: Json, allowed: str) -> SpecError:
    """The error for a value of the wrong shape; `allowed` says which shape is needed."""
    return SpecError(field=path, value=shown(value), allowed=allowed)


def _mapping(base: Mapping[str, Json], patch: Mapping[str, Json], path: str) -> dict[str, Json]:
    if patch.get(DIRECTIVE) == "replace":
        return {name: value for name, value in patch.items() if name != DIRECTIVE}
    merged = dict(base)
    for name, value in patch.items():
        if value is None or (isinstance(value, Mapping) and value.get(DIRECTIVE) == "delete"):
            merged.pop(name, None)
        else:
            merged[name] = strategic(merged.get(name), value, path=f"{path}.{name}")
    return merged


def _list(base: list[Json], patch: list[Json], key: str, path: str) -> list[Json]:
    for i, item in enumerate(patch):
        _check_item(item, key, f"{path}[{i}]")
    if any(item.get(DIRECTIVE) == "replace" for item in patch):
        return [item for item in patch if item.get(DIRECTIVE) != "replace"]
    changes = {item[key]: (item, f"{path}[{i}]") for i, item in enumerate(patch)}
    merged = []
    for item in base:
        change, at = changes.get(item[key], ({}, path))
        if change.get(DIRECTIVE) != "delete":
            merged.append(strategic(item, change, path=at))
    there = {item[key] for item in base}
    # Two new items may have the same key: a port for TCP and UDP, a hard and a soft constraint on zones.
    added = [(i, item) for i, item in enumerate(patch) if item[key] not in there and item.get(DIRECTIVE) != "delete"]
    return merged + [strategic(None, item, path=f"{path}[{i}]") for i, item in added]


def _check_item(item: Json, key: str, path: str) -> None:
    """Each item must be a mapping with its merge key; only the item that replaces the list needs none."""
    if not isinstance(item, Mapping):
        raise wrong_shape(path, item, f"must be a mapping with {key!r}")
    if item.get(DIRECTIVE) != "replace" and not isinstance(item.get(key), str | int):
        raise wrong_shape(f"{path}.{key}", item.get(key), "must be a name or a number: items are merged by it")
