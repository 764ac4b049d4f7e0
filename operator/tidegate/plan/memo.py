"""
What need not be computed again from tick to tick, because it follows from inputs that stayed the same.
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
# Marks that are compared by value where they are not the same object.
PLAIN = (float, int, str, tuple, DeploymentSpec)


@dataclass(frozen=True, slots=True, eq=False)
class Memo:
    """
    What need not be computed again while its inputs are the same. Never written out, never decides anything.

    Args:
        marks: Inputs of the tables: the spec, and of each tier curve, capacity and the like.
        pools: Price and capacity of each tier's class; None where there is none.
        estimates: Where the marks come from; the same object again is the quick answer.
        limits: None where schedules change them with the time.
        profiles: Curves of fleets that were asked for.
        profiled: The fleet that `tiers` is about.
        blocked: Where each tier was stopped when `basis` was made.
        basis: As in `PlanMemory`; 0 where there is none yet.
        tiers: What the decision says of each tier.
        uncapped, alternatives: Of the last survey; also of tables a little older than these.
        other: The tables before these. A mean near the edge of a step goes to and fro between two.
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
    """The tables for a problem: those of the last tick or the ones before, where they still hold, else new ones."""
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
    """The tables alone: curves of fleets are quickly made again, and take more room than all else."""
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
    """Objects by identity first; numbers by value. Equal curves that are not the same object are built again."""
    if memo.pools != pools or len(memo.marks) != len(marks):
        return False
    return all(a is b or (a.__class__ in PLAIN and a == b) for a, b in zip(memo.marks, marks, strict=True))
