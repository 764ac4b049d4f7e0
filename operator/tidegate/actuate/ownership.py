"""
Who else moves the replicas of a workload, and what we do about it: report it, and stand back.

In:    a workload as the cluster has it, what we asked for last, the time.
Out:   a finding, or none.
Rules: pure. An autoscaler that points at the workload has it for as long as it does, and so has a pipeline that would
       set its own number again at once. Anybody else has his way for a while; then the operator, which was told to
       scale this workload, goes on.

Source: managedFields of Kubernetes say who set `.spec.replicas` last, and when.
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

# Holds the replicas of a new Deployment until they are first moved (see `steps`); ours as well.
INITIAL_MANAGER = f"{FIELD_MANAGER}-initial"

# Long enough to finish what somebody scales by hand for, short enough not to be forgotten.
HOLD_S = 600.0

# Managers as they name themselves, for the sentence.
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

# These apply their manifest again and again: whoever writes against them writes for ever.
_PIPELINES = frozenset(
    {"argocd-controller", "argocd-application-controller", "kustomize-controller", "helm-controller"}
)

# Somebody set a workload to so many replicas: path, manager, replicas.
Sighting = tuple[str, str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """
    What is known of one workload when its replicas are to be moved.

    Args:
        workload: As the cluster has it.
        asked: Replicas that we last asked it for, or that it had when we decided so; None: we never did.
        seen_s: When we first saw these replicas of this writer: the API server keeps no time for a write to /scale.
        now_s: Unix seconds.
        pinned: The user fixed the total in the custom resource, which outranks a change by hand on the workload.
    """

    workload: WorkloadView
    asked: int | None
    seen_s: float
    now_s: float
    pinned: bool


def other_writer(claim: Claim, view: ClusterView) -> Condition | None:
    """The finding that somebody else moves the replicas; None where they are ours to move."""
    workload = claim.workload
    if scalers := view.scalers.get(workload.ref):
        names = ", ".join(sorted(str(scaler) for scaler in scalers))
        told = f"{workload.ref} is scaled by {names} too: replicas are left to it until it is removed"
        return limited("OtherAutoscaler", told)
    writer = _stranger(workload)
    # Where the replicas are what we asked for, nobody interfered: we simply have not had to move them yet.
    if writer is None or claim.asked is None or workload.replicas == claim.asked:
        return None
    who = _KNOWN.get(writer.manager, writer.manager)
    told = f"{who} set {workload.ref} to {workload.replicas} replicas where {claim.asked} were asked for: "
    if writer.manager in _PIPELINES:
        return limited("OtherWriter", told + "left so until its manifest leaves replicas out or ignores them")
    until_s = (_seconds(writer.time) or claim.seen_s) + HOLD_S
    if claim.pinned or claim.now_s >= until_s:
        return None
    until = datetime.fromtimestamp(until_s, tz=UTC).strftime("%H:%M:%S UTC")
    return limited("OtherWriter", told + f"left so until {until}; set spec.replicas to pin the total")


def sighting_of(workload: WorkloadView | None) -> Sighting | None:
    """That somebody else set a workload to the replicas it has; None where nobody did."""
    if workload is None or (writer := _stranger(workload)) is None:
        return None
    return workload.path, writer.manager, workload.replicas


def _stranger(workload: WorkloadView) -> Writer | None:
    """The last foreign writer where we own nothing; None where the replicas are ours or nobody's."""
    if any(writer.manager in (FIELD_MANAGER, INITIAL_MANAGER) for writer in workload.writers):
        return None
    return max(workload.writers, key=lambda writer: writer.time, default=None)


def _seconds(text: str) -> float:
    """Unix seconds of a Kubernetes time; 0 where there is none."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return 0.0


def held_since(status: Mapping[str, object]) -> float | None:
    """Since when the status tells of another writer, unix seconds; None where it does not."""
    told = by_key(status.get("conditions"), "type").get("ScalingLimited", {})
    if told.get("reason") != "OtherWriter":
        return None
    return _seconds(str(told.get("lastTransitionTime"))) or None


def rivals(resources: Iterable[DeploymentResource], specs: Mapping[Key, DeploymentSpec]) -> dict[Key, Condition]:
    """
    Deployments that point at a workload which another one points at too; the one that was there first keeps it.

    Args:
        specs: The last valid spec of each: one that cannot be read for a while gives nothing away.

    Returns:
        The finding of each later deployment, which must not scale anything.
    """
    found: dict[Key, Condition] = {}
    for ref, ((first, _), *others) in _claims(resources, specs).items():
        for other, _ in others:
            message = f"{ref} is a target of InferenceDeployment {first.key} already; each workload has one owner"
            found[other.key] = stalled("DuplicateTarget", message)
    return found


def taken(
    resources: Iterable[DeploymentResource], specs: Mapping[Key, DeploymentSpec]
) -> dict[Key, tuple[TierSpec, ...]]:
    """Tiers of `rivals`, whatever their mode, whose workload another deployment has; arguments as there."""
    found: dict[Key, tuple[TierSpec, ...]] = {}
    for _, *others in _claims(resources, specs).values():
        for other, tier in others:
            found[other.key] = (*found.get(other.key, ()), tier)
    return found


def _claims(
    resources: Iterable[DeploymentResource], specs: Mapping[Key, DeploymentSpec]
) -> dict[ObjectRef, list[tuple[DeploymentResource, TierSpec]]]:
    """Who points at each workload, by which tier; who was there first comes first."""
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
    Replicas that a tier's workload was asked for, as the status says; None: none were, or nobody can tell.

    The status of another generation says nothing: the tier may point at another workload by now.
    """
    if resource.status.get("observedGeneration") != resource.generation:
        return None
    asked = by_key(resource.status.get("tiers"), "name").get(tier, {}).get("asked")
    return asked if isinstance(asked, int) else None
