"""
The objects that a deployment with managed tiers owns: a Deployment per tier, one Service, one PodMonitor.

In:    the custom resource and the accelerator classes.
Out:   plain manifests, each with a hash of itself, so that an object that is right is not written again.
Rules: pure. `replicas` is never among the fields: it is changed only through /scale.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tidegate.actuate.pod import labels, selector, template
from tidegate.actuate.vllm import PORT
from tidegate.domain.spec import Accelerator, DeploymentSpec, TierSpec
from tidegate.ports import GROUP, VERSION, DeploymentResource, ObjectRef, own_workload

Json = dict[str, Any]

HASH_ANNOTATION = f"{GROUP}/applied-hash"
# Longer than any start-up worth waiting for; after it Kubernetes declares a rollout failed.
PROGRESS_DEADLINE_S = 3900
SCRAPE_INTERVAL = "15s"

_COLLECTIONS = {
    ("apps/v1", "Deployment"): "/apis/apps/v1/namespaces/{}/deployments",
    ("v1", "Service"): "/api/v1/namespaces/{}/services",
    ("monitoring.coreos.com/v1", "PodMonitor"): "/apis/monitoring.coreos.com/v1/namespaces/{}/podmonitors",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """One object as it should be; its annotations contain `hash` too."""

    ref: ObjectRef
    body: Json
    hash: str

    @property
    def path(self) -> str:
        """Absolute path of the object."""
        return path_of(self.ref)


def path_of(ref: ObjectRef) -> str:
    """Absolute path of an object of a kind that we own."""
    return f"{_COLLECTIONS[ref.api_version, ref.kind].format(ref.namespace)}/{ref.name}"


def shared_refs(spec: DeploymentSpec) -> tuple[ObjectRef, ...]:
    """What all managed tiers of a deployment share: the Service and the PodMonitor."""
    namespace, name = spec.key.namespace, spec.key.name
    return (
        ObjectRef(api_version="v1", kind="Service", namespace=namespace, name=name),
        ObjectRef(api_version="monitoring.coreos.com/v1", kind="PodMonitor", namespace=namespace, name=name),
    )


def wanted(
    resource: DeploymentResource, accelerators: Mapping[str, Accelerator], *, pod_monitor: Mapping[str, str] | None
) -> tuple[Manifest, ...]:
    """
    Every object that the deployment should own; none if all its tiers only point at workloads.

    Args:
        resource: The custom resource, its spec valid.
        accelerators: Every class; a managed tier whose class is missing has no Deployment yet.
        pod_monitor: Extra labels of the PodMonitor, by which a Prometheus may select it; None: the cluster has no
            PodMonitors.
    """
    spec = resource.valid_spec
    managed = [tier for tier in spec.tiers if tier.workload is not None]
    if not managed:
        return ()
    return tuple(_sealed(body, resource) for body in _bodies(spec, managed, accelerators, pod_monitor))


def _bodies(
    spec: DeploymentSpec,
    managed: list[TierSpec],
    accelerators: Mapping[str, Accelerator],
    pod_monitor: Mapping[str, str] | None,
) -> Iterator[Json]:
    yield _service(spec)
    if pod_monitor is not None:
        yield _pod_monitor(spec, pod_monitor)
    for tier in managed:
        if tier.accelerator in accelerators:
            yield _deployment(spec, tier, accelerators[tier.accelerator])


def _deployment(spec: DeploymentSpec, tier: TierSpec, accelerator: Accelerator) -> Json:
    return _object(own_workload(spec.key, tier.name), labels(spec.key, tier.name)) | {
        "spec": {
            "selector": {"matchLabels": selector(spec.key, tier.name)},
            # A new pod must serve before an old one stops: a rollout makes nothing unavailable.
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "progressDeadlineSeconds": PROGRESS_DEADLINE_S,
            "revisionHistoryLimit": 3,
            "template": template(spec, tier, accelerator),
        }
    }


def _service(spec: DeploymentSpec) -> Json:
    ref, _ = shared_refs(spec)
    port = {"name": "http", "port": PORT, "targetPort": "http", "protocol": "TCP"}
    return _object(ref, labels(spec.key)) | {"spec": {"selector": selector(spec.key), "ports": [port]}}


def _pod_monitor(spec: DeploymentSpec, more_labels: Mapping[str, str]) -> Json:
    _, ref = shared_refs(spec)
    endpoint = {"port": "http", "path": "/metrics", "interval": SCRAPE_INTERVAL}
    return _object(ref, {**more_labels, **labels(spec.key)}) | {
        "spec": {"selector": {"matchLabels": selector(spec.key)}, "podMetricsEndpoints": [endpoint]}
    }


def _object(ref: ObjectRef, own_labels: dict[str, str]) -> Json:
    metadata = {"name": ref.name, "namespace": ref.namespace, "labels": own_labels}
    return {"apiVersion": ref.api_version, "kind": ref.kind, "metadata": metadata}


def _sealed(body: Json, resource: DeploymentResource) -> Manifest:
    """The object with its owner reference and the hash of all of it."""
    metadata = body["metadata"] | {"ownerReferences": [_owner(resource)]}
    text = json.dumps(body | {"metadata": metadata}, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    metadata |= {"annotations": {HASH_ANNOTATION: digest}}
    ref = ObjectRef(
        api_version=body["apiVersion"], kind=body["kind"], namespace=metadata["namespace"], name=metadata["name"]
    )
    return Manifest(ref=ref, body=body | {"metadata": metadata}, hash=digest)


def _owner(resource: DeploymentResource) -> Json:
    """Kubernetes deletes what we created when the custom resource is deleted, with or without the operator."""
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "InferenceDeployment",
        "name": resource.key.name,
        "uid": resource.uid,
        "controller": True,
    }
