"""
Label and field selectors.

In:    a selector from a URL or from an object.
Out:   a predicate on objects.
"""

import re
from collections.abc import Callable
from typing import Any

from tidegate.sandbox.embedded.failures import bad_request

Predicate = Callable[[dict[str, Any]], bool]
_SET = re.compile(r"^([^\s!=,()]+)\s+(in|notin)\s+\(([^()]*)\)$")
_EQUAL = re.compile(r"^([^\s!=,()]+)\s*(==|=|!=)\s*([^\s!=,()]*)$")
_NAME = re.compile(r"^[A-Za-z0-9./_-]+$")


def label_selector(text: str) -> Predicate:
    """
    A label selector such as `a=b,c!=d,e in (f,g),h,!i` as a predicate.

    Raises:
        ApiError: 400 if it is invalid.
    """
    tests = [_label_test(part.strip()) for part in _split(text)]
    return lambda item: all(test(item["metadata"].get("labels") or {}) for test in tests)


def _split(text: str) -> list[str]:
    """Parts between commas outside parentheses."""
    return [part for part in re.split(r",(?![^(]*\))", text) if part.strip()]


def _label_test(part: str) -> Callable[[dict[str, str]], bool]:
    if match := _SET.match(part):
        name, operator, values = match[1], match[2], {each.strip() for each in match[3].split(",")}
        if operator == "in":
            return lambda labels: labels.get(name) in values
        return lambda labels: labels.get(name) not in values
    if match := _EQUAL.match(part):
        name, operator, value = match.groups()
        if operator == "!=":
            return lambda labels: labels.get(name) != value
        return lambda labels: labels.get(name) == value
    if _NAME.match(part.removeprefix("!")):
        name, wanted = part.removeprefix("!"), not part.startswith("!")
        return lambda labels: (name in labels) == wanted
    raise bad_request(f"unable to parse requirement: {part!r}")


def object_selector(selector: dict[str, Any] | None) -> Callable[[dict[str, str]], bool]:
    """A `LabelSelector` object (`matchLabels`, `matchExpressions`) as a predicate on labels; None matches nothing."""
    if selector is None:
        return lambda labels: False
    pairs = dict(selector.get("matchLabels") or {})
    expressions = list(selector.get("matchExpressions") or [])
    return lambda labels: (
        pairs.items() <= labels.items() and all(_expression_holds(each, labels) for each in expressions)
    )


def _expression_holds(expression: dict[str, Any], labels: dict[str, str]) -> bool:
    name, values = expression["key"], expression.get("values") or []
    holds = {
        "In": labels.get(name) in values,
        "NotIn": labels.get(name) not in values,
        "Exists": name in labels,
        "DoesNotExist": name not in labels,
    }
    return holds[expression["operator"]]


def selector_text(selector: dict[str, Any]) -> str:
    """A `LabelSelector` object as text, for the scale subresource."""
    parts = [f"{name}={value}" for name, value in sorted((selector.get("matchLabels") or {}).items())]
    for each in selector.get("matchExpressions") or []:
        values = ",".join(each.get("values") or [])
        words = {"In": f"{each['key']} in ({values})", "NotIn": f"{each['key']} notin ({values})"}
        words |= {"Exists": each["key"], "DoesNotExist": f"!{each['key']}"}
        parts.append(words[each["operator"]])
    return ",".join(parts)


# Fields that the real API server supports; any other field is rejected, as there.
_FIELDS = {
    "pods": {"spec.nodeName", "status.phase", "spec.restartPolicy", "spec.schedulerName", "status.podIP"},
    "nodes": {"spec.unschedulable"},
    "namespaces": {"status.phase"},
    "secrets": {"type"},
    "events": {
        *(f"involvedObject.{name}" for name in ("kind", "namespace", "name", "uid", "apiVersion", "fieldPath")),
        *("involvedObject.resourceVersion", "reason", "reportingComponent", "source", "type"),
    },
}


def field_selector(text: str, *, resource: str) -> Predicate:
    """
    A field selector such as `a.b=c,d.e!=f` as a predicate.

    Raises:
        ApiError: 400 if it is invalid, or for a field that the kind does not support.
    """
    tests = []
    for part in _split(text):
        match = _EQUAL.match(part.strip())
        if match is None:
            raise bad_request(f"invalid selector: {part!r}; can't understand {part!r}")
        path, operator, value = match.groups()
        if path not in {"metadata.name", "metadata.namespace"} | _FIELDS.get(resource, set()):
            raise bad_request(_unknown_field(path, resource))
        tests.append((path.split("."), operator != "!=", value))
    return lambda item: all((_text_at(item, path) == value) == wanted for path, wanted, value in tests)


def _unknown_field(path: str, resource: str) -> str:
    """The error for an unsupported field; for kinds without fields of their own, Kubernetes words it differently."""
    if resource in _FIELDS:
        return f"field label not supported: {path}"
    return f'"{path}" is not a known field selector: only "metadata.name", "metadata.namespace"'


def _text_at(item: Any, path: list[str]) -> str:
    for name in path:
        item = item.get(name) if isinstance(item, dict) else None
    return str(item) if item is not None else ""
