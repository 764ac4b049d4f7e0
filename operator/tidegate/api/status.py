"""
The status of an InferenceDeployment: what was observed, what was decided, and why.

Only the operator writes it. Times are whole seconds or milliseconds, money and shares decimal strings, rounded so that
noise does not cause writes.
"""

from typing import Annotated

from pydantic import Field

from tidegate.api.fields import DECIMAL_PATTERN, ApiModel, ListMap
from tidegate.domain.decision import Constraint, Status

Number = Annotated[str, Field(max_length=24, pattern=DECIMAL_PATTERN)]
Count = Annotated[int, Field(ge=0)]
# The tiers of the spec, and as many removed ones that still serve. The names of those come from a label.
TIERS_MOST = 32
TierName = Annotated[str, Field(max_length=63, description="Name of the tier.")]


class Condition(ApiModel):
    """One condition, as in the Kubernetes API conventions."""

    type: Annotated[
        str,
        Field(min_length=1, max_length=316, pattern=r"^[A-Za-z][A-Za-z0-9]*$", description="Type of the condition."),
    ]
    status: Annotated[Status, Field(description="Status of the condition.")]
    reason: Annotated[
        str, Field(min_length=1, max_length=1024, pattern=r"^[A-Za-z][A-Za-z0-9]*$", description="Reason code.")
    ]
    message: Annotated[str, Field(max_length=32_768, description="Explanation.")]
    last_transition_time: Annotated[
        str, Field(description="When the status last changed.", json_schema_extra={"format": "date-time"})
    ]
    observed_generation: Annotated[Count | None, Field(description="Generation of the spec that it refers to.")] = None


Conditions = Annotated[
    list[Condition], Field(max_length=32, description="Latest observations, one per type."), ListMap(key="type")
]


class TierStatus(ApiModel):
    """Replicas of one tier, and what is known about them."""

    name: TierName
    desired: Annotated[Count | None, Field(description="Replicas that the last decision asks for.")] = None
    asked: Annotated[
        Count | None,
        Field(
            description="Replica count last set by the operator, or found already in place when it was decided. If "
            "the workload has another one, somebody else set it. Absent: never set."
        ),
    ] = None
    ready: Annotated[
        Count | None,
        Field(description="Ready replicas. A ready pod counts once its metrics arrive, or after 90 seconds."),
    ] = None
    starting: Annotated[Count | None, Field(description="Replicas that are starting.")] = None
    failing: Annotated[
        Count | None, Field(description="Starting replicas that crash or cannot be started. Absent: none.")
    ] = None
    terminating: Annotated[Count | None, Field(description="Replicas that are terminating.")] = None
    startup_seconds: Annotated[Count | None, Field(description="Time from requesting a replica until it is ready.")] = (
        None
    )
    capacity_per_replica: Annotated[
        Number | None, Field(description="Requests per second that one replica sustains within the targets.")
    ] = None


class Goodput(ApiModel):
    """What clients got over the last window."""

    requests_per_second: Annotated[Number | None, Field(description="Requests per second that met both targets.")] = (
        None
    )
    attainment: Annotated[Number | None, Field(description="Share of requests that met both targets.")] = None
    ttft_p95_milliseconds: Annotated[Count | None, Field(description="95th percentile of time to first token.")] = None
    itl_p95_milliseconds: Annotated[
        Count | None, Field(description="95th percentile of the mean inter-token latency of a request.")
    ] = None


class CostStatus(ApiModel):
    """What the deployment costs."""

    currency: Annotated[
        str | None, Field(max_length=3, description="Currency of the tiers' accelerator classes (ISO 4217).")
    ] = None
    per_hour: Annotated[Number | None, Field(description="Cost per hour of all replicas that exist.")] = None
    per_million_output_tokens: Annotated[Number | None, Field(description="Cost per million output tokens.")] = None
    per_million_good_tokens: Annotated[
        Number | None, Field(description="Cost per million output tokens of requests that met both targets.")
    ] = None
    joules_per_output_token: Annotated[Number | None, Field(description="Energy per output token, in joules.")] = None


class TierReplicas(ApiModel):
    """Replicas of one tier in a plan."""

    name: TierName
    replicas: Annotated[Count, Field(description="Number of replicas.")]


Mix = Annotated[list[TierReplicas], Field(max_length=TIERS_MOST), ListMap(key="name")]


class AlternativePlan(ApiModel):
    """A plan that was not chosen."""

    tiers: Annotated[Mix, Field(description="Replicas by tier.")]
    cost_per_hour: Annotated[Number, Field(description="Cost per hour.")]
    attainment: Annotated[Number | None, Field(description="Predicted share of requests that meet both targets.")] = (
        None
    )
    why_not: Annotated[str, Field(max_length=1024, description="Why it was not chosen.")]


class DecisionStatus(ApiModel):
    """The last decision that differs from the one before."""

    time: Annotated[str, Field(description="Time of the decision.", json_schema_extra={"format": "date-time"})]
    reason: Annotated[str, Field(max_length=64, description="Reason code.")]
    message: Annotated[str, Field(max_length=2048, description="Explanation with the numbers.")]
    uncapped: Annotated[Mix | None, Field(description="The plan without bounds, budget and capacity.")] = None
    binding_constraint: Annotated[Constraint, Field(description="The limit that separates the decision from it.")] = (
        Constraint.NONE
    )
    alternatives: Annotated[
        list[AlternativePlan],
        Field(
            max_length=5,
            description="The next best plans, best first.",
            json_schema_extra={"x-kubernetes-list-type": "atomic"},
        ),
    ] = Field(default_factory=list)


class InferenceDeploymentStatus(ApiModel):
    """What was observed, what was decided, and why. Written only by the operator."""

    observed_generation: Annotated[
        Count | None, Field(description="Generation of the spec that the status refers to.")
    ] = None
    replicas: Annotated[Count | None, Field(description="Existing replicas over all tiers.")] = None
    ready_replicas: Annotated[Count | None, Field(description="Ready replicas over all tiers.")] = None
    selector: Annotated[
        str | None, Field(max_length=512, description="Label selector of the pods, for the scale subresource.")
    ] = None
    mix: Annotated[
        str | None, Field(max_length=1024, description="Decided replicas by tier as text, for `kubectl get`.")
    ] = None
    conditions: Conditions = Field(default_factory=list)
    tiers: Annotated[
        list[TierStatus], Field(max_length=TIERS_MOST, description="State of each tier."), ListMap(key="name")
    ] = Field(default_factory=list)
    goodput: Annotated[Goodput | None, Field(description="What clients got over the last window.")] = None
    cost: Annotated[CostStatus | None, Field(description="What the deployment costs.")] = None
    gpu_utilization: Annotated[
        Number | None, Field(description="Mean utilization of the accelerators, from 0 to 1.")
    ] = None
    decision: Annotated[DecisionStatus | None, Field(description="The last decision and its explanation.")] = None


class AcceleratorClassStatus(ApiModel):
    """What the cluster has of the class. Written only by the operator."""

    observed_generation: Annotated[
        Count | None, Field(description="Generation of the spec that the status refers to.")
    ] = None
    allocatable: Annotated[Count | None, Field(description="Accelerators that the matching nodes offer.")] = None
    allocated_by_tidegate: Annotated[
        Count | None, Field(description="Accelerators held by replicas that Tidegate scales.")
    ] = None
    allocated_by_others: Annotated[Count | None, Field(description="Accelerators held by other pods.")] = None
    conditions: Conditions = Field(default_factory=list)
