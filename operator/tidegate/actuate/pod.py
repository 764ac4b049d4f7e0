"""
The pod of a managed tier.

In:    deployment, tier, accelerator class.
Out:   a pod template: what vLLM needs to start, serve and drain, with the user's own template merged on top.
Rules: pure; the same input gives the same bytes.
"""

from typing import Any

from tidegate.actuate.merge import strategic, wrong_shape
from tidegate.actuate.vllm import Server, server
from tidegate.domain.key import Key
from tidegate.domain.spec import Accelerator, DeploymentSpec, TierSpec
from tidegate.ports import DEPLOYMENT_LABEL, TIER_LABEL

Json = dict[str, Any]

CONTAINER = "vllm"
# Loading hundreds of gigabytes of weights from slow storage takes most of an hour. A server that crashes is restarted
# at once, so a long startup probe costs nothing.
STARTUP_PERIOD_S, STARTUP_FAILURES = 5, 720
SHM_GIB_PER_ACCELERATOR = 2


def labels(key: Key, tier: str | None = None) -> dict[str, str]:
    """Labels of the objects of a deployment, or of one of its tiers."""
    own = {"app.kubernetes.io/managed-by": "tidegate", DEPLOYMENT_LABEL: key.name}
    return own | ({TIER_LABEL: tier} if tier else {})


def selector(key: Key, tier: str | None = None) -> dict[str, str]:
    """The labels that select its pods."""
    return {DEPLOYMENT_LABEL: key.name} | ({TIER_LABEL: tier} if tier else {})


def template(spec: DeploymentSpec, tier: TierSpec, accelerator: Accelerator) -> Json:
    """
    The pod template of a tier.

    Raises:
        SpecError: the user's template has the wrong shape. `api` checks this when it reads the spec.
    """
    assert tier.workload is not None, tier.name
    how = server(spec, tier)
    pod = {
        "metadata": {"labels": labels(spec.key, tier.name)},
        "spec": {
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": how.grace_s,
            "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
            "nodeSelector": dict(accelerator.node_selector),
            "tolerations": [{"key": accelerator.resource_name, "operator": "Exists", "effect": "NoSchedule"}],
            "containers": [_container(tier, accelerator, how)],
            "volumes": [{"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": _shm(tier)}}],
        },
    }
    path = f"spec.tiers[{spec.tiers.index(tier)}].workload.podTemplate"
    merged: Json = strategic(pod, tier.workload.pod_template, path=path)
    metadata, _ = _part(merged, "metadata", path), _part(merged, "spec", path)
    # Our selector's labels cannot be overridden: the API server rejects a template that its selector does not match.
    given = _part({"labels": {}} | metadata, "labels", f"{path}.metadata")
    return merged | {"metadata": metadata | {"labels": given | selector(spec.key, tier.name)}}


def _part(whole: Json, name: str, path: str) -> Json:
    """A mapping that must be in a pod template; a user's null, text or list in its place is an error."""
    part = whole.get(name)
    if not isinstance(part, dict):
        raise wrong_shape(f"{path}.{name}", part, "must be a mapping")
    return part


def _container(tier: TierSpec, accelerator: Accelerator, how: Server) -> Json:
    assert tier.workload is not None
    return {
        "name": CONTAINER,
        "image": tier.workload.image,
        "command": list(how.command),
        "args": list(how.args),
        "env": [dict(variable) for variable in tier.workload.env],
        "ports": [{"name": "http", "containerPort": how.port, "protocol": "TCP"}],
        "resources": _resources(tier, accelerator),
        "startupProbe": _probe(period=STARTUP_PERIOD_S, failures=STARTUP_FAILURES),
        "readinessProbe": _probe(period=5, failures=3),
        "livenessProbe": _probe(period=10, failures=6),
        "lifecycle": {"preStop": {"sleep": {"seconds": how.pre_stop_s}}},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "shm", "mountPath": "/dev/shm"}],
    }


def _probe(*, period: int, failures: int) -> Json:
    return {
        "httpGet": {"path": "/health", "port": "http"},
        "periodSeconds": period,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }


def _resources(tier: TierSpec, accelerator: Accelerator) -> Json:
    """The user's resources, plus as many accelerators as a replica occupies, as request and limit."""
    assert tier.workload is not None
    given = tier.workload.resources
    count = {accelerator.resource_name: str(tier.accelerators_per_replica)}
    return {
        "requests": {**given.get("requests", {}), **count},  # type: ignore[dict-item]
        "limits": {**given.get("limits", {}), **count},  # type: ignore[dict-item]
    }


def _shm(tier: TierSpec) -> str:
    """
    Tensor-parallel workers communicate through shared memory; a container's default of 64 MiB ends in a bus error.
    """
    return f"{SHM_GIB_PER_ACCELERATOR * tier.accelerators_per_replica}Gi"
