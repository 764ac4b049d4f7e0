"""
The status of a deployment and of an accelerator class.

In:    a `Report`; `report.resource.status` is the current status.
Out:   the whole `.status`. It equals the old one if nothing that matters has changed.
Rules: pure. Unknown values are left out, never zero. If nothing was observed, the previous observation stays.
"""

from collections.abc import Mapping
from typing import Any

from tidegate.domain.decision import Condition, Constraint, Decision, Prediction, Reason, Status, TierDecision
from tidegate.domain.goodput import Goodput, goodput_of
from tidegate.domain.spec import TierSpec
from tidegate.errors import SpecError
from tidegate.ports import DEPLOYMENT_LABEL, AcceleratorResource, AcceleratorUse, Report, by_key, workload_ref
from tidegate.report.conditions import as_json, conditions
from tidegate.report.currency import currency_of
from tidegate.report.numbers import calm, calm_count, calm_share, instant, money, plain
from tidegate.report.price import price_per_hour, price_per_million
from tidegate.units import milliseconds

Json = dict[str, Any]
Old = Mapping[str, Any]

# Decisions that change replicas: they stay in the status while the fleet is what they made it.
MOVES = frozenset(
    reason.value
    for reason in (
        Reason.INITIAL,
        Reason.DEMAND_RISING,
        Reason.DEMAND_FALLING,
        Reason.TIER_SWITCH,
        Reason.BOUNDS_CHANGED,
        Reason.ACTIVATED,
        Reason.SCALED_TO_ZERO,
    )
)
ALTERNATIVES = 3
# The CRD allows so many characters; with more, the API server would refuse every status.
SELECTOR_LENGTH = 512
UTILIZATION_BAND = 0.05


def deployment_status(report: Report) -> Json:
    """The whole status of one deployment."""
    old: Old = report.resource.status
    spec = report.resource.spec
    seen = _seen(report)
    status: Json = {"observedGeneration": report.resource.generation}
    if isinstance(spec, SpecError):
        kept = {name: value for name, value in old.items() if name not in ("conditions", "observedGeneration")}
        return status | kept | {"conditions": conditions(report, None)}
    rows = by_key(old.get("tiers"), "name")
    tiers = [_tier(tier, report, rows.get(tier.name, {})) for tier in (*spec.tiers, *report.leaving)]
    status |= _totals(report, tiers)
    cost = _cost(report, seen, old.get("cost") or {})
    status["conditions"] = conditions(report, seen, cost.get("perMillionOutputTokens"))
    status["tiers"] = tiers
    parts = {
        "goodput": _goodput(seen, old.get("goodput") or {}),
        "cost": cost,
        "gpuUtilization": _utilization(seen, old.get("gpuUtilization")),
        "decision": _decision(report.decision, old, tiers, report.time_s),
    }
    return status | {name: part for name, part in parts.items() if part}


def accelerator_status(
    resource: AcceleratorResource, use: AcceleratorUse | None, time_s: float, *, serves_all: bool = True
) -> Json:
    """
    The whole status of one accelerator class.

    Args:
        use: None: the nodes have not been seen yet.
        serves_all: False for an installation of one shard or namespace. It would count what the other installations
            hold as foreign, and two of them would overwrite each other's numbers forever. So it leaves them as they
            are.
    """
    status: Json = {"observedGeneration": resource.generation}
    if use is not None:
        holders = {"allocatedByTidegate": use.by_tidegate, "allocatedByOthers": use.by_others}
        if not serves_all:
            holders = {name: resource.status[name] for name in holders if name in resource.status}
        status |= {"allocatable": use.allocatable, **holders}
    old = by_key(resource.status.get("conditions"), "type")
    ready = _class_ready(resource, use)
    return status | {"conditions": [as_json(ready, old.get("Ready", {}), resource.generation, time_s)]}


def _class_ready(resource: AcceleratorResource, use: AcceleratorUse | None) -> Condition:
    if isinstance(resource.accelerator, SpecError):
        state, reason, message = Status.FALSE, "InvalidSpec", str(resource.accelerator)
    elif use is None:
        state, reason, message = Status.UNKNOWN, "NotCounted", "the nodes have not been counted yet"
    elif use.allocatable == 0 and resource.accelerator.capacity is None:
        state, reason, message = Status.FALSE, "NoNodes", "no usable node matches nodeSelector and offers resourceName"
    else:
        state, reason, message = Status.TRUE, "Counted", "deployments may use it"
    return Condition(type="Ready", status=state, reason=reason, message=message)


def _seen(report: Report) -> Goodput | None:
    """What users got; None if nothing was observed in this tick."""
    spec = report.resource.spec
    if isinstance(spec, SpecError) or report.observation is None:
        return None
    return goodput_of(report.observation, spec.joined(report.leaving))


def _tier(tier: TierSpec, report: Report, old: Old) -> Json:
    state = report.observation.tiers.get(tier.name) if report.observation is not None else None
    decided = report.decision.tiers.get(tier.name) if report.decision is not None else None
    seen: Json
    if state is not None:
        seen = {"ready": state.ready, "starting": state.on_the_way, "terminating": state.terminating}
        seen |= {"failing": state.failing} if state.failing else {}
    else:
        seen = {name: old.get(name) for name in ("ready", "starting", "failing", "terminating")}
    startup_s = state.startup_s if state is not None else None
    if startup_s is None and decided is not None:
        startup_s = decided.startup_s
    row = {
        "name": tier.name,
        "desired": decided.replicas if decided is not None else old.get("desired"),
        "asked": _asked(tier.name, report, old),
        **seen,
        "startupSeconds": _startup(startup_s, old.get("startupSeconds")),
        "capacityPerReplica": _capacity(decided, old.get("capacityPerReplica")),
    }
    return {name: value for name, value in row.items() if value is not None}


def _asked(tier: str, report: Report, old: Old) -> object:
    """
    What the workload was last asked for; if that was not checked, the value in the status, for the same generation.
    """
    if report.outcome is not None and report.outcome.asked is not None:
        return report.outcome.asked.get(tier)
    same = report.resource.status.get("observedGeneration") == report.resource.generation
    return old.get("asked") if same else None


def _selector(report: Report) -> str:
    """
    Label selector of the pods, for the scale subresource.

    Pods of managed tiers carry our label. If the only tier points at a workload, it is that workload's selector.
    Several workloads have no common selector, and a long one has no room: our label then selects nothing rather than
    too much.
    """
    spec = report.resource.valid_spec
    if len(spec.tiers) == 1 and spec.tiers[0].target_ref is not None:
        target = report.view.workloads.get(workload_ref(spec.key, spec.tiers[0]))
        if target is not None and len(target.selector) <= SELECTOR_LENGTH:
            return target.selector
    return f"{DEPLOYMENT_LABEL}={spec.key.name}"


def _startup(startup_s: float | None, old: object) -> object:
    """The start-up time; the previous one until a new one is known."""
    return old if startup_s is None else calm_count(startup_s, old)


def _capacity(decided: TierDecision | None, old: object) -> object:
    return old if decided is None else calm(decided.capacity_rps, old)


def _utilization(seen: Goodput | None, old: object) -> object:
    return old if seen is None else calm_share(seen.gpu_utilization, old, band=UTILIZATION_BAND)


def _totals(report: Report, tiers: list[Json]) -> Json:
    replicas = sum(tier.get("ready", 0) + tier.get("starting", 0) for tier in tiers)
    desired = [f"{tier['desired']} {tier['name']}" for tier in tiers if tier.get("desired")]
    totals: Json = {
        "replicas": replicas,
        "readyReplicas": sum(tier.get("ready", 0) for tier in tiers),
        "selector": _selector(report),
    }
    if any("desired" in tier for tier in tiers):
        totals["mix"] = " + ".join(desired) or "none"
    return totals


def _goodput(seen: Goodput | None, old: Old) -> Json:
    if seen is None:
        return dict(old)
    share = seen.attainment.likely if seen.attainment is not None else None
    row = {
        "requestsPerSecond": calm(seen.good_rps, old.get("requestsPerSecond")),
        "attainment": calm_share(share, old.get("attainment")),
        "ttftP95Milliseconds": calm_count(
            milliseconds(seen.ttft.p95_s) if seen.ttft else None, old.get("ttftP95Milliseconds")
        ),
        "itlP95Milliseconds": calm_count(
            milliseconds(seen.itl.p95_s) if seen.itl else None, old.get("itlP95Milliseconds")
        ),
    }
    return {name: value for name, value in row.items() if value is not None}


def _cost(report: Report, seen: Goodput | None, old: Old) -> Json:
    """Cost of what exists; per token from what was served, else from what the plan expects."""
    spec = report.resource.valid_spec
    usd_per_hour = price_per_hour(spec.joined(report.leaving), report.observation, report.accelerators)
    if usd_per_hour is None:
        return dict(old)
    expected = report.decision.prediction if report.decision is not None else None
    tokens = seen.output_tokens_per_s if seen is not None else None
    watts = seen.power_w if seen is not None else None
    of_all, of_good = _token_prices(usd_per_hour, seen, expected)
    row = {
        "perMillionOutputTokens": calm(of_all, old.get("perMillionOutputTokens")),
        "perMillionGoodTokens": calm(of_good, old.get("perMillionGoodTokens")),
        "joulesPerOutputToken": calm(
            watts / tokens if watts and tokens else (expected.joules_per_output_token if expected else None),
            old.get("joulesPerOutputToken"),
        ),
    }
    head = {"currency": currency_of(spec, report.accelerators), "perHour": money(usd_per_hour)}
    return head | {name: value for name, value in row.items() if value is not None}


def _token_prices(
    usd_per_hour: float, seen: Goodput | None, expected: Prediction | None
) -> tuple[float | None, float | None]:
    """
    Price per million output tokens and per million good ones: both observed or both expected, so that they are
    consistent.
    """
    if seen is not None and seen.output_tokens_per_s:
        of_all, of_good = seen.output_tokens_per_s, seen.good_tokens_per_s
        return price_per_million(usd_per_hour, of_all), price_per_million(usd_per_hour, of_good)
    if expected is not None:
        return expected.usd_per_million_output_tokens, expected.usd_per_million_good_tokens
    return None, None


def _decision(decision: Decision | None, status: Old, tiers: list[Json], time_s: float) -> Json:
    """The last decision that differs from the one before, with the time it was made."""
    old: Old = status.get("decision") or {}
    if decision is None:
        return dict(old)
    desired = {tier["name"]: tier.get("desired") for tier in tiers}
    before = {name: tier.get("desired") for name, tier in by_key(status.get("tiers"), "name").items()}
    same = old.get("reason") == decision.reason.value
    rests = decision.reason is Reason.STEADY and old.get("reason") in MOVES
    bound = old.get("bindingConstraint", Constraint.NONE.value) == decision.binding.value
    # If a limit binds, this is what to raise it to.
    free = _mix(decision.uncapped) if decision.uncapped and decision.binding is not Constraint.NONE else None
    if old and (same or rests) and bound and free in (None, old.get("uncapped")) and desired == before:
        return dict(old)
    row: Json = {
        "time": instant(time_s),
        "reason": decision.reason.value,
        "message": decision.message[:2048],
        "bindingConstraint": decision.binding.value,
    }
    if decision.uncapped:
        row["uncapped"] = _mix(decision.uncapped)
    if decision.alternatives:
        row["alternatives"] = [
            {"tiers": _mix(other.replicas), "costPerHour": money(other.usd_per_hour)}
            | ({} if other.attainment is None else {"attainment": plain(f"{other.attainment:.4f}")})
            | {"whyNot": other.why_not}
            for other in decision.alternatives[:ALTERNATIVES]
        ]
    return row


def _mix(replicas: Mapping[str, int]) -> list[Json]:
    return [{"name": name, "replicas": count} for name, count in replicas.items()]
