"""
The replicas of a deployment's tiers: which ones to change, and which are not ours to change.

In:    a `Scene`.
Out:   moves, scale-ups before scale-downs; tiers that already have their replicas; findings.
Rules: pure. Replicas are changed only through /scale, under one field manager, and only from the count that was seen: a
       view from before an outage, or that of a second leader, overwrites nothing.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tidegate.actuate.findings import stalled, warning
from tidegate.actuate.ownership import Claim, other_writer
from tidegate.actuate.scene import Scene, Write
from tidegate.domain.decision import Condition
from tidegate.domain.spec import TierSpec
from tidegate.ports import DEPLOYMENT_LABEL, FIELD_MANAGER, JSON_PATCH, Call, ObjectRef, Order, workload_ref


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A change of the replicas of one tier's workload."""

    tier: str
    ref: ObjectRef
    path: str
    before: int
    after: int

    @property
    def write(self) -> Write:
        """The patch of /scale, which the server refuses if the replicas are no longer those that were seen."""
        # The server omits a count of zero.
        seen = {"replicas": self.before} if self.before else {}
        return Write(
            call=Call(
                method="PATCH",
                path=f"{self.path}/scale",
                params={"fieldManager": FIELD_MANAGER},
                body=[
                    {"op": "test", "path": "/spec", "value": seen},
                    {"op": "add", "path": "/spec/replicas", "value": self.after},
                ],
                content_type=JSON_PATCH,
            ),
            sentence=f"{self.ref}: replicas {self.before} -> {self.after}",
            replicas=self.after,
            tier=self.tier,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Moves:
    """
    What to do about the replicas of a deployment.

    Args:
        moves: Changes, the largest increase first.
        rests: By tier, replicas of workloads that already have what was decided.
        conditions: Why a tier is left alone.
    """

    moves: tuple[Move, ...]
    rests: Mapping[str, int]
    conditions: tuple[Condition, ...]


def moves(scene: Scene) -> Moves:
    """What to change, what is right already, and what is left alone."""
    found: list[Move] = []
    rests: dict[str, int] = {}
    conditions: list[Condition] = []
    for tier in scene.spec.tiers:
        workload = scene.workload(workload_ref(scene.spec.key, tier))
        if obstacle := _obstacle(scene, tier):
            conditions.append(obstacle)
        elif move := _move(scene, tier):
            found.append(move)
        elif workload is not None and workload.replicas == scene.decided(tier.name):
            rests[tier.name] = workload.replicas
    found += _drained(scene)
    found.sort(key=lambda move: move.before - move.after)
    return Moves(moves=tuple(found), rests=rests, conditions=tuple(conditions))


def urgency(order: Order) -> int:
    """Smaller numbers go first: 0 adds replicas to a workload that exists, 1 only removes some, 2 does neither."""
    decided = order.decision.tiers if order.decision is not None else {}
    there = order.view.workloads
    added = [
        decided[tier.name].replicas - there[ref].replicas
        for tier in order.resource.valid_spec.tiers
        if tier.name in decided and (ref := workload_ref(order.resource.key, tier)) in there
    ]
    if max(added, default=0) > 0:
        return 0
    return 1 if any(added) else 2


def _move(scene: Scene, tier: TierSpec) -> Move | None:
    ref, after = workload_ref(scene.spec.key, tier), scene.decided(tier.name)
    workload = scene.workload(ref)
    if workload is None:
        made = next((m for m in scene.manifests if m.ref == ref and not scene.settles(m.path)), None)
        if made is None or not after:
            return None
        return Move(tier=tier.name, ref=ref, path=made.path, before=0, after=after)
    if after is None or workload.replicas == after or (tier.workload is not None and scene.is_foreign(ref)):
        return None  # a name that is taken is reported by `builds`
    return Move(tier=tier.name, ref=ref, path=workload.path, before=workload.replicas, after=after)


def _drained(scene: Scene) -> Iterator[Move]:
    """Workloads of tiers removed from the spec: they go to zero, in steps if the plan says so."""
    for unwanted in scene.unwanted:
        tier, workload = scene.left_tier(unwanted), scene.workload(unwanted.ref)
        after = scene.decided(tier)
        if workload is not None and after is not None and after < workload.replicas:
            yield Move(tier=tier, ref=workload.ref, path=workload.path, before=workload.replicas, after=after)


def _obstacle(scene: Scene, tier: TierSpec) -> Condition | None:
    """Why the replicas of a tier are not ours to change."""
    ref = workload_ref(scene.spec.key, tier)
    workload = scene.workload(ref)
    if workload is None:
        return _missing(scene, tier) if tier.target_ref is not None else None
    owner = workload.labels.get(DEPLOYMENT_LABEL)
    if tier.target_ref is not None and owner and scene.is_foreign(ref):
        return stalled("TargetTaken", f"tier {tier.name}: {ref} was created by InferenceDeployment {owner}")
    _, seen_s = scene.seen.get(workload.path, (None, scene.now_s))
    claim = Claim(
        workload=workload,
        asked=scene.asked.get(tier.name),
        seen_s=seen_s,
        now_s=scene.now_s,
        pinned=scene.spec.replicas_pinned is not None,
    )
    return other_writer(claim, scene.order.view)


def _missing(scene: Scene, tier: TierSpec) -> Condition:
    """A missing target stops its own tier, and the deployment if it has no other."""
    message = f"tier {tier.name}: {workload_ref(scene.spec.key, tier)} does not exist or has no scale subresource"
    others = [t for t in scene.spec.tiers if t.target_ref is None or scene.workload(workload_ref(scene.spec.key, t))]
    if not others:
        return stalled("TargetNotFound", message)
    return warning("TargetNotFound", f"{message}; the other tiers serve without it")
