"""
Bind pods to nodes, by node resources and pod requests.

In:    a pod without a node.
Out:   a binding; or the condition PodScheduled=False with a reason worded as by the real scheduler.
Rules: node selectors, taints and resource requests are considered, affinity is not. The fullest node that fits is
       chosen, which keeps whole nodes free for replicas that need many GPUs.
"""

from collections import Counter, defaultdict
from decimal import Decimal
from typing import Any

from kubernetes.utils.quantity import parse_quantity

from tidegate.sandbox.embedded.controllers.cluster import NODES, PODS, Cluster, key_of
from tidegate.sandbox.embedded.store import Object, copied
from tidegate.sandbox.embedded.writing import set_condition


def requests(pod: Object) -> dict[str, Decimal]:
    """Total requests of a pod, by resource."""
    total: dict[str, Decimal] = defaultdict(Decimal)
    for container in pod["spec"].get("containers", []):
        for name, value in (container.get("resources", {}).get("requests") or {}).items():
            total[name] += _quantity(value)
    return {**total, "pods": Decimal(1)}


def _quantity(value: object) -> Decimal:
    """A Kubernetes quantity (`500m`, `16Gi`, `8`) as a number."""
    return Decimal(parse_quantity(str(value)))  # type: ignore[no-untyped-call]


class Scheduler:
    """Binds pods to nodes."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def look(self, pod: Object) -> None:
        """Binds one pod, or reports why it cannot be bound."""
        if pod["spec"].get("nodeName") or pod["metadata"].get("deletionTimestamp"):
            return
        obstacles: Counter[str] = Counter()
        fitting = []
        nodes = self._cluster.store.objects(NODES)
        for node in nodes:
            free = self._free(node)
            found = _obstacles(pod, node, free)
            obstacles.update(found)
            if not found:
                fitting.append((min(free.get(name, Decimal(0)) for name in requests(pod)), key_of(node)[1]))
        if fitting:
            self._bind(pod, min(fitting)[1])
        else:
            self._refuse(pod, len(nodes), obstacles)

    def _free(self, node: Object) -> dict[str, Decimal]:
        """Free resources of a node."""
        offered = node.get("status", {}).get("allocatable") or {}
        free = {name: _quantity(value) for name, value in offered.items()}
        for pod in self._cluster.store.objects(PODS):
            ended = pod.get("status", {}).get("phase") in ("Succeeded", "Failed")
            if pod["spec"].get("nodeName") == node["metadata"]["name"] and not ended:
                for name, value in requests(pod).items():
                    free[name] = free.get(name, Decimal(0)) - value
        return free

    def _bind(self, pod: Object, node: str) -> None:
        bound = copied(pod)
        bound["spec"]["nodeName"] = node
        set_condition(bound["status"], {"type": "PodScheduled", "status": "True"})
        self._cluster.store.put(PODS, key_of(pod), bound)
        text = f"Successfully assigned {'/'.join(key_of(pod))} to {node}"
        self._cluster.record(bound, reason="Scheduled", message=text, component="default-scheduler")

    def _refuse(self, pod: Object, nodes: int, obstacles: Counter[str]) -> None:
        why = ", ".join(f"{count} {what}" for what, count in sorted(obstacles.items()))
        text = f"0/{nodes} nodes are available: {why}." if nodes else "no nodes available to schedule pods"
        waiting = copied(pod)
        condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": text}
        set_condition(waiting["status"], condition)
        if waiting != pod:
            self._cluster.store.put(PODS, key_of(pod), waiting)
            self._cluster.record(
                waiting, reason="FailedScheduling", message=text, kind="Warning", component="default-scheduler"
            )


def _obstacles(pod: Object, node: Object, free: dict[str, Decimal]) -> list[str]:
    """Why a pod cannot run on a node; empty if it can."""
    spec = node.get("spec", {})
    if spec.get("unschedulable"):
        return ["node(s) were unschedulable"]
    labels = node["metadata"].get("labels") or {}
    if not (pod["spec"].get("nodeSelector") or {}).items() <= labels.items():
        return ["node(s) didn't match Pod's node affinity/selector"]
    for taint in spec.get("taints") or []:
        hard = taint["effect"] in ("NoSchedule", "NoExecute")
        if hard and not any(_tolerates(each, taint) for each in pod["spec"].get("tolerations") or []):
            return [f"node(s) had untolerated taint {{{taint['key']}: {taint.get('value', '')}}}"]
    conditions = node.get("status", {}).get("conditions") or []
    if any(each["type"] == "Ready" and each["status"] != "True" for each in conditions):
        return ["node(s) had untolerated taint {node.kubernetes.io/not-ready: }"]
    missing = [name for name, value in requests(pod).items() if free.get(name, Decimal(0)) < value]
    return [("Too many pods" if name == "pods" else f"Insufficient {name}") for name in missing]


def _tolerates(toleration: dict[str, Any], taint: dict[str, Any]) -> bool:
    if toleration.get("effect") and toleration["effect"] != taint["effect"]:
        return False
    if toleration.get("operator") == "Exists":
        return not toleration.get("key") or toleration["key"] == taint["key"]
    return bool(toleration.get("key") == taint["key"]) and bool(toleration.get("value", "") == taint.get("value", ""))
