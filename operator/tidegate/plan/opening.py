"""
The inputs of a plan at its start, and the memory at its end.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from zlib import crc32

from tidegate.domain.spec import Accelerator, DeploymentSpec
from tidegate.plan import error_budget, window
from tidegate.plan.awaited import Vacancies, await_all
from tidegate.plan.draft import Draft
from tidegate.plan.error_budget import ErrorBudget
from tidegate.plan.fleet import Fleet, FleetModel
from tidegate.plan.limits import Limits, limits
from tidegate.plan.memo import Memo, memo_of
from tidegate.plan.memory import PlanMemory
from tidegate.plan.problem import Problem
from tidegate.plan.scenario import scenarios
from tidegate.plan.sight import sight
from tidegate.plan.startup import Arrivals
from tidegate.units import TICK_S


def open_draft(
    problem: Problem,
    accelerators: Mapping[str, Accelerator],
    time_s: float,
    *,
    vacancies: Vacancies,
    spare: Mapping[str, int],
) -> Draft:
    """
    The draft of a deployment, with everything that the decision needs.

    Args:
        vacancies: Accelerators that replicas without a node may wait for.
        spare: Accelerators of limited classes that no replica holds.
    """
    before = problem.remembered
    memo = memo_of(problem, before, accelerators)
    model = memo.model
    stated = memo.limits or limits(problem.spec, model=model, accelerators=accelerators, time_s=time_s)
    base = _placeable(stated, problem)
    budget = _budget(problem, before or PlanMemory(), time_s)
    asked = error_budget.asked(budget, problem.spec.slo)
    progress, arrivals = await_all(problem, memo, base, time_s, asked=asked, vacancies=vacancies)
    blocked = blocked_at(model, arrivals)
    seen, missing = sight(problem.states)
    last = before or _first_memory(model, arrivals, time_s)
    current = _still_coming(last.ideal, arrivals)
    return Draft(
        problem=problem,
        time_s=time_s,
        memory=before,
        memo=memo,
        model=model,
        base=base,
        limits=_capped(base, blocked, model),
        basis=_basis(memo, problem.spec, base, blocked),
        progress=progress,
        arrivals=arrivals,
        sight=seen,
        missing=missing,
        demand=scenarios(problem.forecast, model.fastest_s + TICK_S),
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
        error_budget=budget,
        grant=last.grant,
        spare=spare,
        asleep=last.asleep,
    )


def _still_coming(ideal: Fleet, arrivals: Sequence[Arrivals]) -> Fleet:
    """A fleet without the replicas that will not become ready."""
    return tuple([min(n, a.counted) if a.blocked or a.stuck else n for n, a in zip(ideal, arrivals, strict=True)])


def _first_memory(model: FleetModel, arrivals: Sequence[Arrivals], time_s: float) -> PlanMemory:
    """The memory of a deployment without a plan: what is ready and starting, as if it had just been planned."""
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


def close_draft(draft: Draft) -> PlanMemory:
    """The memory for the next tick."""
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
        memo=draft.memo,
    )


def blocked_at(model: FleetModel, arrivals: tuple[Arrivals, ...]) -> tuple[int, ...]:
    """Count at which each tier is capped, because it is blocked or not known; -1 if it is not capped."""
    return tuple([a.counted if a.blocked or not ok else -1 for a, ok in zip(arrivals, model.known, strict=True)])


def _capped(base: Limits, blocked: tuple[int, ...], model: FleetModel) -> Limits:
    """The limits with blocked tiers capped at what they have; tiers that are not known stay as they are."""
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
        # A lower bound is a promise: that many replicas stay requested, of any tier, until they become ready.
        tiers = tuple([b if ok else t for b, t, ok in zip(base.tiers, tiers, model.known, strict=True)])
        low = high = min(low, sum([most for _, most in tiers]))
    return replace(base, total=(low, high), tiers=tiers)


def _placeable(base: Limits, problem: Problem) -> Limits:
    """The limits with each tier capped at what the nodes can hold; what serves is never above the cap."""
    states = [problem.states.get(tier.name) for tier in problem.spec.tiers]
    if all(state is None or state.placeable is None for state in states):
        return base
    highs = [
        high if state is None or state.placeable is None else min(high, max(state.placeable, state.ready))
        for state, (_, high) in zip(states, base.tiers, strict=True)
    ]
    low, high = base.total
    tiers = tuple([(min(least, most), most) for (least, _), most in zip(base.tiers, highs, strict=True)])
    return replace(base, total=(min(low, sum(highs)), high), tiers=tiers)


def _basis(memo: Memo, spec: DeploymentSpec, base: Limits, blocked: tuple[int, ...]) -> int:
    """Digest of everything that a plan depends on except load and performance; the same in every process."""
    if memo.basis and memo.blocked == blocked and memo.limits is base:
        return memo.basis
    closed = tuple([cap >= 0 for cap in blocked])
    parts = (spec.slo, spec.quality, spec.priority, memo.model.prices.tolist(), memo.model.usable, closed)
    room = sorted(base.room.items())
    text = repr((parts, base.total, base.tiers, base.budget, room, base.pinned, base.idle))
    return crc32(text.encode()) or 1
