"""
Server-side apply: field ownership, merging, conflicts.

In:    the live object, the configuration that a manager applies, a `Shape` that knows which lists have keys.
Out:   the merged object with its `managedFields`; a 409 that names fields and managers.
Rules: a field set is a set of paths. A path is a tuple of elements in the notation of `managedFields`: `f:name` is a
       field, `k:{...}` an item of a list with keys, `v:...` a member of a set, `.` the item itself.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any

from tidegate.sandbox.embedded.builtin import ATOMIC, SETS, keys_of
from tidegate.sandbox.embedded.failures import apply_conflict
from tidegate.sandbox.embedded.schema import Node, child
from tidegate.sandbox.embedded.store import copied

Path = tuple[str, ...]
# Metadata fields that the server manages.
_OURS = frozenset(
    {
        *("name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp", "managedFields"),
        *("deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"),
    }
)
# Defaults of list keys that an item may omit.
_KEY_DEFAULTS = {"protocol": "TCP"}


class Shape:
    """
    Structure of a kind: which lists have keys, which values are replaced as a whole.

    Args:
        kind: Kind of the object.
        root: Its schema; None for a built-in kind.
    """

    def __init__(self, kind: str, root: Node | None) -> None:
        self.kind, self.root = kind, root

    def below(self, node: Node | None, name: str) -> Node | None:
        """The schema of field `name` in `node`."""
        return None if node is None else child(node, name)

    def items(self, node: Node | None) -> Node | None:
        """The schema of the items of a list."""
        return None if node is None else (node.get("items") or {})

    def keys(self, node: Node | None, name: str) -> tuple[str, ...]:
        """The keys of the list in field `name`; empty if it has none."""
        if node is None or name == "ownerReferences":
            return keys_of(self.kind, name)
        return tuple(node.get("x-kubernetes-list-map-keys") or ()) if self._type(node) == "map" else ()

    def is_set(self, node: Node | None, name: str) -> bool:
        """Whether the list in field `name` is a set of scalars."""
        return name in SETS or (node is not None and self._type(node) == "set")

    def is_atomic(self, node: Node | None, name: str) -> bool:
        """Whether the map in field `name` is replaced as a whole."""
        if node is None:
            return name in ATOMIC
        return node.get("x-kubernetes-map-type") == "atomic"

    @staticmethod
    def _type(node: Node) -> str:
        return str(node.get("x-kubernetes-list-type", "atomic"))


def owned_fields(item: dict[str, Any], shape: Shape) -> dict[Path, Any]:
    """The fields that an object sets, as path -> value, without those that the server manages."""
    found = {}
    for path, value in _walk(item, (), shape.root, shape, ""):
        if path[0] in ("f:apiVersion", "f:kind") or path == ("f:metadata",):
            continue
        if path[0] == "f:metadata" and path[1].removeprefix("f:") in _OURS:
            continue
        found[path] = value
    return found


def _walk(value: Any, path: Path, node: Node | None, shape: Shape, name: str) -> Iterator[tuple[Path, Any]]:
    if isinstance(value, dict) and value and not shape.is_atomic(node, name):
        for field, each in value.items():
            yield from _walk(each, (*path, f"f:{field}"), shape.below(node, field), shape, field)
    elif isinstance(value, list) and value and (keys := shape.keys(node, name)):
        for each in value:
            here = (*path, item_element(each, keys))
            yield (*here, "."), None
            yield from _walk(each, here, shape.items(node), shape, "")
    elif isinstance(value, list) and value and shape.is_set(node, name):
        for each in value:
            yield (*path, f"v:{json.dumps(each)}"), each
    elif path:
        yield path, value


def item_element(item: dict[str, Any], keys: tuple[str, ...]) -> str:
    """The path element of an item in a list with keys."""
    identity = {key: item.get(key, _KEY_DEFAULTS.get(key)) for key in keys}
    present = {key: each for key, each in identity.items() if each is not None}
    return "k:" + json.dumps(present, sort_keys=True, separators=(",", ":"))


def to_tree(paths: "set[Path] | dict[Path, Any]") -> dict[str, Any]:
    """A field set as `fieldsV1`."""
    tree: dict[str, Any] = {}
    for path in sorted(paths):
        here = tree
        for element in path:
            here = here.setdefault(element, {})
    return tree


def from_tree(tree: dict[str, Any], path: Path = ()) -> set[Path]:
    """`fieldsV1` as a field set."""
    if not tree:
        return {path} if path else set()
    return {each for element, below in tree.items() for each in from_tree(below, (*path, element))}


class Managers:
    """
    The `managedFields` of one object as field sets.

    Args:
        item: The live object; None if it does not exist yet.
    """

    def __init__(self, item: dict[str, Any] | None) -> None:
        entries = (item or {}).get("metadata", {}).get("managedFields") or []
        self._sets: dict[tuple[str, str, str], set[Path]] = {}
        self._rest: dict[tuple[str, str, str], dict[str, str]] = {}
        for entry in entries:
            key = (entry.get("manager", ""), entry["operation"], entry.get("subresource", ""))
            self._sets[key] = from_tree(entry.get("fieldsV1") or {})
            self._rest[key] = {name: entry[name] for name in ("apiVersion", "time") if name in entry}

    def of(self, key: tuple[str, str, str]) -> set[Path]:
        """Fields owned by one (manager, operation, subresource)."""
        return self._sets.get(key, set())

    def others(self, key: tuple[str, str, str]) -> dict[tuple[str, str, str], set[Path]]:
        """Fields owned by all others."""
        return {other: paths for other, paths in self._sets.items() if other != key}

    def describe(self, key: tuple[str, str, str]) -> str:
        """Description of a manager in a conflict."""
        rest = self._rest[key]
        text = f'"{key[0]}"' + (f' with subresource "{key[2]}"' if key[2] else "")
        # As in Kubernetes, version and time are named only for managers that do not use apply.
        return text if key[1] == "Apply" else f"{text} using {rest['apiVersion']} at {rest['time']}"

    def give(self, key: tuple[str, str, str], paths: set[Path], *, api_version: str, now: str) -> None:
        """Sets the fields that a manager owns."""
        if paths == self._sets.get(key):
            return
        self._sets[key] = paths
        self._rest[key] = {"apiVersion": api_version, "time": now}

    def take(self, key: tuple[str, str, str], paths: set[Path]) -> None:
        """Removes these fields, and those below them, from all managers except `key`."""
        for other, theirs in self.others(key).items():
            self._sets[other] = {path for path in theirs if not any(path[: len(taken)] == taken for taken in paths)}

    def entries(self) -> list[dict[str, Any]]:
        """The `managedFields`, without managers that own nothing."""
        return [
            {
                "manager": manager,
                "operation": operation,
                **self._rest[manager, operation, subresource],
                "fieldsType": "FieldsV1",
                "fieldsV1": to_tree(paths),
                **({"subresource": subresource} if subresource else {}),
            }
            for (manager, operation, subresource), paths in self._sets.items()
            if paths
        ]


def apply(
    live: dict[str, Any] | None, wanted: dict[str, Any], shape: Shape, *, key: tuple[str, str, str], force: bool
) -> tuple[dict[str, Any], Managers, set[Path]]:
    """
    Merges an applied configuration into the live object.

    Args:
        live: The live object; None if it does not exist yet.
        wanted: The complete configuration of this manager.
        shape: Structure of the kind.
        key: The manager: (name, `Apply`, subresource).
        force: Take over fields that others own, instead of raising a conflict.

    Returns:
        The merged object; the managers, without this one's new fields; this manager's new fields.

    Raises:
        ApiError: 409 if others own fields that are applied with a different value.
    """
    managers = Managers(live)
    fields = owned_fields(wanted, shape)
    current = owned_fields(live, shape) if live else {}
    clashes = [
        (other, path)
        for other, paths in sorted(managers.others(key).items())
        for path in sorted(paths & fields.keys())
        if path[-1] != "." and current.get(path, _ABSENT) != fields[path]
    ]
    if clashes and not force:
        raise apply_conflict([(managers.describe(other), readable(path)) for other, path in clashes])
    managers.take(key, {path for _, path in clashes})
    merged = _merge(copied(live) if live else {}, wanted, shape.root, shape, "")
    owned_elsewhere = {path for paths in managers.others(key).values() for path in paths}
    given_up = managers.of(key) - fields.keys() - owned_elsewhere
    # Whole items first, because an item cannot be found any more after its key was removed.
    for path in sorted(given_up, key=lambda each: (each[-1] != ".", -len(each))):
        _remove(merged, path, keep=owned_elsewhere | fields.keys())
    return merged, managers, set(fields)


_ABSENT = object()


def _merge(value: Any, wanted: Any, node: Node | None, shape: Shape, name: str) -> Any:
    if isinstance(wanted, dict) and isinstance(value, dict) and not shape.is_atomic(node, name):
        for field, each in wanted.items():
            value[field] = _merge(value.get(field), each, shape.below(node, field), shape, field)
        return value
    if isinstance(wanted, list) and isinstance(value, list):
        if keys := shape.keys(node, name):
            return _merge_items(value, wanted, keys, lambda old, new: _merge(old, new, shape.items(node), shape, ""))
        if shape.is_set(node, name):
            return [*value, *(each for each in wanted if each not in value)]
    return copied(wanted)


def _merge_items(
    old: list[Any], wanted: list[Any], keys: tuple[str, ...], merge: Callable[[Any, Any], Any]
) -> list[Any]:
    at = {item_element(each, keys): index for index, each in enumerate(old)}
    for each in wanted:
        element = item_element(each, keys)
        if element in at:
            old[at[element]] = merge(old[at[element]], each)
        else:
            old.append(copied(each))
    return old


def _remove(value: Any, path: Path, *, keep: set[Path]) -> None:
    """Removes a field from an object, and the items and maps around it unless something in them is kept."""
    trail = []
    for element in path[:-1]:
        trail.append((value, element))
        value = _step(value, element)
        if value is None:
            return
    _drop(value, path[-1])
    for depth in range(len(trail) - 1, -1, -1):
        parent, element = trail[depth]
        here = path[: depth + 1]
        below = _step(parent, element)
        item_given_up = path[-1] == "." and depth == len(trail) - 1
        kept = any(other[: len(here)] == here for other in keep)
        if kept or (below and not item_given_up):
            return
        _drop(parent, element)


def _step(value: Any, element: str) -> Any:
    if element.startswith("f:"):
        return value.get(element[2:]) if isinstance(value, dict) else None
    if element.startswith("k:") and isinstance(value, list):
        return next((each for each in value if _is(each, element)), None)
    return None


def _drop(value: Any, element: str) -> None:
    if isinstance(value, dict) and element.startswith("f:"):
        value.pop(element[2:], None)
    elif isinstance(value, list) and element[:2] in ("k:", "v:"):
        value[:] = [each for each in value if not _is(each, element)]


def _is(item: Any, element: str) -> bool:
    wanted = json.loads(element[2:])
    if element.startswith("v:"):
        return bool(item == wanted)
    return all(item.get(name, _KEY_DEFAULTS.get(name)) == each for name, each in wanted.items())


def readable(path: Path) -> str:
    """A path as shown in a conflict: `.spec.containers[name="vllm"].image`."""
    text = ""
    for element in path:
        if element.startswith("f:"):
            text += f".{element[2:]}"
        elif element.startswith("k:"):
            pairs = json.loads(element[2:]).items()
            text += "[" + ",".join(f"{name}={json.dumps(each)}" for name, each in pairs) + "]"
        elif element.startswith("v:"):
            text += f"[{element[2:]}]"
    return text


def changed_fields(old: dict[str, Any], new: dict[str, Any], shape: Shape) -> tuple[set[Path], set[Path]]:
    """What a write other than apply changes: (fields added or changed, fields removed)."""
    before, after = owned_fields(old, shape), owned_fields(new, shape)
    changed = {path for path, value in after.items() if before.get(path, _ABSENT) != value}
    return changed, before.keys() - after.keys()
