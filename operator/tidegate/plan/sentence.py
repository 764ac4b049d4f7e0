"""
The message of a decision: one sentence with the numbers, for each reason.
"""

from dataclasses import dataclass
from math import ceil, floor

from tidegate.domain.decision import Constraint, Reason
from tidegate.domain.estimate import Relaxed
from tidegate.domain.spec import Slo
from tidegate.plan.cuts import DUST
from tidegate.plan.draft import Draft
from tidegate.plan.fleet import Fleet, Profile, with_more
from tidegate.plan.solve import Given

LIMITED = {
    Constraint.BUDGET: Reason.BUDGET_LIMITED,
    Constraint.CAPACITY: Reason.CAPACITY_LIMITED,
    Constraint.MAX_REPLICAS: Reason.REPLICAS_LIMITED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Prediction for the decided fleet, for the message and the conditions. `serving`: without its stuck replicas."""

    fleet: Fleet
    serving: Fleet
    usd_per_hour: float
    attainment: float
    profile: Profile


def fleet_text(names: tuple[str, ...], fleet: Fleet) -> str:
    """`2 x bf16 + 3 x fp8`; `no replicas` for none."""
    return " + ".join([f"{n} x {name}" for name, n in zip(names, fleet, strict=True) if n]) or "no replicas"


def limit_text(draft: Draft) -> str:
    """The binding limit by the name under which the user can change it: a pin is not raised by `maxReplicas`."""
    pinned = draft.binding is Constraint.MAX_REPLICAS and sum(draft.target) == draft.spec.replicas_pinned
    return "spec.replicas" if pinned else draft.binding.value


def three_digits(share: float, *, promised: float) -> str:
    """A share with three digits; rounded down if it is below the promise and would otherwise read as meeting it."""
    keeps = share >= promised or round(share, 3) < promised
    return f"{share if keeps else floor(share * 1000) / 1000:.3f}"


def sentence(draft: Draft, outcome: Outcome, reason: Reason) -> str:
    """The reason for the decision in one sentence."""
    plan = f"{fleet_text(draft.model.names, outcome.fleet)}: ${outcome.usd_per_hour:.2f}/h"
    special = SPECIAL.get(reason)
    if special is not None:
        return special(draft, plan)
    demand = draft.demand
    seen = f"forecast {demand.shown_rps:.1f} req/s (p90, {demand.horizon_s:.0f} s ahead)"
    if reason in LIMITED.values():
        return _limited(draft, outcome, seen, plan)
    if outcome.fleet != draft.target:
        return f"{seen} needs {fleet_text(draft.model.names, draft.target)}; next step {plan}"
    if reason is Reason.STABILIZING:
        return f"{seen} needs less than {plan}; waiting for the stabilization window"
    if draft.given is Given.NOTHING and _kept_up(draft):
        who = "spec.replicas asks" if draft.limits.pinned else "the lower bounds ask"
        return f"{seen} needs less than {who} for: {plan}"
    return f"{seen} needs {plan}"


def _limited(draft: Draft, outcome: Outcome, seen: str, plan: str) -> str:
    """What a limit keeps from the plan: replicas, or only the mix it would rather have."""
    limit, promised = limit_text(draft), draft.spec.slo.attainment
    attained = f"attainment {three_digits(outcome.attainment, promised=promised)} of {promised:g}"
    if outcome.attainment < draft.asked - DUST:
        return f"{seen} needs more than {limit} allows: {plan}, {attained}"
    if draft.under > 0:
        return f"the lower bounds need more than {limit} allows: {plan}"
    if draft.target != draft.ideal:
        wish, target = [fleet_text(draft.model.names, fleet) for fleet in (draft.ideal, draft.target)]
        step = plan if outcome.fleet == draft.target else f"{target}, next step {plan}"
        return f"{seen} calls for {wish}, for which {limit} leaves no room; instead {step}, {attained}"
    return f"{seen} gets all that {limit} allows: {plan}, {attained}"


def _kept_up(draft: Draft) -> bool:
    """Whether only the lower bounds keep the replica that carries least."""
    target, limits, capacities = draft.target, draft.limits, draft.model.capacities
    pairs = enumerate(zip(target, limits.tiers, strict=True))
    bound = [i for i, (n, (low, _)) in pairs if n and (n == low or sum(target) == limits.total[0])]
    if not bound or sum(target) == 1:
        return False
    least = min(bound, key=lambda i: capacities[i])
    return draft.profile_of(with_more(target, least, -1)).attainment(draft.demand) >= draft.asked


def _left_alone(draft: Draft, plan: str) -> str:
    return f"left as it is: {plan}"


def _asleep(draft: Draft, plan: str) -> str:
    return f"no request for {draft.problem.forecast.idle_s:.0f} s; {plan}"


def _waiting_for_other_things(draft: Draft, plan: str) -> str:
    used = draft.utilization or 0.0
    return f"latency misses its targets at a GPU utilization of {used:.2f}: more replicas will not help; kept {plan}"


def _stuck(draft: Draft, plan: str) -> str:
    late = tuple([a.stuck - a.lost for a in draft.arrivals])
    lost = tuple([a.lost for a in draft.arrivals])
    said = ((late, "did not start in time"), (lost, "lost with their nodes"))
    stuck = "; ".join([f"{fleet_text(draft.model.names, fleet)} {what}" for fleet, what in said if any(fleet)])
    return f"{stuck}; requested now: {plan}"


def _best_effort(draft: Draft, plan: str) -> str:
    return f"{infeasible(draft)}; best effort: {plan}"


def _held(draft: Draft, plan: str) -> str:
    return f"{_blind(draft)}; held: {plan}"


def _fallen_back(draft: Draft, plan: str) -> str:
    usual = draft.problem.forecast.usual_rps
    hour = f", for at least the {usual:.1f} req/s that are usual at this hour" if usual is not None else ""
    return f"{_blind(draft)}; last good plan{hour}: {plan}"


def _blind(draft: Draft) -> str:
    gap = draft.missing.detail if draft.missing is not None else "no metrics"
    since = f" for {draft.time_s - draft.fresh_s:.0f} s" if draft.fresh_s is not None else ""
    return f"metrics missing{since} ({gap})"


def infeasible(draft: Draft) -> str:
    """Which targets cannot be met, and the smallest feasible values: the idle latency of the best tier."""
    model, slo = draft.model, draft.spec.slo
    if model.relaxed is not None:
        return _instead(model.relaxed, slo)
    allowed = [i for i, (_, high) in enumerate(draft.base.tiers) if high > 0] or [0]
    best = max(allowed, key=lambda i: float(model.goods[0, i, 0] / max(model.rates[i, 0], 1e-12)))
    ttft, itl = float(model.ttft[best, 0]), float(model.itl[best, 0])
    attainment = float(model.goods[0, best, 0] / max(model.rates[best, 0], 1e-12))
    return f"{_out_of_reach(slo, ttft, itl, attainment, 'p95 ')}, even by an idle {model.names[best]} replica"


def _instead(relaxed: Relaxed, slo: Slo) -> str:
    """What no tier meets, and what is planned for instead."""
    missed = _out_of_reach(slo, relaxed.idle_ttft_s, relaxed.idle_itl_s, relaxed.attainment, "")
    return f"{missed}; planned for TTFT {relaxed.ttft_s * 1e3:.0f} ms and ITL {relaxed.itl_s * 1e3:.0f} ms"


def _out_of_reach(slo: Slo, idle_ttft_s: float, idle_itl_s: float, attainment: float, quantile: str) -> str:
    """
    The targets that an idle replica misses, each with the smallest feasible value; if none, the attainment.

    Targets are whole milliseconds, so the value is rounded up: the nearest one may be infeasible too.
    """
    each = (("TTFT", slo.ttft_s, idle_ttft_s), ("ITL", slo.itl_s, idle_itl_s))
    parts = [
        f"{name} {target * 1e3:.0f} ms cannot be met ({quantile}at least {ceil(idle * 1e3 - DUST)} ms)"
        for name, target, idle in each
        if idle > target
    ]
    return " and ".join(parts) or f"attainment {slo.attainment:g} cannot be met (at most {attainment:.3f})"


def _pinned(draft: Draft, plan: str) -> str:
    return f"spec.replicas fixes the total at {draft.spec.replicas_pinned}: {plan}"


SPECIAL = {
    Reason.PINNED: _pinned,
    Reason.PAUSED: _left_alone,
    Reason.MODE_OFF: _left_alone,
    Reason.SCALED_TO_ZERO: _asleep,
    Reason.NOT_GPU_BOUND: _waiting_for_other_things,
    Reason.REPLICAS_STUCK: _stuck,
    Reason.TARGET_INFEASIBLE: _best_effort,
    Reason.METRICS_MISSING: _held,
    Reason.FALLBACK: _fallen_back,
}
