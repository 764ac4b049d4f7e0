"""Controllers must behave the same on both control planes: pods, bindings, endpoints, rollouts, garbage collection."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.sandbox.kube import APPS, CORE, STRATEGIC, Kube, config_map, deployment

SLICES = "/apis/discovery.k8s.io/v1"


@pytest.fixture
async def node(kube: Kube) -> AsyncIterator[str]:
    """A node with two GPUs that only this test's pods choose."""
    name = f"node-{uuid.uuid4().hex[:8]}"
    ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": "2100-01-01T00:00:00Z"}
    offered = {"cpu": "64", "memory": "256Gi", "pods": "110", "nvidia.com/gpu": "2"}
    status = {"allocatable": offered, "capacity": offered, "conditions": [ready]}
    await kube.create(f"{CORE}/nodes", {"metadata": {"name": name, "labels": {"only": name}}, "status": status})
    # The real scheduler knows a node once the node controller has taken its first taint away.
    await kube.until(f"{CORE}/nodes/{name}", lambda item: not item["spec"].get("taints"))
    yield name
    await kube.call("DELETE", f"{CORE}/nodes/{name}")


def on(node: str, body: dict[str, Any]) -> dict[str, Any]:
    """A Deployment whose pods run on that node alone, and end at once."""
    spec = body["spec"]["template"]["spec"]
    spec |= {"nodeSelector": {"only": node}, "terminationGracePeriodSeconds": 0}
    return body


async def pods(kube: Kube) -> list[dict[str, Any]]:
    """The test's pods that are not on their way out."""
    items = (await kube.get(kube.path("pods")))["items"]
    return [each for each in items if not each["metadata"].get("deletionTimestamp")]


async def make_ready(kube: Kube, count: int) -> list[dict[str, Any]]:
    """Plays the kubelet: so many pods of this test report that they run."""
    bound: list[dict[str, Any]] = []
    for _ in range(300):
        bound = [each for each in await pods(kube) if each["spec"].get("nodeName")]
        if len(bound) >= count:
            break
        await asyncio.sleep(0.05)
    taken = sum(each["status"].get("phase") == "Running" for each in bound)
    for index, pod in enumerate(each for each in bound if each["status"].get("phase") != "Running"):
        ip = f"10.244.9.{taken + index + 1}"
        ready = [{"type": "Ready", "status": "True"}]
        status = {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "conditions": ready}
        path = kube.path("pods", pod["metadata"]["name"])
        await kube.patch(f"{path}/status", {"status": status}, STRATEGIC)
    return bound


async def test_a_deployment_becomes_pods_with_owners_all_the_way(kube: Kube, node: str) -> None:
    path = kube.path("deployments", "a", group=APPS)
    made = await kube.create(kube.path("deployments", group=APPS), on(node, deployment("a", replicas=2)))
    bound = await make_ready(kube, 2)
    assert [each["spec"]["nodeName"] for each in bound] == [node, node]
    sets = (await kube.get(kube.path("replicasets", group=APPS)))["items"]
    assert [each["metadata"]["ownerReferences"][0]["uid"] for each in sets] == [made["metadata"]["uid"]]
    owners = {each["metadata"]["ownerReferences"][0]["uid"] for each in bound}
    assert owners == {sets[0]["metadata"]["uid"]}
    assert {each["metadata"]["labels"]["app"] for each in bound} == {"a"}
    done = await kube.until(path, lambda item: item.get("status", {}).get("availableReplicas") == 2)
    assert done["status"]["readyReplicas"] == done["status"]["updatedReplicas"] == 2
    conditions = {each["type"]: (each["status"], each["reason"]) for each in done["status"]["conditions"]}
    assert conditions["Available"] == ("True", "MinimumReplicasAvailable")
    await kube.until(
        path,
        lambda item: (
            ("Progressing", "NewReplicaSetAvailable")
            in [(each["type"], each["reason"]) for each in item["status"]["conditions"]]
        ),
    )


async def test_pods_stay_pending_when_gpus_run_out_and_say_so(kube: Kube, node: str) -> None:
    await kube.create(kube.path("deployments", group=APPS), on(node, deployment("a", replicas=3)))

    def short(listed: dict[str, Any]) -> bool:
        words = [
            each
            for pod in listed["items"]
            for each in pod["status"].get("conditions", [])
            if each["type"] == "PodScheduled" and each["status"] == "False"
        ]
        return len(words) == 1 and words[0]["reason"] == "Unschedulable" and "Insufficient nvidia.com/gpu" in str(words)

    listed = await kube.until(kube.path("pods"), short)
    assert sorted(each["status"]["phase"] for each in listed["items"]) == ["Pending"] * 3
    events = await kube.until(
        kube.path("events"), lambda found: any(each["reason"] == "FailedScheduling" for each in found["items"])
    )
    failed = next(each for each in events["items"] if each["reason"] == "FailedScheduling")
    assert "Insufficient nvidia.com/gpu" in failed["message"]


async def test_freed_room_is_used(kube: Kube, node: str) -> None:
    await kube.create(kube.path("deployments", group=APPS), on(node, deployment("first", replicas=2)))
    await make_ready(kube, 2)
    await kube.create(kube.path("deployments", group=APPS), on(node, deployment("second", replicas=1)))
    await kube.patch(f"{kube.path('deployments', 'first', group=APPS)}/scale", {"spec": {"replicas": 1}})
    for _ in range(60):
        going = [
            each for each in (await kube.get(kube.path("pods")))["items"] if "deletionTimestamp" in each["metadata"]
        ]
        for pod in going:
            await kube.call("DELETE", kube.path("pods", pod["metadata"]["name"]), {"gracePeriodSeconds": 0})
        found = await pods(kube)
        if [each for each in found if each["metadata"]["labels"]["app"] == "second" and each["spec"].get("nodeName")]:
            return
        await asyncio.sleep(0.5)
    raise AssertionError("the waiting pod was not bound")


async def test_scaling_down_removes_pods_that_are_not_ready_first(kube: Kube, node: str) -> None:
    await kube.create(kube.path("deployments", group=APPS), on(node, deployment("a", replicas=2)))
    serving = {each["metadata"]["uid"] for each in await make_ready(kube, 2)}
    scale = f"{kube.path('deployments', 'a', group=APPS)}/scale"
    await kube.patch(scale, {"spec": {"replicas": 3}})
    await kube.until(kube.path("pods"), lambda listed: len(listed["items"]) == 3)
    await kube.patch(scale, {"spec": {"replicas": 2}})
    await kube.until(kube.path("pods"), lambda listed: len(listed["items"]) == 2)
    assert {each["metadata"]["uid"] for each in await pods(kube)} == serving


async def test_a_new_template_rolls_out_and_keeps_serving(kube: Kube, node: str) -> None:
    path = kube.path("deployments", "a", group=APPS)
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    await kube.create(kube.path("deployments", group=APPS), on(node, deployment("a", replicas=1, strategy=rolling)))
    first = {each["metadata"]["uid"] for each in await make_ready(kube, 1)}
    await kube.until(path, lambda item: item.get("status", {}).get("availableReplicas") == 1)
    container = {"name": "vllm", "image": "vllm:2"}
    await kube.patch(path, {"spec": {"template": {"spec": {"containers": [container]}}}}, STRATEGIC)
    await kube.until(kube.path("pods"), lambda listed: len(listed["items"]) == 2)
    assert first <= {each["metadata"]["uid"] for each in await pods(kube)}
    await make_ready(kube, 2)

    def rolled(item: dict[str, Any]) -> bool:
        counts = [item["status"].get(name) for name in ("replicas", "updatedReplicas", "availableReplicas")]
        return counts == [1, 1, 1]

    for _ in range(100):
        for pod in (await kube.get(kube.path("pods")))["items"]:
            if "deletionTimestamp" in pod["metadata"]:
                await kube.call("DELETE", kube.path("pods", pod["metadata"]["name"]), {"gracePeriodSeconds": 0})
        if rolled(await kube.get(path)):
            break
        await asyncio.sleep(0.1)
    left = await pods(kube)
    assert [each["spec"]["containers"][0]["image"] for each in left] == ["vllm:2"]


async def test_a_service_finds_the_pods_that_are_ready(kube: Kube, node: str) -> None:
    await kube.create(kube.path("deployments", group=APPS), on(node, deployment("a", replicas=2)))
    port = {"name": "http", "port": 80, "targetPort": 8000}
    service = {"metadata": {"name": "a"}, "spec": {"selector": {"app": "a"}, "ports": [port]}}
    made = await kube.create(kube.path("services"), service)
    assert made["spec"]["clusterIP"].startswith("10.96.")
    await make_ready(kube, 2)

    def found(listed: dict[str, Any]) -> bool:
        ends = [end for each in listed["items"] for end in each.get("endpoints") or []]
        return len(ends) == 2 and all(end["conditions"]["ready"] for end in ends)

    slices = kube.path("endpointslices", group=SLICES)
    listed = await kube.until(slices, found)
    only = listed["items"][0]
    assert only["metadata"]["labels"]["kubernetes.io/service-name"] == "a"
    assert [(each["name"], each["port"]) for each in only["ports"]] == [("http", 8000)]
    assert {end["addresses"][0] for end in only["endpoints"]} == {"10.244.9.1", "10.244.9.2"}
    pod = (await pods(kube))[0]["metadata"]["name"]
    condition = {"status": {"conditions": [{"type": "Ready", "status": "False"}]}}
    await kube.patch(f"{kube.path('pods', pod)}/status", condition, STRATEGIC)
    await kube.until(slices, lambda body: not found(body))


async def test_a_running_pod_gets_its_grace_period(kube: Kube, node: str) -> None:
    body = on(node, deployment("a", replicas=1))
    body["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = 20
    await kube.create(kube.path("deployments", group=APPS), body)
    name = (await make_ready(kube, 1))[0]["metadata"]["name"]
    status, going = await kube.call("DELETE", kube.path("pods", name))
    assert (status, going["metadata"]["deletionGracePeriodSeconds"]) == (200, 20)
    assert (await kube.call("GET", kube.path("pods", name)))[0] == 200
    await kube.call("DELETE", kube.path("pods", name), {"gracePeriodSeconds": 0})
    assert (await kube.call("GET", kube.path("pods", name)))[0] == 404


async def owned_pair(kube: Kube) -> tuple[dict[str, Any], dict[str, Any]]:
    """An owner, and an object it owns."""
    owner = await kube.create(kube.path("configmaps"), config_map("owner"))
    item = config_map("owned")
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["metadata"]["uid"]}
    item["metadata"]["ownerReferences"] = [{**reference, "blockOwnerDeletion": True}]
    return owner, await kube.create(kube.path("configmaps"), item)


@pytest.mark.parametrize("policy", ["Background", "Foreground"])
async def test_dependents_are_deleted_with_their_owner(kube: Kube, policy: str) -> None:
    await owned_pair(kube)
    status, _ = await kube.call("DELETE", kube.path("configmaps", "owner"), {"propagationPolicy": policy})
    assert status == 200
    await kube.until_gone(kube.path("configmaps", "owned"), timeout_s=30)
    await kube.until_gone(kube.path("configmaps", "owner"))


async def test_orphan_deletion_keeps_dependents(kube: Kube) -> None:
    await owned_pair(kube)
    await kube.call("DELETE", kube.path("configmaps", "owner"), {"propagationPolicy": "Orphan"})
    await kube.until_gone(kube.path("configmaps", "owner"), timeout_s=30)
    left = await kube.get(kube.path("configmaps", "owned"))
    assert not left["metadata"].get("ownerReferences")


async def test_an_object_whose_owner_does_not_exist_is_deleted(kube: Kube) -> None:
    item = config_map("stray")
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "ghost", "uid": str(uuid.uuid4())}
    item["metadata"]["ownerReferences"] = [reference]
    await kube.create(kube.path("configmaps"), item)
    await kube.until_gone(kube.path("configmaps", "stray"), timeout_s=30)


async def test_deleting_a_deployment_ends_its_pods(kube: Kube, node: str) -> None:
    await kube.create(kube.path("deployments", group=APPS), on(node, deployment("a", replicas=1)))
    await make_ready(kube, 1)
    await kube.call("DELETE", kube.path("deployments", "a", group=APPS))
    await kube.until(
        kube.path("pods"),
        lambda body: all("deletionTimestamp" in each["metadata"] for each in body["items"]),
        timeout_s=30,
    )
