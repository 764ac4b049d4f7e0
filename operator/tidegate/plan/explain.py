"""
The decision in words and numbers: why, what it will do, what binds, what came second.
"""

from dataclasses import dataclass, replace

import numpy as np

from tidegate.domain.decision import Alternative, Constraint, Decision, Prediction, Reason, TierDecision
from tidegate.plan.conditions import conditions
from tidegate.plan.draft import Draft, Memo
from tidegate.plan.fleet import Fleet, Profile, expected_attainment, mean_quality
from tidegate.plan.search import cheapest
from tidegate.plan.solve import Given, without_limits
from tidegate.units import MILLION, SECONDS_PER_HOUR

# Enough replicas for any uncapped answer, and small enough to search.
UNCAPPED_MAX = 2_000
ALTERNATIVES_MAX = 3
# Reasons that say what happened; a binding limit is the better answer only to the others.
SPOKEN = frozenset(
    {
        Reason.PAUSED,
        Reason.MODE_OFF,
        Reason.METRICS_MISSING,
        Reason.FALLBACK,
        Reason.SCALED_TO_ZERO,
        Reason.NOT_GPU_BOUND,
        Reason.ACTIVATED,
        Reason.PINNED,
    }
)
LIMITED = {
    Constraint.BUDGET: Reason.BUDGET_LIMITED,
    Constraint.CAPACITY: Reason.CAPACITY_LIMITED,
    Constraint.MAX_REPLICAS: Reason.REPLICAS_LIMITED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What the decided fleet does, for sentences and conditions."""

    fleet: Fleet
    usd_per_hour: float
    attainment: float
    profile: Profile
    binding: Constraint


def explain(draft: Draft, fleet: Fleet, memo: Memo) -> Decision:
    """The decision to set `fleet` now, on the way to the draft's target."""
    model, demand = draft.model, draft.demand
    curve = memo.profile if memo.profile is not None and memo.profiled == fleet else draft.profile_of(fleet)
    outcome = Outcome(
        fleet=fleet,
        usd_per_hour=model.usd_per_hour(fleet),
        attainment=curve.attainment(demand) if any(fleet) or demand.shown_rps > 0 else 1.0,
        profile=curve,
        binding=draft.binding,
    )
    reason = _reason(draft, outcome)
    estimates = draft.problem.estimates
    return Decision(
        key=draft.spec.key,
        tiers={
            name: TierDecision(
                replicas=n,
                capacity_rps=capacity if name in estimates else None,
                startup_s=startup if name in estimates else None,
                confidence=estimates[name].confidence if name in estimates else None,
            )
            for name, n, capacity, startup in zip(model.names, fleet, model.capacities, model.startup_s, strict=True)
        },
        reason=reason,
        message=_message(draft, outcome, reason),
        forecast_rps=demand.shown_rps,
        horizon_s=demand.horizon_s,
        prediction=_prediction(draft, outcome),
        conditions=conditions(draft, outcome.attainment, outcome.usd_per_hour, outcome.binding),
        uncapped=memo.uncapped,
        binding=outcome.binding,
        alternatives=memo.alternatives or (),
    )


def survey(draft: Draft, memo: Memo) -> Memo:
    """The memo with the uncapped plan and the alternatives of this search."""
    goal = draft.goal(draft.demand)
    free = without_limits(draft.model, goal, replicas_max=UNCAPPED_MAX)
    uncapped = {name: n for name, n in zip(draft.model.names, free.fleet, strict=True) if n}
    return replace(memo, uncapped=uncapped, alternatives=_alternatives(draft))


def _alternatives(draft: Draft) -> tuple[Alternative, ...]:
    """Each usable tier alone, and one replica less, unless that is the plan itself."""
    model, goal = draft.model, draft.goal(draft.demand)
    fleets: list[Fleet] = []
    for i, ok in enumerate(model.usable):
        if ok:
            alone = tuple([(0, UNCAPPED_MAX if j == i else 0) for j in range(len(model.names))])
            found = cheapest(
                model,
                replace(draft.limits, total=(0, UNCAPPED_MAX), tiers=alone, budget=float("inf"), room={}),
                replace(goal, quality=0.0),
            )
            if found is not None:
                fleets.append(found.fleet)
    fleets += [tuple([n - (j == i) for j, n in enumerate(draft.target)]) for i, n in enumerate(draft.target) if n]
    others = [f for f in dict.fromkeys(fleets) if f != draft.target and any(f)]
    if not others:
        return ()
    rows = np.array(others)
    reached = expected_attainment(model, rows, draft.demand)
    quality = mean_quality(model, rows, draft.demand.mean_rps)
    made = [
        Alternative(
            replicas={name: n for name, n in zip(model.names, fleet, strict=True) if n},
            usd_per_hour=model.usd_per_hour(fleet),
            attainment=round(float(a), 4),
            why_not=_why_not(draft, fleet, attainment=float(a), quality=float(q)),
        )
        for fleet, a, q in zip(others, reached, quality, strict=True)
    ]
    made.sort(
        key=lambda a: (a.attainment < draft.spec.slo.attainment if a.attainment is not None else True, a.usd_per_hour)
    )
    return tuple(made[:ALTERNATIVES_MAX])


def _why_not(draft: Draft, fleet: Fleet, *, attainment: float, quality: float) -> str:
    model, spec, limits = draft.model, draft.spec, draft.limits
    usd, planned = model.usd_per_hour(fleet), model.usd_per_hour(draft.target)
    if attainment < spec.slo.attainment:
        return f"attainment {attainment:.3f} is below {spec.slo.attainment:g}"
    if usd > limits.budget:
        return f"${usd:.2f}/h is above the budget of ${limits.budget:.2f}/h"
    if quality < spec.quality.average_minimum:
        return f"mean quality {quality:.3f} is below {spec.quality.average_minimum:g}"
    if not limits.below(model, fleet):
        return "more replicas or accelerators than there may be"
    if not limits.hold(model, fleet):
        return "fewer replicas than there must be"
    if usd > planned:
        return f"costs ${usd - planned:.2f}/h more"
    return f"saves ${planned - usd:.2f}/h, not enough to pay for the move, or not for long enough yet"


def binding(draft: Draft, memo: Memo) -> Constraint:
    """What keeps the plan from the uncapped one, where something was given up for it."""
    if draft.given is Given.NOTHING and draft.target == draft.ideal:
        return Constraint.NONE
    if draft.target != draft.ideal:
        return Constraint.CAPACITY
    if draft.given is Given.TARGET:
        return Constraint.NONE
    uncapped = memo.uncapped or {}
    model, limits = draft.model, draft.limits
    wish = tuple([uncapped.get(name, 0) for name in model.names])
    if model.usd_per_hour(wish) > limits.budget:
        return Constraint.BUDGET
    if not replace(limits, total=(0, UNCAPPED_MAX), tiers=((0, UNCAPPED_MAX),) * len(wish)).below(model, wish):
        return Constraint.CAPACITY
    if not limits.below(model, wish):
        closed = any(a.blocked and n > a.counted for a, n in zip(draft.arrivals, wish, strict=True))
        return Constraint.CAPACITY if closed else Constraint.MAX_REPLICAS
    return Constraint.QUALITY


def _reason(draft: Draft, outcome: Outcome) -> Reason:
    if draft.reason in SPOKEN:
        return draft.reason
    if any(a.stuck for a in draft.arrivals):
        return Reason.REPLICAS_STUCK
    if draft.given is Given.TARGET:
        return Reason.TARGET_INFEASIBLE
    if outcome.attainment < draft.spec.slo.attainment and outcome.binding in LIMITED:
        return LIMITED[outcome.binding]
    if draft.given is Given.QUALITY:
        return Reason.QUALITY_REDUCED
    if draft.target != outcome.fleet and draft.reason is Reason.STEADY:
        return Reason.TIER_SWITCH
    return draft.reason


def _prediction(draft: Draft, outcome: Outcome) -> Prediction:
    demand, fleet = draft.demand, outcome.fleet
    usd = outcome.usd_per_hour
    if not any(fleet):
        return Prediction(
            attainment=None, ttft_s_p95=None, itl_s_p95=None, usd_per_hour=usd, usd_per_million_output_tokens=None
        )
    ttft, itl, quality = outcome.profile.latency(demand.shown_rps)
    tokens_per_s = demand.mean_rps * draft.problem.forecast.output_tokens
    per_million = usd / SECONDS_PER_HOUR / tokens_per_s * MILLION if tokens_per_s > 0 else None
    powers = [p * n if p is not None else None for p, n in zip(draft.model.powers, fleet, strict=True) if n]
    watts = sum([p for p in powers if p is not None]) if None not in powers else None
    return Prediction(
        attainment=outcome.attainment,
        ttft_s_p95=ttft,
        itl_s_p95=itl,
        usd_per_hour=usd,
        usd_per_million_output_tokens=per_million,
        usd_per_million_good_tokens=per_million / outcome.attainment if per_million and outcome.attainment else None,
        joules_per_output_token=watts / tokens_per_s if watts is not None and tokens_per_s > 0 else None,
        quality_mean=quality,
    )


def fleet_text(names: tuple[str, ...], fleet: Fleet) -> str:
    """`2 x bf16 + 3 x fp8`; `nothing` for none."""
    return " + ".join([f"{n} x {name}" for name, n in zip(names, fleet, strict=True) if n]) or "nothing"


def _message(draft: Draft, outcome: Outcome, reason: Reason) -> str:
    demand, names = draft.demand, draft.model.names
    fleet, price = fleet_text(names, outcome.fleet), f"${outcome.usd_per_hour:.2f}/h"
    seen = f"forecast {demand.shown_rps:.1f} req/s (p90, {demand.horizon_s:.0f} s ahead)"
    plan = f"{fleet}: {price}"
    if reason in (Reason.METRICS_MISSING, Reason.FALLBACK):
        return _blind(draft, reason, plan)
    if reason in (Reason.PAUSED, Reason.MODE_OFF):
        return f"left alone at {plan}"
    if reason is Reason.SCALED_TO_ZERO:
        return f"no request for {draft.problem.forecast.idle_s:.0f} s; {plan}"
    if reason is Reason.NOT_GPU_BOUND:
        return (
            f"latency misses its targets at a GPU utilization of {draft.utilization or 0.0:.2f}: "
            f"more replicas will not cure it; kept {plan}"
        )
    if reason is Reason.REPLICAS_STUCK:
        stuck = fleet_text(names, tuple([a.stuck for a in draft.arrivals]))
        return f"{stuck} did not start in time; going on with {plan}"
    if reason is Reason.TARGET_INFEASIBLE:
        return f"{infeasible(draft)}; best effort {plan}"
    missed = f", attainment {outcome.attainment:.3f} of {draft.spec.slo.attainment:g}"
    if reason in LIMITED.values():
        return f"{seen} is more than {outcome.binding.value} allows: {plan}{missed}"
    if outcome.fleet != draft.target:
        return f"{seen} needs {fleet_text(names, draft.target)}; on the way {plan}"
    if reason is Reason.STABILIZING:
        return f"{seen} needs less than {plan}; waiting for the stabilization window"
    return f"{seen} needs {plan}"


def _blind(draft: Draft, reason: Reason, plan: str) -> str:
    gap = draft.missing.detail if draft.missing is not None else "no metrics"
    since = f" for {draft.time_s - draft.fresh_s:.0f} s" if draft.fresh_s is not None else ""
    what = "last good plan" if reason is Reason.FALLBACK else "held"
    return f"metrics missing{since} ({gap}); {what}: {plan}"


def infeasible(draft: Draft) -> str:
    """What the targets would have to be at least: the idle latency of the best tier."""
    model, slo = draft.model, draft.spec.slo
    allowed = [i for i, ok in enumerate(model.usable) if ok] or [0]
    best = max(allowed, key=lambda i: float(model.goods[i, 0] / max(model.rates[i, 0], 1e-12)))
    ttft, itl = float(model.ttft[best, 0]), float(model.itl[best, 0])
    parts = []
    if ttft > slo.ttft_s:
        parts.append(f"TTFT {slo.ttft_s * 1e3:.0f} ms cannot be met, at least {ttft * 1e3:.0f} ms")
    if itl > slo.itl_s:
        parts.append(f"ITL {slo.itl_s * 1e3:.0f} ms cannot be met, at least {itl * 1e3:.0f} ms")
    if not parts:
        idle = float(model.goods[best, 0] / max(model.rates[best, 0], 1e-12))
        parts.append(f"attainment {slo.attainment:g} cannot be met, at most {idle:.3f}")
    return " and ".join(parts) + f" (p95 of an idle {model.names[best]} replica)"
