"""
What was decided, and why. The reason code is the same string in log, event, condition and metric label.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from tidegate.domain.key import Key


class Reason(StrEnum):
    """Why the decision is what it is."""

    STEADY = "Steady"  # the running fleet is right
    DEMAND_RISING = "DemandRising"
    DEMAND_FALLING = "DemandFalling"
    TIER_SWITCH = "TierSwitch"  # another mix is cheaper, even with the cost of switching
    STABILIZING = "Stabilizing"  # fewer replicas would do, but the stabilization window has not passed
    INITIAL = "Initial"  # the first plan of this deployment
    BOUNDS_CHANGED = "BoundsChanged"  # required by the spec's bounds, a schedule or a pin
    PINNED = "Pinned"
    BUDGET_LIMITED = "BudgetLimited"
    CAPACITY_LIMITED = "CapacityLimited"
    REPLICAS_LIMITED = "ReplicasLimited"
    QUALITY_REDUCED = "QualityReduced"
    TARGET_INFEASIBLE = "TargetInfeasible"  # no tier meets the targets even without load
    REPLICAS_STUCK = "ReplicasStuck"  # replicas that start too slowly no longer count; the plan works around them
    METRICS_MISSING = "MetricsMissing"  # held: missing metrics never shrink a fleet
    FALLBACK = "Fallback"  # metrics missing for long: the last good plan, and at least what serves now
    NOT_GPU_BOUND = "NotGpuBound"  # latency is bad while GPUs are idle: more replicas would not help
    SCALED_TO_ZERO = "ScaledToZero"
    ACTIVATED = "Activated"  # woken from zero replicas
    PLANNER_FAULT = "PlannerFault"  # a bug in Tidegate: the deployment is left alone
    PAUSED = "Paused"
    MODE_OFF = "ModeOff"


class Constraint(StrEnum):
    """The limit that separates the plan from the one without limits."""

    NONE = "None"
    BUDGET = "Budget"
    CAPACITY = "Capacity"
    MAX_REPLICAS = "MaxReplicas"
    QUALITY = "Quality"


class Status(StrEnum):
    """Status of a condition, as Kubernetes spells it."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One finding of the planner: `type` is a condition type of the CRD, `reason` one CamelCase word."""

    type: str
    status: Status
    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """
    What the decided fleet will do at the forecast demand. None: nothing runs, or it is not known.

    Money is in $/h and in $ per million output tokens (all that it serves, and those of requests that met both
    targets). If the demand exceeds what the fleet can serve, the TTFT has no percentile: it grows with the queue.
    """

    attainment: float | None
    ttft_s_p95: float | None
    itl_s_p95: float | None
    usd_per_hour: float
    usd_per_million_output_tokens: float | None
    usd_per_million_good_tokens: float | None = None
    joules_per_output_token: float | None = None
    quality_mean: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternative:
    """A plan that was not chosen, and a sentence that says why."""

    replicas: Mapping[str, int]
    usd_per_hour: float
    attainment: float | None
    why_not: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TierDecision:
    """Replicas to set now, and the estimated capacity of one of them (requests/s; None: not known)."""

    replicas: int
    capacity_rps: float | None = None
    startup_s: float | None = None
    confidence: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """
    What to do with one deployment now.

    Args:
        tiers: By name, every tier of the spec.
        reason: Code; `message` is the sentence with the numbers.
        forecast_rps, horizon_s: Demand quantile the plan was sized for, and how far ahead it is.
        prediction: What the decided fleet will do.
        conditions: Findings, one per type.
        uncapped: Replicas by tier without bounds, budget and capacity.
        binding: The constraint that separates `tiers` from `uncapped`.
        alternatives: Next best plans, best first.
        error: Set if this deployment could not be planned: leave it alone. `tiers` is then empty.
    """

    key: Key
    tiers: Mapping[str, TierDecision]
    reason: Reason
    message: str
    forecast_rps: float | None = None
    horizon_s: float | None = None
    prediction: Prediction | None = None
    conditions: tuple[Condition, ...] = ()
    uncapped: Mapping[str, int] | None = None
    binding: Constraint = Constraint.NONE
    alternatives: tuple[Alternative, ...] = ()
    error: str | None = None

    @classmethod
    def fault(cls, key: Key, fault: Exception) -> "Decision":
        """The decision for a deployment on which the core failed."""
        return cls(
            key=key,
            tiers={},
            reason=Reason.PLANNER_FAULT,
            message=f"the planner failed on this deployment, which is left as it is: {fault!r}",
            error=repr(fault),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetDecision:
    """The decisions of one tick, by deployment."""

    time_s: float
    deployments: Mapping[Key, Decision]
