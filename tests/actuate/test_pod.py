"""The pod of a managed tier."""

from typing import Any

from tests.actuate.orders import H100, KEY, managed, spec_of
from tidegate.actuate.pod import template
from tidegate.domain.spec import TierSpec


def pod(tier: TierSpec) -> dict[str, Any]:
    return template(spec_of(tier), tier, H100)


def container(tier: TierSpec) -> dict[str, Any]:
    found: dict[str, Any] = pod(tier)["spec"]["containers"][0]
    return found


def test_it_holds_as_many_accelerators_as_a_replica_occupies() -> None:
    resources = container(managed(gpus=4, resources={"requests": {"cpu": "8"}, "limits": {"memory": "64Gi"}}))[
        "resources"
    ]
    assert resources["requests"] == {"cpu": "8", "nvidia.com/gpu": "4"}
    assert resources["limits"] == {"memory": "64Gi", "nvidia.com/gpu": "4"}


def test_accelerators_in_the_users_resources_are_overridden() -> None:
    """The API server rejects different requests and limits of an extended resource."""
    given = {"requests": {"nvidia.com/gpu": "1"}, "limits": {"nvidia.com/gpu": "8"}}
    resources = container(managed(gpus=4, resources=given))["resources"]
    assert resources == {"requests": {"nvidia.com/gpu": "4"}, "limits": {"nvidia.com/gpu": "4"}}


def test_it_goes_where_the_accelerators_are() -> None:
    spec = pod(managed())["spec"]
    assert spec["nodeSelector"] == dict(H100.node_selector)
    assert spec["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]


def test_a_slow_start_is_not_killed() -> None:
    found = container(managed())
    allowed_s = found["startupProbe"]["periodSeconds"] * found["startupProbe"]["failureThreshold"]
    assert allowed_s >= 3600
    assert {found[p]["httpGet"]["path"] for p in ("startupProbe", "readinessProbe", "livenessProbe")} == {"/health"}


def test_probes_use_the_port_of_the_users_arguments() -> None:
    found = container(managed(args=("--host", "0.0.0.0", "--port", "8080")))
    assert found["ports"] == [{"name": "http", "containerPort": 8080, "protocol": "TCP"}]
    assert {found[p]["httpGet"]["port"] for p in ("startupProbe", "readinessProbe", "livenessProbe")} == {"http"}
    assert container(managed(args=("--port", "$(PORT)")))["ports"][0]["containerPort"] == 8000


def test_it_drains_before_it_is_killed() -> None:
    found = pod(managed())["spec"]
    pre_stop_s = found["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    args = found["containers"][0]["args"]
    drain_s = int(args[args.index("--shutdown-timeout") + 1])
    assert found["terminationGracePeriodSeconds"] > pre_stop_s + drain_s


def test_shared_memory_grows_with_the_workers() -> None:
    (volume,) = pod(managed(gpus=8))["spec"]["volumes"]
    assert volume["emptyDir"] == {"medium": "Memory", "sizeLimit": "16Gi"}
    assert container(managed())["volumeMounts"] == [{"name": "shm", "mountPath": "/dev/shm"}]


def test_it_asks_for_no_rights_it_does_not_need() -> None:
    found = pod(managed())["spec"]
    assert found["automountServiceAccountToken"] is False
    assert found["securityContext"] == {"seccompProfile": {"type": "RuntimeDefault"}}
    assert found["containers"][0]["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }


def test_the_users_template_is_merged_on_top() -> None:
    tier = managed(
        env=({"name": "A", "value": "1"},),
        pod_template={
            "metadata": {"annotations": {"team": "x"}, "labels": {"team": "x"}},
            "spec": {
                "priorityClassName": "serving",
                "volumes": [{"name": "cache", "persistentVolumeClaim": {"claimName": "hf"}}],
                "containers": [
                    {"name": "vllm", "env": [{"name": "B", "value": "2"}]},
                    {"name": "proxy", "image": "envoy"},
                ],
            },
        },
    )
    found = pod(tier)
    assert found["metadata"]["annotations"] == {"team": "x"}
    assert found["spec"]["priorityClassName"] == "serving"
    assert [v["name"] for v in found["spec"]["volumes"]] == ["shm", "cache"]
    assert [c["name"] for c in found["spec"]["containers"]] == ["vllm", "proxy"]
    assert found["spec"]["containers"][0]["env"] == [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]


def test_the_users_template_cannot_move_pods_out_of_their_deployment() -> None:
    tier = managed(pod_template={"metadata": {"labels": {"tidegate.io/tier": "other", "app": "x"}}})
    labels = pod(tier)["metadata"]["labels"]
    assert labels["tidegate.io/tier"] == "bf16"
    assert labels["tidegate.io/inference-deployment"] == KEY.name
    assert labels["app"] == "x"
