"""
Strategic merge as in kubectl.
"""

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.actuate.merge import strategic
from tidegate.errors import SpecError

VLLM = {"name": "vllm", "image": "x", "args": ["1"], "env": [{"name": "A", "value": "1"}]}
TOLERATED = [{"key": "gpu"}]
BASE = {
    "metadata": {"labels": {"a": "1"}},
    "spec": {"containers": [VLLM], "tolerations": TOLERATED, "nodeSelector": {"gpu": "h100"}},
}
# A hard limit and a soft one on the same key.
SPREAD = [
    {"topologyKey": "zone", "maxSkew": 2, "whenUnsatisfiable": "DoNotSchedule"},
    {"topologyKey": "zone", "maxSkew": 1, "whenUnsatisfiable": "ScheduleAnyway"},
]


@pytest.mark.parametrize(
    ("patch", "path", "expected"),
    [
        pytest.param({"metadata": {"labels": {"b": "2"}}}, "metadata.labels", {"a": "1", "b": "2"}, id="maps merge"),
        pytest.param(
            {"spec": {"nodeSelector": None}},
            "spec",
            {"containers": [VLLM], "tolerations": TOLERATED},
            id="null removes",
        ),
        pytest.param(
            {"spec": {"nodeSelector": {"$patch": "delete"}}},
            "spec",
            {"containers": [VLLM], "tolerations": TOLERATED},
            id="a map can be deleted",
        ),
        pytest.param(
            {"spec": {"nodeSelector": {"$patch": "replace", "zone": "a"}}},
            "spec.nodeSelector",
            {"zone": "a"},
            id="a map can be replaced",
        ),
        pytest.param(
            {"spec": {"containers": [{"name": "vllm", "image": "y"}]}},
            "spec.containers.0.image",
            "y",
            id="a container is found by name",
        ),
        pytest.param(
            {"spec": {"containers": [{"name": "vllm", "image": "y"}]}},
            "spec.containers.0.args",
            ["1"],
            id="and keeps what is not mentioned",
        ),
        pytest.param(
            {"spec": {"containers": [{"name": "vllm", "args": ["2"]}]}},
            "spec.containers.0.args",
            ["2"],
            id="arguments are replaced as a whole",
        ),
        pytest.param(
            {"spec": {"containers": [{"name": "sidecar", "image": "s"}]}},
            "spec.containers.1.name",
            "sidecar",
            id="a new container is added",
        ),
        pytest.param(
            {"spec": {"containers": [{"name": "vllm", "env": [{"name": "A", "value": "2"}, {"name": "B"}]}]}},
            "spec.containers.0.env",
            [{"name": "A", "value": "2"}, {"name": "B"}],
            id="variables merge by name",
        ),
        pytest.param(
            {"spec": {"containers": [{"name": "vllm", "$patch": "delete"}]}},
            "spec.containers",
            [],
            id="an item can be deleted",
        ),
        pytest.param(
            {"spec": {"containers": [{"name": "sidecar", "$patch": "delete"}]}},
            "spec.containers",
            [VLLM],
            id="what is not there need not be deleted",
        ),
        pytest.param(
            {"spec": {"containers": [{"$patch": "replace"}, {"name": "other"}]}},
            "spec.containers",
            [{"name": "other"}],
            id="a list can be replaced",
        ),
        pytest.param(
            {"spec": {"tolerations": [{"key": "spot"}]}},
            "spec.tolerations",
            [{"key": "spot"}],
            id="a list without key is replaced",
        ),
        pytest.param(
            {"spec": {"topologySpreadConstraints": SPREAD}},
            "spec.topologySpreadConstraints",
            SPREAD,
            id="new items of the same key are all kept",
        ),
    ],
)
def test_a_patch_merges(patch: dict, path: str, expected: object) -> None:
    before = copy.deepcopy(BASE)
    node: object = strategic(BASE, patch)
    for part in path.split("."):
        node = node[int(part)] if isinstance(node, list) else node.get(part)  # type: ignore[attr-defined]
    assert node == expected
    assert before == BASE


@pytest.mark.parametrize(
    ("patch", "field"),
    [
        pytest.param({"spec": {"imagePullSecrets": ["regcred"]}}, "pod.spec.imagePullSecrets[0]", id="names alone"),
        pytest.param({"spec": {"containers": [None]}}, "pod.spec.containers[0]", id="a null in a list"),
        pytest.param({"spec": {"containers": {"name": "vllm"}}}, "pod.spec.containers", id="no list"),
        pytest.param({"spec": {"containers": [{"image": "y"}]}}, "pod.spec.containers[0].name", id="no name"),
        pytest.param(
            {"spec": {"containers": [{"name": "vllm", "env": [{"name": "A"}, "B=2"]}]}},
            "pod.spec.containers[0].env[1]",
            id="a text for a variable",
        ),
        pytest.param({"spec": {"volumes": [{"name": ["a"]}]}}, "pod.spec.volumes[0].name", id="a list for a name"),
        pytest.param({"spec": {"volumes": [{"$patch": "delete"}]}}, "pod.spec.volumes[0].name", id="deletes nobody"),
    ],
)
def test_what_cannot_be_merged_is_named(patch: dict, field: str) -> None:
    with pytest.raises(SpecError) as caught:
        strategic(BASE, patch, path="pod")
    assert caught.value.field == field


def test_a_label_may_be_named_like_a_list_field() -> None:
    labels = {"env": "prod", "ports": "8000"}
    assert strategic(BASE, {"metadata": {"labels": labels}})["metadata"]["labels"] == {"a": "1", **labels}


trees = st.recursive(
    st.integers() | st.text(max_size=3),
    lambda inner: st.dictionaries(st.sampled_from("abcd"), inner, max_size=3) | st.lists(inner, max_size=3),
    max_leaves=12,
)


@given(base=st.dictionaries(st.sampled_from("abcd"), trees), patch=st.dictionaries(st.sampled_from("abcd"), trees))
def test_applying_a_patch_twice_is_applying_it_once(base: dict, patch: dict) -> None:
    once = strategic(base, patch)
    assert strategic(once, patch) == once


@given(base=st.dictionaries(st.sampled_from("abcd"), trees))
def test_an_empty_patch_changes_nothing(base: dict) -> None:
    assert strategic(base, {}) == base
