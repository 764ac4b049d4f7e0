"""
One deployment while it is being planned: what is known, and the plan as it takes shape.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tidegate.domain.decision import Constraint, Reason
from tidegate.domain.observation import Missing
from tidegate.domain.spec import DeploymentSpec
from tidegate.plan import error_budget
from tidegate.plan.cuts import Goal
from tidegate.plan.error_budget import ErrorBudget
from tidegate.plan.fleet import Fleet, FleetModel, Profile, profile
from tidegate.plan.limits import Limits, accelerators_used
from tidegate.plan.memo import Memo
from tidegate.plan.memory import PlanMemory, TierProgress
from tidegate.plan.problem import Problem
from tidegate.plan.regret import Regret
from tidegate.plan.scenario import Scenarios, scenarios
from tidegate.plan.sight import Sight
from tidegate.plan.solve import Given
from tidegate.plan.startup import Arrivals
from tidegate.units import SECONDS_PER_HOUR, TICK_S

# A plan is expected to last this long: what a move costs is spread over it.
PLAN_LIFE_S = SECONDS_PER_HOUR
# A new replica has a cold prefix cache and a removed one loses its own: about a minute of its price each.
CACHE_LOSS_S = 60.0
# Risk of a removed replica being needed again, as a share of its price: ten runs of the suite's noise.
REMORSE_SHARE = 0.03
# The fleet in force, and one replica less.
PROFILES_MAX = 2


@dataclass(slots=True, kw_only=True, eq=False)
class Draft:
    """
    Work in progress, handed from step to step of `choose`.

    Args:
        base: Hard limits of now.
        limits: The same, tiers that may not grow capped at what they have.
        arrivals: Replicas by tier, in the order of the spec.
        demand: Quantiles at the lead time of the fastest tier.
        current: The ideal fleet so far, less replicas that will not come.
        ideal, target: Set by the steps; see `PlanMemory`.
        spare: Accelerators of limited classes that no replica of any deployment has.
        held: What a silent deployment has or was asked for; empty where something is seen.
        reserved: What its accelerators are kept for: the target, of a silent one with what is stuck, and what serves
            until the target does.
        searched: Whether the plan was looked for anew in this tick.
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
    rising: bool = False  # whether the load of now is above all that the window has seen
    held: Fleet = ()
    reserved: tuple[Fleet, ...] = ()
    searched: bool = False
    utilization: float | None = None
    attained: float | None = None  # of `current` at `demand`, where it was asked

    @property
    def spec(self) -> DeploymentSpec:
        """What the user asked for."""
        return self.problem.spec

    @property
    def asked(self) -> float:
        """Attainment that a plan has to expect now: the one promised, less what the error budget has left."""
        return error_budget.asked(self.error_budget, self.spec.slo)

    @property
    def counted(self) -> Fleet:
        """Replicas that serve or will."""
        return tuple([a.counted for a in self.arrivals])

    @property
    def ready(self) -> Fleet:
        """Replicas that serve."""
        return tuple([a.ready for a in self.arrivals])

    @property
    def there(self) -> Fleet:
        """All replicas that there are, whether they will serve or not."""
        return tuple([a.ready + a.healthy + a.stuck for a in self.arrivals])

    def takes_back(self, fleet: Fleet, before: Fleet) -> bool:
        """Whether a fleet has fewer than another one of a tier of which replicas are still to come."""
        return any(n < had and a.healthy for n, had, a in zip(fleet, before, self.arrivals, strict=True))

    @property
    def under(self) -> int:
        """Replicas that the target lacks to the lower bounds: of the total, and of each tier that may be used."""
        pairs = zip(self.target, self.spec.tiers, self.model.usable, strict=True)
        tiers = sum([max(0, min(t.replicas_min, t.replicas_max, self.base.total[1]) - n) for n, t, ok in pairs if ok])
        return max(self.base.total[0] - sum(self.target), tiers)

    @property
    def opened(self) -> Limits:
        """The limits for what is asked for: also a tier that may not grow may wait for its stuck replicas."""
        return replace(self.base, tiers=self.with_leaving([(0, tier.replicas_max) for tier in self.spec.tiers]))

    def with_leaving(self, bounds: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
        """The bounds of the tiers on the way to the target: what leaves may serve until others carry the load."""
        return tuple(
            [
                (0, a.ready) if tier.leaving else bound
                for bound, tier, a in zip(bounds, self.spec.tiers, self.arrivals, strict=True)
            ]
        )

    def with_stuck(self, fleet: Fleet) -> Fleet:
        """A fleet and the stuck replicas that stay asked for beside it."""
        asked = zip(fleet, self.arrivals, [self._still_asked(a) for a in self.arrivals], strict=True)
        # What a blocked tier is asked for beyond what comes are the stuck ones themselves.
        return tuple([max(n, (min(n, a.counted) if a.blocked else n) + more) for n, a, more in asked])

    def _still_asked(self, tier: Arrivals) -> int:
        """
        Stuck replicas of a tier that stay asked for.

        Those are the ones that are only late, for a while, or while those that serve do not carry the load: what was
        asked for in their place may be as late. All of them where the plan falls short anyway, or nothing is seen. A
        pod of a roll-out was not asked for; but where too few serve, one more replica may come although it does not.
        """
        if self.given is Given.ATTAINMENT and not self.held:
            return tier.stuck
        if self.held or self.given is not Given.NOTHING:
            return tier.due
        served = self.profile_of(self.ready).attainment(self.demand) >= self.asked
        return tier.hoped if served else max(tier.hoped, tier.late)

    def profile_of(self, fleet: Fleet) -> Profile:
        """The curve of a fleet; the last few are kept with the tables that they follow from."""
        kept = self.memo.profiles
        found = kept.get(fleet)
        if found is None:
            if len(kept) >= PROFILES_MAX:
                del kept[next(iter(kept))]
            found = kept[fleet] = profile(self.model, fleet)
        return found

    def demand_at(self, lead_s: float) -> Scenarios:
        """Demand until a replica with that start-up time could serve."""
        return scenarios(self.problem.forecast, lead_s + TICK_S)

    def goal(self, demand: Scenarios) -> Goal:
        """The promises at a demand, moves counted from the current fleet."""
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
    """Accelerators by class that a fleet of this deployment occupies; of fleets that follow each other the most."""
    most: dict[str, int] = {}
    for fleet in fleets:
        for name, used in accelerators_used(draft.model, fleet).items():
            most[name] = max(used, most.get(name, 0))
    return most
