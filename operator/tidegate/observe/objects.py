"""
Trims Kubernetes objects to the few fields that are used, out of five kilobytes.

In:    raw JSON as the API server sends it.
Out:   trimmed values.
Rules: pure; absent fields get Kubernetes' own defaults.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tidegate.observe.health import HEALTHY, Health, health, unix_seconds
from tidegate.observe.selectors import selector_text
from tidegate.ports import FIELD_MANAGER, GROUP, ObjectRef, OwnedView, WorkloadView, Writer

Raw = Mapping[str, Any]

# Taints that keep new pods off a node which is being drained or has a problem. Autoscalers use them instead of
# cordoning the node (`spec.unschedulable`). Model servers do not tolerate them.
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
        created_s, ready_s: When it was created, and when it became ready (None: it is not); unix seconds.
        ready: Condition Ready holds and it is not terminating.
        terminating: It has a deletion timestamp.
        unschedulable: The scheduler found no room, and preempts no other pod for it.
        ended: Succeeded or Failed: it no longer holds anything.
        node: Where it runs; empty: not bound yet.
        requests: Extended resources it holds, e.g. `{"nvidia.com/gpu": 2}`.
        restarts: How often its containers were restarted.
        life: Its uid and restart count: after a restart it is another server.
        maker: Kind and name of the workload that created it, e.g. `Deployment/chat`; empty: unknown.
        health: What its container statuses say.
        lost: Its node, if neither is ready and the node has not been for a while; empty: it is not lost.
        gone_s: When it is killed at the latest, unix seconds; None: it is not terminating.
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
    lost: str = ""
    gone_s: float | None = None

    @property
    def group(self) -> str:
        """Which group of a LeaderWorkerSet it belongs to; empty: none."""
        return self.labels.get("leaderworkerset.sigs.k8s.io/group-index", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeView:
    """
    One node: labels, the extended resources it offers, and whether new pods may go there.

    Args:
        down_s: Since when it is not ready, unix seconds; None: it is.
    """

    name: str
    labels: Mapping[str, str]
    allocatable: Mapping[str, int]
    usable: bool
    down_s: float | None = None


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
    """
    The controller of a pod. For a Deployment it is a ReplicaSet named after the Deployment and the hash of the
    template.
    """
    for owner in meta.get("ownerReferences") or ():
        if owner.get("controller"):
            kind, name = owner.get("kind", ""), owner.get("name", "")
            template = (meta.get("labels") or {}).get("pod-template-hash")
            made_by_deployment = kind == "ReplicaSet" and template
            return f"Deployment/{name.removesuffix(f'-{template}')}" if made_by_deployment else f"{kind}/{name}"
    return ""


def _requests(spec: Raw) -> dict[str, int]:
    """Extended resources of a pod: the sum over its containers, or the maximum of an init container if that is more."""
    total: dict[str, int] = {}
    for container in spec.get("containers") or ():
        for name, amount in _extended((container.get("resources") or {}).get("limits")):
            total[name] = total.get(name, 0) + amount
    for container in spec.get("initContainers") or ():
        for name, amount in _extended((container.get("resources") or {}).get("limits")):
            total[name] = max(total.get(name, 0), amount)
    return total


def _extended(amounts: Mapping[str, Any] | None) -> Iterable[tuple[str, int]]:
    """Extended resources: they have a domain in their name, are whole numbers, and requests equal limits."""
    for name, amount in (amounts or {}).items():
        if "/" in name and str(amount).isdigit():
            yield name, int(amount)


def node_view(raw: Raw) -> NodeView:
    """A node, trimmed."""
    status = raw.get("status", {})
    ready = next((c for c in status.get("conditions") or () if c["type"] == "Ready"), {"status": "True"})
    is_ready = ready.get("status") == "True"
    spec = raw.get("spec", {})
    closed = bool(spec.get("unschedulable")) or any(_closes(taint) for taint in spec.get("taints") or ())
    return NodeView(
        name=raw["metadata"]["name"],
        labels=raw["metadata"].get("labels") or {},
        allocatable=dict(_extended(status.get("allocatable"))),
        usable=is_ready and not closed,
        down_s=None if is_ready else unix_seconds(ready.get("lastTransitionTime")),
    )


def _closes(taint: Raw) -> bool:
    return taint.get("key") in _CLOSED and taint.get("effect") in {"NoSchedule", "NoExecute"}


def workload_view(raw: Raw, *, api_version: str, kind: str, path: str) -> WorkloadView:
    """
    A Deployment or StatefulSet, trimmed.

    Args:
        raw: The object. Items of a list have neither apiVersion nor kind, so these are passed separately.
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
    An object of a kind that is known only through `/scale`, trimmed; replicas and selector are added from there.

    Its spec and status are not read, whatever shape they have. Arguments as in `workload_view`.
    """
    meta = raw["metadata"]
    return WorkloadView(
        ref=ObjectRef(api_version=api_version, kind=kind, namespace=meta.get("namespace", ""), name=meta["name"]),
        uid=meta.get("uid", ""),
        path=f"{path}/{meta['name']}",
        replicas=0,
        selector="",
        labels=_ours(meta.get("labels")),
        annotations=_ours(meta.get("annotations")),
        owner_uids=_owners(meta),
        writers=tuple(_writers(meta.get("managedFields") or ())),
        applied=_applied(meta.get("managedFields") or ()),
    )


def _outdated(raw: Raw) -> int:
    """
    Replicas that are not of the newest template or do not exist yet; all of them if the controller has not seen the
    newest generation.
    """
    status = raw.get("status") or {}
    looked = status.get("observedGeneration", 0) >= raw["metadata"].get("generation", 0)
    there: int = max(raw.get("spec", {}).get("replicas", 1), status.get("replicas") or 0)
    return there - (status.get("updatedReplicas") or 0) if looked else there


def _refused(conditions: Iterable[Raw]) -> str:
    """Why a Deployment's pods are not created (a quota, an admission webhook); empty if they are."""
    for condition in conditions:
        if condition.get("type") == "ReplicaFailure" and condition.get("status") == "True":
            # `pods "chat-fp8-6d4c-x7k2p" is forbidden: exceeded quota: ...`: the name differs each time.
            message = str(condition.get("message", ""))
            return f"{condition.get('reason', 'FailedCreate')}: {message.partition(' is forbidden: ')[2] or message}"
    return ""


def owned_view(raw: Raw, *, api_version: str, kind: str) -> OwnedView:
    """A Service or PodMonitor, trimmed."""
    meta = raw["metadata"]
    ref = ObjectRef(api_version=api_version, kind=kind, namespace=meta.get("namespace", ""), name=meta["name"])
    return OwnedView(
        ref=ref, uid=meta.get("uid", ""), annotations=_ours(meta.get("annotations")), owner_uids=_owners(meta)
    )


def _ours(marks: Mapping[str, str] | None) -> dict[str, str]:
    """
    The labels or annotations that are Tidegate's. Those of others may hold a quarter of a megabyte for each workload in
    the cluster.
    """
    return {name: value for name, value in (marks or {}).items() if name.startswith(f"{GROUP}/")}


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
    """Digest of the fields that server-side apply records for our field manager; empty if there is no such entry."""
    for entry in managed:
        if entry.get("manager") == FIELD_MANAGER and entry.get("operation") == "Apply":
            fields = json.dumps(entry.get("fieldsV1") or {}, sort_keys=True)
            return hashlib.blake2s(fields.encode(), digest_size=8).hexdigest()
    return ""


def scaler_view(raw: Raw, *, api_version: str, kind: str, default_target: tuple[str, str]) -> ScalerView:
    """
    An HPA or a ScaledObject, trimmed.

    Args:
        default_target: (apiVersion, kind) used if `spec.scaleTargetRef` omits them, as KEDA allows.
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
