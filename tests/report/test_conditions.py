"""
Conditions, for kstatus and for people.
"""

from dataclasses import replace
from typing import Any

import pytest

from tests.actuate.orders import H100, KEY, NOW_S, managed, ref, resource_of, settled, spec_of
from tests.report.reports import SPEC, condition, decision, observation, reading, report
from tidegate.domain.decision import Condition, Constraint, Reason, Status, TierDecision
from tidegate.domain.observation import DeploymentObservation, Missing, TierState
from tidegate.domain.spec import Cost, Mode
from tidegate.ports import ClusterView, Outcome
from tidegate.report.status import deployment_status


def finding(kind: str, reason: str, message: str = "told", status: Status = Status.TRUE) -> Condition:
    return Condition(type=kind, status=status, reason=reason, message=message)


# A budget for two replicas, and a plan that keeps it.
POOR = replace(SPEC, cost=Cost(budget_usd_per_hour=6.0))
FRUGAL = decision(conditions=(finding("WithinBudget", "Planned"),))


def status_of(**more: Any) -> dict[str, Any]:
    return deployment_status(report(**more))


@pytest.mark.parametrize(
    ("more", "kind", "expected"),
    [
        pytest.param({}, "Ready", ("True", "Serving"), id="it serves"),
        pytest.param(
            {"decision": decision(tiers={"fp8": TierDecision(replicas=0)}), "observation": observation(ready=0)},
            "Ready",
            ("True", "Idle"),
            id="nothing is wanted",
        ),
        pytest.param(
            {
                "decision": decision(
                    Reason.CAPACITY_LIMITED, binding=Constraint.CAPACITY, tiers={"fp8": TierDecision(replicas=0)}
                ),
                "observation": observation(ready=0),
            },
            "Ready",
            ("False", "CapacityLimited"),
            id="a zero that a limit forces is not idle",
        ),
        pytest.param(
            {
                "spec": replace(SPEC, replicas_pinned=0),
                "decision": decision(binding=Constraint.MAX_REPLICAS, tiers={"fp8": TierDecision(replicas=0)}),
                "observation": observation(ready=0),
            },
            "Ready",
            ("True", "Idle"),
            id="a zero that a person asked for is",
        ),
        pytest.param(
            {
                "spec": replace(SPEC, replicas_pinned=0),
                "decision": decision(binding=Constraint.CAPACITY, tiers={"fp8": TierDecision(replicas=0)}),
                "observation": observation(ready=0),
            },
            "Ready",
            ("True", "Idle"),
            id="a zero that a person asked for is, whatever else there is no room for",
        ),
        pytest.param(
            {
                "decision": decision(binding=Constraint.MAX_REPLICAS, tiers={"fp8": TierDecision(replicas=0)}),
                "observation": observation(ready=0),
            },
            "Ready",
            ("True", "Idle"),
            id="a zero that a schedule's upper bound asks for is",
        ),
        pytest.param(
            {"spec": replace(SPEC, paused=True), "observation": observation(ready=0)},
            "Ready",
            ("True", "Serving"),
            id="what is paused is not blamed for what nobody starts",
        ),
        pytest.param(
            {
                "spec": replace(SPEC, paused=True),
                "decision": decision(binding=Constraint.CAPACITY, tiers={"fp8": TierDecision(replicas=0)}),
                "observation": observation(ready=0),
            },
            "Ready",
            ("True", "Idle"),
            id="what is paused is not blamed for what there is no room for",
        ),
        pytest.param(
            {
                "decision": decision(conditions=(finding("WithinBudget", "Above", status=Status.FALSE),)),
                "spec": replace(SPEC, cost=Cost(target_usd_per_million_output_tokens=0.1)),
            },
            "WithinBudget",
            ("False", "Above"),
            id="a budget that is broken is told before the price that is aimed at",
        ),
        pytest.param(
            {"spec": replace(POOR, mode=Mode.RECOMMEND), "decision": FRUGAL, "observation": observation(ready=3)},
            "WithinBudget",
            ("False", "AboveBudget"),
            id="whoever scales while it only recommends is above the budget",
        ),
        pytest.param(
            {"spec": replace(POOR, mode=Mode.RECOMMEND), "decision": FRUGAL, "observation": observation(ready=2)},
            "WithinBudget",
            ("True", "Planned"),
            id="whoever scales while it only recommends keeps the budget",
        ),
        pytest.param(
            {"spec": replace(POOR, mode=Mode.RECOMMEND), "decision": FRUGAL, "observation": None},
            "WithinBudget",
            ("True", "Planned"),
            id="what was not seen is not above the budget",
        ),
        pytest.param(
            {
                "spec": replace(SPEC, cost=Cost(target_usd_per_million_output_tokens=0.1)),
                "decision": decision(prediction=None, conditions=(finding("WithinBudget", "NoBudget"),)),
                "observation": observation(),
            },
            "WithinBudget",
            ("True", "NoBudget"),
            id="no token has a price yet",
        ),
        pytest.param(
            {
                "spec": POOR,
                "decision": FRUGAL,
                "observation": observation(ready=3),
                "outcome": Outcome(conditions=(finding("ScalingLimited", "OtherAutoscaler"),)),
            },
            "WithinBudget",
            ("False", "AboveBudget"),
            id="another autoscaler is above the budget",
        ),
        pytest.param(
            {"spec": POOR, "decision": FRUGAL, "observation": observation(ready=3)},
            "WithinBudget",
            ("True", "Planned"),
            id="what the plan removes now does not break the budget",
        ),
        pytest.param(
            {"spec": replace(SPEC, mode=Mode.RECOMMEND)}, "Ready", ("True", "Recommending"), id="it recommends"
        ),
        pytest.param({"spec": replace(SPEC, mode=Mode.OFF)}, "Ready", ("True", "ModeOff"), id="it is off"),
        pytest.param({"spec": replace(SPEC, paused=True)}, "Paused", ("True", "PausedByAnnotation"), id="it is paused"),
        pytest.param({}, "Paused", None, id="it is not paused"),
        pytest.param({"decision": None}, "Ready", ("Unknown", "NotPlanned"), id="it is not planned yet"),
        pytest.param(
            {"observation": observation(ready=0, starting=2)},
            "Ready",
            ("False", "NoReplicaReady"),
            id="nothing answers",
        ),
        pytest.param(
            {"observation": observation(ready=0, starting=2)},
            "SLOMet",
            ("Unknown", "NoReplicaReady"),
            id="where nothing answers no promise is kept or broken",
        ),
        pytest.param(
            {"observation": observation(ready=1, starting=1)},
            "SLOMet",
            ("True", "Planned"),
            id="while one answers the promise is as planned",
        ),
        pytest.param(
            {"decision": decision(tiers={"fp8": TierDecision(replicas=0)}), "observation": observation(ready=0)},
            "SLOMet",
            ("True", "Planned"),
            id="and where nothing is wanted",
        ),
        pytest.param(
            {
                "decision": decision(conditions=(finding("SLOMet", "BudgetLimited", status=Status.FALSE),)),
                "observation": observation(ready=0, starting=2),
            },
            "SLOMet",
            ("False", "BudgetLimited"),
            id="nor is one that cannot be kept anyway unknown",
        ),
        pytest.param(
            {"decision": decision(Reason.PLANNER_FAULT, "oh", error="E", tiers={})},
            "Ready",
            ("False", "PlannerFault"),
            id="we are wrong",
        ),
        pytest.param(
            {
                "spec": spec_of(managed("bf16"), replace(managed("fp8"), accelerator="l40s")),
                "accelerators": {"nvidia-h100": H100, "l40s": replace(H100, name="l40s", currency="EUR")},
            },
            "ConfigurationWarning",
            ("True", "MixedCurrencies"),
            id="prices in two currencies",
        ),
        pytest.param(
            {"view": ClusterView(mismatches={KEY: ("tier bf16: a replica holds 4 GPUs, and not 1",)})},
            "ConfigurationWarning",
            ("True", "OtherAccelerators"),
            id="pods hold more than their tier says",
        ),
        pytest.param(
            {"accelerators": {}}, "Stalled", ("True", "UnknownAccelerator"), id="a class that nobody has heard of"
        ),
        pytest.param(
            {"outcome": Outcome(conditions=(finding("Stalled", "TargetNotFound"),))},
            "Ready",
            ("False", "TargetNotFound"),
            id="what stalls is not ready",
        ),
        pytest.param(
            {"outcome": Outcome(conditions=(finding("ScalingLimited", "OtherWriter"),))},
            "ScalingLimited",
            ("True", "OtherWriter"),
            id="what the cluster shows beats what was planned",
        ),
        pytest.param(
            {"outcome": Outcome(conditions=(finding("ScalingLimited", "OtherWriter"),))},
            "Ready",
            ("True", "Serving"),
            id="another writer does not make it unready",
        ),
        pytest.param(
            {"observation": replace(observation(ready=0), unheard=Missing(reason="BadQuery"))},
            "MetricsAvailable",
            ("False", "BadQuery"),
            id="at zero replicas the activation query gives no answer",
        ),
        pytest.param(
            {"observation": replace(observation(ready=0), unheard=Missing(reason="NotAsked"))},
            "MetricsAvailable",
            ("Unknown", "NotPlanned"),
            id="at zero replicas the activation query waits for its turn",
        ),
        pytest.param(
            {"observation": replace(observation(), unheard=Missing(reason="BadQuery"))},
            "MetricsAvailable",
            ("Unknown", "NotPlanned"),
            id="nobody needs to be woken while replicas serve",
        ),
        pytest.param(
            {"decision": decision(Reason.FALLBACK, "metrics missing for 400 s")},
            "FallbackActive",
            ("True", "MetricsMissing"),
            id="it falls back",
        ),
        pytest.param(
            {"observation": observation(seen=reading(good=0.5))}, "SLOMet", ("False", "Missed"), id="users saw misses"
        ),
        pytest.param(
            {"observation": observation(seen=reading(good=0.994))},
            "SLOMet",
            ("True", "Planned"),
            id="where the bounds leave it open the plan's word counts",
        ),
        pytest.param(
            {"decision": decision(Reason.TARGET_INFEASIBLE, "ttft must be at least 620 ms")},
            "SLOMet",
            ("False", "TargetInfeasible"),
            id="no tier can do it",
        ),
    ],
)
def test_each_situation_gives_its_condition(more: dict[str, Any], kind: str, expected: tuple[str, str] | None) -> None:
    assert condition(status_of(**more), kind) == expected


def test_an_infeasible_target_names_the_smallest_feasible_value() -> None:
    status = status_of(decision=decision(Reason.TARGET_INFEASIBLE, "ttft must be at least 620 ms"))
    assert "620 ms" in next(c["message"] for c in status["conditions"] if c["type"] == "SLOMet")


def test_missing_metrics_do_not_make_it_unready() -> None:
    gone = decision(
        Reason.METRICS_MISSING, "held", conditions=(finding("MetricsAvailable", "Timeout", status=Status.FALSE),)
    )
    status = status_of(decision=gone)
    assert condition(status, "Ready") == ("True", "Serving")
    assert condition(status, "MetricsAvailable") == ("False", "Timeout")
    assert condition(status, "FallbackActive") is None, "not yet"


def test_every_type_is_there_from_the_first_status_on() -> None:
    first = status_of(decision=None, observation=None, outcome=None)
    kinds = [c["type"] for c in first["conditions"]]
    assert kinds == [
        "Ready",
        "SLOMet",
        "WithinBudget",
        "MetricsAvailable",
        "CapacityAvailable",
        "QualityReduced",
        "ScalingLimited",
    ]
    assert {c["observedGeneration"] for c in first["conditions"]} == {1}


def test_the_time_of_transition_moves_with_the_status_and_nothing_else() -> None:
    first = status_of()
    told = status_of(status=first, time_s=NOW_S + 60, spec=replace(SPEC, mode=Mode.RECOMMEND))
    turned = status_of(status=told, time_s=NOW_S + 120, decision=None)
    times = [
        next(c for c in s["conditions"] if c["type"] == "Ready")["lastTransitionTime"] for s in (first, told, turned)
    ]
    assert times[0] == times[1] != times[2]


def test_a_message_that_differs_only_in_its_numbers_stays() -> None:
    def with_age(age: int) -> dict[str, Any]:
        found = finding("MetricsAvailable", "Timeout", f"no answer in 4 s; last complete {age} s ago", Status.FALSE)
        return {"decision": decision(Reason.METRICS_MISSING, "held", conditions=(found,))}

    first = status_of(**with_age(15))
    assert status_of(status=first, **with_age(30)) == first


@pytest.mark.parametrize(
    ("kind", "reason", "status", "before", "after"),
    [
        ("CapacityAvailable", "ReplicasStuck", Status.FALSE, "not in time: int4", "not in time: int8"),
        ("CapacityAvailable", "ReplicasStuck", Status.FALSE, "not in time: tp-2", "not in time: tp-4"),
        ("MetricsAvailable", "Timeout", Status.FALSE, "tier 4bit: no answer", "tier 8bit: no answer"),
        ("SLOMet", "ErrorBudgetLeft", Status.TRUE, "at least 0.98", "at least 0.96"),
        ("SLOMet", "TooFewReplicas", Status.FALSE, "below 0.96", "below 0.99"),
    ],
    ids=["another precision", "another width", "a digit in front", "less is asked for", "more is asked for"],
)
def test_a_message_about_something_else_is_not_taken_for_the_same(
    kind: str, reason: str, status: Status, before: str, after: str
) -> None:
    first = status_of(decision=decision(conditions=(finding(kind, reason, before, status),)))
    second = status_of(status=first, decision=decision(conditions=(finding(kind, reason, after, status),)))
    assert next(c["message"] for c in second["conditions"] if c["type"] == kind) == after


@pytest.mark.parametrize(
    ("before", "after"),
    [("10 s", "20 s"), ("back-off 2m40s", "back-off 5m0s"), ("at 10.0.0.1:8000", "at 10.0.0.2:8000")],
)
def test_a_number_that_moves_is_not_written_each_time(before: str, after: str) -> None:
    first = status_of(decision=decision(conditions=(finding("CapacityAvailable", "R", before, Status.FALSE),)))
    assert first == status_of(
        status=first, decision=decision(conditions=(finding("CapacityAvailable", "R", after, Status.FALSE),))
    )


def test_a_message_is_renewed_when_the_spec_changes() -> None:
    def inside(money: str) -> dict[str, Any]:
        return {
            "decision": decision(
                conditions=(finding("WithinBudget", "Planned", f"the plan is within the budget of ${money}/h"),)
            )
        }

    first = status_of(**inside("40.00"))
    raised = status_of(status=first, generation=2, **inside("60.00"))
    told = next(c for c in raised["conditions"] if c["type"] == "WithinBudget")
    assert told["message"] == "the plan is within the budget of $60.00/h"
    assert status_of(status=raised, generation=2, **inside("60.00")) == raised


def test_the_message_is_that_of_the_reason() -> None:
    missed = status_of(observation=observation(seen=reading(good=0.5)))
    infeasible = decision(Reason.TARGET_INFEASIBLE, "ttft must be at least 620 ms")
    after = status_of(status=missed, decision=infeasible, observation=observation(seen=reading(good=0.5)))
    assert "620 ms" in next(c["message"] for c in after["conditions"] if c["type"] == "SLOMet")


def test_a_new_deployment_reconciles_until_it_serves_and_not_again_when_it_scales() -> None:
    first = status_of(observation=observation(ready=0, starting=2))
    assert condition(first, "Reconciling") == ("True", "Starting")
    half = status_of(status=first, observation=observation(ready=1, starting=1))
    assert condition(half, "Reconciling") == ("True", "Starting")
    done = status_of(status=half)
    assert condition(done, "Reconciling") is None
    scaled = Outcome(actions=("fp8 from 1 to 2 replicas",))
    scaling = status_of(status=done, observation=observation(ready=1, starting=1), outcome=scaled)
    assert condition(scaling, "Reconciling") is None
    changed = status_of(status=done, generation=2, observation=observation(ready=1, starting=1))
    assert condition(changed, "Reconciling") == ("True", "Starting")


def test_a_new_generation_reconciles_until_its_pods_have_replaced_the_old_ones() -> None:
    serves = status_of(status=status_of())
    written = status_of(
        status=serves, generation=2, outcome=Outcome(actions=("Deployment prod/chat-fp8: pod template updated",))
    )
    assert condition(written, "Reconciling") == ("True", "Starting")
    settling = settled(resource_of(SPEC), {"bf16": 0, "fp8": 2})
    rolling = replace(settling.workloads[ref("chat-fp8")], outdated=1)
    view = replace(settling, workloads={**settling.workloads, rolling.ref: rolling})
    under_way = status_of(status=written, generation=2, view=view)
    assert condition(under_way, "Reconciling") == ("True", "Starting")
    assert condition(status_of(status=under_way, generation=2, view=settling), "Reconciling") is None
    assert condition(status_of(status=serves, view=view), "Reconciling") is None, "the same generation served already"


def test_stuck_replicas_are_no_progress() -> None:
    stuck = finding("CapacityAvailable", "ReplicasStuck", "replicas do not start in time: fp8", Status.FALSE)
    status = status_of(decision=decision(conditions=(stuck,)), observation=observation(ready=0, starting=2))
    assert condition(status, "Reconciling") is None
    assert condition(status, "Ready") == ("False", "NoReplicaReady")
    serves = status_of(decision=decision(conditions=(stuck,)), observation=observation(ready=1, starting=1))
    assert condition(serves, "Reconciling") == ("True", "Starting")


def test_surplus_in_one_tier_does_not_replace_missing_replicas_of_another() -> None:
    tiers = {"bf16": TierDecision(replicas=1), "fp8": TierDecision(replicas=2)}
    seen = DeploymentObservation(tiers={"bf16": TierState(ready=3), "fp8": TierState(starting=2)})
    status = status_of(decision=decision(tiers=tiers), observation=seen)
    assert condition(status, "Reconciling") == ("True", "Starting")


@pytest.mark.parametrize("mode", [Mode.RECOMMEND, Mode.OFF])
def test_what_is_not_carried_out_does_not_reconcile(mode: Mode) -> None:
    status = status_of(spec=replace(SPEC, mode=mode), observation=observation(ready=0))
    assert condition(status, "Reconciling") is None
    assert condition(status, "SLOMet") == ("True", "Planned")
    assert condition(status, "Ready") != ("False", "NoReplicaReady")


def test_the_reason_why_replicas_do_not_start_stays_after_their_pods_are_gone() -> None:
    stuck = finding("CapacityAvailable", "ReplicasStuck", "replicas do not start in time: fp8", Status.FALSE)
    failing = DeploymentObservation(tiers={"fp8": TierState(starting=2, failing=2, trouble="ImagePullBackOff: x:v9")})
    first = status_of(decision=decision(conditions=(stuck,)), observation=failing)
    message = next(c["message"] for c in first["conditions"] if c["type"] == "CapacityAvailable")
    assert message == "replicas do not start in time: fp8 (fp8: ImagePullBackOff: x:v9)"
    later = status_of(decision=decision(conditions=(stuck,)), observation=observation(ready=0), status=first)
    assert message in [c["message"] for c in later["conditions"]]


def test_ready_says_what_keeps_the_first_replica_from_running() -> None:
    failing = DeploymentObservation(tiers={"fp8": TierState(starting=1, failing=1, trouble="ImagePullBackOff: x:v9")})
    ready = next(c for c in status_of(observation=failing)["conditions"] if c["type"] == "Ready")
    assert ready["message"] == "no replica is ready yet (fp8: ImagePullBackOff: x:v9)"
    starting, *_ = status_of(observation=observation(ready=0, starting=2))["conditions"]
    assert (starting["type"], starting["message"]) == ("Ready", "no replica is ready yet")


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        pytest.param(0.5, ("True", "AboveTarget"), id="tokens cost more than aimed at"),
        pytest.param(0.9, ("True", "Planned"), id="tokens cost less"),
        pytest.param(None, ("True", "Planned"), id="nothing is aimed at"),
    ],
)
def test_the_soft_target_is_reported_without_breaking_a_promise(
    target: float | None, expected: tuple[str, str]
) -> None:
    planned = finding("WithinBudget", "Planned", "the plan is within the budget of $40.00/h")
    spec = replace(SPEC, cost=Cost(budget_usd_per_hour=40.0, target_usd_per_million_output_tokens=target))
    status = status_of(spec=spec, decision=decision(conditions=(planned,)))
    assert condition(status, "WithinBudget") == expected
    message = next(c["message"] for c in status["conditions"] if c["type"] == "WithinBudget")
    assert message.endswith("more than the target of $0.5") is (expected[1] == "AboveTarget")


def test_a_kept_message_contains_no_number_that_changes_in_the_status() -> None:
    planned = decision(conditions=(finding("WithinBudget", "Planned", "the plan is within the budget of $40.00/h"),))
    spec = replace(SPEC, cost=Cost(budget_usd_per_hour=40.0, target_usd_per_million_output_tokens=0.5))
    status: dict[str, Any] = {}
    for scale, good in ((0.05, 0.2), (0.5, 0.9)):
        seen = observation(seen=reading(scale=scale, good=good))
        status = status_of(spec=spec, status=status, decision=planned, observation=seen)
    assert (status["cost"]["perMillionOutputTokens"], status["goodput"]["attainment"]) == ("1.67", "0.81")
    told = {c["type"]: c["message"] for c in status["conditions"]}
    assert (
        told["WithinBudget"]
        == "the plan is within the budget of $40.00/h; a million output tokens cost more than the target of $0.5"
    )
    assert told["SLOMet"] == "fewer requests than the promised 0.99 met both targets"
