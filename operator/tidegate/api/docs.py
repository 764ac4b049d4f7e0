"""The reference page of the API, from the same schemas that the API server checks."""

from collections.abc import Iterator
from typing import Any

from tidegate.actuate.manifests import HASH_ANNOTATION
from tidegate.api import crd
from tidegate.api.convert import PAUSED_ANNOTATION
from tidegate.ports import DEPLOYMENT_LABEL, TIER_LABEL
from tidegate.settings import SHARD_LABEL

_HEAD = """# API reference

Generated from the models by `tidegate crds --docs --write docs/reference`. Do not edit.

Group `tidegate.io`, version `v1alpha1`. Money and shares are decimal strings (`"0.99"`), so that no client rounds them.
"""

# Lower bound, upper bound, unit.
_BOUNDS = (
    ("minimum", "maximum", ""),
    ("minLength", "maxLength", " characters"),
    ("minItems", "maxItems", " items"),
    ("minProperties", "maxProperties", " entries"),
)

_METADATA = f"""
## Labels and annotations

On an InferenceDeployment, and on the objects that Tidegate creates:

| on | key | meaning |
| --- | --- | --- |
| deployment | annotation `{PAUSED_ANNOTATION}` | `"true"`: plan and scale nothing (`tidegate pause`). |
| deployment | label `{SHARD_LABEL}` | Which installation manages it ([sharding](../operations.md#sharding)). |
| created objects | label `{DEPLOYMENT_LABEL}` | Name of the InferenceDeployment. |
| created objects | label `{TIER_LABEL}` | Name of the tier. |
| created objects | annotation `{HASH_ANNOTATION}` | Hash of what was last applied. Leave it alone. |
"""


def page() -> str:
    """The whole page in Markdown."""
    parts = [_HEAD]
    for definition in (crd.inference_deployments(), crd.accelerator_classes()):
        names, version = definition["spec"]["names"], definition["spec"]["versions"][0]
        schema = version["schema"]["openAPIV3Schema"]
        short = ", ".join(f"`{name}`" for name in names["shortNames"])
        parts.append(f"\n## {names['kind']}\n\n{schema['description']}\n")
        parts.append(f"\n{definition['spec']['scope']}; short name {short}; category `tidegate`.\n")
        parts += [f"\nRule: {message}\n" for message in _messages(schema)]
        for section in ("spec", "status"):
            parts += _section(section, schema["properties"][section])
    return "".join([*parts, _METADATA])


def _section(name: str, schema: dict[str, Any]) -> Iterator[str]:
    """One table per object, the outermost first."""
    yield f"\n### {name}\n\n{schema['description']}\n\n"
    yield "| field | type | default | meaning |\n| --- | --- | --- | --- |\n"
    required = schema.get("required", ())
    for field, child in schema["properties"].items():
        yield f"| `{field}` | {_type(child)} | {_default(child, field in required)} | {_meaning(child)} |\n"
    messages = _messages(schema)
    if messages:
        yield "\nRules:\n\n" + "".join(f"- {message}\n" for message in messages)
    for field, child in schema["properties"].items():
        inner, path = (child["items"], f"{name}.{field}[]") if "items" in child else (child, f"{name}.{field}")
        if "properties" in inner:
            yield from _section(path, {"description": child.get("description", "")} | inner)


def _messages(schema: dict[str, Any]) -> list[str]:
    return [rule["message"] for rule in schema.get("x-kubernetes-validations", ())]


def _type(schema: dict[str, Any]) -> str:
    if "items" in schema:
        key = schema.get("x-kubernetes-list-map-keys")
        return f"list of {_type(schema['items'])}" + (f", by `{key[0]}`" if key else "")
    if isinstance(schema.get("additionalProperties"), dict):
        return f"map of {_type(schema['additionalProperties'])}"
    if schema.get("x-kubernetes-int-or-string"):
        return "quantity"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    return str(schema.get("format") if schema.get("format") == "date-time" else schema["type"])


def _default(schema: dict[str, Any], required: bool) -> str:
    if required:
        return "required"
    default = schema.get("default")
    return "" if default is None or isinstance(default, dict) else f"`{default}`"


def _range(low: int | None, high: int | None, unit: str) -> str:
    if high is None:
        return "" if low is None else f"at least {low}{unit}"
    return f"at most {high}{unit}" if low is None else f"{low} to {high}{unit}"


def _meaning(schema: dict[str, Any]) -> str:
    bounds = [words for low, high, unit in _BOUNDS if (words := _range(schema.get(low), schema.get(high), unit))]
    scalar_rules = _messages(schema) if "properties" not in schema else []
    text = " ".join([schema.get("description", ""), *(f"{rule}." for rule in scalar_rules)])
    return (text + (f" ({', '.join(bounds)})" if bounds else "")).strip().replace("|", "\\|")
