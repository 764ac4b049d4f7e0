"""
The planner's findings as conditions. Messages contain no number that changes every tick, so that status is stable.
"""

from datetime import UTC, datetime
from functools import lru_cache

from tidegate.domain.decision import Condition, Constraint, Reason, Status
from tidegate.plan.cuts import DUST
from tidegate.plan.draft import Draft
from tidegate.plan.limits import MONEY_DUST
from tidegate.plan.sentence import limit_text
from tidegate.plan.sight import Sight
from tidegate.plan.solve import Given


def conditions(draft: Draft, *, attainment: float, quality: float, usd_per_hour: float) -> tuple[Condition, ...]:
    """
    The conditions of one deployment: always all types, one of each.

    Args:
        attainment: Share of requests that the fleet is expected to serve within the targets.
        quality: Its mean quality, weighted by traffic.
        usd_per_hour: Its price, $/h.
    """
    return (
        _slo(draft, attainment),
        _budget(draft, usd_per_hour),
        _metrics(draft),
        _capacity(draft),
        _quality(draft, quality),
        _scaling(draft),
    )


@lru_cache(maxsize=4096)
def _made(type_: str, status: Status, reason: str, message: str) -> Condition:
    return Condition(type=type_, status=status, reason=reason, message=message)


def _slo(draft: Draft, attainment: float) -> Condition:
    if draft.sight is Sight.NONE:
        return _made("SLOMet", Status.UNKNOWN, "MetricsMissing", "there are no metrics to judge by")
    target, promised, relaxed = draft.asked, draft.spec.slo.attainment, draft.model.relaxed
    if relaxed is not None:
        text = f"TTFT {relaxed.ttft_s * 1e3:.0f} ms, ITL {relaxed.itl_s * 1e3:.0f} ms"
        message = f"no tier meets the targets even without load; planned for {text}"
        return _made("SLOMet", Status.FALSE, "TargetInfeasible", message)
    if draft.infeasible:
        return _made("SLOMet", Status.FALSE, "TargetInfeasible", "no tier meets the targets even without load")
    if attainment < target - DUST and draft.reason is not Reason.SCALED_TO_ZERO:
        reason = "TooFewReplicas" if draft.binding is Constraint.NONE else f"{draft.binding.value}Limited"
        return _made("SLOMet", Status.FALSE, reason, f"expected attainment is below {target:g}")
    if target < promised:
        text = (
            f"expected attainment is at least {target:g}; the error budget left of the promised {promised:g} allows it"
        )
        return _made("SLOMet", Status.TRUE, "ErrorBudgetLeft", text)
    return _made("SLOMet", Status.TRUE, "Planned", f"expected attainment is at least {target:g}")


def _budget(draft: Draft, usd_per_hour: float) -> Condition:
    budget = draft.limits.budget
    if usd_per_hour > budget + MONEY_DUST:  # no plan does this, only replicas that a person has set
        text = f"the replicas cost more than the budget of ${budget:.2f}/h"
        return _made("WithinBudget", Status.FALSE, "AboveBudget", text)
    if budget == float("inf"):
        return _made("WithinBudget", Status.TRUE, "NoBudget", "no budget is set")
    return _made("WithinBudget", Status.TRUE, "Planned", f"the plan is within the budget of ${budget:.2f}/h")


def _metrics(draft: Draft) -> Condition:
    if draft.missing is not None:
        since = draft.fresh_s
        when = f"missing since {_clock(since)}" if since is not None else "never complete so far"
        return Condition(
            type="MetricsAvailable",
            status=Status.FALSE,
            reason=draft.missing.reason,
            message=f"{draft.missing.detail}; {when}",
        )
    if draft.sight is Sight.NOTHING_RUNS and draft.problem.gateway is None:
        return _made("MetricsAvailable", Status.UNKNOWN, "NoReplicas", "no replica is ready, so none reports")
    return _made("MetricsAvailable", Status.TRUE, "Fresh", "every tier with a ready replica reports")


def _clock(time_s: float) -> str:
    return datetime.fromtimestamp(int(time_s), tz=UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _capacity(draft: Draft) -> Condition:
    if stuck := _stuck(draft):
        return _made("CapacityAvailable", Status.FALSE, "ReplicasStuck", stuck)
    if draft.binding is Constraint.CAPACITY:
        if names := ", ".join(draft.scattered):
            text = f"no node has enough free accelerators for another replica of: {names}"
            return _made("CapacityAvailable", Status.FALSE, "AcceleratorsScattered", text)
        text = "an accelerator class is too small for the plan"
        return _made("CapacityAvailable", Status.FALSE, "AcceleratorsShort", text)
    return _made("CapacityAvailable", Status.TRUE, "Enough", "there are enough accelerators for the plan")


def _stuck(draft: Draft) -> str:
    """Which tiers have stuck replicas, or may not grow because they had; empty: none."""
    arrivals = list(zip(draft.model.names, draft.arrivals, strict=True))
    late = ", ".join([name for name, a in arrivals if a.stuck > a.lost or a.blocked])
    lost = ", ".join([name for name, a in arrivals if a.lost])
    said = (("replicas do not start in time", late), ("replicas are lost with their nodes", lost))
    return "; ".join([f"{what}: {names}" for what, names in said if names])


def _quality(draft: Draft, mean: float) -> Condition:
    least = draft.spec.quality.average_minimum
    if draft.given is Given.QUALITY:
        return _made("QualityReduced", Status.TRUE, "GivenUp", f"mean quality is below {least:g} to meet the targets")
    if draft.given is not Given.NOTHING and mean < least - DUST:
        text = f"mean quality is below {least:g} to come as close to the targets as possible"
        return _made("QualityReduced", Status.TRUE, "GivenUp", text)
    return _made("QualityReduced", Status.FALSE, "Kept", "the mean quality is kept")


def _scaling(draft: Draft) -> Condition:
    if draft.binding is Constraint.NONE:
        return _made("ScalingLimited", Status.FALSE, "NotLimited", "no limit changes the plan")
    limit = limit_text(draft)
    if draft.under > 0:
        text = f"{limit} keeps the plan below its lower bounds"
    else:
        text = f"{limit} limits the plan; status.decision.uncapped is the plan without limits"
    return _made("ScalingLimited", Status.TRUE, draft.binding.value, text)
