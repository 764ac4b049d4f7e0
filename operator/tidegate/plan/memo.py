"""
A cache of what follows from unchanged inputs, so that it is not recomputed every tick.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from tidegate.domain.decision import Alternative, TierDecision
from tidegate.domain.estimate import TierEstimate
from tidegate.domain.spec import Accelerator, DeploymentSpec
from tidegate.plan.fleet import Fleet, FleetModel, Profile, build
from tidegate.plan.limits import Limits, limits
from tidegate.plan.memory import PlanMemory
from tidegate.plan.problem import Problem

Pools = tuple[tuple[float, int | None] | None, ...]
# Types of marks that are compared by value if they are not the same object.
PLAIN = (float, int, str, tuple, DeploymentSpec)


@dataclass(frozen=True, slots=True, eq=False)
class Memo:
    """
    Cached tables and results of one deployment. Never persisted, and never changes a decision.

    Args:
        marks: Inputs of the tables: the spec, and for each tier its curve, capacity and so on.
        pools: Price and capacity of each tier's class; None if the class does not exist.
        estimates: Source of the marks; if it is the same object again, nothing has changed.
        limits: The limits; None if schedules change them with time.
        profiles: Curves of the fleets used last.
        profiled: The fleet that `tiers` describes.
        blocked: Result of `opening.blocked_at` when `basis` was computed.
        basis: As in `PlanMemory`; 0 if not computed yet.
        tiers: Per-tier part of the decision.
        uncapped, alternatives: Of the last survey; they may be older than the tables.
        other: The previous tables, because a mean near the edge of a step oscillates between two.
    """

    marks: tuple[object, ...]
    pools: Pools
    estimates: Mapping[str, TierEstimate]
    model: FleetModel
    limits: Limits | None
    profiles: dict[Fleet, Profile] = field(default_factory=dict)
    profiled: Fleet = ()
    blocked: tuple[int, ...] = ()
    basis: int = 0
    tiers: Mapping[str, TierDecision] = field(default_factory=dict)
    uncapped: Mapping[str, int] | None = None
    alternatives: tuple[Alternative, ...] | None = None
    other: "Memo | None" = None


def memo_of(problem: Problem, before: PlanMemory | None, accelerators: Mapping[str, Accelerator]) -> Memo:
    """The tables for a problem: the last ones or the previous ones if they are still valid, else new ones."""
    spec, estimates = problem.spec, problem.estimates
    memo = before.memo if before is not None and isinstance(before.memo, Memo) else None
    pools = tuple(
        [
            (pool.price_usd_per_hour, pool.capacity) if (pool := accelerators.get(tier.accelerator)) else None
            for tier in spec.tiers
        ]
    )
    if memo is None:
        return _made(problem, accelerators, _marks(problem), pools)
    if memo.estimates is estimates and memo.marks[0] is spec and memo.pools == pools:
        return memo
    marks = _marks(problem)
    if _holds(memo, marks, pools):
        return replace(memo, estimates=estimates)
    if memo.other is not None and _holds(memo.other, marks, pools):
        found = replace(memo.other, estimates=estimates)
    else:
        found = _made(problem, accelerators, marks, pools)
    return replace(found, uncapped=memo.uncapped, alternatives=memo.alternatives, other=_bare(memo))


def _bare(memo: Memo) -> Memo:
    """The tables without the curves of fleets, which are cheap to recompute and take the most memory."""
    return replace(memo, profiles={}, other=None)


def _made(problem: Problem, accelerators: Mapping[str, Accelerator], marks: tuple[object, ...], pools: Pools) -> Memo:
    spec = problem.spec
    model = build(spec, problem.estimates, accelerators)
    fixed = None if spec.schedules else limits(spec, model=model, accelerators=accelerators, time_s=0.0)
    return Memo(marks=marks, pools=pools, estimates=problem.estimates, model=model, limits=fixed)


def _marks(problem: Problem) -> tuple[object, ...]:
    marks: list[object] = [problem.spec]
    for tier in problem.spec.tiers:
        estimate = problem.estimates.get(tier.name)
        if estimate is None:
            marks.append(None)
        else:
            marks += (estimate.curve, estimate.capacity_rps, estimate.startup_s)
            marks += (estimate.power_w, estimate.confidence, estimate.pooling)
    return tuple(marks)


def _holds(memo: Memo, marks: tuple[object, ...], pools: Pools) -> bool:
    """Whether the tables are still valid. Curves are compared by identity only, types in `PLAIN` also by value."""
    if memo.pools != pools or len(memo.marks) != len(marks):
        return False
    return all(a is b or (a.__class__ in PLAIN and a == b) for a, b in zip(memo.marks, marks, strict=True))
