"""
The status: what it says, and that it is stable.
"""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.actuate.orders import H100, NOW_S, managed, pointing, spec_of, view_of, workload
from tests.report.reports import SPEC, Alternative, Constraint, condition, decision, observation, reading, report
from tidegate.api.status import AcceleratorClassStatus, InferenceDeploymentStatus
from tidegate.domain.decision import Reason, TierDecision
from tidegate.domain.observation import DeploymentObservation, Missing, TierReading, TierState
from tidegate.domain.spec import Accelerator, Mode
from tidegate.errors import SpecError
from tidegate.ports import AcceleratorResource, AcceleratorUse, Outcome, leaving_name
from tidegate.report.numbers import calm_count, calm_share
from tidegate.report.status import accelerator_status, deployment_status

RISING = decision(
    Reason.DEMAND_RISING,
    "forecast 14.2 req/s needs 2 x fp8",
    uncapped={"fp8": 3},
    binding=Constraint.BUDGET,
    alternatives=(Alternative(replicas={"bf16": 3}, usd_per_hour=9.0, attainment=0.9991, why_not="costs more"),),
)


def test_it_contains_everything_that_is_known() -> None:
    status = deployment_status(report(decision=RISING))
    assert {name: value for name, value in status.items() if name != "conditions"} == {
        "observedGeneration": 1,
        "replicas": 2,
        "readyReplicas": 2,
        "selector": "tidegate.io/inference-deployment=chat",
        "mix": "2 fp8",
        "tiers": [
            {
                "name": "bf16",
                "desired": 0,
                "ready": 0,
                "starting": 0,
                "terminating": 0,
                "startupSeconds": 120,
                "capacityPerReplica": "8",
            },
            {
                "name": "fp8",
                "desired": 2,
                "ready": 2,
                "starting": 0,
                "terminating": 0,
                "startupSeconds": 100,
                "capacityPerReplica": "12",
            },
        ],
        "goodput": {
            "requestsPerSecond": "10",
            "attainment": "1",
            "ttftP95Milliseconds": 477,
            "itlP95Milliseconds": 39,
        },
        "cost": {
            "currency": "USD",
            "perHour": "6.00",
            "perMillionOutputTokens": "0.833",
            "perMillionGoodTokens": "0.833",
            "joulesPerOutputToken": "0.3",
        },
        "gpuUtilization": "0.8",
        "decision": {
            "time": "2026-11-18T11:06:40Z",
            "reason": "DemandRising",
            "message": "forecast 14.2 req/s needs 2 x fp8",
            "bindingConstraint": "Budget",
            "uncapped": [{"name": "fp8", "replicas": 3}],
            "alternatives": [
                {
                    "tiers": [{"name": "bf16", "replicas": 3}],
                    "costPerHour": "9.00",
                    "attainment": "0.9991",
                    "whyNot": "costs more",
                }
            ],
        },
    }


def test_it_matches_the_schema() -> None:
    status = deployment_status(report(decision=RISING))
    InferenceDeploymentStatus.model_validate(status, by_alias=True, by_name=False, strict=False, extra="forbid")


def test_what_is_not_known_is_left_out_and_not_zero() -> None:
    missing = DeploymentObservation(
        tiers={"bf16": TierState(), "fp8": TierState(ready=2, reading=Missing(reason="Timeout"))}
    )
    status = deployment_status(report(observation=missing, decision=None))
    assert "goodput" not in status
    assert "gpuUtilization" not in status
    assert "desired" not in status["tiers"][1]
    assert "mix" not in status
    assert status["cost"] == {"currency": "USD", "perHour": "6.00"}


def test_without_an_observation_the_previous_one_stays() -> None:
    before = deployment_status(report(decision=RISING))
    after = deployment_status(report(status=before, observation=None, decision=None, time_s=NOW_S + 60))
    assert {n: v for n, v in after.items() if n != "conditions"} == {
        n: v for n, v in before.items() if n != "conditions"
    }


@pytest.mark.parametrize("ticks", [1, 50])
def test_the_same_again_is_the_same_status(ticks: int) -> None:
    status = deployment_status(report(decision=RISING))
    for tick in range(ticks):
        again = deployment_status(report(decision=RISING, status=status, time_s=NOW_S + 15 * tick))
        assert again == status
        status = again


@given(
    scales=st.lists(st.floats(min_value=0.93, max_value=1.07), min_size=1, max_size=20),
    power_w=st.floats(min_value=570, max_value=630),
)
def test_noise_changes_nothing(scales: list[float], power_w: float) -> None:
    first = deployment_status(report(decision=RISING))
    status = first
    for tick, scale in enumerate(scales):
        moved = replace(RISING, message=f"forecast {14.2 * scale:.1f} req/s needs 2 x fp8")
        seen = observation(seen=reading(scale=scale, power_w=power_w))
        status = deployment_status(report(decision=moved, observation=seen, status=status, time_s=NOW_S + 15 * tick))
    assert status == first


@pytest.mark.parametrize(
    ("now", "before", "shown"),
    [
        pytest.param(0.995, "1", "0.995", id="just below one is not one"),
        pytest.param(1.0, "0.995", "1", id="nor is one just below"),
        pytest.param(0.99, "0.995", "0.995", id="a little less"),
        pytest.param(0.9, "0.995", "0.9", id="much less"),
        pytest.param(0.995, "0.9", "0.995", id="much more"),
    ],
)
def test_a_share_stays_while_the_new_one_is_close(now: float, before: str, shown: str) -> None:
    assert calm_share(now, before) == shown


@pytest.mark.parametrize(("scale", "shown"), [(2.0, "20"), (0.5, "5")], ids=["more", "less"])
def test_real_changes_are_written(scale: float, shown: str) -> None:
    first = deployment_status(report(decision=RISING))
    after = deployment_status(report(decision=RISING, status=first, observation=observation(seen=reading(scale=scale))))
    assert after["goodput"]["requestsPerSecond"] == shown


@pytest.mark.parametrize(("before", "shown"), [(90, 90), (300, 100)], ids=["close", "far"])
def test_a_start_up_time_stays_while_the_new_one_is_close(before: int, shown: int) -> None:
    first = deployment_status(report())
    old = {**first, "tiers": [{**tier, "startupSeconds": before} for tier in first["tiers"]]}
    assert deployment_status(report(status=old))["tiers"][1]["startupSeconds"] == shown


@pytest.mark.parametrize(("now", "shown"), [(560, 500), (440, 500), (600, 600), (300, 300)])
def test_a_count_stays_while_the_new_one_is_close(now: float, shown: int) -> None:
    assert calm_count(now, 500) == shown


def test_what_is_not_measured_comes_from_the_plan() -> None:
    assert RISING.prediction is not None
    expected = replace(RISING.prediction, joules_per_output_token=0.4)
    untold = observation(seen=reading(power_w=None, output_tokens_per_s=None))
    cost = deployment_status(report(decision=replace(RISING, prediction=expected), observation=untold))["cost"]
    assert (cost["perMillionOutputTokens"], cost["joulesPerOutputToken"]) == ("0.8", "0.4")


@pytest.mark.parametrize(
    ("seen", "shown"),
    [
        pytest.param(reading(good=0.0), ("0.833", None), id="no request was good, so no price buys such tokens"),
        pytest.param(reading(ttft=None), ("0.833", None), id="nobody knows which were good"),
        pytest.param(reading(output_tokens_per_s=0.0), ("0.8", "0.82"), id="nothing was served"),
    ],
)
def test_expected_and_observed_token_prices_are_not_mixed(seen: TierReading, shown: tuple[str, str | None]) -> None:
    assert RISING.prediction is not None
    expected = replace(RISING, prediction=replace(RISING.prediction, usd_per_million_good_tokens=0.82))
    cost = deployment_status(report(decision=expected, observation=observation(seen=seen)))["cost"]
    assert (cost["perMillionOutputTokens"], cost.get("perMillionGoodTokens")) == shown


@pytest.mark.parametrize(
    ("later", "stays"),
    [
        pytest.param(decision(Reason.STEADY, "all is well", binding=Constraint.BUDGET), True, id="rest follows a move"),
        pytest.param(replace(RISING, message="forecast 15.0 req/s"), True, id="the same with other numbers"),
        pytest.param(decision(Reason.METRICS_MISSING, "held", binding=Constraint.BUDGET), False, id="another reason"),
        pytest.param(replace(RISING, binding=Constraint.CAPACITY), False, id="another limit"),
        pytest.param(replace(RISING, uncapped={"fp8": 9}), False, id="the limit keeps it from more"),
        pytest.param(
            replace(RISING, tiers={"bf16": TierDecision(replicas=1), "fp8": TierDecision(replicas=2)}),
            False,
            id="other replicas",
        ),
    ],
)
def test_the_last_different_decision_stays(later: Any, stays: bool) -> None:
    first = deployment_status(report(decision=RISING))
    after = deployment_status(report(decision=later, status=first, time_s=NOW_S + 60))
    assert (after["decision"] == first["decision"]) == stays
    assert (after["decision"]["time"] == first["decision"]["time"]) == stays


def test_steady_after_missing_metrics_is_reported() -> None:
    silent = deployment_status(report(decision=decision(Reason.METRICS_MISSING, "held")))
    after = deployment_status(report(decision=decision(Reason.STEADY, "all is well"), status=silent))
    assert after["decision"]["reason"] == "Steady"


@pytest.mark.parametrize(
    ("outcome", "generation", "asked"),
    [
        pytest.param(Outcome(asked={"fp8": 3}), 2, 3, id="what was asked for now"),
        pytest.param(Outcome(asked={}), 2, None, id="the tier points elsewhere now, or a write failed"),
        pytest.param(Outcome(), 1, 2, id="nobody looked"),
        pytest.param(None, 1, 2, id="paused, so nobody looked"),
        pytest.param(None, 2, None, id="nobody looked, and the spec is another one"),
    ],
)
def test_asked_is_what_the_outcome_says(outcome: Outcome | None, generation: int, asked: int) -> None:
    old = {"observedGeneration": 1, "tiers": [{"name": "fp8", "desired": 9, "asked": 2}]}
    status = deployment_status(report(outcome=outcome, status=old, generation=generation))
    assert status["tiers"][1].get("asked") == asked


def test_terminating_replicas_cost_until_they_are_gone() -> None:
    seen = DeploymentObservation(tiers={"bf16": TierState(terminating=1), "fp8": TierState(ready=1, starting=1)})
    status = deployment_status(report(observation=seen))
    assert status["cost"]["perHour"] == "9.00"
    assert status["replicas"] == 2


def test_surplus_pods_of_a_rollout_cost_and_count_as_starting() -> None:
    seen = DeploymentObservation(tiers={"bf16": TierState(ready=1, surplus=1)})
    status = deployment_status(report(observation=seen))
    assert (status["cost"]["perHour"], status["replicas"], status["tiers"][0]["starting"]) == ("6.00", 2, 1)


def test_a_removed_tier_is_reported_while_it_serves() -> None:
    left = replace(SPEC.tiers[0], name="int4", replicas_max=0, leaving=True)
    seen = DeploymentObservation(tiers={"bf16": TierState(ready=1), "int4": TierState(ready=2)})
    status = deployment_status(report(observation=seen, leaving=(left,)))
    assert (status["cost"]["perHour"], status["replicas"]) == ("9.00", 3)
    assert [row["name"] for row in status["tiers"]] == ["bf16", "fp8", "int4"]


def test_the_schema_has_room_for_the_longest_spec_and_a_removed_tier() -> None:
    names = [f"{'t' * 38}{i:02d}" for i in range(16)]
    spec = spec_of(*map(managed, names))
    left = replace(spec.tiers[0], name=leaving_name(names[0], names), replicas_max=0, leaving=True)
    seen = DeploymentObservation(tiers={tier.name: TierState(ready=1) for tier in (*spec.tiers, left)})
    status = deployment_status(report(spec=spec, decision=None, observation=seen, leaving=(left,)))
    assert len(status["tiers"]) == 17
    InferenceDeploymentStatus.model_validate(status, by_alias=True, by_name=False, strict=False, extra="forbid")


def test_without_a_price_there_is_no_cost() -> None:
    assert "cost" not in deployment_status(report(accelerators={}))


def test_the_price_of_a_tier_without_replicas_is_not_needed() -> None:
    spec = spec_of(replace(managed("bf16"), accelerator="unheard-of"), managed("fp8"))
    assert deployment_status(report(spec=spec))["cost"]["perHour"] == "6.00"


def test_at_zero_replicas_the_mix_is_none() -> None:
    nothing = decision(tiers={"bf16": TierDecision(replicas=0), "fp8": TierDecision(replicas=0)})
    status = deployment_status(report(decision=nothing, observation=observation(ready=0)))
    assert (status["mix"], status["replicas"], status["cost"]["perHour"]) == ("none", 0, "0.00")


def test_an_invalid_spec_keeps_the_status_and_says_what_is_wrong() -> None:
    before = deployment_status(report(decision=RISING))
    fault = SpecError(field="spec.schedules[0].timeZone", value="Mars/Base", allowed="a time zone is")
    after = deployment_status(report(status=before, spec=fault, decision=None, observation=None, generation=2))
    assert condition(after, "Stalled") == ("True", "InvalidSpec")
    assert condition(after, "Ready") == ("False", "InvalidSpec")
    assert after["observedGeneration"] == 2
    assert after["tiers"] == before["tiers"]


@pytest.mark.parametrize("mode", list(Mode))
def test_the_status_of_every_mode_matches_the_schema(mode: Mode) -> None:
    status = deployment_status(report(spec=replace(SPEC, mode=mode), outcome=None))
    InferenceDeploymentStatus.model_validate(status, by_alias=True, by_name=False, strict=False, extra="forbid")


def test_a_deployment_with_a_single_target_has_its_selector() -> None:
    old = replace(workload("chat-old", 2), selector="app=chat")
    pointed = spec_of(pointing("fp8", "chat-old"))
    assert deployment_status(report(spec=pointed, view=view_of(old)))["selector"] == "app=chat"
    both = spec_of(pointing("fp8", "chat-old"), managed("bf16"))
    missing = spec_of(pointing("fp8", "chat-new"))
    for spec in (both, missing, spec_of(managed("bf16"))):
        selector = deployment_status(report(spec=spec, view=view_of(old)))["selector"]
        assert selector == "tidegate.io/inference-deployment=chat"


def test_a_selector_that_the_status_has_no_room_for_does_not_spoil_it() -> None:
    old = replace(workload("chat-old", 2), selector=",".join(f"example.com/{n:050d}=x" for n in range(9)))
    status = deployment_status(report(spec=spec_of(pointing("fp8", "chat-old")), view=view_of(old)))
    InferenceDeploymentStatus.model_validate(status, by_alias=True, by_name=False, strict=False, extra="forbid")
    assert status["selector"] == "tidegate.io/inference-deployment=chat"


# AcceleratorClass


@pytest.mark.parametrize(
    ("accelerator", "use", "expected"),
    [
        pytest.param(
            H100, AcceleratorUse(allocatable=64, by_tidegate=12, by_others=4), ("True", "Counted"), id="there are some"
        ),
        pytest.param(
            H100, AcceleratorUse(allocatable=0, by_tidegate=0, by_others=0), ("False", "NoNodes"), id="no node"
        ),
        pytest.param(
            replace(H100, capacity=8),
            AcceleratorUse(allocatable=0, by_tidegate=0, by_others=0),
            ("True", "Counted"),
            id="no node yet, but a ceiling that a node autoscaler fills",
        ),
        pytest.param(H100, None, ("Unknown", "NotCounted"), id="not seen yet"),
        pytest.param(
            SpecError(field="spec.pricePerHour", value="-", allowed="a price is"),
            None,
            ("False", "InvalidSpec"),
            id="wrong",
        ),
    ],
)
def test_a_class_reports_what_exists(
    accelerator: Accelerator | SpecError, use: AcceleratorUse | None, expected: tuple[str, str]
) -> None:
    resource = AcceleratorResource(name="nvidia-h100", uid="u", generation=3, accelerator=accelerator)
    status = accelerator_status(resource, use, NOW_S)
    assert condition(status, "Ready") == expected
    assert ("allocatable" in status) == (use is not None)
    AcceleratorClassStatus.model_validate(status, by_alias=True, by_name=False, strict=False, extra="forbid")
    again = accelerator_status(replace(resource, status=status), use, NOW_S + 60)
    assert again == status


def test_a_class_reports_who_holds_what_now() -> None:
    resource = AcceleratorResource(name="nvidia-h100", uid="u", generation=3, accelerator=H100)
    first = accelerator_status(resource, AcceleratorUse(allocatable=64, by_tidegate=12, by_others=4), NOW_S)
    later = AcceleratorUse(allocatable=64, by_tidegate=13, by_others=0)
    status = accelerator_status(replace(resource, status=first), later, NOW_S + 60)
    assert (status["allocatedByTidegate"], status["allocatedByOthers"]) == (13, 0)


def test_failing_replicas_are_reported_while_there_are_any() -> None:
    failing = DeploymentObservation(tiers={"fp8": TierState(starting=2, failing=1, trouble="ImagePullBackOff: x")})
    rows = {tier["name"]: tier for tier in deployment_status(report(observation=failing))["tiers"]}
    assert rows["fp8"]["failing"] == 1
    assert "failing" not in {key for tier in deployment_status(report())["tiers"] for key in tier}


def test_a_replica_on_no_node_costs_nothing() -> None:
    waiting = DeploymentObservation(tiers={"bf16": TierState(), "fp8": TierState(ready=1, starting=2, unplaced=1)})
    assert deployment_status(report(observation=waiting))["cost"]["perHour"] == "6.00"


def test_an_installation_of_one_shard_does_not_change_who_holds_what() -> None:
    """Each of them counts the others' replicas as foreign; they would overwrite each other's numbers forever."""
    resource = AcceleratorResource(name="nvidia-h100", uid="u", generation=3, accelerator=H100)
    whole = accelerator_status(resource, AcceleratorUse(allocatable=8, by_tidegate=5, by_others=1), NOW_S)
    seen = AcceleratorUse(allocatable=7, by_tidegate=2, by_others=4)
    status = accelerator_status(replace(resource, status=whole), seen, NOW_S, serves_all=False)
    assert status == whole | {"allocatable": 7}
    alone = accelerator_status(resource, seen, NOW_S, serves_all=False)
    assert (alone["allocatable"], condition(alone, "Ready")) == (7, ("True", "Counted"))
    assert alone.keys() == {"observedGeneration", "allocatable", "conditions"}
