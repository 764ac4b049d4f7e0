"""
The context in which an order is carried out: the order, the objects it should own, those it owns, our last writes.

Rules: a value; the cost of reading it does not grow with the fleet.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from tidegate.actuate.manifests import HASH_ANNOTATION, Manifest
from tidegate.actuate.ownership import Sighting
from tidegate.domain.spec import DeploymentSpec
from tidegate.ports import TIER_LABEL, Call, ObjectRef, Order, OwnedView, WorkloadView, leaving_name, workload_ref

# The informers show our own write within a second or two. Until then their state counts as outdated.
SETTLE_S = 10.0
# Minimum time between two corrections of a field that somebody else sets.
PATIENCE_S = 600.0
# Path of what was written -> when (monotonic seconds), and the replicas if it was a /scale.
Written = Mapping[str, tuple[float, int | None]]
NEVER = (-math.inf, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """
    One API call.

    Args:
        call: What to send.
        sentence: How it is reported; empty: it is not.
        replicas: What it sets, if it is a /scale.
        tier: Whose replicas; empty if it is none.
    """

    call: Call
    sentence: str = ""
    replicas: int | None = None
    tier: str = ""


# Writes that each require the one before.
Chain = tuple[Write, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """
    Everything that is known when one deployment is carried out.

    Args:
        order: What is wanted and what is there.
        now_s: Unix seconds; compared with times of other writers, which the API server records.
        clock_s: When the view was taken; monotonic seconds, because nobody can set that clock. Our own writes of a
            moment before, and all later ones, may be missing in it.
        manifests: What the deployment should own.
        owned: Workloads that carry its uid.
        written: Our own last writes.
        marks: Path of an owned workload -> its `applied` when it was last right.
        seen: Path of a workload -> who else last set its replicas, and since when we see that, unix seconds.
        asked: Replicas by tier that its workload was last asked for, as known before this order.
    """

    order: Order
    now_s: float
    clock_s: float
    manifests: tuple[Manifest, ...] = ()
    owned: tuple[WorkloadView, ...] = ()
    written: Written = field(default_factory=dict)
    marks: Mapping[str, str] = field(default_factory=dict)
    seen: Mapping[str, tuple[Sighting, float]] = field(default_factory=dict)
    asked: Mapping[str, int] = field(default_factory=dict)

    @property
    def spec(self) -> DeploymentSpec:
        """What the user asked for; orders exist for valid specs only."""
        return self.order.resource.valid_spec

    def workload(self, ref: ObjectRef) -> WorkloadView | None:
        """A workload as the cluster has it, with our own recent scaling applied; None if there is none."""
        there = self.order.view.workloads.get(ref)
        if there is None:
            return None
        at_s, replicas = self.written.get(f"{there.path}/scale", NEVER)
        if replicas is None or self.clock_s - at_s >= SETTLE_S:
            return there
        return replace(there, replicas=replicas, writers=())

    def is_changed(self, workload: WorkloadView) -> bool:
        """
        Somebody changed a field that we had applied, and we did not correct it recently.

        A field that is changed again and again is not corrected each time: that would be a fight between two
        controllers.
        """
        at_s, _ = self.written.get(workload.path, NEVER)
        mark = self.marks.get(workload.path, workload.applied)
        return workload.applied != mark and self.clock_s - at_s >= PATIENCE_S

    def settles(self, path: str) -> bool:
        """An object was written so recently that the view may not show it yet."""
        return path in self.written and self.clock_s - self.written[path][0] < SETTLE_S

    def is_foreign(self, ref: ObjectRef) -> bool:
        """An object of that name exists that is not this deployment's; it is never taken over."""
        there = self._there(ref)
        return there is not None and self.order.resource.uid not in there.owner_uids

    def is_orphan(self, ref: ObjectRef) -> bool:
        """An object of that name that Tidegate created and nobody owns, e.g. one restored from a backup."""
        there = self._there(ref)
        return there is not None and not there.owner_uids and HASH_ANNOTATION in there.annotations

    def _there(self, ref: ObjectRef) -> WorkloadView | OwnedView | None:
        return self.order.view.workloads.get(ref) or self.order.view.owned.get(ref)

    def decided(self, tier: str) -> int | None:
        """Replicas that were decided for a tier; None: nothing was."""
        decision = self.order.decision
        return decision.tiers[tier].replicas if decision is not None and tier in decision.tiers else None

    @property
    def unwanted(self) -> tuple[WorkloadView, ...]:
        """Our workloads that no tier of the spec has any more."""
        wanted = {workload_ref(self.spec.key, tier) for tier in self.spec.tiers}
        return tuple([workload for workload in self.owned if workload.ref not in wanted])

    def left_tier(self, workload: WorkloadView) -> str:
        """The name that the plan uses for the tier of an unwanted workload."""
        return leaving_name(workload.labels.get(TIER_LABEL, ""), [tier.name for tier in self.spec.tiers])
