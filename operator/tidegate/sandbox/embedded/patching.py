"""
Merge, JSON and strategic-merge patches. Server-side apply has its own file.

In:    an object and a patch.
Out:   a new object; the old one is not changed.
"""

from typing import Any

import jsonpatch
import jsonpointer

from tidegate.sandbox.embedded.builtin import SETS, keys_of
from tidegate.sandbox.embedded.failures import ApiError, bad_request, cause, invalid
from tidegate.sandbox.embedded.store import copied

MERGE = "application/merge-patch+json"
JSON = "application/json-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
APPLY = "application/apply-patch+yaml"


def merge_patch(value: Any, patch: Any) -> Any:
    """Merge patch (RFC 7386): null removes, objects are merged, everything else is replaced."""
    if not isinstance(patch, dict):
        return copied(patch)
    result = dict(value) if isinstance(value, dict) else {}
    for name, each in patch.items():
        if each is None:
            result.pop(name, None)
        else:
            result[name] = merge_patch(result.get(name), each)
    return result


def json_patch(value: dict[str, Any], patch: Any, *, kind: str) -> dict[str, Any]:
    """
    JSON patch (RFC 6902).

    Raises:
        ApiError: 400 if it is not a JSON patch, 422 if it cannot be applied to the object.
    """
    name = value.get("metadata", {}).get("name", "")
    try:
        result = jsonpatch.JsonPatch(patch).apply(value)
    except jsonpatch.JsonPatchTestFailed as error:
        raise ApiError(
            422, "Invalid", f"the server rejected our request due to an error in our request: {error}"
        ) from error
    except (jsonpatch.JsonPatchConflict, jsonpointer.JsonPointerException) as error:
        raise invalid(kind, name, [cause("patch", f"Invalid value: {error}")]) from error
    except (jsonpatch.InvalidJsonPatch, TypeError) as error:
        raise bad_request(f"json patch cannot be read: {error}") from error
    if not isinstance(result, dict):
        raise bad_request("a json patch must leave an object")
    return result


def strategic_patch(value: dict[str, Any], patch: dict[str, Any], *, kind: str) -> dict[str, Any]:
    """Strategic merge patch: lists with keys are merged by key; supports `$patch` directives. Built-in kinds only."""
    return _merge_map(value, patch, kind)


def _merge_map(value: Any, patch: dict[str, Any], kind: str) -> dict[str, Any]:
    patch = dict(patch)
    directive = patch.pop("$patch", None)
    if directive == "replace":
        return dict(copied(patch))
    result = dict(value) if isinstance(value, dict) else {}
    kept = patch.pop("$retainKeys", None)
    for name in [name for name in patch if name.startswith("$")]:
        _direct(result, name, patch.pop(name))
    for name, each in patch.items():
        if each is None:
            result.pop(name, None)
        elif isinstance(each, dict):
            result[name] = _merge_map(result.get(name), each, kind)
        elif isinstance(each, list):
            result[name] = _merge_list(result.get(name) or [], each, name, kind)
        else:
            result[name] = each
    return {name: each for name, each in result.items() if kept is None or name in kept}


def _direct(result: dict[str, Any], name: str, values: list[Any]) -> None:
    """Apply a directive: `$deleteFromPrimitiveList/FIELD` removes values; `$setElementOrder/FIELD` is ignored."""
    directive, _, field = name.partition("/")
    if directive == "$deleteFromPrimitiveList" and field in result:
        result[field] = [each for each in result[field] if each not in values]


def _merge_list(old: list[Any], new: list[Any], field: str, kind: str) -> list[Any]:
    # Strategic merge has one key per list: the first of those that server-side apply uses.
    key = next(iter(keys_of(kind, field)), None)
    if field in SETS:
        return [*old, *(each for each in new if each not in old)]
    if key is None or not all(isinstance(each, dict) for each in new):
        return list(copied(new))
    if any(each.get("$patch") == "replace" for each in new):
        return [copied(each) for each in new if "$patch" not in each]
    result = list(old)
    for each in new:
        at = next((i for i, item in enumerate(result) if item.get(key) == each.get(key)), None)
        if each.get("$patch") == "delete":
            result = [item for item in result if item.get(key) != each.get(key)]
        elif at is None:
            result.append(_merge_map({}, each, kind))
        else:
            result[at] = _merge_map(result[at], each, kind)
    return result
