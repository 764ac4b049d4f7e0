"""
The decision in words and numbers: its reason, prediction, binding constraint and alternatives.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from tidegate.domain.decision import Alternative, Decision, Prediction, Reason, TierDecision
from tidegate.plan.conditions import conditions
from tidegate.plan.cuts import DUST
from tidegate.plan.draft import Draft
from tidegate.plan.fleet import Fleet, FleetModel, Profile, expected_attainment, mean_quality, with_more
from tidegate.plan.limits import MONEY_DUST, accelerators_used
from tidegate.plan.memo import Memo
from tidegate.plan.search import alone
from tidegate.plan.sentence import LIMITED, Outcome, sentence, three_digits
from tidegate.plan.solve import Given, without_limits
from tidegate.units import MILLION, SECONDS_PER_DAY, SECONDS_PER_HOUR

# Enough replicas for any uncapped plan, and few enough to search.
UNCAPPED_MAX = 2_000
ALTERNATIVES_MAX = 3
# Less than one request a day counts as none: the forecast is never exactly zero, and a price per token would be absurd.
SOMEBODY_RPS = 1.0 / SECONDS_PER_DAY
# These reasons take precedence; the others are replaced by a more informative one, such as a binding limit.
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


def explain(draft: Draft, fleet: Fleet) -> Decision:
    """The decision to set `fleet` now, on the way to the draft's target; the memo's `tiers` describes this fleet."""
    model, demand = draft.model, draft.demand
    serving = draft.without_stuck(fleet)
    curve = draft.profile_of(serving)
    outcome = Outcome(
        fleet=fleet,
        serving=serving,
        usd_per_hour=model.usd_per_hour(fleet),
        attainment=_attained(draft, serving, curve),
        profile=curve,
    )
    reason = _reason(draft, outcome)
    return Decision(
        key=draft.spec.key,
        tiers=draft.memo.tiers,
        reason=reason,
        message=sentence(draft, outcome, reason),
        forecast_rps=demand.shown_rps,
        horizon_s=demand.horizon_s,
        prediction=_prediction(draft, outcome),
        conditions=conditions(
            draft,
            attainment=outcome.attainment,
            quality=curve.latency(demand.mean_rps)[2] if any(serving) else 1.0,
            usd_per_hour=outcome.usd_per_hour,
        ),
        uncapped=draft.memo.uncapped,
        binding=draft.binding,
        alternatives=draft.memo.alternatives or (),
    )


def tier_decisions(draft: Draft, fleet: Fleet) -> Mapping[str, TierDecision]:
    """Replicas of each tier, with the capacity, start-up time and confidence of one replica."""
    model, estimates = draft.model, draft.problem.estimates
    return {
        name: TierDecision(
            replicas=n,
            capacity_rps=capacity if name in estimates else None,
            startup_s=startup if name in estimates else None,
            confidence=estimates[name].confidence if name in estimates else None,
        )
        for name, n, capacity, startup in zip(model.names, fleet, model.capacities, model.startup_s, strict=True)
    }


def _attained(draft: Draft, fleet: Fleet, curve: Profile) -> float:
    if draft.attained is not None and fleet == draft.current:
        return draft.attained
    return curve.attainment(draft.demand) if any(fleet) or draft.demand.shown_rps > 0 else 1.0


def survey(draft: Draft) -> Memo:
    """The memo with the current uncapped plan and alternatives."""
    goal = draft.goal(draft.demand)
    single = alone(draft.model, goal, replicas_max=UNCAPPED_MAX)
    if draft.given is Given.NOTHING and draft.target == draft.ideal and _roomy(draft, single):
        free = draft.target
    else:
        free = without_limits(draft.model, goal, replicas_max=UNCAPPED_MAX).fleet
    uncapped = {name: n for name, n in zip(draft.model.names, free, strict=True) if n}
    return replace(draft.memo, uncapped=uncapped, alternatives=_alternatives(draft, list(single.values())))


def _roomy(draft: Draft, single: Mapping[int, Fleet]) -> bool:
    """Whether no limit matters: each usable tier could carry everything alone, and no lower bound adds replicas."""
    limits, model = draft.limits, draft.model
    if len(single) < sum(model.usable) or any(low for low, _ in limits.tiers):
        return False
    return all(limits.below(model, f) and limits.total[0] <= sum(f) for f in (*single.values(), draft.target))


def _alternatives(draft: Draft, fleets: list[Fleet]) -> tuple[Alternative, ...]:
    """The best alternatives among each usable tier alone and the target with one replica less."""
    model = draft.model
    smaller = [with_more(draft.target, i, -1) for i, n in enumerate(draft.target) if n]
    others = [f for f in dict.fromkeys([*fleets, *smaller]) if f != draft.target and any(f)]
    if not others:
        return ()
    rows = np.array(others)
    reached = expected_attainment(model, rows, draft.demand)
    quality = mean_quality(model, rows, draft.demand.mean_rps)
    found = sorted(
        zip(others, reached.tolist(), quality.tolist(), strict=True),
        key=lambda row: (row[1] < draft.asked, model.usd_per_hour(row[0])),
    )
    return tuple(
        [
            Alternative(
                replicas={name: n for name, n in zip(model.names, fleet, strict=True) if n},
                usd_per_hour=model.usd_per_hour(fleet),
                attainment=round(a * model.reachable, 4),
                why_not=_why_not(draft, fleet, attainment=a, quality=q),
            )
            for fleet, a, q in found[:ALTERNATIVES_MAX]
        ]
    )


def _why_not(draft: Draft, fleet: Fleet, *, attainment: float, quality: float) -> str:
    """The first reason that applies."""
    model, limits, target = draft.model, draft.limits, draft.target
    more_usd = model.usd_per_hour(fleet) - model.usd_per_hour(target)
    of = "" if model.relaxed is None else " (at the targets planned for instead)"
    asked, average = draft.asked, draft.spec.quality.average_minimum
    reached, mean = three_digits(attainment, promised=asked), three_digits(quality, promised=average)
    budget = f"${model.usd_per_hour(fleet):.2f}/h is above the budget of ${limits.budget:.2f}/h"
    same = abs(more_usd) <= MONEY_DUST
    reasons = (
        (attainment < asked - DUST, f"attainment {reached}{of} is below {asked:g}"),
        (model.usd_per_hour(fleet) > limits.budget + MONEY_DUST, budget),
        (quality < average - DUST, f"mean quality {mean} is below {average:g}"),
        (not limits.below(model, fleet), "exceeds the replica bounds or the available accelerators"),
        (not limits.hold(model, fleet), "is below the minimum number of replicas"),
        (_of_others(draft, fleet), "needs accelerators that are left to other deployments"),
        (more_usd > MONEY_DUST, f"costs ${more_usd:.2f}/h more"),
        (same and model.cost(fleet) > model.cost(target), "costs the same but uses more accelerators"),
        (same and _carried(model, fleet) <= _carried(model, target) + DUST, "costs the same and carries no more load"),
        (same, "costs the same, and the move to it would come on top"),
        (True, f"saves ${-more_usd:.2f}/h, but not enough to pay for the move, or not for long enough yet"),
    )
    return next(text for holds, text in reasons if holds)


def _of_others(draft: Draft, fleet: Fleet) -> bool:
    """Whether a fleet needs more of a shared class than the deployment was left with."""
    used = accelerators_used(draft.model, fleet)
    return draft.target != draft.ideal and any(used.get(name, 0) > own for name, (own, _) in draft.grant.items())


def _carried(model: FleetModel, fleet: Fleet) -> float:
    return sum([n * capacity for n, capacity in zip(fleet, model.capacities, strict=True)])


def _reason(draft: Draft, outcome: Outcome) -> Reason:
    """The most informative reason."""
    reason = draft.reason
    if reason in SPOKEN:
        return reason
    if any(a.stuck for a in draft.arrivals):
        reason = Reason.REPLICAS_STUCK
    elif draft.infeasible or draft.model.relaxed is not None:
        reason = Reason.TARGET_INFEASIBLE
    elif _cut(draft) and draft.binding in LIMITED:
        reason = LIMITED[draft.binding]
    elif draft.given is Given.QUALITY:
        reason = Reason.QUALITY_REDUCED
    elif reason is Reason.STEADY and draft.target != outcome.fleet:
        waits = outcome.fleet == draft.with_kept(draft.target)
        reason = Reason.STABILIZING if waits else Reason.TIER_SWITCH
    return reason


def _cut(draft: Draft) -> bool:
    """Whether the plan falls short: attainment given up, accelerators shared out, or lower bounds not met."""
    return draft.given >= Given.TARGET or draft.target != draft.ideal or draft.under > 0


def _prediction(draft: Draft, outcome: Outcome) -> Prediction:
    demand, serving = draft.demand, outcome.serving
    usd, attainment = outcome.usd_per_hour, outcome.attainment * draft.model.reachable
    if not any(serving):
        return Prediction(
            attainment=None, ttft_s_p95=None, itl_s_p95=None, usd_per_hour=usd, usd_per_million_output_tokens=None
        )
    ttft, itl, quality = outcome.profile.latency(demand.shown_rps)
    arriving_rps, tokens = demand.mean_rps, draft.problem.forecast.output_tokens
    if arriving_rps <= SOMEBODY_RPS:
        arriving_rps = 0.0
    tokens_per_s = min(arriving_rps, outcome.profile.rates[-1]) * tokens  # more than the fleet can serve has to wait
    powers = [p * n if p is not None else None for p, n in zip(draft.model.powers, serving, strict=True) if n]
    watts = sum([p for p in powers if p is not None]) if None not in powers else None
    return Prediction(
        attainment=attainment,
        ttft_s_p95=None if outcome.profile.is_beyond(demand.shown_rps) else ttft,
        itl_s_p95=itl,
        usd_per_hour=usd,
        usd_per_million_output_tokens=_usd_per_million(usd, tokens_per_s),
        usd_per_million_good_tokens=_usd_per_million(usd, arriving_rps * attainment * tokens),
        joules_per_output_token=watts / tokens_per_s if watts is not None and tokens_per_s > 0 else None,
        quality_mean=quality,
    )


def _usd_per_million(usd_per_hour: float, tokens_per_s: float) -> float | None:
    return usd_per_hour / SECONDS_PER_HOUR / tokens_per_s * MILLION if tokens_per_s > 0 else None
