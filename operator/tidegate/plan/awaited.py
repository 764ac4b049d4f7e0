"""
Progress of the requested replicas, and how long each of them is waited for.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import inf

from tidegate.domain.estimate import TierEstimate
from tidegate.domain.observation import TierState
from tidegate.domain.spec import TierSpec
from tidegate.plan.cuts import DUST
from tidegate.plan.fleet import Fleet, curve
from tidegate.plan.limits import Limits
from tidegate.plan.memo import Memo
from tidegate.plan.memory import Since, TierProgress
from tidegate.plan.problem import Problem
from tidegate.plan.scenario import scenarios
from tidegate.plan.solve import Given
from tidegate.plan.startup import HOPELESS_GRACE_S, Arrivals, Patience, follow, older, settled
from tidegate.units import TICK_S

# While requests miss their targets, a replica is late after this share of the way from its usual to its late start-up.
HURRIED_SHARE = 1 / 3
# A tier that failed is not relied upon for this long after its back-off: longer than any other one is waited for.
FAILED_S = 3600.0
# For a tier without an estimate.
NEVER_LATE = Patience(late_s=inf, hurried_s=inf)

# By tier, in the order of the spec.
Awaited = tuple[tuple[TierProgress, ...], tuple[Arrivals, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Vacancies:
    """
    Accelerators by class that unscheduled replicas may wait for.

    Args:
        freed: Free once the terminating replicas are gone.
        coming: On nodes that an autoscaler may add.
    """

    freed: Mapping[str, int]
    coming: Mapping[str, int]

    def room(self, tier: TierSpec, *, new_nodes: bool) -> int:
        """Replicas of a tier that fit into them, with or without those of new nodes."""
        coming = self.coming.get(tier.accelerator, 0) if new_nodes else 0
        return (self.freed.get(tier.accelerator, 0) + coming) // tier.accelerators_per_replica


def await_all(
    problem: Problem, memo: Memo, base: Limits, time_s: float, *, asked: float, vacancies: Vacancies
) -> Awaited:
    """
    Start-up progress and arrivals of every tier.

    Replicas that wait for accelerators of a draining replica will be scheduled: they do not count as unschedulable. Nor
    do replicas that wait for a new node, which takes minutes, as long as the ready replicas keep the promise or no
    other tier could take over. While the ready replicas miss the promise, replicas count as late earlier.

    Args:
        base: Hard limits now.
        asked: Attainment that the ready replicas have to reach.
    """
    before = problem.remembered
    patient = _patient(problem, memo, time_s)
    if _for_nodes(problem, vacancies.coming) and _kept(problem, memo, base, asked=asked):
        patient = (True,) * len(patient)
    progress, arrivals = _follow(problem, vacancies, time_s, patient=patient)
    # If something is given up or accelerators are shared out, there is no room for a replacement of a late replica.
    room = before is None or (before.given is Given.NOTHING and not before.grant)
    if room and _overdue(problem, progress, time_s) and not _carries_now(problem, memo):
        return _follow(problem, vacancies, time_s, patient=patient, hurried=True)
    return progress, arrivals


def _follow(
    problem: Problem, vacancies: Vacancies, time_s: float, *, patient: tuple[bool, ...], hurried: bool = False
) -> Awaited:
    """Arguments as in `await_all`; `patient`: by tier, whether replicas may wait for new nodes."""
    progress, arrivals = [], []
    before = problem.remembered
    for i, tier in enumerate(problem.spec.tiers):
        state, estimate = problem.states.get(tier.name), problem.estimates.get(tier.name)
        known = before.progress[i] if before is not None else TierProgress(ready=state.ready if state else 0)
        if state is None:
            progress.append(TierProgress(failures=known.failures, blocked_until_s=known.blocked_until_s))
            arrivals.append(Arrivals(blocked=time_s < known.blocked_until_s))
            continue
        stranded: Since = ()
        if state.unschedulable:
            waiting, room = state.unschedulable, vacancies.room(tier, new_nodes=patient[i])
            stranded = _stranded(known, waiting - vacancies.room(tier, new_nodes=True), time_s)
            state = replace(state, unschedulable=max(0, waiting - room) - _newly(stranded, time_s))
        patience = NEVER_LATE if estimate is None else Patience(estimate.startup_s_late, _hurried_s(estimate), hurried)
        tier_progress, arrival = follow(known, state, patience, time_s=time_s)
        progress.append(replace(tier_progress, stranded=stranded) if stranded else tier_progress)
        arrivals.append(arrival)
    return tuple(progress), tuple(arrivals)


def _stranded(known: TierProgress, without_room: int, time_s: float) -> Since:
    """Since when the unscheduled replicas that have no room in sight have had none."""
    return settled(known.stranded, arrived=0, starting=max(0, without_room), time_s=time_s)


def _newly(stranded: Since, time_s: float) -> int:
    """
    Those for which that is new. The node they waited for may have come, or the accelerators been freed: they are about
    to be scheduled.
    """
    return sum([n for _, n in stranded]) - older(stranded, HOPELESS_GRACE_S, time_s)


def _hurried_s(estimate: TierEstimate) -> float:
    """Age at which a replica counts as late while the ready ones do not keep the promise, s after its request."""
    return estimate.startup_s + HURRIED_SHARE * (estimate.startup_s_late - estimate.startup_s)


def _for_nodes(problem: Problem, coming: Mapping[str, int]) -> bool:
    """Whether a replica waits for a node that an autoscaler may add."""
    if not coming:
        return False
    states = [(tier, problem.states.get(tier.name)) for tier in problem.spec.tiers]
    return any(tier.accelerator in coming and state and state.unschedulable for tier, state in states)


def _patient(problem: Problem, memo: Memo, time_s: float) -> tuple[bool, ...]:
    """
    By tier, whether no other one could take over.

    One that failed recently could not: otherwise two tiers that both need new nodes take turns until none comes.
    """
    before, usable = problem.remembered, memo.model.usable
    progress = before.progress if before is not None else (TierProgress(),) * len(usable)
    able = [
        ok and not (known.failures and time_s - known.blocked_until_s < FAILED_S)
        for ok, known in zip(usable, progress, strict=True)
    ]
    return tuple([sum(able) == one for one in able])


def _kept(problem: Problem, memo: Memo, base: Limits, *, asked: float) -> bool:
    """Whether the ready replicas keep the lower bound, and the promise until the fastest tier could be ready."""
    ready = _ready(problem)
    reached = _attainment(problem, memo, ready, lead_s=memo.model.fastest_s + TICK_S)
    return sum(ready) >= base.total[0] and reached >= asked - DUST


def _overdue(problem: Problem, progress: tuple[TierProgress, ...], time_s: float) -> bool:
    """Whether some replica would be late only under the hurried limit (`_hurried_s`)."""
    for tier, known in zip(problem.spec.tiers, progress, strict=True):
        estimate = problem.estimates.get(tier.name)
        if known.asks and estimate is not None:
            age = time_s - known.asks[0][0]
            if _hurried_s(estimate) <= age < estimate.startup_s_late:
                return True
    return False


def _carries_now(problem: Problem, memo: Memo) -> bool:
    """Whether the ready replicas keep the promise at the current load."""
    return _attainment(problem, memo, _ready(problem), lead_s=0.0) >= problem.spec.slo.attainment


def _ready(problem: Problem) -> Fleet:
    """Ready replicas by tier."""
    return tuple([problem.states.get(tier.name, TierState()).ready for tier in problem.spec.tiers])


def _attainment(problem: Problem, memo: Memo, fleet: Fleet, *, lead_s: float) -> float:
    """What a fleet reaches at the demand up to a lead time."""
    return curve(memo.model, fleet).attainment(scenarios(problem.forecast, lead_s))
