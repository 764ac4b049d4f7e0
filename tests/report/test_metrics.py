"""
Our own metrics: base units, no stale series, and a documentation page that lists every one.
"""

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tidegate.domain.decision import Condition, Decision, Prediction, Reason, Status, TierDecision
from tidegate.domain.key import Key
from tidegate.domain.observation import DeploymentObservation, Histogram, Missing, TierReading, TierState
from tidegate.domain.spec import Accelerator, Cost, DeploymentSpec, Slo, TierSpec
from tidegate.ports import AcceleratorUse
from tidegate.report.metrics import FAMILIES, Metrics, Tick

CHAT = Key("prod", "chat")
PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "metrics.md"


def histogram(share: float, edge_s: float) -> Histogram:
    return Histogram((edge_s, math.inf), (share * 100, 100.0))


FULL = TierReading(
    window_s=60.0,
    age_s=7.0,
    arrival_rps=4.0,
    completion_rps=4.0,
    output_tokens_per_s=1000.0,
    ttft=histogram(1.0, 0.5),
    request_itl=histogram(0.9, 0.04),
    power_w=800.0,
    gpu_utilization=0.8,
)


def tick(*, reading: TierReading | Missing = FULL) -> Tick:
    tier = TierSpec(
        name="bf16", quality=1.0, accelerator="h100", accelerators_per_replica=2, replicas_min=0, replicas_max=4
    )
    spec = DeploymentSpec(
        key=CHAT,
        model="m",
        slo=Slo(ttft_s=0.5, itl_s=0.04),
        tiers=(tier,),
        replicas_max=4,
        cost=Cost(budget_usd_per_hour=40.0, target_usd_per_million_output_tokens=4.5),
    )
    state = TierState(ready=2, starting=1, startup_s=90.0, reading=reading)
    decision = Decision(
        key=CHAT,
        tiers={"bf16": TierDecision(replicas=3, capacity_rps=6.0)},
        reason=Reason.DEMAND_RISING,
        message="m",
        forecast_rps=9.0,
        horizon_s=105.0,
        uncapped={"bf16": 4},
        prediction=Prediction(
            attainment=0.99, ttft_s_p95=0.4, itl_s_p95=0.03, usd_per_hour=18.0, usd_per_million_output_tokens=5.0
        ),
    )
    return Tick(
        specs={CHAT: spec},
        observations={CHAT: DeploymentObservation(tiers={"bf16": state})},
        decisions={CHAT: decision},
        accelerators={"h100": Accelerator(name="h100", price_usd_per_hour=3.0)},
        use={"h100": AcceleratorUse(allocatable=16, by_tidegate=6, by_others=1)},
    )


def page(metrics: Metrics) -> dict[str, dict[tuple[str, ...], float]]:
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(metrics.page().decode()):
        for sample in family.samples:
            labels = tuple(value for _, value in sorted(sample.labels.items()))
            found.setdefault(sample.name, {})[labels] = sample.value
    return found


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("desired_replicas", 3.0),
        ("uncapped_replicas", 4.0),
        ("ready_replicas", 2.0),
        ("starting_replicas", 1.0),
        ("capacity_requests_per_second", 6.0),
        ("startup_seconds", 90.0),
        ("metric_age_seconds", 7.0),
        ("metrics_missing", 0.0),
        ("attainment_ratio", 0.9),
        ("attainment_target_ratio", 0.99),
        ("arrival_requests_per_second", 4.0),
        ("goodput_requests_per_second", 3.6),
        ("output_tokens_per_second", 1000.0),
        ("goodput_tokens_per_second", 900.0),
        ("ttft_p95_seconds", 0.475),
        ("itl_p95_seconds", 0.04),
        ("forecast_requests_per_second", 9.0),
        ("forecast_horizon_seconds", 105.0),
        ("cost_dollars_per_hour", 18.0),
        ("budget_dollars_per_hour", 40.0),
        ("target_dollars_per_million_output_tokens", 4.5),
        ("cost_dollars_per_million_output_tokens", 5.0),
        ("cost_dollars_per_million_good_tokens", 18.0 / 3600 * 1e6 / 900.0),
        ("energy_joules_per_output_token", 0.8),
        ("gpu_utilization_ratio", 0.8),
        ("accelerators_allocatable", 16.0),
        ("accelerators_tidegate", 6.0),
        ("accelerators_others", 1.0),
    ],
)
def test_the_last_tick_is_exposed(name: str, value: float) -> None:
    metrics = Metrics("1")
    metrics.show(tick())
    (shown,) = page(metrics)[f"tidegate_{name}"].values()
    assert shown == pytest.approx(value)


def errors_of(reading: TierReading = FULL, *, ready: int = 3) -> dict[str, float]:
    """Prediction errors by quantity; 3 replicas were decided, with a prediction of 30 ms per token."""
    metrics, shown = Metrics("1"), tick()
    state = replace(shown.observations[CHAT].tiers["bf16"], ready=ready, reading=reading)
    metrics.show(replace(shown, observations={CHAT: DeploymentObservation(tiers={"bf16": state})}))
    found = page(metrics).get("tidegate_prediction_error_ratio", {})
    return {quantity: value for (_, _, quantity), value in found.items()}


def test_predictions_are_compared_with_observations() -> None:
    assert errors_of()["attainment"] == pytest.approx(0.9 / 0.99 - 1)


@pytest.mark.parametrize(
    ("edges", "error"),
    [
        pytest.param((0.025, 0.05), 0.0, id="where the bucket holds what was predicted"),
        pytest.param((0.05, 0.075), 0.05 / 0.03 - 1, id="above"),
        pytest.param((0.01, 0.025), 0.025 / 0.03 - 1, id="below"),
    ],
)
def test_a_prediction_within_the_bucket_is_no_error(edges: tuple[float, float], error: float) -> None:
    seen = Histogram((*edges, math.inf), (0.0, 100.0, 100.0))
    assert errors_of(replace(FULL, request_itl=seen))["itl_p95"] == pytest.approx(error)


def test_nothing_was_predicted_for_a_fleet_that_was_not_decided() -> None:
    """Another autoscaler runs 8 replicas where 3 are recommended, so latencies are lower than predicted."""
    assert errors_of(ready=8) == {}


def test_unknown_numbers_have_no_series_and_missing_metrics_are_flagged() -> None:
    metrics = Metrics("1")
    metrics.show(tick(reading=Missing(reason="Stale")))
    shown = page(metrics)
    assert "tidegate_attainment_ratio" not in shown
    assert "tidegate_metric_age_seconds" not in shown
    assert shown["tidegate_metrics_missing"]["chat", "prod", "bf16"] == 1.0


@pytest.mark.parametrize(
    "unusable", [{"arrival_rps": None}, {"age_s": 120.0}], ids=["no arrival rate", "the plan takes no sample this old"]
)
def test_a_tier_that_the_plan_cannot_see_is_flagged_like_one_without_metrics(unusable: dict[str, Any]) -> None:
    metrics = Metrics("1")
    metrics.show(tick(reading=replace(FULL, **unusable)))
    assert page(metrics)["tidegate_metrics_missing"]["chat", "prod", "bf16"] == 1.0


def test_the_bounds_enclose_the_share() -> None:
    metrics = Metrics("1")
    metrics.show(tick(reading=replace(FULL, ttft=histogram(0.95, 0.5))))
    shown = page(metrics)
    lower, likely, upper = (
        shown[f"tidegate_attainment_{name}"]["chat", "prod"] for name in ("lower_ratio", "ratio", "upper_ratio")
    )
    assert lower < likely < upper


def test_without_tokens_there_is_no_price_per_token() -> None:
    metrics = Metrics("1")
    metrics.show(tick(reading=replace(FULL, arrival_rps=0.0, completion_rps=0.0, output_tokens_per_s=0.0)))
    shown = page(metrics)
    assert shown["tidegate_cost_dollars_per_hour"] == {("chat", "prod"): 18.0}
    assert "tidegate_cost_dollars_per_million_output_tokens" not in shown
    assert "tidegate_energy_joules_per_output_token" not in shown


def test_a_fault_of_the_planner_is_shown_for_as_long_as_it_lasts() -> None:
    metrics = Metrics("1")
    failed = Decision(key=CHAT, tiers={}, reason=Reason.PLANNER_FAULT, message="m", error="E")
    metrics.show(replace(tick(), decisions={CHAT: failed}))
    assert page(metrics)["tidegate_planner_fault"] == {("chat", "prod"): 1.0}
    metrics.show(tick())
    assert page(metrics)["tidegate_planner_fault"] == {("chat", "prod"): 0.0}


@pytest.mark.parametrize(("reason", "shown"), [("ReplicasStuck", 1.0), ("AcceleratorsShort", 0.0)])
def test_replicas_stuck_follows_the_condition(reason: str, shown: float) -> None:
    metrics, seen = Metrics("1"), tick()
    finding = Condition(type="CapacityAvailable", status=Status.FALSE, reason=reason, message="m")
    metrics.show(replace(seen, decisions={CHAT: replace(seen.decisions[CHAT], conditions=(finding,))}))
    assert page(metrics)["tidegate_replicas_stuck"] == {("chat", "prod"): shown}


def test_a_tier_without_replicas_misses_no_metrics() -> None:
    metrics, shown = Metrics("1"), tick()
    idle = TierState(reading=Missing(reason="NoReplicas"))
    metrics.show(replace(shown, observations={CHAT: DeploymentObservation(tiers={"bf16": idle})}))
    assert page(metrics)["tidegate_metrics_missing"]["chat", "prod", "bf16"] == 0.0


def test_a_deleted_object_leaves_no_series() -> None:
    metrics = Metrics("1")
    (decision,) = tick().decisions.values()
    metrics.show(tick())
    metrics.decided(decision)
    assert b"chat" in metrics.page()
    metrics.show(Tick())
    assert b"chat" not in metrics.page()
    assert b'accelerator="h100"' not in metrics.page()


def test_no_gauge_carries_a_reason() -> None:
    assert [name for name, (_, labels) in FAMILIES.items() if "reason" in labels] == []


def test_events_are_counted() -> None:
    metrics = Metrics("1")
    for _ in range(2):
        metrics.decided(Decision(key=CHAT, tiers={}, reason=Reason.DEMAND_RISING, message="m"))
    metrics.decided(Decision(key=CHAT, tiers={}, reason=Reason.PLANNER_FAULT, message="m", error="E"))
    metrics.faulted()
    metrics.called("PATCH", 409)
    metrics.called("GET", 0)
    metrics.failed({"now": "Timeout"})
    shown = page(metrics)
    assert shown["tidegate_decisions_total"] == {
        ("chat", "prod", "DemandRising"): 2.0,
        ("chat", "prod", "PlannerFault"): 1.0,
    }
    assert shown["tidegate_planner_faults_total"] == {(): 2.0}
    assert shown["tidegate_api_requests_total"] == {("PATCH", "409"): 1.0, ("GET", "0"): 1.0}
    assert shown["tidegate_prometheus_failures_total"] == {("now", "Timeout"): 1.0}


def test_the_documentation_lists_every_metric_and_no_other() -> None:
    metrics = Metrics("1")
    exported = {family.name for family in text_string_to_metric_families(metrics.page().decode())}
    exported |= {f"tidegate_{name}" for name in FAMILIES}
    exported = {name for name in exported if not name.endswith("_created")}
    listed = set(re.findall(r"^\| `(tidegate_\w+?)(?:_total)?`", PAGE.read_text(), re.MULTILINE))
    assert listed == exported
