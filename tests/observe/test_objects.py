"""What is kept of Kubernetes objects."""

from typing import Any

import pytest

from tidegate.observe.objects import node_view, owned_view, pod_view, scaled_view, scaler_view, workload_view
from tidegate.ports import ObjectRef

GPU = "nvidia.com/gpu"


def raw_pod(**status: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "namespace": "prod",
            "name": "chat-0",
            "uid": "u",
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": {"app": "chat"},
        },
        "spec": {
            "nodeName": "n1",
            "containers": [
                {"resources": {"limits": {GPU: "2", "cpu": "4"}}},
                {"resources": {"limits": {GPU: "1"}}},
                {},
            ],
            "initContainers": [{"resources": {"limits": {GPU: "8", "example.com/nic": "1"}}}],
        },
        "status": status,
    }


def condition(kind: str, status: str, time: str = "2026-01-01T00:02:00Z", **more: str) -> dict[str, str]:
    return {"type": kind, "status": status, "lastTransitionTime": time, **more}


def test_a_pod_is_trimmed_to_what_is_used() -> None:
    found = pod_view(raw_pod(phase="Running", conditions=[condition("Ready", "True")]))
    assert found.ready
    assert found.ready_s == found.created_s + 120
    assert found.requests == {GPU: 8, "example.com/nic": 1}
    assert (found.node, found.ended, found.terminating) == ("n1", False, False)


@pytest.mark.parametrize(
    ("status", "field", "expected"),
    [
        pytest.param({"conditions": [condition("Ready", "False")]}, "ready", False, id="not ready"),
        pytest.param({"phase": "Failed"}, "ended", True, id="failed"),
        pytest.param({"phase": "Succeeded"}, "ended", True, id="done"),
        pytest.param({}, "ready", False, id="no status yet"),
        pytest.param(
            {"conditions": [condition("PodScheduled", "False", reason="Unschedulable")]},
            "unschedulable",
            True,
            id="no room",
        ),
        pytest.param(
            {"conditions": [condition("PodScheduled", "False", reason="Unschedulable")], "nominatedNodeName": "n1"},
            "unschedulable",
            False,
            id="others are preempted to make room",
        ),
        pytest.param(
            {"conditions": [condition("PodScheduled", "False", reason="SchedulingGated")]},
            "unschedulable",
            False,
            id="held back by a gate",
        ),
    ],
)
def test_states_of_a_pod(status: dict[str, Any], field: str, expected: bool) -> None:
    assert getattr(pod_view(raw_pod(**status)), field) is expected


@pytest.mark.parametrize(
    ("owner", "maker"),
    [
        pytest.param({"kind": "ReplicaSet", "name": "chat-bf16-6d4c"}, "Deployment/chat-bf16", id="a Deployment"),
        pytest.param({"kind": "StatefulSet", "name": "chat"}, "StatefulSet/chat", id="a StatefulSet"),
        pytest.param({"kind": "Node", "name": "n1", "controller": False}, "", id="nobody controls it"),
    ],
)
def test_the_workload_that_created_a_pod_is_known(owner: dict[str, Any], maker: str) -> None:
    raw = raw_pod()
    raw["metadata"]["labels"]["pod-template-hash"] = "6d4c"
    raw["metadata"]["ownerReferences"] = [{"controller": True} | owner]
    assert (pod_view(raw).maker, pod_view(raw_pod()).maker) == (maker, "")


def test_a_terminating_pod_is_not_ready() -> None:
    raw = raw_pod(conditions=[condition("Ready", "True")])
    raw["metadata"]["deletionTimestamp"] = "2026-01-01T01:00:00Z"
    found = pod_view(raw)
    assert (found.ready, found.terminating) == (False, True)
    assert found.gone_s == found.created_s + 3600


def taint(key: str, effect: str = "NoSchedule") -> dict[str, Any]:
    return {"taints": [{"key": key, "effect": effect}]}


@pytest.mark.parametrize(
    ("spec", "status", "usable"),
    [
        pytest.param({}, {"conditions": [condition("Ready", "True")]}, True, id="ready"),
        pytest.param({}, {"conditions": [condition("Ready", "Unknown")]}, False, id="unreachable"),
        pytest.param({"unschedulable": True}, {"conditions": [condition("Ready", "True")]}, False, id="cordoned"),
        pytest.param({}, {}, True, id="no condition at all"),
        pytest.param(taint("karpenter.sh/disrupted"), {}, False, id="drained by an autoscaler, which does not cordon"),
        pytest.param(taint("node.kubernetes.io/disk-pressure"), {}, False, id="its disk is full"),
        pytest.param(taint(GPU), {}, True, id="a taint that servers tolerate"),
        pytest.param(
            taint("node.kubernetes.io/disk-pressure", "PreferNoSchedule"), {}, True, id="a taint that keeps nobody away"
        ),
    ],
)
def test_nodes_that_take_new_pods(spec: dict[str, Any], status: dict[str, Any], usable: bool) -> None:
    raw = {"metadata": {"name": "n"}, "spec": spec, "status": {"allocatable": {GPU: "8", "cpu": "64"}, **status}}
    found = node_view(raw)
    assert (found.usable, found.allocatable) == (usable, {GPU: 8})


@pytest.mark.parametrize(
    ("status", "down_s"),
    [
        pytest.param("True", None, id="it is ready"),
        pytest.param("False", 1_767_225_600.0, id="its kubelet says that it is not"),
        pytest.param("Unknown", 1_767_225_600.0, id="its kubelet is silent"),
    ],
)
def test_a_node_knows_since_when_it_is_not_ready(status: str, down_s: float | None) -> None:
    ready = condition("Ready", status) | {"lastTransitionTime": "2026-01-01T00:00:00Z"}
    raw = {"metadata": {"name": "n"}, "status": {"conditions": [condition("DiskPressure", "False"), ready]}}
    assert node_view(raw).down_s == down_s


def test_a_deployment_is_trimmed_to_replicas_selector_and_writers() -> None:
    raw = {
        "metadata": {
            "namespace": "prod",
            "name": "chat",
            "uid": "u",
            "ownerReferences": [{"uid": "owner"}],
            "managedFields": [
                {"manager": "kubectl", "operation": "Update", "fieldsV1": {"f:spec": {"f:template": {}}}},
                {
                    "manager": "hpa",
                    "operation": "Update",
                    "subresource": "scale",
                    "time": "t",
                    "fieldsV1": {"f:spec": {"f:replicas": {}}},
                },
            ],
        },
        "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "chat"}}},
    }
    found = workload_view(
        raw, api_version="apps/v1", kind="Deployment", path="/apis/apps/v1/namespaces/prod/deployments"
    )
    assert (found.replicas, found.selector, found.owner_uids) == (3, "app=chat", ("owner",))
    assert found.path == "/apis/apps/v1/namespaces/prod/deployments/chat"
    assert [(w.manager, w.operation) for w in found.writers] == [("hpa", "Update")]


def test_labels_and_annotations_of_others_are_not_kept() -> None:
    ours, theirs = {"tidegate.io/applied-hash": "a1"}, {"kubectl.kubernetes.io/last-applied-configuration": "{...}"}
    raw = {"metadata": {"name": "x", "labels": {"tidegate.io/tier": "fp8", "app": "x"}, "annotations": ours | theirs}}
    workload = workload_view(raw, api_version="apps/v1", kind="Deployment", path="/p")
    assert (workload.labels, workload.annotations) == ({"tidegate.io/tier": "fp8"}, ours)
    assert owned_view(raw, api_version="v1", kind="Service").annotations == ours


def test_a_restarted_pod_has_another_life() -> None:
    first = pod_view(raw_pod(containerStatuses=[{"restartCount": 0}, {"restartCount": 0}]))
    again = pod_view(raw_pod(containerStatuses=[{"restartCount": 0}, {"restartCount": 1}]))
    assert (first.life, again.life) == ("u/0", "u/1")
    assert (first.restarts, again.restarts) == (0, 1)


@pytest.mark.parametrize(
    ("generation", "counts", "outdated"),
    [
        pytest.param(1, {"replicas": 3, "updatedReplicas": 3}, 0, id="all are of the newest template"),
        pytest.param(1, {"replicas": 4, "updatedReplicas": 1}, 3, id="three of the old one beside the first new one"),
        pytest.param(1, {"replicas": 4, "updatedReplicas": 3}, 1, id="the last old one waits for the last new one"),
        pytest.param(2, {"replicas": 3, "updatedReplicas": 3}, 3, id="nobody has looked at the newest template yet"),
        pytest.param(1, {}, 3, id="none is there"),
    ],
)
def test_outdated_replicas_of_a_rollout_are_counted(generation: int, counts: dict[str, int], outdated: int) -> None:
    status = {"observedGeneration": 1, **counts}
    raw = {"metadata": {"name": "x", "generation": generation}, "spec": {"replicas": 3}, "status": status}
    assert workload_view(raw, api_version="apps/v1", kind="Deployment", path="/p").outdated == outdated


def test_refused_pods_are_explained_in_stable_words() -> None:
    failure = {
        "type": "ReplicaFailure",
        "status": "True",
        "reason": "FailedCreate",
        "message": 'pods "chat-6d4c-x7k2p" is forbidden: exceeded quota: gpus, requested: 1, used: 8, limited: 8',
    }
    raw = {"metadata": {"name": "x"}, "status": {"conditions": [failure]}}
    found = workload_view(raw, api_version="apps/v1", kind="Deployment", path="/p")
    assert found.refused == "FailedCreate: exceeded quota: gpus, requested: 1, used: 8, limited: 8"
    cured = {**raw, "status": {"conditions": [{**failure, "status": "False"}]}}
    assert workload_view(cured, api_version="apps/v1", kind="Deployment", path="/p").refused == ""


def test_only_the_metadata_of_other_kinds_is_read() -> None:
    odd = {"spec": {"replicas": "many", "selector": "app=x"}, "status": {"conditions": {"Ready": True}}}
    found = scaled_view({"metadata": {"name": "x", "uid": "u"}, **odd}, api_version="g/v1", kind="K", path="/p")
    assert (found.uid, found.path, found.replicas, found.selector) == ("u", "/p/x", 0, "")


def test_absent_replicas_default_to_one() -> None:
    assert workload_view({"metadata": {"name": "x"}}, api_version="apps/v1", kind="Deployment", path="/p").replicas == 1


def test_a_scaled_object_without_a_kind_means_a_deployment() -> None:
    raw = {"metadata": {"namespace": "prod", "name": "so"}, "spec": {"scaleTargetRef": {"name": "chat"}}}
    found = scaler_view(
        raw, api_version="keda.sh/v1alpha1", kind="ScaledObject", default_target=("apps/v1", "Deployment")
    )
    assert found.target == ObjectRef(api_version="apps/v1", kind="Deployment", namespace="prod", name="chat")
