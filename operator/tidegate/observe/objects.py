"""
What is kept of a Kubernetes object: the few fields that somebody reads, out of five kilobytes.

In:    raw JSON as the API server sends it.
Out:   trimmed values.
Rules: pure; absent fields have Kubernetes' own defaults.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tidegate.observe.health import HEALTHY, Health, health, unix_seconds
from tidegate.observe.selectors import selector_text
from tidegate.ports import FIELD_MANAGER, ObjectRef, OwnedView, WorkloadView, Writer

Raw = Mapping[str, Any]

# Whoever drains a node or finds something wrong with it keeps new pods away by one of these taints. An autoscaler does
# not cordon the node, and only a cordon is in its spec. Nobody's servers tolerate them.
_CLOSED = frozenset(
    {
        "ToBeDeletedByClusterAutoscaler",
        "cloud.google.com/impending-node-termination",
        "karpenter.sh/disrupted",
        "karpenter.sh/disruption",
        "node.cloudprovider.kubernetes.io/shutdown",
        "node.cloudprovider.kubernetes.io/uninitialized",
        "node.kubernetes.io/disk-pressure",
        "node.kubernetes.io/network-unavailable",
        "node.kubernetes.io/out-of-service",
        "node.kubernetes.io/pid-pressure",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PodView:
    """
    One pod.

    Args:
        created_s, ready_s: When it was made, and when it turned ready (None: it is not); unix seconds.
        ready: Condition Ready holds and it is not on its way out.
        terminating: It has a deletion timestamp.
        unschedulable: The scheduler found no room, and makes none: it preempts nobody for it.
        ended: Succeeded or Failed: it holds nothing any more.
        node: Where it runs; empty: nowhere yet.
        requests: Extended resources it holds, e.g. `{"nvidia.com/gpu": 2}`.
        restarts: How often its containers were started anew.
        life: Its uid and its restarts: another life is another server.
        maker: Kind and name of the workload that made it, e.g. `Deployment/chat`; empty: nobody is known.
        health: What its containers say of themselves.
        gone_s: When it is ended by force, unix seconds; None: it is not on its way out.
    """

    namespace: str
    name: str
    uid: str
    labels: Mapping[str, str]
    created_s: float
    ready_s: float | None
    ready: bool
    terminating: bool
    unschedulable: bool
    ended: bool
    node: str
    requests: Mapping[str, int]
    restarts: int = 0
    life: str = ""
    maker: str = ""
    health: Health = HEALTHY
    gone_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeView:
    """One node: labels, extended resources it offers, and whether new pods may go there."""

    name: str
    labels: Mapping[str, str]
    allocatable: Mapping[str, int]
    usable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalerView:
    """An HPA or a ScaledObject, and what it scales."""

    ref: ObjectRef
    target: ObjectRef


def pod_view(raw: Raw) -> PodView:
    """A pod, trimmed."""
    meta, status, spec = raw["metadata"], raw.get("status", {}), raw.get("spec", {})
    conditions = {c["type"]: c for c in status.get("conditions") or ()}
    is_ready = conditions.get("Ready", {}).get("status") == "True"
    scheduled = conditions.get("PodScheduled", {})
    containers = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    terminating = bool(meta.get("deletionTimestamp"))
    restarts = sum(c.get("restartCount", 0) for c in containers)
    return PodView(
        namespace=meta.get("namespace", ""),
        name=meta["name"],
        uid=meta.get("uid", ""),
        labels=meta.get("labels") or {},
        created_s=unix_seconds(meta.get("creationTimestamp")) or 0.0,
        ready_s=unix_seconds(conditions.get("Ready", {}).get("lastTransitionTime")) if is_ready else None,
        ready=is_ready and not terminating,
        terminating=terminating,
        unschedulable=scheduled.get("status") == "False"
        and scheduled.get("reason") == "Unschedulable"
        and not status.get("nominatedNodeName"),
        ended=status.get("phase") in {"Succeeded", "Failed"},
        node=spec.get("nodeName", ""),
        requests=_requests(spec),
        restarts=restarts,
        life=f"{meta.get('uid', '')}/{restarts}",
        maker=_maker(meta),
        health=health(containers),
        gone_s=unix_seconds(meta.get("deletionTimestamp")),
    )


def _maker(meta: Raw) -> str:
    """What controls a pod; a Deployment does so by a ReplicaSet that is named after it and the pods' template."""
    for owner in meta.get("ownerReferences") or ():
        if owner.get("controller"):
            kind, name = owner.get("kind", ""), owner.get("name", "")
            template = (meta.get("labels") or {}).get("pod-template-hash")
            made_by_deployment = kind == "ReplicaSet" and template
            return f"Deployment/{name.removesuffix(f'-{template}')}" if made_by_deployment else f"{kind}/{name}"
    return ""


def _requests(spec: Raw) -> dict[str, int]:
    """Extended resources of a pod: the sum over its containers, or the most an init container asks for."""
    total: dict[str, int] = {}
    for container in spec.get("containers") or ():
        for name, amount in _extended((container.get("resources") or {}).get("limits")):
            total[name] = total.get(name, 0) + amount
    for container in spec.get("initContainers") or ():
        for name, amount in _extended((container.get("resources") or {}).get("limits")):
            total[name] = max(total.get(name, 0), amount)
    return total


def _extended(amounts: Mapping[str, Any] | None) -> Iterable[tuple[str, int]]:
    """Extended resources have a domain in their name, are whole, and have equal requests and limits."""
    for name, amount in (amounts or {}).items():
        if "/" in name and str(amount).isdigit():
            yield name, int(amount)


def node_view(raw: Raw) -> NodeView:
    """A node, trimmed."""
    status = raw.get("status", {})
    conditions = {c["type"]: c.get("status") for c in status.get("conditions") or ()}
    spec = raw.get("spec", {})
    closed = bool(spec.get("unschedulable")) or any(_closes(taint) for taint in spec.get("taints") or ())
    return NodeView(
        name=raw["metadata"]["name"],
        labels=raw["metadata"].get("labels") or {},
        allocatable=dict(_extended(status.get("allocatable"))),
        usable=conditions.get("Ready", "True") == "True" and not closed,
    )


def _closes(taint: Raw) -> bool:
    return taint.get("key") in _CLOSED and taint.get("effect") in {"NoSchedule", "NoExecute"}


def workload_view(raw: Raw, *, api_version: str, kind: str, path: str) -> WorkloadView:
    """
    A Deployment or StatefulSet, trimmed.

    Args:
        raw: The object. Items of a list carry neither apiVersion nor kind, so these come along.
        path: Absolute path of its collection in its namespace, e.g. `/apis/apps/v1/namespaces/a/deployments`.
    """
    spec, status = raw.get("spec", {}), raw.get("status") or {}
    return replace(
        scaled_view(raw, api_version=api_version, kind=kind, path=path),
        replicas=spec.get("replicas", 1),
        selector=selector_text(spec.get("selector") or {}),
        ready=status.get("readyReplicas") or 0,
        outdated=_outdated(raw),
        refused=_refused(status.get("conditions") or ()),
    )


def scaled_view(raw: Raw, *, api_version: str, kind: str, path: str) -> WorkloadView:
    """
    An object of a kind that only its `/scale` makes known, trimmed: replicas and selector are still to come from there.

    Its spec and status are left alone, whatever shape they have. Arguments as in `workload_view`.
    """
    meta = raw["metadata"]
    return WorkloadView(
        ref=ObjectRef(api_version=api_version, kind=kind, namespace=meta.get("namespace", ""), name=meta["name"]),
        uid=meta.get("uid", ""),
        path=f"{path}/{meta['name']}",
        replicas=0,
        selector="",
        labels=meta.get("labels") or {},
        annotations=meta.get("annotations") or {},
        owner_uids=_owners(meta),
        writers=tuple(_writers(meta.get("managedFields") or ())),
        applied=_applied(meta.get("managedFields") or ()),
    )


def _outdated(raw: Raw) -> int:
    """Replicas that are not of the newest template, or not there yet; all of them where it has not been looked at."""
    status = raw.get("status") or {}
    looked = status.get("observedGeneration", 0) >= raw["metadata"].get("generation", 0)
    there: int = max(raw.get("spec", {}).get("replicas", 1), status.get("replicas") or 0)
    return there - (status.get("updatedReplicas") or 0) if looked else there


def _refused(conditions: Iterable[Raw]) -> str:
    """Why a Deployment's pods are not made (a quota, an admission webhook); empty where they are."""
    for condition in conditions:
        if condition.get("type") == "ReplicaFailure" and condition.get("status") == "True":
            # `pods "chat-fp8-6d4c-x7k2p" is forbidden: exceeded quota: ...`: the name is another one each time.
            message = str(condition.get("message", ""))
            return f"{condition.get('reason', 'FailedCreate')}: {message.partition(' is forbidden: ')[2] or message}"
    return ""


def owned_view(raw: Raw, *, api_version: str, kind: str) -> OwnedView:
    """A Service or PodMonitor of ours, trimmed."""
    meta = raw["metadata"]
    ref = ObjectRef(api_version=api_version, kind=kind, namespace=meta.get("namespace", ""), name=meta["name"])
    return OwnedView(
        ref=ref, uid=meta.get("uid", ""), annotations=meta.get("annotations") or {}, owner_uids=_owners(meta)
    )


def _owners(meta: Raw) -> tuple[str, ...]:
    return tuple(owner.get("uid", "") for owner in meta.get("ownerReferences") or ())


def _writers(managed: Iterable[Raw]) -> Iterable[Writer]:
    """Managers that own `.spec.replicas`."""
    for entry in managed:
        if "f:replicas" in (entry.get("fieldsV1") or {}).get("f:spec", {}):
            yield Writer(
                manager=entry.get("manager", ""),
                operation=entry.get("operation", ""),
                time=entry.get("time", ""),
            )


def _applied(managed: Iterable[Raw]) -> str:
    """Digest of the fields that server-side apply keeps under our name; empty where it keeps none."""
    for entry in managed:
        if entry.get("manager") == FIELD_MANAGER and entry.get("operation") == "Apply":
            fields = json.dumps(entry.get("fieldsV1") or {}, sort_keys=True)
            return hashlib.blake2s(fields.encode(), digest_size=8).hexdigest()
    return ""


def scaler_view(raw: Raw, *, api_version: str, kind: str, default_target: tuple[str, str]) -> ScalerView:
    """
    An HPA or a ScaledObject, trimmed.

    Args:
        default_target: (apiVersion, kind) where `spec.scaleTargetRef` leaves them out, as KEDA allows.
    """
    meta, target = raw["metadata"], raw.get("spec", {}).get("scaleTargetRef") or {}
    namespace = meta.get("namespace", "")
    return ScalerView(
        ref=ObjectRef(api_version=api_version, kind=kind, namespace=namespace, name=meta["name"]),
        target=ObjectRef(
            api_version=target.get("apiVersion") or default_target[0],
            kind=target.get("kind") or default_target[1],
            namespace=namespace,
            name=target.get("name", ""),
        ),
    )
