"""Tidegate's CRDs must behave the same on both control planes: defaults, pruning, validation, CEL."""

from typing import Any

import pytest

from tests.sandbox.kube import CRD_PATH, TIDEGATE, Kube, inference_deployment

COLLECTION = "inferencedeployments"


def changed(**spec: Any) -> dict[str, Any]:
    """A valid spec with some fields otherwise; None takes a field out."""
    body = inference_deployment("a", **spec)
    body["spec"] = {name: value for name, value in body["spec"].items() if value is not None}
    return body


def tier(**fields: Any) -> dict[str, Any]:
    """A valid tier with some fields otherwise."""
    base = {**inference_deployment("a")["spec"]["tiers"][0], **fields}
    return {name: value for name, value in base.items() if value is not None}


async def test_defaults_are_filled_in(kube: Kube) -> None:
    made = await kube.create(kube.path(COLLECTION, group=TIDEGATE), inference_deployment("a"))
    assert (made["spec"]["mode"], made["spec"]["minReplicas"]) == ("Auto", 1)
    assert made["spec"]["tiers"][0]["minReplicas"] == 0


async def test_null_is_the_same_as_absent(kube: Kube) -> None:
    made = await kube.create(kube.path(COLLECTION, group=TIDEGATE), inference_deployment("a", replicas=None, mode=None))
    assert "replicas" not in made["spec"]
    assert made["spec"]["mode"] == "Auto"


BAD = {
    "no model": (changed(model=None), "spec.model", "Required value"),
    "no tiers": (changed(tiers=[]), "spec.tiers", "should have at least 1 items"),
    "a mode that is none": (changed(mode="Sometimes"), "spec.mode", 'Unsupported value: "Sometimes"'),
    "replicas below zero": (changed(replicas=-1), "spec.replicas", "should be greater than or equal to 0"),
    "replicas in words": (changed(maxReplicas="many"), "spec.maxReplicas", "must be of type integer"),
    "a share that is no decimal": (
        changed(tiers=[tier(quality="good")]),
        "spec.tiers[0].quality",
        "should match",
    ),
    "two tiers of one name": (changed(tiers=[tier(), tier()]), "spec.tiers[1]", "Duplicate value"),
    "bounds the wrong way round": (
        changed(minReplicas=5, maxReplicas=4),
        "spec.minReplicas",
        "minReplicas must be at most maxReplicas",
    ),
    "both a workload and a target": (
        changed(tiers=[tier(targetRef={"apiVersion": "apps/v1", "kind": "Deployment", "name": "x"})]),
        "spec.tiers[0]",
        "",
    ),
    "no tier good enough": (
        changed(quality={"minimum": "0.99"}, tiers=[tier(quality="0.5")]),
        "spec.tiers",
        "at least one tier must have a quality of at least quality.minimum",
    ),
    "the tiers' minima above the whole": (
        changed(maxReplicas=4, tiers=[tier(minReplicas=5)]),
        "spec.tiers",
        "",
    ),
}


@pytest.mark.parametrize("case", BAD)
async def test_a_bad_manifest_is_refused_by_name(kube: Kube, case: str) -> None:
    body, field, words = BAD[case]
    status, answer = await kube.call("POST", kube.path(COLLECTION, group=TIDEGATE), body)
    assert (status, answer["reason"]) == (422, "Invalid"), answer
    causes = answer["details"]["causes"]
    assert field in [each["field"] for each in causes], causes
    assert words in answer["message"]
    assert answer["message"].startswith('InferenceDeployment.tidegate.io "a" is invalid: ')


async def test_an_update_is_checked_like_a_create(kube: Kube) -> None:
    path = kube.path(COLLECTION, "a", group=TIDEGATE)
    await kube.create(kube.path(COLLECTION, group=TIDEGATE), inference_deployment("a"))
    merge = "application/merge-patch+json"
    status, answer = await kube.call("PATCH", path, {"spec": {"minReplicas": 9}}, content_type=merge)
    assert (status, answer["reason"]) == (422, "Invalid")
    assert "minReplicas must be at most maxReplicas" in answer["message"]


async def test_a_definition_without_a_schema_is_refused(kube: Kube) -> None:
    names = {"plural": "things", "kind": "Thing", "singular": "thing"}
    version = {"name": "v1", "served": True, "storage": True}
    spec = {"group": "x.example", "scope": "Namespaced", "names": names, "versions": [version]}
    body = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition"}
    status, answer = await kube.call("POST", CRD_PATH, {**body, "metadata": {"name": "things.x.example"}, "spec": spec})
    assert (status, answer["reason"]) == (422, "Invalid")


async def test_a_definition_comes_and_goes_with_its_objects(kube: Kube) -> None:
    group = f"g{kube.namespace.removeprefix('test-')}.example"
    names = {"plural": "things", "kind": "Thing", "singular": "thing", "listKind": "ThingList"}
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    spec = {"group": group, "scope": "Namespaced", "names": names, "versions": [version]}
    body = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition"}
    made = await kube.create(CRD_PATH, {**body, "metadata": {"name": f"things.{group}"}, "spec": spec})
    assert made["metadata"]["generation"] == 1
    path = f"/apis/{group}/v1/namespaces/{kube.namespace}/things"
    await kube.until(path, lambda listed: "items" in listed)
    thing = {"apiVersion": f"{group}/v1", "kind": "Thing", "metadata": {"name": "a"}, "free": {"as": ["air"]}}
    assert (await kube.create(path, thing))["free"] == {"as": ["air"]}
    definition = await kube.get(f"{CRD_PATH}/things.{group}")
    conditions = {each["type"]: each["status"] for each in definition["status"]["conditions"]}
    assert conditions["Established"] == "True"
    assert (await kube.call("DELETE", f"{CRD_PATH}/things.{group}"))[0] == 200
    await kube.until_gone(path)
