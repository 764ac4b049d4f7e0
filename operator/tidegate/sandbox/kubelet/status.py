"""
The pod status that a kubelet writes.

In:    states of containers, and the previous conditions.
Out:   the body of a merge patch on /status.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

from tidegate.sandbox.kube import Object
from tidegate.sandbox.kubelet.machines import timestamp


def phase_of(containers: Sequence[Object]) -> str:
    """
    The pod's phase from its container statuses.

    Pending until every container has started once; Succeeded or Failed when all have terminated; else Running.
    """
    if any("waiting" in c["state"] and c["restartCount"] == 0 and not c["lastState"] for c in containers):
        return "Pending"
    ends = [c["state"]["terminated"]["exitCode"] for c in containers if "terminated" in c["state"]]
    if len(ends) == len(containers):
        return "Succeeded" if not any(ends) else "Failed"
    return "Running"


def condition_values(containers: Sequence[Object]) -> dict[str, tuple[str, str]]:
    """Status and reason of each condition that the kubelet owns."""
    ready = ("True", "") if all(c["ready"] for c in containers) else ("False", "ContainersNotReady")
    return {
        "PodReadyToStartContainers": ("True", ""),
        "Initialized": ("True", ""),
        "ContainersReady": ready,
        "Ready": ready,
    }


def pod_status(
    containers: Sequence[Object],
    *,
    phase: str,
    addresses: tuple[str, str],
    started: datetime,
    conditions: Sequence[Object],
) -> Object:
    """The status body; `addresses` are those of the pod and of its node."""
    pod, node = addresses
    return {
        "phase": phase,
        "hostIP": node,
        "hostIPs": [{"ip": node}],
        "podIP": pod,
        "podIPs": [{"ip": pod}],
        "startTime": timestamp(started),
        "conditions": list(conditions),
        "containerStatuses": list(containers),
    }


def merged_conditions(before: Sequence[Object], values: Mapping[str, tuple[str, str]], now: datetime) -> list[Object]:
    """Conditions with ours updated and others kept; the transition time changes only if the status does."""
    found = {str(c["type"]): c for c in before}
    for kind, (status, reason) in values.items():
        old = found.get(kind)
        same = old is not None and old["status"] == status
        stamp = old["lastTransitionTime"] if old is not None and same else timestamp(now)
        found[kind] = {"type": kind, "status": status, "lastTransitionTime": stamp} | (
            {"reason": reason} if reason else {}
        )
    return list(found.values())
