"""Unit tests of the embedded control plane, and features that only it has."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.sandbox.kube import CORE, Kube, config_map
from tidegate.sandbox.control_plane import Account
from tidegate.sandbox.embedded import EmbeddedControlPlane
from tidegate.sandbox.embedded.apply import Shape, apply, from_tree, owned_fields, to_tree
from tidegate.sandbox.embedded.controllers.workloads import limits, template_hash
from tidegate.sandbox.embedded.events import from_core, to_core
from tidegate.sandbox.embedded.failures import ApiError
from tidegate.sandbox.embedded.patching import merge_patch
from tidegate.sandbox.embedded.store import Store
from tidegate.sandbox.embedded.tables import at_path

MAPS = f"{CORE}/namespaces/default/configmaps"

# Names and values of a ConfigMap's data, and of nested maps.
names = st.sampled_from(["a", "b", "c", "d"])
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text("xyz", max_size=2),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(names, below, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("value", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patches_of_the_rfcs_appendix(value: Any, patch: Any, result: Any) -> None:
    """The examples of RFC 7386, appendix A."""
    assert merge_patch(value, patch) == result


@given(st.dictionaries(names, json_values, max_size=4), st.dictionaries(names, json_values, max_size=4))
def test_a_merge_patch_applied_twice_is_applied_once(value: dict[str, Any], patch: dict[str, Any]) -> None:
    once = merge_patch(value, patch)
    assert merge_patch(once, patch) == once


@given(st.dictionaries(names, json_values, max_size=4))
def test_a_field_set_survives_the_way_through_managed_fields(data: dict[str, Any]) -> None:
    paths = set(owned_fields({"spec": data} if data else {}, Shape("Thing", {"type": "object"})))
    assert from_tree(to_tree(paths)) == paths


data_maps = st.dictionaries(names, st.text("xyz", max_size=2), max_size=4)
ONE, TWO = ("one", "Apply", ""), ("two", "Apply", "")


def applied(live: dict[str, Any] | None, data: dict[str, str], key: tuple[str, str, str]) -> dict[str, Any]:
    """The object after an apply, with its managers."""
    shape = Shape("ConfigMap", None)
    merged, managers, fields = apply(live, {"data": data} if data else {}, shape, key=key, force=True)
    managers.give(key, fields, api_version="v1", now="now")
    return {**merged, "metadata": {"managedFields": managers.entries()}}


@given(data_maps, data_maps, data_maps)
def test_after_an_apply_an_object_is_what_its_managers_want(
    first: dict[str, str], other: dict[str, str], second: dict[str, str]
) -> None:
    """One applies, another applies, the first applies anew: nothing stays that neither wants, nothing is missing."""
    live = applied(applied(applied(None, first, ONE), other, TWO), second, ONE)
    assert (live.get("data") or {}) == {**other, **second}
    again = applied(live, second, ONE)
    assert again == live


@pytest.mark.parametrize(
    ("rolling", "replicas", "expected"),
    [
        ({}, 4, (1, 1)),
        ({}, 1, (1, 0)),
        ({"maxSurge": "50%", "maxUnavailable": "50%"}, 3, (2, 1)),
        ({"maxSurge": 0, "maxUnavailable": 0}, 3, (0, 1)),
        ({"maxSurge": 2, "maxUnavailable": 0}, 3, (2, 0)),
    ],
    ids=["a quarter each", "a single replica is never missed", "up and down", "both zero would stand still", "counts"],
)
def test_surge_rounds_up_and_unavailability_rounds_down(
    rolling: dict[str, Any], replicas: int, expected: tuple[int, int]
) -> None:
    assert limits(rolling, replicas) == expected


def test_a_template_has_one_hash_whatever_its_order() -> None:
    assert template_hash({"a": 1, "b": {"c": 2, "d": 3}}) == template_hash({"b": {"d": 3, "c": 2}, "a": 1})
    assert template_hash({"a": 1}) != template_hash({"a": 2})


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (".spec.tiers[0].name", "bf16"),
        (".spec.tiers[9].name", None),
        ('.status.conditions[?(@.type=="Ready")].status', "True"),
        (".status.conditions[?(@.type=='Absent')].status", None),
        (".metadata.labels['tidegate.io/tier']", "x"),
        (".nowhere.at.all", None),
    ],
)
def test_printer_columns_point_into_objects(path: str, found: object) -> None:
    item = {
        "metadata": {"labels": {"tidegate.io/tier": "x"}},
        "spec": {"tiers": [{"name": "bf16"}]},
        "status": {"conditions": [{"type": "Slow", "status": "False"}, {"type": "Ready", "status": "True"}]},
    }
    assert at_path(item, path) == found


def test_an_event_comes_back_from_the_other_group_as_it_went() -> None:
    event = {"apiVersion": "v1", "kind": "Event", "message": "m", "involvedObject": {"name": "a"}, "count": 2}
    assert to_core(from_core(event)) == event


def stored(count: int, *, history: int) -> Store:
    """A store in which one object was changed so many times."""
    store = Store(history=history)
    for number in range(count):
        store.put("configmaps", ("default", "a"), {"metadata": {"name": "a"}, "data": {"x": number}})
    return store


async def test_a_store_keeps_the_configured_length_of_history() -> None:
    store = stored(10, history=4)
    oldest = store.version - 4
    with store.watch("configmaps", oldest) as following:
        seen = [await following.next(0.1) for _ in range(5)]
    assert [change.version for change in seen if change] == [oldest + 1, oldest + 2, oldest + 3, oldest + 4]
    assert seen[-1] is None
    with pytest.raises(ApiError, match="too old resource version"):
        store.watch("configmaps", oldest - 1)


def test_a_snapshot_is_the_state_at_its_version() -> None:
    store = Store()
    first = store.put("configmaps", ("a", "x"), {"metadata": {"name": "x"}})
    moment = store.version
    store.put("configmaps", ("a", "y"), {"metadata": {"name": "y"}})
    store.remove("configmaps", ("a", "x"))
    assert store.snapshot("configmaps", moment) == {("a", "x"): first}
    assert list(store.snapshot("configmaps", store.version)) == [("a", "y")]


async def test_requests_are_recorded_by_user() -> None:
    """So that a test can compare what a program does with the rights it is given."""
    async with EmbeddedControlPlane() as control_plane:
        account = await control_plane.service_account("tidegate-system", "tidegate")
        async with account.session() as session:
            kube = Kube(session, "default")
            await kube.create(MAPS, config_map("a"))
            await kube.get(MAPS)
            await kube.call("PATCH", f"{CORE}/nodes/x/status", {}, content_type="application/merge-patch+json")
        recorded = control_plane.requested["system:serviceaccount:tidegate-system:tidegate"]
    wanted = {("create", "", "configmaps", ""), ("list", "", "configmaps", ""), ("patch", "", "nodes", "status")}
    assert recorded == wanted


async def test_requests_without_a_token_are_rejected() -> None:
    async with EmbeddedControlPlane() as control_plane:
        admin = control_plane.admin
        stranger = Account(url=admin.url, ca_file=admin.ca_file, token="wrong")
        async with stranger.session() as session, session.get(f"{CORE}/nodes") as answer:
            assert answer.status == 401
            assert (await answer.json())["reason"] == "Unauthorized"


async def test_many_watchers_of_many_changes_all_see_all_of_them() -> None:
    async with EmbeddedControlPlane(controllers=False) as control_plane, control_plane.admin.session() as session:
        kube = Kube(session, "default")
        start = (await kube.get(MAPS))["metadata"]["resourceVersion"]

        async def follow() -> list[str]:
            async with kube.watch(MAPS, resourceVersion=start) as following:
                return [(await following())["object"]["metadata"]["name"] for _ in range(20)]

        watchers = [asyncio.create_task(follow()) for _ in range(10)]
        for number in range(20):
            await kube.create(MAPS, config_map(f"m{number}"))
        expected = [f"m{number}" for number in range(20)]
        assert await asyncio.gather(*watchers) == [expected] * 10
