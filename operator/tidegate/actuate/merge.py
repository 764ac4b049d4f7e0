"""
Strategic merge of a user's pod template onto ours, as `kubectl patch` does it.

Rules: a value replaces, a mapping merges, null removes. A list of named things merges by its key; `$patch: delete`
       removes an item, `$patch: replace` takes the whole list or mapping as it is. Any other list replaces.

Source: patch strategies of Kubernetes' PodTemplateSpec (k8s.io/api/core/v1, patchMergeKey).
"""

from collections.abc import Mapping
from typing import Any

Json = Any

# Field -> key of its items.
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


def strategic(base: Json, patch: Json, *, field: str = "") -> Json:
    """
    The base with the patch on top; neither is changed.

    Args:
        base: What stands there; None: nothing.
        patch: What the user wrote.
        field: Name of the field that holds both.
    """
    if isinstance(patch, Mapping):
        return _mapping(base if isinstance(base, Mapping) else {}, patch)
    if isinstance(patch, list) and field in MERGE_KEYS:
        return _list(base if isinstance(base, list) else [], patch, MERGE_KEYS[field])
    return patch


def _mapping(base: Mapping[str, Json], patch: Mapping[str, Json]) -> dict[str, Json]:
    if patch.get(DIRECTIVE) == "replace":
        return {name: value for name, value in patch.items() if name != DIRECTIVE}
    merged = dict(base)
    for name, value in patch.items():
        if value is None or (isinstance(value, Mapping) and value.get(DIRECTIVE) == "delete"):
            merged.pop(name, None)
        else:
            merged[name] = strategic(merged.get(name), value, field=name)
    return merged


def _list(base: list[Json], patch: list[Json], key: str) -> list[Json]:
    if any(item.get(DIRECTIVE) == "replace" for item in patch):
        return [item for item in patch if item.get(DIRECTIVE) != "replace"]
    patches = {item.get(key): item for item in patch}
    merged = []
    for item in base:
        change = patches.pop(item.get(key), None)
        if change is None:
            merged.append(item)
        elif change.get(DIRECTIVE) != "delete":
            merged.append(strategic(item, change))
    return merged + [strategic(None, item) for item in patches.values() if item.get(DIRECTIVE) != "delete"]
