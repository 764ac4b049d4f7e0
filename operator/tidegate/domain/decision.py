"""
What was decided, and why. The reason code is the same string in log, event, condition and metric label.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from tidegate.domain.key import Key


class Reason(StrEnum):
    """Why the decision is what it is."""

    STEADY = "Steady"  # what runs is right
    DEMAND_RISING = "DemandRising"
    DEMAND_FALLING = "DemandFalling"
    TIER_SWITCH = "TierSwitch"  # another mix is cheaper and pays for its own disruption
    STABILIZING = "Stabilizing"  # fewer would do, but the window has not passed
    INITIAL = "Initial"  # first plan of this deployment
    BOUNDS_CHANGED = "BoundsChanged"  # spec, schedule or pin asks for it
    PINNED = "Pinned"
    BUDGET_LIMITED = "BudgetLimited"
    CAPACITY_LIMITED = "CapacityLimited"
    REPLICAS_LIMITED = "ReplicasLimited"
    QUALITY_REDUCED = "QualityReduced"
    TARGET_INFEASIBLE = "TargetInfeasible"  # no tier meets the targets even idle
    REPLICAS_STUCK = "ReplicasStuck"  # starting ones stopped counting; the plan goes around them
    METRICS_MISSING = "MetricsMissing"  # held: silence never shrinks
    FALLBACK = "Fallback"  # metrics gone for long: last good plan, at least what serves now
    NOT_GPU_BOUND = "NotGpuBound"  # latency is bad while GPUs idle: replicas will not cure it
    SCALED_TO_ZERO = "ScaledToZero"
    ACTIVATED = "Activated"  # back from zero
    PLANNER_FAULT = "PlannerFault"  # we are wrong: left alone
    PAUSED = "Paused"
    MODE_OFF = "ModeOff"


class Constraint(StrEnum):
    """What keeps the plan from the one without limits."""

    NONE = "None"
    BUDGET = "Budget"
    CAPACITY = "Capacity"
    MAX_REPLICAS = "MaxReplicas"
    QUALITY = "Quality"


class Status(StrEnum):
    """State of a condition, as Kubernetes writes it."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One finding of the planner: type is a condition type of the CRD, reason one CamelCase word."""

    type: str
    status: Status
    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """
    What the decided fleet will do at the forecast demand. None: nothing runs, or it is not known. Where more comes than
    is served the time to the first token has no percentile: it grows with the queue.

    Money in $/h and $ per million output tokens (all tokens, and those of requests inside both targets).
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
    """A plan that was not taken, and the sentence why not."""

    replicas: Mapping[str, int]
    usd_per_hour: float
    attainment: float | None
    why_not: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TierDecision:
    """Replicas to set now, and what one of them is thought to carry (requests/s; None: not known)."""

    replicas: int
    capacity_rps: float | None = None
    startup_s: float | None = None
    confidence: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """
    What to do with one deployment now.

    Args:
        tiers: By tier name; every tier of the spec is in it.
        reason: Code; `message` is the sentence with the numbers.
        forecast_rps, horizon_s: Demand quantile the plan was sized for, and how far ahead.
        prediction: What the decided fleet will do.
        conditions: Findings, one per type.
        uncapped: Replicas by tier without bounds, budget and capacity.
        binding: The constraint that separates the two.
        alternatives: Next best plans, best first.
        error: Set where this deployment could not be planned: leave it alone. `tiers` is then empty.
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
        """The decision about a deployment that the core failed on."""
        return cls(
            key=key,
            tiers={},
            reason=Reason.PLANNER_FAULT,
            message=f"the planner failed on this deployment and leaves it alone: {fault!r}",
            error=repr(fault),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetDecision:
    """Decisions of one tick, by deployment."""

    time_s: float
    deployments: Mapping[Key, Decision]
