"""
From a pydantic model to a structural schema, as a CRD requires it.

In:    a model built from `fields`.
Out:   OpenAPI v3 without references, unions or titles; bounds, defaults, descriptions and CEL rules in place.
"""

from typing import Any

from tidegate.api.fields import ApiModel

Schema = dict[str, Any]

# These keys come first, so that a reader sees what a field is before its bounds.
_ORDER = ("type", "format", "description", "default", "enum")


def structural(model: type[ApiModel]) -> Schema:
    """The schema of a whole custom resource; `metadata` is left to Kubernetes."""
    tree = model.model_json_schema(by_alias=True)
    plain = _structural(tree, tree.get("$defs", {}))
    plain["required"] = ["spec"]
    plain["properties"] |= {
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {"type": "object"},
    }
    return plain


def _structural(node: Schema, definitions: Schema) -> Schema:
    node = _resolved(node, definitions)
    plain: Schema = {key: node[key] for key in _ORDER if key in node} | {
        key: value for key, value in node.items() if key not in ("title", "$defs")
    }
    default = _without_nulls(plain.pop("default", None))
    if default not in (None, {}, []):
        plain["default"] = default
    if "properties" in plain:
        plain["properties"] = {name: _structural(child, definitions) for name, child in plain["properties"].items()}
    for key in ("items", "additionalProperties"):
        if isinstance(plain.get(key), dict):
            plain[key] = _structural(plain[key], definitions)
    _kubernetes_words(plain)
    return plain


def _resolved(node: Schema, definitions: Schema) -> Schema:
    """
    The node with its reference resolved, and `X or null` turned into an optional X; the node's own keys take
    precedence.
    """
    options = [option for option in node.get("anyOf", ()) if option != {"type": "null"}]
    if len(options) == 1:
        node = options[0] | {key: value for key, value in node.items() if key != "anyOf"}
    if "$ref" not in node:
        return node
    target = definitions[node["$ref"].rpartition("/")[2]]
    return _resolved(target | {key: value for key, value in node.items() if key != "$ref"}, definitions)


def _without_nulls(value: object) -> object:
    if isinstance(value, dict):
        return {key: item for key, item in value.items() if item is not None}
    return value


def _kubernetes_words(node: Schema) -> None:
    """Adapt what a structural schema expresses differently."""
    if node.get("x-kubernetes-preserve-unknown-fields") or "properties" in node:
        node.pop("additionalProperties", None)
    if node.get("type") == "integer":
        node.setdefault("format", "int64")
    if node.get("x-kubernetes-int-or-string"):
        node.pop("type", None)
