"""
What one order is carried out in: the order, the objects it should own, those it does own, and our own last writes.

Rules: a value; reading it costs nothing that grows with the fleet.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from tidegate.actuate.manifests import Manifest
from tidegate.actuate.ownership import Sighting
from tidegate.domain.spec import DeploymentSpec
from tidegate.ports import TIER_LABEL, Call, ObjectRef, Order, WorkloadView, leaving_name, workload_ref

# An informer shows our own write within a second or two; until then the old state is not taken for the new one.
SETTLE_S = 10.0
# How often a field that somebody else sets is put back at most.
PATIENCE_S = 600.0
# Path of what was written -> when (monotonic seconds), and the replicas where it was a scale.
Written = Mapping[str, tuple[float, int | None]]
NEVER = (-math.inf, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """
    One API call.

    Args:
        call: What to send.
        sentence: What is reported of it; empty: nothing.
        replicas: What it sets, where it is a scale.
        tier: Whose replicas; empty where it is none.
    """

    call: Call
    sentence: str = ""
    replicas: int | None = None
    tier: str = ""


# Each write needs the one before it.
Chain = tuple[Write, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """
    Everything that is known when one deployment is carried out.

    Args:
        order: What is wanted and what is there.
        now_s: Unix seconds, for how long another writer has its way: his time is the API server's.
        clock_s: Monotonic seconds, for how long ago we wrote ourselves: nobody may set that clock.
        manifests: What the deployment should own.
        owned: Workloads that carry its uid.
        written: Our own last writes.
        seen: (path of a workload, manager, replicas) -> when we first saw them so, unix seconds.
        asked: Replicas by tier that its workload was last asked for, as known before this order.
        marks: Path of an owned workload -> its `applied` when it was last as it should be.
    """

    order: Order
    now_s: float
    clock_s: float
    manifests: tuple[Manifest, ...] = ()
    owned: tuple[WorkloadView, ...] = ()
    written: Written = field(default_factory=dict)
    marks: Mapping[str, str] = field(default_factory=dict)
    seen: Mapping[Sighting, float] = field(default_factory=dict)
    asked: Mapping[str, int] = field(default_factory=dict)

    @property
    def spec(self) -> DeploymentSpec:
        """What the user asked for; an order is only made of a valid spec."""
        return self.order.resource.valid_spec

    def workload(self, ref: ObjectRef) -> WorkloadView | None:
        """A workload as the cluster has it, our own last scale taken in; None where there is none."""
        there = self.order.view.workloads.get(ref)
        if there is None:
            return None
        at_s, replicas = self.written.get(f"{there.path}/scale", NEVER)
        if replicas is None or self.clock_s - at_s >= SETTLE_S:
            return there
        return replace(there, replicas=replicas, writers=())

    def is_changed(self, workload: WorkloadView) -> bool:
        """
        Somebody set a field that we had applied, and we did not put it back just now.

        Who sets it again and again is not answered each time: that would be two controllers in a fight.
        """
        at_s, _ = self.written.get(workload.path, NEVER)
        mark = self.marks.get(workload.path, workload.applied)
        return workload.applied != mark and self.clock_s - at_s >= PATIENCE_S

    def settles(self, path: str) -> bool:
        """An object was written so recently that the view may not show it yet."""
        return path in self.written and self.clock_s - self.written[path][0] < SETTLE_S

    def is_foreign(self, ref: ObjectRef) -> bool:
        """An object of that name exists that somebody else made; it is never taken over."""
        there = self.order.view.workloads.get(ref) or self.order.view.owned.get(ref)
        return there is not None and self.order.resource.uid not in there.owner_uids

    def decided(self, tier: str) -> int | None:
        """Replicas that were decided for a tier; None where nothing was."""
        decision = self.order.decision
        return decision.tiers[tier].replicas if decision is not None and tier in decision.tiers else None

    @property
    def unwanted(self) -> tuple[WorkloadView, ...]:
        """Workloads of ours that no tier of the spec has any more."""
        wanted = {workload_ref(self.spec.key, tier) for tier in self.spec.tiers}
        return tuple([workload for workload in self.owned if workload.ref not in wanted])

    def left_tier(self, workload: WorkloadView) -> str:
        """Name by which the plan knows the tier of an unwanted workload."""
        return leaving_name(workload.labels.get(TIER_LABEL, ""), [tier.name for tier in self.spec.tiers])
