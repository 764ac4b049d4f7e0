"""
One deployment while it is being planned: its inputs, and the plan as it takes shape.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from tidegate.domain.decision import Constraint, Reason
from tidegate.domain.observation import Missing
from tidegate.domain.spec import DeploymentSpec
from tidegate.plan import error_budget
from tidegate.plan.cuts import Goal
from tidegate.plan.error_budget import ErrorBudget
from tidegate.plan.fleet import Curve, Fleet, FleetModel, Profile, curve, profile
from tidegate.plan.limits import Limits, accelerators_used
from tidegate.plan.memo import Memo
from tidegate.plan.memory import PlanMemory, TierProgress
from tidegate.plan.problem import Problem
from tidegate.plan.regret import PLAN_LIFE_S, Regret
from tidegate.plan.scenario import Scenarios, scenarios
from tidegate.plan.sight import Sight
from tidegate.plan.solve import Given, Solution, attainment_idle
from tidegate.plan.startup import Arrivals
from tidegate.plan.table import Table
from tidegate.units import TICK_S

# A new replica starts with a cold prefix cache and a removed one loses its cache: about a minute of its price each.
CACHE_LOSS_S = 60.0
# Risk that a removed replica is needed again, as a share of its price; set by ten runs of the suite with noise.
REMORSE_SHARE = 0.03
# The plan in force, and the same with one replica less.
PROFILES_MAX = 2


@dataclass(slots=True, eq=False)
class Known:
    """
    What sharing accelerators needs of one deployment again and again; the inputs do not change meanwhile.

    Args:
        reserved: Results of `offers.reserved_for`.
        predicted: Results of `offers.as_is`.
        table: The last table of fleets.
    """

    reserved: dict[Fleet, tuple[Fleet, ...]] = field(default_factory=dict)
    predicted: dict[Fleet, Solution] = field(default_factory=dict)
    table: Table | None = None


@dataclass(slots=True, kw_only=True, eq=False)
class Draft:
    """
    Mutable state of one plan, passed through the steps of `choose`.

    Args:
        memory: Of the last plan, adapted to the current tiers (`Problem.remembered`).
        base: Hard limits in force now.
        limits: The same, with tiers that may not grow capped at what they have.
        arrivals: Replicas by tier, in the order of the spec.
        demand: Scenarios up to the lead time of the fastest tier.
        current: The ideal fleet of the last plan, less replicas that will not become ready.
        ideal, target: Set by the steps; see `PlanMemory`.
        spare: Accelerators of limited classes that no replica of any deployment holds.
        held: Replicas that a deployment without any metrics has or requested; empty if at least one tier reports.
        reserved: Fleets that accelerators are reserved for: the target (without metrics, with its stuck replicas), and
            what serves until the target does.
        known: What sharing accelerators has worked out already.
        searched: Whether this tick searched for a new plan.
    """

    problem: Problem
    time_s: float
    memory: PlanMemory | None
    memo: Memo
    model: FleetModel
    base: Limits
    limits: Limits
    basis: int
    progress: tuple[TierProgress, ...]
    arrivals: tuple[Arrivals, ...]
    sight: Sight
    missing: Missing | None
    demand: Scenarios
    current: Fleet
    ideal: Fleet
    target: Fleet
    given: Given
    binding: Constraint
    peaks: tuple[tuple[int, float], ...]
    load_ref: float
    capacities: tuple[float, ...]
    shown_ref: float
    watched_since_s: float | None
    asleep: bool
    fresh_s: float | None
    moved_s: float
    regret: Regret
    error_budget: ErrorBudget
    grant: Mapping[str, tuple[int, int]]
    spare: Mapping[str, int]
    reason: Reason = Reason.STEADY
    load: float = 0.0
    peak: float = 0.0  # the highest of the peaks
    rising: bool = False  # whether the current load is above everything in the window
    held: Fleet = ()
    reserved: tuple[Fleet, ...] = ()
    known: Known = field(default_factory=Known)
    searched: bool = False
    utilization: float | None = None
    attained: float | None = None  # attainment of `current` at `demand`; None if it was not computed

    @property
    def spec(self) -> DeploymentSpec:
        """The spec of the deployment."""
        return self.problem.spec

    @property
    def asked(self) -> float:
        """Attainment that a plan must reach: the promised one, less what the error budget allows."""
        return error_budget.asked(self.error_budget, self.spec.slo)

    @property
    def infeasible(self) -> bool:
        """Whether the target is given up because no tier meets it without load, nor would one that does not start."""
        return self.given is Given.TARGET and attainment_idle(self.model, self.base) < self.asked

    @property
    def counted(self) -> Fleet:
        """Replicas that are ready or expected to become ready."""
        return tuple([a.counted for a in self.arrivals])

    @property
    def ready(self) -> Fleet:
        """Ready replicas."""
        return tuple([a.ready for a in self.arrivals])

    @property
    def there(self) -> Fleet:
        """All existing replicas, including stuck ones."""
        return tuple([a.ready + a.healthy + a.stuck for a in self.arrivals])

    @property
    def holding(self) -> Fleet:
        """Existing replicas that hold accelerators of the pools: all but the lost ones."""
        return tuple([n - a.lost for n, a in zip(self.there, self.arrivals, strict=True)])

    def takes_back(self, fleet: Fleet, before: Fleet) -> bool:
        """Whether a fleet has fewer replicas than `before` in a tier with replicas that are still starting."""
        return any(n < had and a.healthy for n, had, a in zip(fleet, before, self.arrivals, strict=True))

    @property
    def scattered(self) -> list[str]:
        """Tiers of which the target has all replicas that the nodes can hold; see `TierState.placeable`."""
        states = [self.problem.states.get(name) for name in self.model.names]
        return [
            name
            for name, n, state in zip(self.model.names, self.target, states, strict=True)
            if state is not None and state.placeable is not None and n >= state.placeable
        ]

    @property
    def lacking(self) -> Fleet:
        """Replicas that the target lacks to the lower bound of each usable tier."""
        most = self.base.total[1]
        pairs = zip(self.target, self.spec.tiers, self.model.usable, strict=True)
        return tuple([max(0, min(t.replicas_min, t.replicas_max, most) - n) if ok else 0 for n, t, ok in pairs])

    @property
    def under(self) -> int:
        """Replicas that the target lacks to the lower bounds of the total or of the usable tiers, whichever is more."""
        return max(self.base.total[0] - sum(self.target), sum(self.lacking))

    @property
    def opened(self) -> Limits:
        """Limits of what may be requested: a tier that may not grow may still wait for its stuck replicas."""
        return replace(self.base, tiers=self.with_leaving([(0, tier.replicas_max) for tier in self.spec.tiers]))

    def with_leaving(self, bounds: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
        """Tier bounds on the way to the target: a tier that is removed may serve until the others carry the load."""
        return tuple(
            [
                (0, a.ready) if tier.leaving else bound
                for bound, tier, a in zip(bounds, self.spec.tiers, self.arrivals, strict=True)
            ]
        )

    def with_stuck(self, fleet: Fleet) -> Fleet:
        """A fleet plus the stuck replicas that stay requested."""
        asked = zip(self.with_kept(fleet), fleet, self.arrivals, map(self._still_asked, self.arrivals), strict=True)
        # In a blocked tier, whatever the fleet has beyond the counted replicas is the stuck ones themselves.
        # Growth comes beside stuck replicas, because Kubernetes would not replace them.
        return tuple(
            [
                max(least, min(n, a.counted) + more if a.blocked else n + (a.requested if n > a.counted else more))
                for least, n, a, more in asked
            ]
        )

    def with_kept(self, fleet: Fleet) -> Fleet:
        """A fleet plus the starting replicas without which others of it would be removed."""
        return tuple([max(n, min(n, a.ready) + a.kept) if n else 0 for n, a in zip(fleet, self.arrivals, strict=True)])

    def without_lost(self, fleet: Fleet) -> Fleet:
        """A fleet less the replicas that lost ones stand in for; once those are deleted, it is requested anew."""
        return tuple(
            [min(n, a.ready) if a.lost and not a.healthy else n for n, a in zip(fleet, self.arrivals, strict=True)]
        )

    def without_stuck(self, fleet: Fleet) -> Fleet:
        """What is expected to serve of a fleet: all but its stuck replicas."""
        return tuple([min(n, max(a.counted, n - a.stuck)) for n, a in zip(fleet, self.arrivals, strict=True)])

    def _still_asked(self, tier: Arrivals) -> int:
        """
        Stuck replicas of a tier that stay requested.

        Replicas that are merely late stay requested for a while, and longer while the ready replicas do not carry the
        load, because their replacements may be as late. All stay if the plan gives something up or metrics are missing.
        Rollout pods are left out, because nobody requested them, unless attainment is given up: then the tier grows by
        one at a time, because Kubernetes creates most of the new replicas from the old template.
        """
        if self.given is Given.ATTAINMENT and not self.held:
            return min(tier.stuck, tier.requested + 1)
        if self.held or self.given is not Given.NOTHING:
            return tier.requested
        served = self.profile_of(self.ready).attainment(self.demand) >= self.asked
        return tier.awaited if served else max(tier.awaited, tier.late)

    def profile_of(self, fleet: Fleet) -> Profile:
        """The curve of a fleet; the last `PROFILES_MAX` are cached in the memo."""
        kept = self.memo.profiles
        found = kept.get(fleet)
        if found is None:
            if len(kept) >= PROFILES_MAX:
                del kept[next(iter(kept))]
            found = kept[fleet] = profile(self.model, fleet)
        return found

    def curve_of(self, fleet: Fleet) -> Curve:
        """The curve of a fleet that is only looked at once; not cached."""
        return self.memo.profiles.get(fleet) or curve(self.model, fleet)

    def demand_at(self, lead_s: float) -> Scenarios:
        """Scenarios up to the time when a replica with this start-up time could serve."""
        return scenarios(self.problem.forecast, lead_s + TICK_S)

    def goal(self, demand: Scenarios) -> Goal:
        """The goal at a demand, with moves counted from the current fleet."""
        spec, costs = self.spec, self.model.costs
        starting = (np.array(self.model.startup_s) + CACHE_LOSS_S) / PLAN_LIFE_S
        return Goal(
            demand=demand,
            attainment=self.asked,
            quality=spec.quality.average_minimum,
            current=self.current,
            grow_usd=costs * starting,
            shrink_usd=costs * (CACHE_LOSS_S / PLAN_LIFE_S + REMORSE_SHARE),
        )


def classes_used(draft: Draft, *fleets: Fleet) -> dict[str, int]:
    """Accelerators by class that a fleet occupies; the maximum over several fleets that follow each other."""
    most: dict[str, int] = {}
    for fleet in fleets:
        for name, used in accelerators_used(draft.model, fleet).items():
            most[name] = max(used, most.get(name, 0))
    return most
