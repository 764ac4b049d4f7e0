"""Patches and server-side apply must behave the same on both control planes."""

from typing import Any

import pytest

from tests.sandbox.kube import (
    APPS,
    JSON,
    MERGE,
    STRATEGIC,
    TIDEGATE,
    Kube,
    config_map,
    deployment,
    inference_deployment,
)


async def test_a_merge_patch_merges_maps_replaces_lists_and_removes_nulls(kube: Kube) -> None:
    path = kube.path("configmaps", "a")
    item = config_map("a", x="1", y="1")
    item["metadata"]["finalizers"] = ["tidegate.io/a", "tidegate.io/b"]
    await kube.create(kube.path("configmaps"), item)
    patched = await kube.patch(path, {"data": {"x": None, "z": "2"}, "metadata": {"finalizers": ["tidegate.io/c"]}})
    assert patched["data"] == {"y": "1", "z": "2"}
    assert patched["metadata"]["finalizers"] == ["tidegate.io/c"]
    await kube.patch(path, {"metadata": {"finalizers": None}})


async def test_a_json_patch_applies_or_fails_as_a_whole(kube: Kube) -> None:
    path = kube.path("configmaps", "a")
    await kube.create(kube.path("configmaps"), config_map("a", x="1"))
    good = [{"op": "test", "path": "/data/x", "value": "1"}, {"op": "add", "path": "/data/y", "value": "2"}]
    assert (await kube.patch(path, good, JSON))["data"] == {"x": "1", "y": "2"}
    failing = [{"op": "add", "path": "/data/z", "value": "3"}, {"op": "test", "path": "/data/x", "value": "9"}]
    status, answer = await kube.call("PATCH", path, failing, content_type=JSON)
    assert (status, answer["reason"]) == (422, "Invalid")
    missing = [{"op": "remove", "path": "/data/nothing"}]
    assert (await kube.call("PATCH", path, missing, content_type=JSON))[0] == 422
    assert (await kube.get(path))["data"] == {"x": "1", "y": "2"}


async def test_a_strategic_patch_merges_lists_by_key(kube: Kube) -> None:
    path = kube.path("deployments", "a", group=APPS)
    await kube.create(kube.path("deployments", group=APPS), deployment("a", replicas=0))
    sidecar = {"name": "sidecar", "image": "busybox:1", "env": [{"name": "X", "value": "1"}]}
    patched = await kube.patch(path, _containers(sidecar), STRATEGIC)
    assert _images(patched) == {"vllm": "vllm:1", "sidecar": "busybox:1"}
    more = {"name": "sidecar", "env": [{"name": "Y", "value": "2"}]}
    patched = await kube.patch(path, _containers(more), STRATEGIC)
    both = next(each for each in patched["spec"]["template"]["spec"]["containers"] if each["name"] == "sidecar")
    assert {each["name"] for each in both["env"]} == {"X", "Y"}
    patched = await kube.patch(path, _containers({"name": "sidecar", "$patch": "delete"}), STRATEGIC)
    assert _images(patched) == {"vllm": "vllm:1"}


async def test_a_custom_resource_takes_no_strategic_patch(kube: Kube) -> None:
    path = kube.path("inferencedeployments", "a", group=TIDEGATE)
    await kube.create(kube.path("inferencedeployments", group=TIDEGATE), inference_deployment("a"))
    status, answer = await kube.call("PATCH", path, {"spec": {}}, content_type=STRATEGIC)
    assert (status, answer["reason"]) == (415, "UnsupportedMediaType")


def _containers(*containers: dict[str, Any]) -> dict[str, Any]:
    return {"spec": {"template": {"spec": {"containers": list(containers)}}}}


def _images(item: dict[str, Any]) -> dict[str, str]:
    return {each["name"]: each["image"] for each in item["spec"]["template"]["spec"]["containers"]}


def owners(item: dict[str, Any], field: str) -> set[str]:
    """Managers that own a field of the spec, directly below it."""
    entries = item["metadata"]["managedFields"]
    return {each["manager"] for each in entries if f"f:{field}" in each["fieldsV1"].get("f:spec", {})}


async def test_apply_creates_a_missing_object_and_updates_it_with_200(kube: Kube) -> None:
    path = kube.path("deployments", "a", group=APPS)
    status, made = await kube.apply(path, deployment("a", replicas=0), "one")
    assert (status, made["metadata"]["generation"]) == (201, 1)
    seen = await kube.until(path, lambda item: len(item.get("status", {}).get("conditions", [])) == 2)
    status, same = await kube.apply(path, deployment("a", replicas=0), "one")
    assert (status, same["metadata"]["resourceVersion"]) == (200, seen["metadata"]["resourceVersion"])
    entry = made["metadata"]["managedFields"][0]
    assert (entry["manager"], entry["operation"], entry["fieldsType"]) == ("one", "Apply", "FieldsV1")


async def test_apply_needs_a_manager(kube: Kube) -> None:
    path = kube.path("configmaps", "a")
    status, _ = await kube.call("PATCH", path, config_map("a"), content_type="application/apply-patch+yaml")
    assert status in (400, 422)


async def test_another_managers_value_is_a_conflict_and_the_same_value_is_shared(kube: Kube) -> None:
    path = kube.path("deployments", "a", group=APPS)
    await kube.apply(path, deployment("a", replicas=0), "one")
    status, shared = await kube.apply(path, deployment("a", replicas=0), "two")
    assert (status, owners(shared, "replicas")) == (200, {"one", "two"})
    status, answer = await kube.apply(path, deployment("a", replicas=1), "three")
    assert (status, answer["reason"]) == (409, "Conflict")
    assert answer["message"].startswith("Apply failed with 2 conflicts")
    causes = answer["details"]["causes"]
    assert {(each["reason"], each["field"]) for each in causes} == {("FieldManagerConflict", ".spec.replicas")}
    assert {each["message"] for each in causes} == {'conflict with "one"', 'conflict with "two"'}


async def test_a_forced_apply_takes_the_field_over(kube: Kube) -> None:
    path = kube.path("deployments", "a", group=APPS)
    await kube.apply(path, deployment("a", replicas=0), "one")
    status, taken = await kube.apply(path, deployment("a", replicas=1), "two", force="true")
    assert (status, taken["spec"]["replicas"], owners(taken, "replicas")) == (200, 1, {"two"})


async def test_what_a_manager_no_longer_applies_goes_unless_somebody_else_owns_it(kube: Kube) -> None:
    path = kube.path("configmaps", "a")
    await kube.apply(path, config_map("a", mine="1", ours="1"), "one")
    await kube.apply(path, config_map("a", ours="1", theirs="1"), "two")
    _, item = await kube.apply(path, config_map("a"), "one")
    assert item["data"] == {"ours": "1", "theirs": "1"}
    _, item = await kube.apply(path, config_map("a", theirs="1"), "two")
    assert item["data"] == {"theirs": "1"}


async def test_replicas_left_out_of_an_apply_stay_with_whoever_scales(kube: Kube) -> None:
    """
    The way Tidegate works: it applies a Deployment without replicas and moves them through the scale alone.

    Nobody owned the count before, so the API server does not record who scales: `managedFields` cannot tell.
    """
    path = kube.path("deployments", "a", group=APPS)
    body = deployment("a")
    del body["spec"]["replicas"]
    _, made = await kube.apply(path, body, "tidegate")
    assert made["spec"]["replicas"] == 1
    await kube.patch(f"{path}/scale", {"spec": {"replicas": 2}}, fieldManager="tidegate-scaler")
    body["spec"]["template"]["spec"]["containers"][0]["image"] = "vllm:2"
    status, item = await kube.apply(path, body, "tidegate")
    assert (status, item["spec"]["replicas"], _images(item)) == (200, 2, {"vllm": "vllm:2"})
    assert owners(item, "replicas") == set()


async def test_a_scale_takes_an_owned_count_over(kube: Kube) -> None:
    path = kube.path("deployments", "a", group=APPS)
    await kube.apply(path, deployment("a", replicas=1), "one")
    await kube.patch(f"{path}/scale", {"spec": {"replicas": 2}}, fieldManager="scaler")
    assert owners(await kube.get(path), "replicas") == {"scaler"}


async def test_a_scale_to_zero_has_no_owner(kube: Kube) -> None:
    """A `Scale` leaves a count of zero out, so nobody can be seen to own it: who scaled to zero is not recorded."""
    path = kube.path("deployments", "a", group=APPS)
    await kube.apply(path, deployment("a", replicas=2), "one")
    scale = await kube.patch(f"{path}/scale", {"spec": {"replicas": 0}}, fieldManager="scaler")
    assert scale["spec"] == {}
    item = await kube.get(path)
    assert (item["spec"]["replicas"], owners(item, "replicas")) == (0, set())
    status, item = await kube.apply(path, deployment("a", replicas=2), "one")
    assert (status, item["spec"]["replicas"]) == (200, 2)


async def test_a_person_who_edits_owns_what_was_edited(kube: Kube) -> None:
    path = kube.path("deployments", "a", group=APPS)
    await kube.apply(path, deployment("a", replicas=0), "one")
    edited = await kube.patch(path, {"spec": {"replicas": 1}}, MERGE, fieldManager="person")
    assert owners(edited, "replicas") == {"person"}
    status, answer = await kube.apply(path, deployment("a", replicas=0), "one")
    assert (status, answer["details"]["causes"][0]["field"]) == (409, ".spec.replicas")


async def test_items_of_a_list_with_keys_have_owners_of_their_own(kube: Kube) -> None:
    """Two managers each apply a container; each can change and drop its own."""
    path = kube.path("deployments", "a", group=APPS)
    await kube.apply(path, deployment("a", replicas=0), "one")
    two = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"}}
    sidecar = _containers({"name": "sidecar", "image": "busybox:1"})
    status, item = await kube.apply(path, {**two, **sidecar}, "two")
    assert (status, _images(item)) == (200, {"vllm": "vllm:1", "sidecar": "busybox:1"})
    clash = _containers({"name": "vllm", "image": "vllm:9"})
    status, answer = await kube.apply(path, {**two, **clash}, "two")
    assert status == 409
    assert answer["details"]["causes"][0]["field"] == '.spec.template.spec.containers[name="vllm"].image'
    _, item = await kube.apply(path, two, "two")
    assert _images(item) == {"vllm": "vllm:1"}


async def test_items_of_a_custom_resource_merge_by_the_keys_of_its_schema(kube: Kube) -> None:
    path = kube.path("inferencedeployments", "a", group=TIDEGATE)
    await kube.apply(path, inference_deployment("a"), "one")
    tier = {**inference_deployment("a")["spec"]["tiers"][0], "name": "fp8", "quality": "0.99"}
    head = {"apiVersion": "tidegate.io/v1alpha1", "kind": "InferenceDeployment", "metadata": {"name": "a"}}
    status, item = await kube.apply(path, {**head, "spec": {"tiers": [tier]}}, "two")
    assert (status, [each["name"] for each in item["spec"]["tiers"]]) == (200, ["bf16", "fp8"])
    status, item = await kube.apply(path, head, "two")
    assert (status, [each["name"] for each in item["spec"]["tiers"]]) == (200, ["bf16"])


async def test_a_status_is_applied_under_its_own_entry(kube: Kube) -> None:
    path = kube.path("inferencedeployments", "a", group=TIDEGATE)
    await kube.create(kube.path("inferencedeployments", group=TIDEGATE), inference_deployment("a"))
    head = {"apiVersion": "tidegate.io/v1alpha1", "kind": "InferenceDeployment", "metadata": {"name": "a"}}
    status, item = await kube.apply(f"{path}/status", {**head, "status": {"replicas": 2}}, "tidegate")
    assert (status, item["status"]["replicas"], item["metadata"]["generation"]) == (200, 2, 1)
    entry = next(each for each in item["metadata"]["managedFields"] if each["manager"] == "tidegate")
    assert (entry["subresource"], entry["fieldsV1"]) == ("status", {"f:status": {"f:replicas": {}}})


@pytest.mark.parametrize("field", ["x", "spec"], ids=["unknown", "known"])
async def test_unknown_fields_are_dropped_warned_of_or_refused(kube: Kube, field: str) -> None:
    path = kube.path("inferencedeployments", group=TIDEGATE)
    body = inference_deployment("a")
    if field == "x":
        body["spec"]["x"] = 1
    status, answer = await kube.call("POST", path, body, fieldValidation="Strict")
    if field == "spec":
        assert status == 201
        return
    assert (status, answer["reason"]) == (400, "BadRequest")
    assert 'strict decoding error: unknown field "spec.x"' in answer["message"]
    async with kube.session.post(path, json=body, params={"fieldValidation": "Warn"}) as response:
        assert 'unknown field \\"spec.x\\"' in response.headers["Warning"]
        assert "x" not in (await response.json())["spec"]
