"""
The conditions of a deployment, for kstatus and for people.

In:    a `Report` with the current status.
Out:   the whole list, in a fixed order.
Rules: pure. `lastTransitionTime` changes when the status of a condition does. A message that differs only in its
       numbers is kept until the spec changes, so it contains no number that moves and is elsewhere in the status.
       Abnormal conditions (Stalled, Reconciling, Paused, ...) are present only while true.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tidegate.domain.decision import Condition, Constraint, Decision, Reason, Status
from tidegate.domain.goodput import Goodput
from tidegate.domain.spec import DeploymentSpec, Mode
from tidegate.errors import SpecError
from tidegate.ports import Report, by_key, own_workload
from tidegate.report.currency import amount, currency_of
from tidegate.report.numbers import instant
from tidegate.report.price import price_per_hour

Json = dict[str, Any]

# Order of the list.
ORDER = (
    "Ready",
    "Stalled",
    "Reconciling",
    "Paused",
    "SLOMet",
    "WithinBudget",
    "MetricsAvailable",
    "CapacityAvailable",
    "QualityReduced",
    "ScalingLimited",
    "FallbackActive",
    "ConfigurationWarning",
)
# Present only while true.
ABNORMAL = frozenset({"Stalled", "Reconciling", "Paused", "FallbackActive", "ConfigurationWarning"})
# Present from the first status on, Unknown until something is known.
ALWAYS = (
    "Ready",
    "SLOMet",
    "WithinBudget",
    "MetricsAvailable",
    "CapacityAvailable",
    "QualityReduced",
    "ScalingLimited",
)
# A number that may move, such as 95, 0.25, 10.0.0.1 or 2m40s. A digit in a name (int4, tp-2, 4bit) is none.
_NUMBER = re.compile(r"(?<![\w-])\d+([.:]\d+)*(m\d+)?(?=(ms|s|h)?(?![\w-]))")
MESSAGE_LENGTH = 1024
# A price this close to the budget, as a share of it, is rounding: 3 * 1.1 is above 3.3.
DUST = 1e-9


def conditions(report: Report, seen: Goodput | None, per_million: str | None = None) -> list[Json]:
    """
    All conditions of a deployment.

    Args:
        report: Of this tick.
        seen: What users got; None: unknown.
        per_million: Price of a million output tokens as the status states it; None: unknown.
    """
    previous = by_key(report.resource.status.get("conditions"), "type")
    found = {kind: _unknown(kind) for kind in ALWAYS}
    for finding in _findings(report, seen):
        if finding.type not in ABNORMAL or finding.status is Status.TRUE:
            found[finding.type] = finding
    found["WithinBudget"] = _with_target(found["WithinBudget"], report, per_million)
    if found["CapacityAvailable"].reason == "ReplicasStuck":
        found["CapacityAvailable"] = _with_trouble(found["CapacityAvailable"], report, previous)
    if isinstance(report.resource.spec, DeploymentSpec):
        _add_progress(found, report, previous)
    kinds = sorted(found, key=ORDER.index)
    return [as_json(found[kind], previous.get(kind, {}), report.resource.generation, report.time_s) for kind in kinds]


def as_json(finding: Condition, previous: Mapping[str, Any], generation: int, time_s: float) -> Json:
    """The condition as the API has it, compared with its previous state in the status (empty: none)."""
    same_status = previous.get("status") == finding.status.value
    message = finding.message[:MESSAGE_LENGTH]
    # A new generation may have other numbers in its spec: the budget, the promise.
    same_spec = previous.get("observedGeneration") == generation
    if same_status and same_spec and _same_text(finding, previous):
        message = str(previous.get("message"))
    since = previous.get("lastTransitionTime") if same_status else None
    return {
        "type": finding.type,
        "status": finding.status.value,
        "reason": finding.reason,
        "message": message,
        "lastTransitionTime": since or instant(time_s),
        "observedGeneration": generation,
    }


def _same_text(finding: Condition, previous: Mapping[str, Any]) -> bool:
    if previous.get("reason") != finding.reason:
        return False
    if finding.type == "SLOMet" and finding.reason != "TargetInfeasible":
        return False  # the share that the plan aims at moves in steps, and is nowhere else
    before, after = str(previous.get("message")), finding.message[:MESSAGE_LENGTH]
    return before == after or _NUMBER.sub("#", before) == _NUMBER.sub("#", after)


def _findings(report: Report, seen: Goodput | None) -> Sequence[Condition]:
    """
    Findings of the planner, then of the cluster, then from what users got. A later one replaces an earlier one of its
    type.
    """
    spec, decision = report.resource.spec, report.decision
    if isinstance(spec, SpecError):
        why = ("InvalidSpec", str(spec))
        return (_true("Stalled", *why), _condition("Ready", Status.FALSE, *why))
    found: list[Condition] = list(decision.conditions) if decision is not None else []
    found += [*_unknown_accelerators(spec, report), *_mixed_currencies(spec, report), *_mismatches(spec, report)]
    found += _activation_unknown(report)
    found += [c for c in (report.outcome.conditions if report.outcome else ()) if c.status is Status.TRUE]
    if spec.paused:
        found.append(_true("Paused", "PausedByAnnotation", "the annotation tidegate.io/paused is true"))
    if decision is not None and decision.reason is Reason.FALLBACK:
        found.append(_true("FallbackActive", "MetricsMissing", decision.message))
    return [*found, *_above_budget(report), *_slo_missed(report, seen)]


def _unknown_accelerators(spec: DeploymentSpec, report: Report) -> Sequence[Condition]:
    """A tier names a class that does not exist: nothing is planned until it does."""
    missing = [tier for tier in spec.tiers if tier.accelerator not in report.accelerators]
    if not missing:
        return ()
    named = ", ".join(f"tier {tier.name}: {tier.accelerator!r}" for tier in missing)
    known = ", ".join(sorted(report.accelerators)) or "none yet"
    return (_true("Stalled", "UnknownAccelerator", f"no such AcceleratorClass ({named}); existing classes: {known}"),)


def _mixed_currencies(spec: DeploymentSpec, report: Report) -> Sequence[Condition]:
    """Prices that cannot be compared; the plan uses the plain numbers."""
    classes = [report.accelerators[t.accelerator] for t in spec.tiers if t.accelerator in report.accelerators]
    currencies = sorted({accelerator.currency for accelerator in classes})
    if len(currencies) < 2:
        return ()
    message = f"the tiers' accelerator classes are priced in {' and '.join(currencies)}: use one currency for all"
    return (_true("ConfigurationWarning", "MixedCurrencies", message),)


def _mismatches(spec: DeploymentSpec, report: Report) -> Sequence[Condition]:
    """Targets that use other accelerators than their tiers state: their cost is not what is counted."""
    found = report.view.mismatches.get(spec.key)
    return (_true("ConfigurationWarning", "OtherAccelerators", "; ".join(found)),) if found else ()


def _activation_unknown(report: Report) -> Sequence[Condition]:
    """Nothing runs and it cannot be known whether requests wait, so nothing wakes the deployment."""
    seen = report.observation
    if seen is None or seen.unheard is None or any(state.ready for state in seen.tiers.values()):
        return ()
    why = seen.unheard
    if why.reason == "NotAsked":
        return ()  # it only waits for its turn
    message = f"the activationQuery fails, so requests do not wake the deployment: {why.detail or why.reason}"
    return (_condition("MetricsAvailable", Status.FALSE, why.reason, message),)


def _above_budget(report: Report) -> Sequence[Condition]:
    """The replicas are above the budget, and the plan, which is not, is not carried out: somebody else set them."""
    spec, found = report.resource.valid_spec, report.outcome.conditions if report.outcome else ()
    budget = spec.cost.budget_usd_per_hour
    if budget is None or (spec.acts and not any(c.type == "ScalingLimited" for c in found)):
        return ()
    usd = price_per_hour(spec.joined(report.leaving), report.observation, report.accelerators)
    if usd is None or usd <= budget * (1 + DUST):
        return ()
    limit = amount(f"{budget:.2f}", currency_of(spec, report.accelerators))
    message = f"the replicas cost more than the budget of {limit}/h"
    return (_condition("WithinBudget", Status.FALSE, "AboveBudget", message),)


def _slo_missed(report: Report, seen: Goodput | None) -> Sequence[Condition]:
    """SLOMet, from what users got if that is beyond doubt: the plan is only an expectation."""
    target = report.resource.valid_spec.slo.attainment
    if report.decision is not None and report.decision.reason is Reason.TARGET_INFEASIBLE:
        return (_condition("SLOMet", Status.FALSE, "TargetInfeasible", report.decision.message),)
    if seen is None or seen.attainment is None:
        return ()
    if seen.attainment.upper < target:
        message = f"fewer requests than the promised {target:g} met both targets"
        return (_condition("SLOMet", Status.FALSE, "Missed", message),)
    return ()


def _with_trouble(finding: Condition, report: Report, previous: Mapping[str, Mapping[str, Any]]) -> Condition:
    """
    The finding plus why replicas do not start. The reason is kept after the plan has removed the pods that showed it.
    """
    if why := _trouble(report):
        return replace(finding, message=f"{finding.message} ({why})")
    before = str(previous.get(finding.type, {}).get("message", ""))
    return replace(finding, message=before) if before.startswith(f"{finding.message} (") else finding


def _with_target(finding: Condition, report: Report, per_million: str | None) -> Condition:
    """Report the soft target while the budget is kept. It has no other effect: the cheapest fleet runs anyway."""
    if per_million is None or finding.status is not Status.TRUE:
        return finding
    spec = report.resource.valid_spec
    target = spec.cost.target_usd_per_million_output_tokens
    if target is None or float(per_million) <= target:
        return finding
    aimed = amount(f"{target:g}", currency_of(spec, report.accelerators))
    message = f"{finding.message}; a million output tokens cost more than the target of {aimed}"
    return replace(finding, reason="AboveTarget", message=message)


def _trouble(report: Report) -> str:
    """What keeps replicas from running, by tier; empty: nothing known."""
    states = report.observation.tiers if report.observation is not None else {}
    return "; ".join(f"{name}: {state.trouble}" for name, state in states.items() if state.trouble)


def _add_progress(found: dict[str, Condition], report: Report, previous: Mapping[str, Mapping[str, Any]]) -> None:
    """Add Ready, and Reconciling until a new generation serves for the first time."""
    ready, missing = _replicas(report)
    found["Ready"] = _ready(found, report, ready)
    if missing and not ready and found["SLOMet"].status is Status.TRUE and _acts(report):
        found["SLOMet"] = _condition("SLOMet", Status.UNKNOWN, "NoReplicaReady", "no replica is ready yet")
    new = report.resource.status.get("observedGeneration") != report.resource.generation
    under_way = previous.get("Reconciling", {}).get("status") == "True"
    # Nothing serves and the requested replicas are stuck: that is no progress, and Ready says why.
    dead = not ready and found["CapacityAvailable"].reason == "ReplicasStuck"
    if "Stalled" in found or report.decision is None or not _acts(report) or dead:
        return
    if (new or under_way) and (missing or _outdated(report)):
        found["Reconciling"] = _true("Reconciling", "Starting", "replicas are starting")
    elif new and report.outcome is not None and report.outcome.actions:
        found["Reconciling"] = _true("Reconciling", "Starting", "objects were just created or updated")


def _ready(found: Mapping[str, Condition], report: Report, ready: int) -> Condition:
    spec, decision = report.resource.valid_spec, report.decision
    if stalled := found.get("Stalled"):
        return _condition("Ready", Status.FALSE, stalled.reason, stalled.message)
    if spec.mode is Mode.OFF:
        return _true("Ready", "ModeOff", "mode is Off: nothing is planned")
    if decision is None:
        return _condition("Ready", Status.UNKNOWN, "NotPlanned", "not planned yet")
    if decision.error is not None:
        return _condition("Ready", Status.FALSE, decision.reason.value, decision.message)
    if spec.mode is Mode.RECOMMEND:
        return _true("Ready", "Recommending", "the plan is only reported")
    return _serving(report, decision, ready)


def _serving(report: Report, decision: Decision, ready: int) -> Condition:
    if not any(tier.replicas for tier in decision.tiers.values()):
        if _kept_at_zero(report, decision):
            limited = f"{decision.binding.value} allows no replica"
            return _condition("Ready", Status.FALSE, f"{decision.binding.value}Limited", limited)
        return _true("Ready", "Idle", "no replica is wanted now")
    if not ready and _acts(report):
        why = _trouble(report)
        message = f"no replica is ready yet ({why})" if why else "no replica is ready yet"
        return _condition("Ready", Status.FALSE, "NoReplicaReady", message)
    return _true("Ready", "Serving", "the plan is carried out")


def _kept_at_zero(report: Report, decision: Decision) -> bool:
    """
    Whether a limit forces zero replicas. An upper bound or `replicas` of zero does not count: the user asked for it.
    """
    pinned = report.resource.valid_spec.replicas_pinned == 0
    return _acts(report) and not pinned and decision.binding not in (Constraint.NONE, Constraint.MAX_REPLICAS)


def _replicas(report: Report) -> tuple[int, int]:
    """Ready replicas, and how many of the decided ones are missing."""
    states = report.observation.tiers if report.observation is not None else {}
    ready = {name: state.ready for name, state in states.items()}
    decided = report.decision.tiers if report.decision is not None else {}
    return sum(ready.values()), sum(max(0, tier.replicas - ready.get(name, 0)) for name, tier in decided.items())


def _outdated(report: Report) -> int:
    """Replicas of managed tiers that do not run the pods of this generation yet."""
    spec = report.resource.valid_spec
    managed = [own_workload(spec.key, tier.name) for tier in spec.tiers if tier.target_ref is None]
    return sum(report.view.workloads[ref].outdated for ref in managed if ref in report.view.workloads)


def _acts(report: Report) -> bool:
    return report.resource.valid_spec.acts


def _unknown(kind: str) -> Condition:
    return _condition(kind, Status.UNKNOWN, "NotPlanned", "not planned yet")


def _true(kind: str, reason: str, message: str) -> Condition:
    return _condition(kind, Status.TRUE, reason, message)


def _condition(kind: str, status: Status, reason: str, message: str) -> Condition:
    return Condition(type=kind, status=status, reason=reason, message=message)
