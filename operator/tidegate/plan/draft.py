"""
One deployment while it is being planned: what is known, and the plan as it takes shape.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from zlib import crc32

import numpy as np

from tidegate.domain.decision import Constraint, Reason
from tidegate.domain.estimate import TierEstimate
from tidegate.domain.observation import Missing
from tidegate.domain.spec import Accelerator, DeploymentSpec
from tidegate.plan import error_budget, window
from tidegate.plan.cuts import Goal
from tidegate.plan.error_budget import ErrorBudget
from tidegate.plan.fleet import Fleet, FleetModel, Profile, profile
from tidegate.plan.limits import Limits, accelerators_used, limits
from tidegate.plan.memo import Memo, memo_of
from tidegate.plan.memory import PlanMemory, TierProgress
from tidegate.plan.problem import Problem
from tidegate.plan.regret import Regret
from tidegate.plan.scenario import Scenarios, scenarios
from tidegate.plan.sight import Sight, sight
from tidegate.plan.solve import Given
from tidegate.plan.startup import Arrivals, Patience, follow
from tidegate.units import SECONDS_PER_HOUR, TICK_S

# A plan is expected to last this long: what a move costs is spread over it.
PLAN_LIFE_S = SECONDS_PER_HOUR
# A new replica has a cold prefix cache and a removed one loses its own: about a minute of its price each.
CACHE_LOSS_S = 60.0
# Risk of a removed replica being needed again, as a share of its price: ten runs of the suite's noise.
REMORSE_SHARE = 0.03
# While requests miss their targets, a replica is waited for this share of the time between usual and late.
HURRIED_SHARE = 1 / 3
# A tier that nothing is known of.
NEVER_LATE = Patience(late_s=inf, hurried_s=inf)
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
        spare: Accelerators that no replica of anybody has, by limited class.
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


def open_draft(
    problem: Problem,
    accelerators: Mapping[str, Accelerator],
    time_s: float,
    *,
    freed: Mapping[str, int],
    spare: Mapping[str, int],
) -> Draft:
    """
    Everything about a deployment that has to be known before deciding.

    Args:
        freed: Accelerators by class that there will be for waiting replicas once terminating ones are gone.
        spare: Accelerators of limited classes that no replica has.
    """
    before = problem.remembered
    memo = memo_of(problem, before, accelerators)
    model = memo.model
    progress, arrivals = _follow(problem, before, time_s, freed)
    # Where something is given up or dealt out there is no room beside what is late: it could only be exchanged.
    room = before is None or (before.given is Given.NOTHING and not before.grant)
    if room and _overdue(problem, progress, time_s) and not _carries_now(problem, memo, arrivals):
        progress, arrivals = _follow(problem, before, time_s, freed, hurried=True)
    base = memo.limits or limits(problem.spec, model=model, accelerators=accelerators, time_s=time_s)
    blocked = blocked_at(model, arrivals)
    known = memo.blocked == blocked and memo.basis and memo.limits is base
    basis = memo.basis if known else _basis(problem.spec, model, base, blocked)
    lead = min([s for s, ok in zip(model.startup_s, model.usable, strict=True) if ok], default=0.0)
    seen, missing = sight(problem.states)
    last = before or _first_memory(model, arrivals, time_s)
    pairs = zip(last.ideal, arrivals, strict=True)
    current = tuple([min(n, a.counted) if a.blocked or a.stuck else n for n, a in pairs])
    return Draft(
        problem=problem,
        time_s=time_s,
        memory=before,
        memo=memo,
        model=model,
        base=base,
        limits=_capped(base, blocked, model),
        basis=basis,
        progress=progress,
        arrivals=arrivals,
        sight=seen,
        missing=missing,
        demand=scenarios(problem.forecast, lead + TICK_S),
        current=current,
        ideal=current,
        target=last.target,
        given=last.given,
        binding=last.binding,
        peaks=last.peaks,
        load_ref=last.load_ref,
        capacities=last.capacities,
        shown_ref=last.shown_ref,
        watched_since_s=last.watched_since_s,
        fresh_s=last.fresh_s,
        moved_s=last.moved_s,
        regret=last.regret,
        error_budget=_budget(problem, last, time_s),
        grant=last.grant,
        spare=spare,
        asleep=last.asleep,
    )


def _first_memory(model: FleetModel, arrivals: Sequence[Arrivals], time_s: float) -> PlanMemory:
    """What a deployment without a plan begins with: what runs and starts, as if it had been planned just now."""
    counted = tuple([a.counted for a in arrivals])
    return PlanMemory(ideal=counted, target=counted, capacities=model.capacities, moved_s=time_s)


def _budget(problem: Problem, last: PlanMemory, time_s: float) -> ErrorBudget:
    return error_budget.counted(
        last.error_budget,
        problem.states,
        problem.spec.slo,
        late_s=max([e.startup_s_late for e in problem.estimates.values()], default=0.0),
        time_s=time_s,
    )


def close_draft(draft: Draft, memo: Memo) -> PlanMemory:
    """What to remember of it."""
    return PlanMemory(
        names=draft.model.names,
        ideal=draft.ideal,
        target=draft.target,
        given=draft.given,
        binding=draft.binding,
        basis=draft.basis,
        capacities=draft.capacities,
        load_ref=draft.load_ref,
        shown_ref=draft.shown_ref,
        time_s=draft.time_s,
        peaks=draft.peaks,
        window_s=draft.spec.scale_down_window_s,
        prices=window.prices(draft.model, draft.memory.prices if draft.memory is not None else ()),
        watched_since_s=draft.watched_since_s,
        fresh_s=draft.fresh_s,
        moved_s=draft.moved_s,
        regret=draft.regret,
        error_budget=draft.error_budget,
        progress=draft.progress,
        grant=draft.grant,
        asleep=draft.asleep,
        memo=memo,
    )


def _hurried_s(estimate: TierEstimate) -> float:
    """When a replica counts as late while requests miss their targets for want of it, s after it was asked for."""
    return estimate.startup_s + HURRIED_SHARE * (estimate.startup_s_late - estimate.startup_s)


def _overdue(problem: Problem, progress: tuple[TierProgress, ...], time_s: float) -> bool:
    """Whether a replica takes longer than usual, but not so long yet that it is called stuck."""
    for tier, known in zip(problem.spec.tiers, progress, strict=True):
        estimate = problem.estimates.get(tier.name)
        if known.asks and estimate is not None:
            age = time_s - known.asks[0][0]
            if _hurried_s(estimate) <= age < estimate.startup_s_late:
                return True
    return False


def _carries_now(problem: Problem, memo: Memo, arrivals: tuple[Arrivals, ...]) -> bool:
    """Whether what is ready keeps the promise at the load of now."""
    ready = profile(memo.model, tuple([a.ready for a in arrivals]))
    return ready.attainment(scenarios(problem.forecast, 0.0)) >= problem.spec.slo.attainment


def _follow(
    problem: Problem,
    before: PlanMemory | None,
    time_s: float,
    freed: Mapping[str, int],
    *,
    hurried: bool = False,
) -> tuple[tuple[TierProgress, ...], tuple[Arrivals, ...]]:
    progress, arrivals = [], []
    for i, tier in enumerate(problem.spec.tiers):
        state, estimate = problem.states.get(tier.name), problem.estimates.get(tier.name)
        known = before.progress[i] if before is not None else TierProgress(ready=state.ready if state else 0)
        if state is None:
            progress.append(TierProgress(failures=known.failures, blocked_until_s=known.blocked_until_s))
            arrivals.append(Arrivals(0, 0, 0, 0, blocked=time_s < known.blocked_until_s))
            continue
        if state.unschedulable and freed:
            # What waits for a replica that drains finds its room by itself.
            room = freed.get(tier.accelerator, 0) // tier.accelerators_per_replica
            state = replace(state, unschedulable=max(0, state.unschedulable - room))
        patience = NEVER_LATE if estimate is None else Patience(estimate.startup_s_late, _hurried_s(estimate), hurried)
        tier_progress, arrival = follow(known, state, patience, time_s=time_s)
        progress.append(tier_progress)
        arrivals.append(arrival)
    return tuple(progress), tuple(arrivals)


def blocked_at(model: FleetModel, arrivals: tuple[Arrivals, ...]) -> tuple[int, ...]:
    """Replicas at which a tier is stopped, because more do not come or it is not known; -1 where it is not."""
    return tuple([a.counted if a.blocked or not ok else -1 for a, ok in zip(arrivals, model.known, strict=True)])


def _capped(base: Limits, blocked: tuple[int, ...], model: FleetModel) -> Limits:
    """Tiers whose replicas do not come may not grow; tiers that are not known stay as they are."""
    if max(blocked) < 0:
        return base
    tiers = tuple(
        [
            bounds if cap < 0 else (min(bounds[0], cap), min(bounds[1], cap)) if known else (cap, cap)
            for bounds, cap, known in zip(base.tiers, blocked, model.known, strict=True)
        ]
    )
    low, high = base.total
    if sum([most for _, most in tiers]) < low:
        # A lower bound is a promise: so many stay asked for, of whichever tier, until they come.
        tiers = tuple([b if ok else t for b, t, ok in zip(base.tiers, tiers, model.known, strict=True)])
        low = high = min(low, sum([most for _, most in tiers]))
    return replace(base, total=(low, high), tiers=tiers)


def _basis(spec: DeploymentSpec, model: FleetModel, base: Limits, blocked: tuple[int, ...]) -> int:
    """Digest of everything but load and performance that a plan rests on; the same in every process."""
    closed = tuple([cap >= 0 for cap in blocked])
    parts = (spec.slo, spec.quality, model.prices.tolist(), model.usable, closed)
    room = sorted(base.room.items())
    text = repr((parts, base.total, base.tiers, base.budget, room, base.pinned, base.idle))
    return crc32(text.encode()) or 1


def classes_used(draft: Draft, *fleets: Fleet) -> dict[str, int]:
    """Accelerators by class that a fleet of this deployment occupies; of fleets that follow each other the most."""
    most: dict[str, int] = {}
    for fleet in fleets:
        for name, used in accelerators_used(draft.model, fleet).items():
            most[name] = max(used, most.get(name, 0))
    return most
