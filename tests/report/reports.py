"""
Reports to build a status from.
"""

from dataclasses import replace
from typing import Any

from tests.actuate.orders import H100, KEY, NOW_S, managed, resource_of, spec_of
from tidegate.domain.decision import (
    Alternative,
    Condition,
    Constraint,
    Decision,
    Prediction,
    Reason,
    Status,
    TierDecision,
)
from tidegate.domain.observation import DeploymentObservation, Histogram, TierReading, TierState
from tidegate.domain.spec import DeploymentSpec
from tidegate.ports import ClusterView, Outcome, Report

SPEC = spec_of(managed("bf16"), managed("fp8"))
INF = float("inf")


def histogram(*counts: float, bounds: tuple[float, ...] = (0.02, 0.04, 0.5, INF)) -> Histogram:
    return Histogram(bounds_s=bounds, counts=counts)


def reading(*, good: float = 1.0, scale: float = 1.0, **more: Any) -> TierReading:
    """60 s of 10 requests/s; `good` is the share inside each target."""
    total = 600.0 * scale
    values: dict[str, Any] = {
        "window_s": 60.0,
        "age_s": 5.0,
        "arrival_rps": 10.0 * scale,
        "completion_rps": 10.0 * scale,
        "output_tokens_per_s": 2000.0 * scale,
        "ttft": histogram(0, 0, total * good, total),
        "itl": histogram(0, total * good, total, total),
        "gpu_utilization": 0.8,
        "power_w": 600.0,
        "replicas_reporting": 2,
    }
    return TierReading(**(values | more))


def decision(reason: Reason = Reason.STEADY, message: str = "needs 2 x fp8", **more: Any) -> Decision:
    values: dict[str, Any] = {
        "tiers": {
            "bf16": TierDecision(replicas=0, capacity_rps=8.0, startup_s=120.0),
            "fp8": TierDecision(replicas=2, capacity_rps=12.0, startup_s=90.0),
        },
        "prediction": Prediction(
            attainment=0.995,
            ttft_s_p95=0.3,
            itl_s_p95=0.03,
            usd_per_hour=6.0,
            usd_per_million_output_tokens=0.8,
        ),
        "conditions": (Condition(type="SLOMet", status=Status.TRUE, reason="Planned", message="expected"),),
    }
    return Decision(key=KEY, reason=reason, message=message, **(values | more))


def observation(ready: int = 2, starting: int = 0, seen: TierReading | None = None) -> DeploymentObservation:
    state = TierState(ready=ready, starting=starting, startup_s=100.0)
    if seen is not None:
        state = replace(state, reading=seen)
    return DeploymentObservation(tiers={"bf16": TierState(), "fp8": state})


def report(**more: Any) -> Report:
    """A deployment that serves, unless stated otherwise; `status` and `spec` go into its resource."""
    spec = more.pop("spec", SPEC)
    resource = replace(
        resource_of(SPEC), spec=spec, status=more.pop("status", {}), generation=more.pop("generation", 1)
    )
    values: dict[str, Any] = {
        "resource": resource,
        "decision": decision(),
        "observation": observation(seen=reading()),
        "outcome": Outcome(),
        "view": ClusterView(),
        "time_s": NOW_S,
        "accelerators": {"nvidia-h100": H100},
    }
    return Report(**(values | more))


def condition(status: dict[str, Any], kind: str) -> tuple[str, str] | None:
    """Status and reason of a condition; None if it is absent."""
    for item in status["conditions"]:
        if item["type"] == kind:
            return item["status"], item["reason"]
    return None


__all__ = [
    "SPEC",
    "Alternative",
    "Constraint",
    "DeploymentSpec",
    "condition",
    "decision",
    "histogram",
    "observation",
    "reading",
    "report",
]
