"""
CEL: evaluate the `x-kubernetes-validations` of a schema on an object.

In:    an object, its old state, the schema.
Out:   causes of a 422, one per violated rule.
Rules: a library evaluates CEL; of Kubernetes' additional functions only those in use are provided.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import cel

from tidegate.sandbox.embedded.failures import cause

Node = dict[str, Any]
_FUNCTIONS: dict[str, Callable[..., Any]] = {"sum": sum, "isSorted": lambda items: list(items) == sorted(items)}


@lru_cache(maxsize=1024)
def _program(rule: str) -> Any:
    return cel.compile(rule)


def broken_rules(value: Any, old: Any, node: Node, path: str = "") -> Iterator[dict[str, str]]:
    """
    Walks through a value and its schema and evaluates every rule.

    Args:
        value: The new value.
        old: The old value; None: there was none, and rules with `oldSelf` are skipped.
        node: The schema of the value.
        path: The path of the value.
    """
    if old is not None and value == old:
        return  # unchanged values are not validated again, as in Kubernetes ("ratcheting")
    if rules := node.get("x-kubernetes-validations"):
        variables = {"self": _typed(value, node), "oldSelf": _typed(old, node)}
        context = cel.Context(variables=variables, functions=_FUNCTIONS)
        for rule in rules:
            if old is not None or "oldSelf" not in rule["rule"]:
                yield from _broken(rule, context, value, path)
    if isinstance(value, dict):
        old = old if isinstance(old, dict) else {}
        for name, each in value.items():
            field = (node.get("properties") or {}).get(name) or node.get("additionalProperties")
            if isinstance(field, dict):
                yield from broken_rules(each, old.get(name), field, f"{path}.{name}".lstrip("."))
    elif isinstance(value, list):
        for index, each in enumerate(value):
            counterpart = _counterpart(each, old, node)
            yield from broken_rules(each, counterpart, node.get("items") or {}, f"{path}[{index}]")


def _counterpart(item: Any, old: Any, node: Node) -> Any:
    """The old state of a list item, found by its keys; None in lists without keys, as in Kubernetes."""
    keys = node.get("x-kubernetes-list-map-keys")
    if not keys or not isinstance(old, list):
        return None
    return next((each for each in old if all(each.get(key) == item.get(key) for key in keys)), None)


def _broken(rule: dict[str, Any], context: Any, value: Any, path: str) -> Iterator[dict[str, str]]:
    try:
        holds = _program(rule["rule"]).execute(context)
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        yield cause(path, f"Invalid value: rule {rule['rule']!r} cannot be evaluated: {error}")
        return
    if holds is not True:
        field = path + rule.get("fieldPath", "")
        message = rule.get("message") or f"failed rule: {rule['rule']}"
        shown = f'"{value}"' if isinstance(value, str) else '"object"' if isinstance(value, dict) else str(value)
        yield cause(field.lstrip("."), f"Invalid value: {shown}: {message}", rule.get("reason", "FieldValueInvalid"))


def _typed(value: Any, node: Node) -> Any:
    """JSON with CEL's types: a `number` is a double even if it is written without a decimal point."""
    if isinstance(value, dict):
        properties = node.get("properties") or {}
        additional = node.get("additionalProperties")
        rest = additional if isinstance(additional, dict) else {}
        return {name: _typed(each, properties.get(name, rest)) for name, each in value.items()}
    if isinstance(value, list):
        return [_typed(each, node.get("items") or {}) for each in value]
    if node.get("type") == "number" and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value
