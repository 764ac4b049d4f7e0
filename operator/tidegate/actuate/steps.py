"""
From an order to API calls: what differs from what is wanted, and nothing else.

In:    an `Order` and the time.
Out:   chains of writes and findings. In a chain each write needs the one before it; chains do not need each other.
Rules: pure. Where everything is right there is no write. More replicas are asked for before fewer.

A new Deployment starts with no replica, although a body without `replicas` would start one: it is applied with 0,
another manager takes hold of that 0, and it is applied again without the field. From then on /scale alone moves it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tidegate.actuate.manifests import HASH_ANNOTATION, Manifest, wanted, workload_ref
from tidegate.actuate.ownership import INITIAL_MANAGER, Claim, asked_before, other_writer
from tidegate.actuate.vllm import findings
from tidegate.domain.decision import Condition, Status
from tidegate.domain.spec import DeploymentSpec, Mode, TierSpec
from tidegate.ports import (
    APPLY_PATCH,
    DEPLOYMENT_LABEL,
    FIELD_MANAGER,
    MERGE_PATCH,
    Call,
    ClusterView,
    ObjectRef,
    Order,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """
    One API call.

    Args:
        call: What to send.
        sentence: What tells it; empty: not worth telling.
        replicas: What it sets, where it is a scale.
    """

    call: Call
    sentence: str = ""
    replicas: int | None = None


Chain = tuple[Write, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """What to write, in this order, and what was found on the way."""

    chains: tuple[Chain, ...] = ()
    conditions: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Move:
    """Replicas of one workload, from what they are to what they should be."""

    ref: ObjectRef
    path: str
    before: int
    after: int

    @property
    def write(self) -> Write:
        """The patch of /scale."""
        return Write(
            call=Call(
                method="PATCH",
                path=f"{self.path}/scale",
                params={"fieldManager": FIELD_MANAGER},
                body={"spec": {"replicas": self.after}},
                content_type=MERGE_PATCH,
            ),
            sentence=f"{self.ref}: replicas {self.before} -> {self.after}",
            replicas=self.after,
        )


# Path of what was written so recently that the view may not show it yet -> the replicas, where it was a scale.
Recent = Mapping[str, int | None]
NOTHING_RECENT: Recent = {}


def steps(order: Order, *, now_s: float, recent: Recent = NOTHING_RECENT) -> Steps:
    """
    What to do for one deployment.

    Args:
        order: What is wanted and what is there.
        now_s: Unix seconds, for how long another writer has its way.
        recent: Our own last writes: an object is left for the next time, a scale is taken as it was written.
    """
    spec = order.resource.spec
    assert isinstance(spec, DeploymentSpec), order.resource.key
    if spec.mode is not Mode.AUTO or spec.paused:
        return Steps()
    order = replace(order, view=_as_written(order.view, recent))
    manifests = wanted(order.resource, order.accelerators, pod_monitor=order.view.has_pod_monitors)
    conditions = [finding for tier in spec.tiers for finding in findings(tier)]
    builds: dict[ObjectRef, Chain] = {}
    for manifest in manifests:
        if _is_foreign(manifest.ref, order):
            conditions.append(_name_taken(manifest.ref))
        elif manifest.path not in recent and (chain := tuple(_build(manifest, order))):
            builds[manifest.ref] = chain
    ready = {m.ref: m for m in manifests if m.ref in order.view.workloads or m.path not in recent}
    moves, limits = _moves(spec, order, ready, now_s)
    chains = [(*builds.pop(move.ref, ()), move.write) for move in sorted(moves, key=lambda m: m.before - m.after)]
    return Steps(
        chains=(*builds.values(), *chains, *_retired(spec, order, manifests)),
        conditions=_merged([*conditions, *limits]),
    )


def _as_written(view: ClusterView, recent: Recent) -> ClusterView:
    """The view with our own last scales in it."""
    changed = {
        ref: replace(workload, replicas=replicas, writers=())
        for ref, workload in view.workloads.items()
        if (replicas := recent.get(f"{workload.path}/scale")) is not None
    }
    return replace(view, workloads={**view.workloads, **changed}) if changed else view


def _build(manifest: Manifest, order: Order) -> Iterator[Write]:
    """Applies an object where it is not as it should be."""
    ref = manifest.ref
    if ref.kind != "Deployment":
        there = order.view.owned.get(ref)
        if there is None or there.annotations.get(HASH_ANNOTATION) != manifest.hash:
            made = there is None
            yield Write(call=_apply(manifest, force=not made), sentence=f"{ref}: {'made' if made else 'changed'}")
        return
    workload = order.view.workloads.get(ref)
    if workload is None:
        yield Write(call=_first_apply(manifest), sentence=f"{ref}: made")
        yield Write(call=_hold_replicas(manifest, 0))
        yield Write(call=_apply(manifest))
    elif workload.annotations.get(HASH_ANNOTATION) != manifest.hash:
        if any(w.manager == FIELD_MANAGER and w.operation == "Apply" for w in workload.writers):
            yield Write(call=_hold_replicas(manifest, workload.replicas))  # the making was cut short
        yield Write(call=_apply(manifest), sentence=f"{ref}: pods changed")


def _apply(manifest: Manifest, *, force: bool = True) -> Call:
    """Server-side apply; without `force` an object of that name that somebody else made is a conflict."""
    return Call(
        method="PATCH",
        path=manifest.path,
        params={"fieldManager": FIELD_MANAGER, "force": str(force).lower()},
        body=manifest.body,
        content_type=APPLY_PATCH,
    )


def _first_apply(manifest: Manifest) -> Call:
    """The Deployment without a replica, and without the hash: it is not finished yet."""
    body: dict[str, Any] = dict(manifest.body)
    body["spec"] = body["spec"] | {"replicas": 0}
    body["metadata"] = {name: value for name, value in body["metadata"].items() if name != "annotations"}
    return replace(_apply(manifest, force=False), body=body)


def _hold_replicas(manifest: Manifest, replicas: int) -> Call:
    """Another manager takes hold of the replicas, so that a body without them leaves them as they are."""
    ref = manifest.ref
    metadata = {"name": ref.name, "namespace": ref.namespace}
    return Call(
        method="PATCH",
        path=manifest.path,
        params={"fieldManager": INITIAL_MANAGER, "force": "false"},  # whoever moved them meanwhile is right
        body={"apiVersion": ref.api_version, "kind": ref.kind, "metadata": metadata, "spec": {"replicas": replicas}},
        content_type=APPLY_PATCH,
    )


def _is_foreign(ref: ObjectRef, order: Order) -> bool:
    """An object of that name exists that somebody else made; it is never taken over."""
    there = order.view.workloads.get(ref) or order.view.owned.get(ref)
    return there is not None and order.resource.uid not in there.owner_uids


def _name_taken(ref: ObjectRef) -> Condition:
    return _stalled("NameTaken", f"{ref} exists and is not ours: rename it, the deployment or the tier")


def _moves(
    spec: DeploymentSpec, order: Order, made: Mapping[ObjectRef, Manifest], now_s: float
) -> tuple[list[_Move], list[Condition]]:
    moves: list[_Move] = []
    conditions: list[Condition] = []
    for tier in spec.tiers:
        move = _move(spec, tier, order, made=made, now_s=now_s)
        if isinstance(move, Condition):
            conditions.append(move)
        elif move is not None:
            moves.append(move)
    return moves, conditions


def _move(
    spec: DeploymentSpec, tier: TierSpec, order: Order, *, made: Mapping[ObjectRef, Manifest], now_s: float
) -> _Move | Condition | None:
    """What to do about the replicas of one tier; a finding where they are not ours to move."""
    ref = workload_ref(spec, tier)
    workload = order.view.workloads.get(ref)
    if obstacle := _obstacle(tier, ref, order):
        return obstacle
    known = ref in made if workload is None else not (tier.workload and _is_foreign(ref, order))
    if not known or order.decision is None or tier.name not in order.decision.tiers:
        return None  # a class that is not known yet, or a name that is taken, is reported elsewhere
    after = order.decision.tiers[tier.name].replicas
    if workload is None:
        return _Move(ref=ref, path=made[ref].path, before=0, after=after) if after else None
    claim = Claim(ref=ref, workload=workload, asked=asked_before(order.resource.status, tier.name), now_s=now_s)
    if other := other_writer(claim, order.view):
        return other
    return (
        None
        if workload.replicas == after
        else _Move(ref=ref, path=workload.path, before=workload.replicas, after=after)
    )


def _obstacle(tier: TierSpec, ref: ObjectRef, order: Order) -> Condition | None:
    """Why a target cannot be scaled: it is not there, or another InferenceDeployment made it."""
    if tier.target_ref is None:
        return None
    workload = order.view.workloads.get(ref)
    if workload is None:
        return _stalled("TargetNotFound", f"tier {tier.name}: {ref} does not exist or has no scale subresource")
    owner = workload.labels.get(DEPLOYMENT_LABEL)
    if owner and _is_foreign(ref, order):
        return _stalled("TargetTaken", f"tier {tier.name}: {ref} belongs to InferenceDeployment {owner}")
    return None


def _retired(spec: DeploymentSpec, order: Order, manifests: tuple[Manifest, ...]) -> Iterator[Chain]:
    """
    Removes what we made and nobody wants any more: a tier that is gone, or that points at a target now.

    A tier's pods go only once the tiers that stay have been asked for what was decided.
    """
    refs = {manifest.ref for manifest in manifests} | {workload_ref(spec, tier) for tier in spec.tiers}
    mine = [w for w in order.view.workloads.values() if order.resource.uid in w.owner_uids and w.ref not in refs]
    if not mine or order.decision is None or not order.decision.tiers:
        return
    if any(_short(spec, tier, order) for tier in spec.tiers):
        return
    for workload in mine:
        preconditions = {"preconditions": {"uid": workload.uid}, "propagationPolicy": "Background"}
        call = Call(method="DELETE", path=workload.path, body=preconditions)
        yield (Write(call=call, sentence=f"{workload.ref}: removed, no tier wants it any more"),)


def _short(spec: DeploymentSpec, tier: TierSpec, order: Order) -> bool:
    assert order.decision is not None
    workload = order.view.workloads.get(workload_ref(spec, tier))
    decided = order.decision.tiers.get(tier.name)
    return decided is not None and decided.replicas > (workload.ready if workload is not None else 0)


def _stalled(reason: str, message: str) -> Condition:
    return Condition(type="Stalled", status=Status.TRUE, reason=reason, message=message)


def _merged(conditions: list[Condition]) -> tuple[Condition, ...]:
    """One finding per type: the first one's reason, everybody's sentence."""
    merged: dict[str, Condition] = {}
    for finding in conditions:
        first = merged.get(finding.type)
        message = finding.message if first is None else f"{first.message}; {finding.message}"
        merged[finding.type] = Condition(
            type=finding.type, status=finding.status, reason=(first or finding).reason, message=message
        )
    return tuple(merged.values())
