"""
The schema of a custom resource: defaulting, pruning, validation.

In:    `openAPIV3Schema` of a CRD version.
Out:   a `Schema`, whose methods take whole objects.
Rules: structural schemas only. JSON Schema validates single values, CEL everything that spans fields. Messages are
       worded as by the real API server.
"""

from collections.abc import Callable, Iterator
from typing import Any, cast

from jsonschema import Draft202012Validator, ValidationError, validators

from tidegate.sandbox.embedded.cel_rules import broken_rules
from tidegate.sandbox.embedded.failures import cause
from tidegate.sandbox.embedded.store import copied

Node = dict[str, Any]
ANY: Node = {"x-kubernetes-preserve-unknown-fields": True}


class Schema:
    """The schema of one version."""

    def __init__(self, root: Node) -> None:
        # The API server itself defines these three, whatever the CRD says.
        standard = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": ANY}
        self.root = {**root, "properties": {**root.get("properties", {}), **standard}}
        self._validator = _Validator(_json_schema(self.root))

    def default(self, item: dict[str, Any]) -> None:
        """Fills in defaults, in place."""
        _default(item, self.root)

    def prune(self, item: dict[str, Any]) -> list[str]:
        """Removes unknown fields, in place; returns their paths."""
        return list(_prune(item, self.root, ""))

    def faults(self, item: dict[str, Any], old: dict[str, Any] | None = None) -> list[dict[str, str]]:
        """All invalid fields, as causes of a 422. CEL rules are evaluated only if the JSON Schema is satisfied."""
        found = [each for error in self._validator.iter_errors(item) for each in _causes(error)]
        return found or list(broken_rules(item, old, self.root))


def child(node: Node, name: str) -> Node:
    """The schema of a field: that of the property, else that of the map's values, else anything."""
    properties = node.get("properties") or {}
    if name in properties:
        return dict(properties[name])
    additional = node.get("additionalProperties")
    return additional if isinstance(additional, dict) else ANY


def _default(value: Any, node: Node) -> None:
    if isinstance(value, dict):
        for name, field in (node.get("properties") or {}).items():
            nullable = bool(field.get("nullable"))
            if "default" in field and (name not in value or (value[name] is None and not nullable)):
                value[name] = copied(field["default"])
            elif value.get(name, "") is None and not nullable:
                del value[name]  # null means absent unless the schema allows null
        for name in value:
            _default(value[name], child(node, name))
    elif isinstance(value, list):
        for each in value:
            _default(each, node.get("items") or ANY)


def _prune(value: Any, node: Node, path: str) -> Iterator[str]:
    if isinstance(value, list):
        for index, each in enumerate(value):
            yield from _prune(each, node.get("items") or ANY, f"{path}[{index}]")
    if not isinstance(value, dict):
        return
    known, additional = node.get("properties") or {}, node.get("additionalProperties")
    keeps_all = node.get("x-kubernetes-preserve-unknown-fields") or additional
    for name in list(value):
        here = f"{path}.{name}" if path else name
        if name in known or isinstance(additional, dict):
            yield from _prune(value[name], child(node, name), here)
        elif not keeps_all:
            del value[name]
            yield here


def _json_schema(node: Node) -> Node:
    """A structural schema as plain JSON Schema, with Kubernetes' extensions translated."""
    kept: Node = {
        name: node[name]
        for name in (
            *("type", "enum", "pattern", "required", "minimum", "maximum", "multipleOf", "minLength", "maxLength"),
            *("minItems", "maxItems", "uniqueItems", "minProperties", "maxProperties"),
        )
        if name in node
    }
    if node.get("x-kubernetes-int-or-string"):
        kept["type"] = ["integer", "string"]
    for limit in ("Minimum", "Maximum"):
        if node.get(f"exclusive{limit}") and limit.lower() in kept:
            kept[f"exclusive{limit}"] = kept.pop(limit.lower())
    if node.get("nullable"):
        kept["type"] = [*([kept["type"]] if isinstance(kept.get("type"), str) else kept.get("type", [])), "null"]
    kept |= {name: [_json_schema(each) for each in node[name]] for name in ("allOf", "anyOf", "oneOf") if name in node}
    kept |= {name: _json_schema(node[name]) for name in ("not", "items") if isinstance(node.get(name), dict)}
    if node.get("x-kubernetes-list-type") in ("map", "set"):
        kept["x-keys"] = node.get("x-kubernetes-list-map-keys") or []
    if isinstance(node.get("additionalProperties"), dict):
        kept["additionalProperties"] = _json_schema(node["additionalProperties"])
    if "properties" in node:
        kept["properties"] = {name: _json_schema(each) for name, each in node["properties"].items()}
    return kept


def _unique(validator: Any, keys: list[str], items: Any, schema: Node) -> Iterator[ValidationError]:
    """Our own JSON Schema keyword `x-keys`: items of a map list or a set must be unique."""
    seen = []
    for index, item in enumerate(items if isinstance(items, list) else []):
        identity = {name: item.get(name) for name in keys} if keys and isinstance(item, dict) else item
        if identity in seen:
            yield cast(Any, ValidationError)("", path=[index], validator="x-keys", validator_value=identity)
        seen.append(identity)


_Validator = cast(Any, validators).extend(Draft202012Validator, {"x-keys": _unique})

_WORDS: dict[str, Callable[[str, Any], str]] = {
    "pattern": lambda path, limit: f"{path} in body should match '{limit}'",
    "minimum": lambda path, limit: f"{path} in body should be greater than or equal to {limit}",
    "maximum": lambda path, limit: f"{path} in body should be less than or equal to {limit}",
    "exclusiveMinimum": lambda path, limit: f"{path} in body should be greater than {limit}",
    "exclusiveMaximum": lambda path, limit: f"{path} in body should be less than {limit}",
    "minLength": lambda path, limit: f"{path} in body should be at least {limit} chars long",
    "maxLength": lambda path, limit: f"may not be more than {limit} bytes",
    "minItems": lambda path, limit: f"{path} in body should have at least {limit} items",
    "maxItems": lambda path, limit: f"must have at most {limit} items",
}


def _causes(error: ValidationError) -> Iterator[dict[str, str]]:
    """One error of the JSON Schema validator in Kubernetes' wording."""
    found = cast(Any, error)  # by the stubs any field may be unset, which does not happen for errors of the validator
    path, shown, keyword, limit = (
        _path(found.absolute_path),
        _shown(found.instance),
        found.validator,
        found.validator_value,
    )
    if keyword == "required":
        for name in limit:
            if name not in found.instance and f"'{name}'" in found.message:
                yield cause(f"{path}.{name}".lstrip("."), "Required value", "FieldValueRequired")
    elif keyword == "x-keys":
        yield cause(path, f"Duplicate value: {_shown(limit)}", "FieldValueDuplicate")
    elif keyword == "enum":
        allowed = ", ".join(f'"{each}"' for each in limit)
        yield cause(path, f"Unsupported value: {shown}: supported values: {allowed}", "FieldValueNotSupported")
    elif keyword == "type":
        wanted = limit if isinstance(limit, str) else limit[0]
        text = f'Invalid value: {shown}: {path} in body must be of type {wanted}: "{_type(found.instance)}"'
        yield cause(path, text, "FieldValueTypeInvalid")
    elif keyword in ("maxLength", "maxItems"):
        word = "Too long" if keyword == "maxLength" else f"Too many: {len(found.instance)}"
        yield cause(path, f"{word}: {_WORDS[keyword](path, limit)}", "FieldValueTooMany")
    else:
        words = _WORDS.get(keyword) or (lambda path, limit: f"{path} in body is not allowed")
        yield cause(path, f"Invalid value: {shown}: {words(path, limit)}")


def _path(parts: Any) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)
    return text.lstrip(".")


def _shown(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return str(value).lower().replace("none", "null")
    if isinstance(value, str):
        return f'"{value}"'
    return f'"{_type(value)}"' if isinstance(value, list) else str(value)


def _type(value: Any) -> str:
    names = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
    return names.get(type(value), "null")
