"""
From problems to decisions: plan each deployment alone, share scarce accelerators, take the next step, explain.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from tidegate.domain.decision import Constraint, Decision
from tidegate.domain.holdings import left_by
from tidegate.domain.key import Key
from tidegate.domain.observation import DeploymentObservation
from tidegate.domain.spec import Accelerator, DeploymentSpec
from tidegate.errors import FAULTS
from tidegate.plan.awaited import Vacancies
from tidegate.plan.binding import binding
from tidegate.plan.cuts import DUST
from tidegate.plan.draft import Draft, classes_used
from tidegate.plan.explain import explain, survey, tier_decisions
from tidegate.plan.fleet import Fleet
from tidegate.plan.limits import Limits
from tidegate.plan.memory import PlanMemory
from tidegate.plan.opening import blocked_at, close_draft, open_draft
from tidegate.plan.problem import Problem
from tidegate.plan.pursue import Carries
from tidegate.plan.rest import decide
from tidegate.plan.share import share
from tidegate.plan.solve import Given
from tidegate.plan.transition import advance, fitted


def choose(
    problems: Sequence[Problem], *, accelerators: Mapping[str, Accelerator], time_s: float
) -> Mapping[Key, tuple[PlanMemory, Decision]]:
    """
    Decide for every problem.

    Args:
        problems: One per deployment, keys distinct.
        accelerators: Classes by name.
        time_s: Now, unix seconds; later than in the last call.

    Returns:
        By deployment, in the order of the problems: the next memory and the decision. If planning a deployment fails,
        it keeps its memory, its replicas and their accelerators, and gets a decision with `error`.
    """
    outcome: dict[Key, tuple[PlanMemory, Decision]] = {}
    drafts: list[Draft] = []
    alone: list[tuple[DeploymentSpec, DeploymentObservation]] = []
    vacancies = Vacancies(freed=_freed(problems, accelerators), coming=_coming(accelerators))
    spare = _spare(problems, accelerators)
    for problem in problems:
        try:
            draft = open_draft(problem, accelerators, time_s, vacancies=vacancies, spare=spare)
            decide(draft)
        except FAULTS as fault:
            outcome[problem.spec.key] = _failed(problem, fault)
            alone.append((problem.spec, DeploymentObservation(tiers=problem.states)))
        else:
            drafts.append(draft)
    accelerators = left_by(alone, accelerators)
    share(drafts, accelerators)
    free = _free(drafts, accelerators)
    for draft in drafts:
        try:
            outcome[draft.spec.key] = _conclude(draft, free)
        except FAULTS as fault:
            outcome[draft.spec.key] = _failed(draft.problem, fault)
    return {problem.spec.key: outcome[problem.spec.key] for problem in problems}


def _freed(problems: Sequence[Problem], accelerators: Mapping[str, Accelerator]) -> dict[str, int]:
    """Accelerators that waiting replicas can use once the leaving replicas are gone, for each class that has any."""
    leaving: dict[str, int] = {}
    staying: dict[str, int] = {}
    for problem in problems:
        for tier in problem.spec.tiers:
            state, name, each = problem.states.get(tier.name), tier.accelerator, tier.accelerators_per_replica
            if state is not None:
                placed = state.ready + state.starting - state.lost - (state.unschedulable or 0)
                leaving[name] = leaving.get(name, 0) + (state.terminating + state.surplus) * each
                staying[name] = staying.get(name, 0) + placed * each
    freed = {name: n for name, n in leaving.items() if n}
    for name in freed:
        pool = accelerators.get(name)
        if pool is not None and pool.capacity is not None:
            freed[name] = max(0, pool.capacity - pool.unprovisioned - staying[name])
    return freed


def _coming(accelerators: Mapping[str, Accelerator]) -> dict[str, int]:
    """Accelerators that an autoscaler may bring, of classes where there are such."""
    return {name: pool.unprovisioned for name, pool in accelerators.items() if pool.unprovisioned}


def _spare(problems: Sequence[Problem], accelerators: Mapping[str, Accelerator]) -> dict[str, int]:
    """Accelerators of limited classes that no replica holds."""
    limited = {name: pool for name, pool in accelerators.items() if pool.capacity is not None}
    if not limited:
        return {}
    left = left_by([(p.spec, DeploymentObservation(tiers=p.states)) for p in problems], limited)
    return {name: pool.capacity for name, pool in left.items() if pool.capacity is not None}


def _failed(problem: Problem, fault: Exception) -> tuple[PlanMemory, Decision]:
    return problem.memory or PlanMemory(), Decision.fault(problem.spec.key, fault)


def _free(drafts: Sequence[Draft], accelerators: Mapping[str, Accelerator]) -> dict[str, int]:
    """Accelerators of limited classes that are reserved for no deployment: room for old and new replicas together."""
    free = {name: pool.capacity for name, pool in accelerators.items() if pool.capacity is not None}
    if free:
        for draft in drafts:
            for name, used in classes_used(draft, *draft.reserved).items():
                if name in free:
                    free[name] -= used
    return free


def _conclude(draft: Draft, free: dict[str, int]) -> tuple[PlanMemory, Decision]:
    fleet = draft.target
    if (draft.ready != draft.target or any(a.stuck or a.kept for a in draft.arrivals)) and not draft.spec.paused:
        fleet = _step(draft, free)
    if draft.memo.profiled != fleet or draft.memo.basis != draft.basis:
        draft.memo = replace(
            draft.memo,
            profiled=fleet,
            tiers=tier_decisions(draft, fleet),
            basis=draft.basis,
            blocked=blocked_at(draft.model, draft.arrivals),
        )
    due = _survey_due(draft)
    if due or draft.memo.alternatives is None:
        draft.memo = survey(draft)
    if due:
        draft.binding = binding(draft)
    return close_draft(draft), explain(draft, fleet)


def _survey_due(draft: Draft) -> bool:
    """
    Whether to recompute the uncapped plan and the alternatives.

    They are due if the plan changed, if a new search gave something up, periodically, and if a plan falls short that no
    limit kept short at the last survey.
    """
    before = draft.memory
    if before is None or (draft.searched and draft.given is not Given.NOTHING):
        return True
    plan = (draft.ideal, draft.target, draft.basis, draft.given)
    if plan != (before.ideal, before.target, before.basis, before.given):
        return True
    unexplained = draft.given is Given.ATTAINMENT and draft.binding is Constraint.NONE
    if unexplained and draft.attained is not None and draft.attained < draft.asked - DUST:
        return True
    return draft.problem.survey_due(draft.time_s)


def _step(draft: Draft, free: dict[str, int]) -> Fleet:
    """Replicas to set now: the target, what must stay until it serves, and stuck replicas that stay requested."""
    used = classes_used(draft, *draft.reserved)
    room = {
        name: min(draft.base.room[name], used.get(name, 0) + max(0, left))  # one that does not act may hold more
        for name, left in free.items()
        if name in draft.model.classes
    }
    within = replace(draft.limits, room=room, tiers=draft.with_leaving(draft.limits.tiers))
    fleet = advance(
        draft.model,
        within,
        arrivals=draft.arrivals,
        target=draft.target,
        carries=Carries(draft, draft.target),
        urgent=within.tiers != draft.limits.tiers,
    )
    fleet = _with_stuck(draft, fleet, within)
    for name, now in classes_used(draft, fleet).items():
        if name in free and draft.spec.acts:
            free[name] -= now - used.get(name, 0)
    return fleet


def _with_stuck(draft: Draft, fleet: Fleet, within: Limits) -> Fleet:
    """The fleet plus the starting replicas that stay requested, as far as the limits allow it."""
    lost = classes_used(draft, tuple([a.lost for a in draft.arrivals]))
    room = {name: most + lost.get(name, 0) for name, most in within.room.items()}
    limits, fewer = replace(draft.opened, room=room), draft.without_lost(fleet)
    whole = draft.with_stuck(fleet)
    larger = [whole, draft.with_kept(fewer)]
    if any(a.healthy and a.late > a.lost for a in draft.arrivals):
        # In place of a late replica, a younger one of its tier would be removed. So less of the others is requested.
        there = tuple(map(min, draft.there, whole))
        larger.insert(1, fitted(draft.model, limits, kept=there, counted=there, target=whole))
    return next((each for each in larger if limits.below(draft.model, each)), fewer)
