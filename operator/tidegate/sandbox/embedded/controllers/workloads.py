"""
Deployment -> ReplicaSet -> Pod, with rolling updates, as in the controller manager.

In:    a Deployment or a ReplicaSet.
Out:   ReplicaSets, Pods, their statuses.
"""

import hashlib
import math
from datetime import UTC, datetime
from typing import Any

import msgspec

from tidegate.sandbox.embedded.controllers.cluster import (
    DEPLOYMENTS,
    PODS,
    REPLICA_SETS,
    Cluster,
    is_ready,
    owner_reference,
)
from tidegate.sandbox.embedded.selectors import object_selector
from tidegate.sandbox.embedded.store import Object, copied
from tidegate.sandbox.embedded.writing import random_suffix, set_condition, timestamp

HASH_LABEL = "pod-template-hash"
DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"


class Deployments:
    """Reconciles Deployments."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def look(self, deployment: Object) -> None:
        """Makes one step towards the spec, and updates the status."""
        owned = self._cluster.owned(REPLICA_SETS, deployment)
        if deployment["metadata"].get("deletionTimestamp"):
            return
        name = template_hash(deployment["spec"]["template"])
        current = next((each for each in owned if each["metadata"]["labels"].get(HASH_LABEL) == name), None)
        others = [each for each in owned if each is not current]
        if current is None and not deployment["spec"].get("paused"):
            current = self._create(deployment, name, others)
        if current is not None and not deployment["spec"].get("paused"):
            self._roll(deployment, current, others)
        self._report(deployment, name)

    def is_moving(self, deployment: Object) -> bool:
        """Whether a rollout is in progress, so that its deadline must be checked."""
        status = deployment.get("status", {})
        done = status.get("updatedReplicas", 0) == status.get("availableReplicas", 0) == deployment["spec"]["replicas"]
        return not done or status.get("observedGeneration") != deployment["metadata"]["generation"]

    def _create(self, deployment: Object, name: str, others: list[Object]) -> Object | None:
        template = copied(deployment["spec"]["template"])
        labels = {**template["metadata"].get("labels", {}), HASH_LABEL: name}
        template["metadata"]["labels"] = labels
        selector = copied(deployment["spec"]["selector"])
        selector["matchLabels"] = {**selector.get("matchLabels", {}), HASH_LABEL: name}
        replica_set = {
            "metadata": {
                "name": f"{deployment['metadata']['name']}-{name}",
                "namespace": deployment["metadata"]["namespace"],
                "labels": labels,
                "ownerReferences": [owner_reference(deployment)],
            },
            "spec": {
                "replicas": 0 if others else deployment["spec"]["replicas"],
                "selector": selector,
                "template": template,
            },
        }
        made = self._cluster.create(REPLICA_SETS, replica_set)
        if made is not None and made["spec"]["replicas"]:
            self._say(deployment, made, before=0)
        return made

    def _roll(self, deployment: Object, current: Object, others: list[Object]) -> None:
        """Moves replicas from the other ReplicaSets to the current one, within maxSurge and maxUnavailable."""
        wanted = deployment["spec"]["replicas"]
        old_total = sum(each["spec"]["replicas"] for each in others)
        if deployment["spec"]["strategy"]["type"] == "Recreate":
            for each in others:
                self._resize(deployment, each, 0)
            if not any(each.get("status", {}).get("replicas") for each in others):
                self._resize(deployment, current, wanted)
            return
        surge, unavailable = limits(deployment["spec"]["strategy"].get("rollingUpdate", {}), wanted)
        have = current["spec"]["replicas"]
        room = max(0, wanted + surge - have - old_total)
        new = wanted if not others or not old_total else min(wanted, have + room)
        current = self._resize(deployment, current, new)
        missing = new - current.get("status", {}).get("availableReplicas", 0)
        excess = new + old_total - (wanted - unavailable) - missing
        # Unavailable replicas are removed first, independent of the limits, because they serve nothing.
        for each in sorted(others, key=lambda item: item["metadata"]["creationTimestamp"]):
            size = each["spec"]["replicas"]
            broken = size - each.get("status", {}).get("availableReplicas", 0)
            gone = min(size, max(0, excess)) if new + old_total > wanted - unavailable else 0
            gone = max(gone, min(broken, max(0, new + old_total - (wanted - unavailable))))
            self._resize(deployment, each, size - gone)
            excess -= gone

    def _resize(self, deployment: Object, replica_set: Object, replicas: int) -> Object:
        before = replica_set["spec"]["replicas"]
        if before == replicas:
            return replica_set
        resized = self._cluster.write_spec(REPLICA_SETS, replica_set, replicas=replicas)
        self._say(deployment, resized, before=before)
        return resized

    def _say(self, deployment: Object, replica_set: Object, *, before: int) -> None:
        """Records the event about a resized ReplicaSet."""
        replicas = replica_set["spec"]["replicas"]
        word = "up" if replicas > before else "down"
        text = f"Scaled {word} replica set {replica_set['metadata']['name']} from {before} to {replicas}"
        self._cluster.record(deployment, reason="ScalingReplicaSet", message=text, component="deployment-controller")

    def _report(self, deployment: Object, name: str) -> None:
        found = self._cluster.owned(REPLICA_SETS, deployment)
        statuses = [each.get("status", {}) for each in found]
        current: dict[str, Any] = next(
            (s.get("status", {}) for s in found if s["metadata"]["labels"].get(HASH_LABEL) == name), {}
        )
        wanted = deployment["spec"]["replicas"]
        totals = {key: sum(each.get(key, 0) for each in statuses) for key in ("replicas", *_READY)}
        status: dict[str, Any] = {
            "observedGeneration": deployment["metadata"]["generation"],
            "conditions": copied(deployment.get("status", {}).get("conditions", [])),
            **{key: value for key, value in totals.items() if value},
            **({"updatedReplicas": current["replicas"]} if current.get("replicas") else {}),
            **({"unavailableReplicas": short} if (short := max(0, wanted - totals["availableReplicas"])) else {}),
        }
        _, unavailable = limits(deployment["spec"]["strategy"].get("rollingUpdate", {}), wanted)
        enough = totals["availableReplicas"] >= wanted - unavailable
        words = ("MinimumReplicasAvailable", "Deployment has minimum availability.")
        if not enough:
            words = ("MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
        available = {"type": "Available", "status": str(enough), "reason": words[0], "message": words[1]}
        set_condition(status, available)
        done = current.get("replicas", 0) == current.get("availableReplicas", 0) == wanted == totals["replicas"]
        set_condition(status, self._progress(deployment, status, done=done))
        # A fixed order, so that an unchanged status is not written again.
        status["conditions"].sort(key=lambda each: str(each["type"]))
        self._cluster.write_status(DEPLOYMENTS, deployment, status)

    def _progress(self, deployment: Object, status: dict[str, Any], *, done: bool) -> dict[str, Any]:
        """The condition Progressing; False if nothing changed within the deployment's deadline."""
        old: dict[str, Any] = next((each for each in status["conditions"] if each["type"] == "Progressing"), {})
        counts = [status.get(key, 0) for key in ("replicas", "updatedReplicas", *_READY)]
        before = [deployment.get("status", {}).get(key, 0) for key in ("replicas", "updatedReplicas", *_READY)]
        now = timestamp()
        moved = (
            counts != before
            or not old
            or deployment["status"].get("observedGeneration") != status["observedGeneration"]
        )
        since = now if moved else old.get("lastUpdateTime", now)
        name = f'Deployment "{deployment["metadata"]["name"]}"'
        waited_s = (datetime.now(UTC) - datetime.fromisoformat(since)).total_seconds()
        if done:
            holds, reason, text = "True", "NewReplicaSetAvailable", f"{name} has successfully progressed."
        elif waited_s > deployment["spec"]["progressDeadlineSeconds"]:
            holds, reason, text = "False", "ProgressDeadlineExceeded", f"{name} has timed out progressing."
        else:
            holds, reason, text = "True", "ReplicaSetUpdated", f"{name} is progressing."
        return {"type": "Progressing", "status": holds, "reason": reason, "message": text, "lastUpdateTime": since}


_READY = ("readyReplicas", "availableReplicas")


def limits(rolling: dict[str, Any], replicas: int) -> tuple[int, int]:
    """(maxSurge, maxUnavailable) in replicas; percentages are rounded up and down respectively, as in Kubernetes."""
    surge = _share(rolling.get("maxSurge", "25%"), replicas, math.ceil)
    unavailable = _share(rolling.get("maxUnavailable", "25%"), replicas, math.floor)
    return surge, unavailable if surge or unavailable else 1


def _share(value: Any, replicas: int, rounding: Any) -> int:
    return int(rounding(replicas * int(value[:-1]) / 100)) if isinstance(value, str) else int(value)


def template_hash(template: dict[str, Any]) -> str:
    """Hash of the pod template, ten hex digits."""
    return hashlib.sha256(msgspec.json.encode(template, order="sorted")).hexdigest()[:10]


class ReplicaSets:
    """Reconciles ReplicaSets."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def look(self, replica_set: Object) -> None:
        """Creates or deletes pods, and updates the status."""
        if replica_set["metadata"].get("deletionTimestamp"):
            return
        pods = self._pods(replica_set)
        missing = replica_set["spec"]["replicas"] - len(pods)
        for _ in range(missing):
            self._create(replica_set)
        for pod in sorted(pods, key=_expendable)[: max(0, -missing)]:
            self._cluster.delete(PODS, pod)
        self._report(replica_set)

    def _pods(self, replica_set: Object) -> list[Object]:
        """Its pods that are neither terminating nor ended."""
        matches = object_selector(replica_set["spec"]["selector"])
        return [
            pod
            for pod in self._cluster.owned(PODS, replica_set)
            if not pod["metadata"].get("deletionTimestamp")
            and pod.get("status", {}).get("phase") not in ("Succeeded", "Failed")
            and matches(pod["metadata"].get("labels", {}))
        ]

    def _create(self, replica_set: Object) -> None:
        template = copied(replica_set["spec"]["template"])
        name = f"{replica_set['metadata']['name']}-{random_suffix()}"
        metadata = {**template["metadata"], "name": name, "namespace": replica_set["metadata"]["namespace"]}
        metadata |= {"generateName": f"{replica_set['metadata']['name']}-"}
        metadata |= {"ownerReferences": [owner_reference(replica_set)]}
        if self._cluster.create(PODS, {"metadata": metadata, "spec": template["spec"]}):
            text = f"Created pod: {name}"
            self._cluster.record(
                replica_set, reason="SuccessfulCreate", message=text, component="replicaset-controller"
            )

    def _report(self, replica_set: Object) -> None:
        pods = self._pods(replica_set)
        ready = sum(is_ready(pod) for pod in pods)
        counts = {"fullyLabeledReplicas": len(pods), "readyReplicas": ready, "availableReplicas": ready}
        status = {"replicas": len(pods), "observedGeneration": replica_set["metadata"]["generation"]}
        self._cluster.write_status(
            REPLICA_SETS, replica_set, status | {name: count for name, count in counts.items() if count}
        )


def _expendable(pod: Object) -> tuple[Any, ...]:
    """Sort key of pods to delete: first unbound, not running, not ready, low deletion cost, young."""
    cost = int((pod["metadata"].get("annotations") or {}).get(DELETION_COST, 0))
    running = pod.get("status", {}).get("phase") == "Running"
    born = datetime.fromisoformat(pod["metadata"]["creationTimestamp"]).timestamp()
    return bool(pod["spec"].get("nodeName")), running, is_ready(pod), cost, -born
