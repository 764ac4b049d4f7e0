"""
Who else changes the replicas of a workload, and how to react: report it and stand back.

In:    a workload as the cluster has it, what we last requested, the time.
Out:   a condition, or none.
Rules: pure. An autoscaler that targets the workload owns its replicas for as long as it exists. So does a GitOps
       pipeline, which would restore its own number at once. Any other change by hand is left for a while; then the
       operator, which was told to scale this workload, goes on.

Source: Kubernetes' managedFields tell who last set `.spec.replicas`, and when.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from tidegate.actuate.findings import limited, stalled
from tidegate.domain.decision import Condition
from tidegate.domain.key import Key
from tidegate.domain.spec import DeploymentSpec, TierSpec
from tidegate.ports import (
    FIELD_MANAGER,
    ClusterView,
    DeploymentResource,
    ObjectRef,
    WorkloadView,
    Writer,
    by_key,
    workload_ref,
)

# Our second field manager: it owns the replicas of a new Deployment until they are first scaled (see `build`).
INITIAL_MANAGER = f"{FIELD_MANAGER}-initial"

# A change by hand is left for this long: enough to finish what it was made for, and short enough not to be forgotten.
HOLD_S = 600.0

# Field managers, and how messages name them.
_KNOWN = {
    "kube-controller-manager": "a HorizontalPodAutoscaler",
    "keda": "KEDA",
    "keda-operator": "KEDA",
    "kubectl": "kubectl scale",
    "kubectl-client-side-apply": "kubectl apply",
    "kubectl-edit": "kubectl edit",
    "kubectl-patch": "kubectl patch",
    "argocd-controller": "Argo CD",
    "argocd-application-controller": "Argo CD",
    "kustomize-controller": "Flux",
    "helm-controller": "Flux",
    "helm": "Helm",
    "Helm": "Helm",
}

# These reapply their manifest continuously: writing against them would never end.
_PIPELINES = frozenset(
    {"argocd-controller", "argocd-application-controller", "kustomize-controller", "helm-controller"}
)

# A change of a workload's replicas by somebody else: manager, replicas. None: nobody else set them.
Sighting = tuple[str, int] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """
    What is known about one workload when its replicas are to be changed.

    Args:
        workload: As the cluster has it.
        asked: Replicas that we last requested, or that it already had when we decided them; None: never.
        seen_s: When we first saw these replicas by this writer, unix seconds. The API server keeps no time for a write
            to /scale.
        now_s: Unix seconds.
        pinned: The user fixed the total in the custom resource, which outranks a change by hand on the workload.
    """

    workload: WorkloadView
    asked: int | None
    seen_s: float
    now_s: float
    pinned: bool


def other_writer(claim: Claim, view: ClusterView) -> Condition | None:
    """The condition that somebody else changes the replicas; None if they are ours to change."""
    workload = claim.workload
    if scalers := view.scalers.get(workload.ref):
        names = ", ".join(sorted(str(scaler) for scaler in scalers))
        message = f"{workload.ref} is also scaled by {names}: Tidegate does not scale it until that is removed"
        return limited("OtherAutoscaler", message)
    writer = _stranger(workload)
    # If the replicas are what we requested, nobody interfered: we have just not had to change them yet.
    if writer is None or claim.asked is None or workload.replicas == claim.asked:
        return None
    who = _KNOWN.get(writer.manager, writer.manager)
    message = f"{who} set {workload.ref} to {workload.replicas} replicas instead of {claim.asked}: "
    if writer.manager in _PIPELINES:
        return limited("OtherWriter", message + "kept until its manifest omits replicas or ignores changes to them")
    until_s = (_seconds(writer.time) or claim.seen_s) + HOLD_S
    if claim.pinned or claim.now_s >= until_s:
        return None
    until = datetime.fromtimestamp(until_s, tz=UTC).strftime("%H:%M:%S UTC")
    return limited("OtherWriter", message + f"kept until {until}; set spec.replicas to pin the total")


def sighting_of(workload: WorkloadView) -> Sighting:
    """The change by somebody else that gave a workload its replicas."""
    writer = _stranger(workload)
    return None if writer is None else (writer.manager, workload.replicas)


def _stranger(workload: WorkloadView) -> Writer | None:
    """The last foreign writer, if we own none of the replicas; else None."""
    if any(writer.manager in (FIELD_MANAGER, INITIAL_MANAGER) for writer in workload.writers):
        return None
    return max(workload.writers, key=lambda writer: writer.time, default=None)


def _seconds(text: str) -> float:
    """Unix seconds of a Kubernetes time; 0 if there is none."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return 0.0


def held_since(status: Mapping[str, object]) -> float | None:
    """Since when the status reports another writer, unix seconds; None if it does not."""
    condition = by_key(status.get("conditions"), "type").get("ScalingLimited", {})
    if condition.get("reason") != "OtherWriter":
        return None
    return _seconds(str(condition.get("lastTransitionTime"))) or None


def rivals(resources: Iterable[DeploymentResource], specs: Mapping[Key, DeploymentSpec]) -> dict[Key, Condition]:
    """
    Deployments that point at a workload which another deployment already points at; the older deployment keeps it.

    Args:
        specs: The last valid spec of each deployment, so that an invalid change does not give the workload away.

    Returns:
        The condition of each later deployment, which must not scale anything.
    """
    found: dict[Key, Condition] = {}
    for ref, ((first, _), *others) in _claims(resources, specs).items():
        for other, _ in others:
            message = f"{ref} is already a target of InferenceDeployment {first.key}; a workload can have only one"
            found[other.key] = stalled("DuplicateTarget", message)
    return found


def taken(
    resources: Iterable[DeploymentResource], specs: Mapping[Key, DeploymentSpec]
) -> dict[Key, tuple[TierSpec, ...]]:
    """Tiers whose workload belongs to another deployment, by deployment. Arguments as in `rivals`."""
    found: dict[Key, tuple[TierSpec, ...]] = {}
    for _, *others in _claims(resources, specs).values():
        for other, tier in others:
            found[other.key] = (*found.get(other.key, ()), tier)
    return found


def _claims(
    resources: Iterable[DeploymentResource], specs: Mapping[Key, DeploymentSpec]
) -> dict[ObjectRef, list[tuple[DeploymentResource, TierSpec]]]:
    """By workload, the deployments and tiers that point at it, oldest deployment first."""
    claims: dict[ObjectRef, list[tuple[DeploymentResource, TierSpec]]] = {}
    for resource in sorted(resources, key=lambda r: (r.created, str(r.key))):
        spec = specs.get(resource.key, resource.spec)
        if isinstance(spec, DeploymentSpec):
            for tier in spec.tiers:
                if tier.target_ref is not None:
                    claims.setdefault(workload_ref(spec.key, tier), []).append((resource, tier))
    return claims


def asked_before(resource: DeploymentResource, tier: str) -> int | None:
    """
    Replicas that a tier's workload was last asked for, by the status; None: none, or unknown.

    The status of another generation does not count: the tier may point at another workload now.
    """
    if resource.status.get("observedGeneration") != resource.generation:
        return None
    asked = by_key(resource.status.get("tiers"), "name").get(tier, {}).get("asked")
    return asked if isinstance(asked, int) else None
