"""
Generated files are in the repository as generated.
"""

from pathlib import Path

import pytest
import yaml

from tidegate.api import crd, docs

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", sorted(crd.files()))
def test_a_crd_file_is_what_the_models_say(name: str) -> None:
    assert (ROOT / "crds" / name).read_text() == crd.files()[name], "run `make crds`"


def test_every_crd_file_has_a_model() -> None:
    assert {path.name for path in (ROOT / "crds").glob("*.yaml")} == set(crd.files())


def test_the_reference_page_is_what_the_models_say() -> None:
    page = (ROOT / "docs" / "reference" / "api.md").read_text()
    assert page == docs.page(), "run `tidegate crds --docs --write docs/reference`"


def leaves(schema: dict, path: str = "") -> list[tuple[str, dict]]:
    found = [(path, schema)]
    for name, child in schema.get("properties", {}).items():
        found += leaves(child, f"{path}.{name}")
    if isinstance(schema.get("items"), dict):
        found += leaves(schema["items"], f"{path}[]")
    return found


FIELDS = [
    pytest.param(path, schema, id=f"{kind}{path}")
    for kind, definition in (("infd", crd.inference_deployments()), ("accel", crd.accelerator_classes()))
    for path, schema in leaves(definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"])
    if path.startswith((".spec", ".status"))
]


@pytest.mark.parametrize(("path", "schema"), FIELDS)
def test_a_field_is_bounded_and_described(path: str, schema: dict) -> None:
    if not path.endswith("[]"):
        assert schema.get("description"), "every field says what it means"
    if schema.get("type") == "string" and "enum" not in schema and "format" not in schema:
        assert "maxLength" in schema
    if schema.get("type") == "integer":
        assert "minimum" in schema
    if schema.get("type") == "array":
        assert "maxItems" in schema
        assert schema.get("x-kubernetes-list-type") in ("map", "atomic")
    assert (
        not {"title", "anyOf", "$ref", "$defs", "exclusiveMinimum", "const"} & schema.keys()
        or "x-kubernetes-int-or-string" in schema
    )


def test_no_field_is_a_float() -> None:
    assert [param.id for param in FIELDS if param.values[1].get("type") == "number"] == []


def test_the_yaml_needs_no_anchors() -> None:
    for text in crd.files().values():
        assert "&id" not in text
        assert yaml.safe_load(text)["kind"] == "CustomResourceDefinition"
