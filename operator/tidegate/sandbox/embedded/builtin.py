"""
Built-in kinds: defaults, validation, and which of their lists have keys.

In:    an object of a built-in kind.
Out:   the object with the defaults of a real API server, as far as clients would notice them; invalid fields.
Rules: kept small on purpose; kinds that are not named here are stored unchanged.
"""

import random
from collections.abc import Callable
from typing import Any

from tidegate.sandbox.embedded.failures import cause

# Keys of the lists that Kubernetes merges by key, by field name, which is unambiguous except for Service ports.
LIST_KEYS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("containers", "initContainers", "ephemeralContainers", "env", "volumes"), ("name",)),
    **dict.fromkeys(("imagePullSecrets", "containerStatuses", "secrets"), ("name",)),
    "ports": ("containerPort", "protocol"),
    "volumeMounts": ("mountPath",),
    "volumeDevices": ("devicePath",),
    "conditions": ("type",),
    "ownerReferences": ("uid",),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
    "hostAliases": ("ip",),
    "podIPs": ("ip",),
}
SERVICE_PORT_KEYS = ("port", "protocol")
SETS = frozenset({"finalizers"})
# Maps that are replaced as a whole.
ATOMIC = frozenset({"selector", "nodeSelector", "labelSelector", "configMapKeyRef", "secretKeyRef", "fieldRef"})


def keys_of(kind: str, field: str) -> tuple[str, ...]:
    """The keys of a list in a built-in kind; empty if it is replaced as a whole."""
    return SERVICE_PORT_KEYS if (kind, field) == ("Service", "ports") else LIST_KEYS.get(field, ())


def fill(item: dict[str, Any]) -> None:
    """Fills in defaults, in place."""
    filler = _FILLERS.get(item.get("kind", ""))
    if filler is not None:
        filler(item)


def _set(target: dict[str, Any], **defaults: Any) -> None:
    for name, value in defaults.items():
        if target.get(name) is None:
            target[name] = value


def _pod_spec(spec: dict[str, Any]) -> None:
    _set(spec, restartPolicy="Always", dnsPolicy="ClusterFirst", terminationGracePeriodSeconds=30)
    _set(spec, schedulerName="default-scheduler", securityContext={})
    for container in [*spec.get("containers", []), *spec.get("initContainers", [])]:
        latest = ":" not in container.get("image", "").rsplit("/", 1)[-1] or container["image"].endswith(":latest")
        _set(container, resources={}, imagePullPolicy="Always" if latest else "IfNotPresent")
        _set(container, terminationMessagePath="/dev/termination-log", terminationMessagePolicy="File")
        for port in container.get("ports", []):
            _set(port, protocol="TCP")
        for name in ("livenessProbe", "readinessProbe", "startupProbe"):
            if probe := container.get(name):
                _set(probe, timeoutSeconds=1, periodSeconds=10, successThreshold=1, failureThreshold=3)
                if "httpGet" in probe:
                    _set(probe["httpGet"], path="/", scheme="HTTP")
        resources = container["resources"]
        if limits := resources.get("limits"):
            resources["requests"] = {**limits, **resources.get("requests", {})}


def _pod(item: dict[str, Any]) -> None:
    _pod_spec(item["spec"])
    _set(item["spec"], serviceAccountName="default", enableServiceLinks=True, tolerations=[], priority=0)
    status = item.setdefault("status", {})
    _set(status, phase="Pending", qosClass="BestEffort" if not _requests(item) else "Burstable")


def _requests(item: dict[str, Any]) -> bool:
    return any(each.get("resources", {}).get("requests") for each in item["spec"].get("containers", []))


def _deployment(item: dict[str, Any]) -> None:
    spec = item["spec"]
    _set(spec, replicas=1, revisionHistoryLimit=10, progressDeadlineSeconds=600, strategy={})
    _set(spec["strategy"], type="RollingUpdate")
    if spec["strategy"]["type"] == "RollingUpdate":
        spec["strategy"].setdefault("rollingUpdate", {})
        _set(spec["strategy"]["rollingUpdate"], maxSurge="25%", maxUnavailable="25%")
    _template(spec)


def _template(spec: dict[str, Any]) -> None:
    template = spec.setdefault("template", {})
    template.setdefault("metadata", {})
    _pod_spec(template.setdefault("spec", {}))


def _replica_set(item: dict[str, Any]) -> None:
    _set(item["spec"], replicas=1)
    _template(item["spec"])


def _service(item: dict[str, Any]) -> None:
    spec = item.setdefault("spec", {})
    if not spec.get("clusterIP") and spec.get("type") != "ExternalName":
        spec["clusterIP"] = f"10.96.{random.randrange(1, 255)}.{random.randrange(1, 255)}"
    _set(spec, clusterIPs=[spec["clusterIP"]] if spec.get("clusterIP") else [])
    _set(spec, type="ClusterIP", sessionAffinity="None", internalTrafficPolicy="Cluster", ipFamilyPolicy="SingleStack")
    for port in spec.get("ports", []):
        _set(port, protocol="TCP", targetPort=port.get("port"))


def _definition(item: dict[str, Any]) -> None:
    spec = item["spec"]
    _set(spec["names"], singular=spec["names"]["kind"].lower(), listKind=f"{spec['names']['kind']}List")
    _set(spec, conversion={"strategy": "None"})
    conditions = [
        {"type": name, "status": "True", "reason": reason, "message": "", "lastTransitionTime": since}
        for since in [item["metadata"].get("creationTimestamp")]
        for name, reason in (("NamesAccepted", "NoConflicts"), ("Established", "InitialNamesAccepted"))
    ]
    stored = [each["name"] for each in spec["versions"] if each.get("storage")]
    item["status"] = {"conditions": conditions, "acceptedNames": spec["names"], "storedVersions": stored}


_FILLERS: dict[str, Callable[[dict[str, Any]], None]] = {
    "CustomResourceDefinition": _definition,
    "Node": lambda item: _set(item, spec={}, status={}),
    "Pod": _pod,
    "Deployment": _deployment,
    "ReplicaSet": _replica_set,
    "Service": _service,
    "Namespace": lambda item: _set(item.setdefault("status", {}), phase="Active"),
}


def faults(item: dict[str, Any]) -> list[dict[str, str]]:
    """What a real API server rejects in the built-in kinds that Tidegate writes, as causes of a 422."""
    if item["kind"] in ("Deployment", "ReplicaSet"):
        return _workload_faults(item["spec"])
    if item["kind"] == "Pod":
        return _pod_faults(item["spec"], "spec")
    if item["kind"] == "CustomResourceDefinition":
        return [
            cause(f"spec.versions[{index}].schema.openAPIV3Schema", "Required value", "FieldValueRequired")
            for index, each in enumerate(item["spec"]["versions"])
            if not (each.get("schema") or {}).get("openAPIV3Schema")
        ]
    return []


def _workload_faults(spec: dict[str, Any]) -> list[dict[str, str]]:
    found = _pod_faults(spec["template"]["spec"], "spec.template.spec")
    replicas = spec.get("replicas", 1)
    if not isinstance(replicas, int) or replicas < 0:
        found.append(cause("spec.replicas", f"Invalid value: {replicas}: must be greater than or equal to 0"))
    wanted = (spec.get("selector") or {}).get("matchLabels") or {}
    labels = spec["template"]["metadata"].get("labels") or {}
    if not spec.get("selector"):
        found.append(cause("spec.selector", "Required value", "FieldValueRequired"))
    elif not wanted.items() <= labels.items():
        found.append(
            cause(
                "spec.template.metadata.labels",
                f"Invalid value: {labels}: `selector` does not match template `labels`",
            )
        )
    return found


def _pod_faults(spec: dict[str, Any], path: str) -> list[dict[str, str]]:
    containers = spec.get("containers") or []
    if not containers:
        return [cause(f"{path}.containers", "Required value", "FieldValueRequired")]
    return [
        cause(f"{path}.containers[{index}].{name}", "Required value", "FieldValueRequired")
        for index, each in enumerate(containers)
        for name in ("name", "image")
        if not each.get(name)
    ]
