"""
A pod template of the wrong shape is rejected when the spec is read; the API server accepts anything there.
"""

from typing import Any

import pytest

from tests.api.manifests import GOOD, changed
from tidegate.api import convert
from tidegate.domain.key import Key
from tidegate.domain.spec import DeploymentSpec
from tidegate.errors import SpecError

WORKLOAD = "spec.tiers.0.workload"


def parsed(**changes: Any) -> DeploymentSpec:
    return convert.deployment_spec(Key("prod", "chat"), changed(GOOD, changes)["spec"])


def nested(levels: int) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for _ in range(levels - 1):
        tree = {"a": tree}
    return tree


@pytest.mark.parametrize(
    ("template", "field", "value"),
    [
        pytest.param({"metadata": None}, "metadata", "", id="metadata with nothing below"),
        pytest.param({"metadata": {"$patch": "delete"}}, "metadata", "", id="metadata taken away"),
        pytest.param({"metadata": "x"}, "metadata", "'x'", id="metadata that is a text"),
        pytest.param({"metadata": {"labels": ["a"]}}, "metadata.labels", "['a']", id="labels in a list"),
        pytest.param(
            {"metadata": {"$patch": "replace", "labels": "a"}}, "metadata.labels", "'a'", id="a label that replaces"
        ),
        pytest.param({"spec": None}, "spec", "", id="spec with nothing below"),
        pytest.param(
            {"spec": {"imagePullSecrets": ["regcred"]}}, "spec.imagePullSecrets[0]", "'regcred'", id="a bare secret"
        ),
        pytest.param({"spec": {"containers": [None]}}, "spec.containers[0]", "", id="a null for a container"),
        pytest.param(
            {"spec": {"containers": [{"name": "vllm", "env": ["A=b"]}]}},
            "spec.containers[0].env[0]",
            "'A=b'",
            id="variables as in a shell",
        ),
    ],
)
def test_the_error_names_field_and_value(template: dict[str, Any], field: str, value: str) -> None:
    with pytest.raises(SpecError) as caught:
        parsed(**{f"{WORKLOAD}.podTemplate": template})
    wrong = f"invalid value {value}: " if value else ""
    assert str(caught.value).startswith(f"spec.tiers[0].workload.podTemplate.{field}: {wrong}must be ")


@pytest.mark.parametrize("levels", [33, 300, 3000])
def test_json_nested_too_deeply_is_rejected(levels: int) -> None:
    with pytest.raises(SpecError) as caught:
        parsed(**{f"{WORKLOAD}.podTemplate": nested(levels)})
    assert caught.value.field == "spec.tiers[0].workload.podTemplate"
    with pytest.raises(SpecError) as caught:
        parsed(**{f"{WORKLOAD}.env": [{"name": "A", "valueFrom": nested(levels)}]})
    assert caught.value.field == "spec.tiers[0].workload.env[0].valueFrom"


def test_a_value_that_is_long_is_cut() -> None:
    with pytest.raises(SpecError) as caught:
        parsed(**{f"{WORKLOAD}.podTemplate": {"metadata": "x" * 5000}})
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize(
    "template",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"metadata": {"labels": None}}, id="labels with nothing below"),
        pytest.param({"metadata": {"labels": {"env": "prod"}}}, id="a label that is called as a list is"),
        pytest.param({"spec": {"containers": [{"name": "side", "image": "x"}]}}, id="another container"),
        pytest.param({"spec": nested(31)}, id="as deep as is allowed"),
    ],
)
def test_a_template_that_can_be_merged_is_accepted(template: dict[str, Any]) -> None:
    workload = parsed(**{f"{WORKLOAD}.podTemplate": template}).tier("bf16").workload
    assert workload is not None
    assert workload.pod_template == template
