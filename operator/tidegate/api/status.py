"""
The status of an InferenceDeployment: what was seen, what was decided, and why.

Only the operator writes it. Times are whole seconds or milliseconds, money and shares decimal strings, rounded so that
noise does not become a write.
"""

from typing import Annotated

from pydantic import Field

from tidegate.api.fields import DECIMAL_PATTERN, ApiModel, ListMap
from tidegate.domain.decision import Constraint, Status

Number = Annotated[str, Field(max_length=24, pattern=DECIMAL_PATTERN)]
Count = Annotated[int, Field(ge=0)]
# Those of the spec, and as many that have left it and still serve; a label holds the names that these go by.
TIERS_MOST = 32
TierName = Annotated[str, Field(max_length=63, description="Name of the tier.")]


class Condition(ApiModel):
    """One condition, as in the Kubernetes API conventions."""

    type: Annotated[
        str, Field(min_length=1, max_length=316, pattern=r"^[A-Za-z][A-Za-z0-9]*$", description="What it is about.")
    ]
    status: Annotated[Status, Field(description="Whether it holds.")]
    reason: Annotated[
        str, Field(min_length=1, max_length=1024, pattern=r"^[A-Za-z][A-Za-z0-9]*$", description="Why, in one word.")
    ]
    message: Annotated[str, Field(max_length=32_768, description="Why, for people.")]
    last_transition_time: Annotated[
        str, Field(description="When the status last changed.", json_schema_extra={"format": "date-time"})
    ]
    observed_generation: Annotated[Count | None, Field(description="The generation it speaks of.")] = None


Conditions = Annotated[
    list[Condition], Field(max_length=32, description="The latest findings, one per type."), ListMap(key="type")
]


class TierStatus(ApiModel):
    """Replicas of one tier and what is known of them."""

    name: TierName
    desired: Annotated[Count | None, Field(description="Replicas that the last decision asks for.")] = None
    asked: Annotated[
        Count | None,
        Field(
            description="Replicas that its workload was last asked for, or had already when they were decided; absent: "
            "none were. Where it has others, somebody else set them."
        ),
    ] = None
    ready: Annotated[Count | None, Field(description="Replicas that answer.")] = None
    starting: Annotated[Count | None, Field(description="Replicas on their way up.")] = None
    failing: Annotated[
        Count | None, Field(description="Of those, the ones that crash or cannot be started; absent: none.")
    ] = None
    terminating: Annotated[Count | None, Field(description="Replicas on their way out.")] = None
    startup_seconds: Annotated[
        Count | None, Field(description="Time from asking for a replica to its being ready.")
    ] = None
    capacity_per_replica: Annotated[
        Number | None, Field(description="Requests per second that one replica serves inside the targets.")
    ] = None


class Goodput(ApiModel):
    """What users got over the last window."""

    requests_per_second: Annotated[Number | None, Field(description="Requests that met both targets, per second.")] = (
        None
    )
    attainment: Annotated[Number | None, Field(description="Share of requests that met both targets.")] = None
    ttft_p95_milliseconds: Annotated[Count | None, Field(description="95th percentile of time to first token.")] = None
    itl_p95_milliseconds: Annotated[
        Count | None, Field(description="95th percentile of the mean inter-token latency of a request.")
    ] = None


class CostStatus(ApiModel):
    """What it costs."""

    currency: Annotated[
        str | None, Field(max_length=3, description="ISO 4217 code: that of the tiers' accelerator classes.")
    ] = None
    per_hour: Annotated[Number | None, Field(description="All replicas that exist, per hour.")] = None
    per_million_output_tokens: Annotated[Number | None, Field(description="Per million output tokens.")] = None
    per_million_good_tokens: Annotated[
        Number | None, Field(description="Per million output tokens of requests that met both targets.")
    ] = None
    joules_per_output_token: Annotated[Number | None, Field(description="Energy per output token.")] = None


class TierReplicas(ApiModel):
    """Replicas of one tier in a plan."""

    name: TierName
    replicas: Annotated[Count, Field(description="Its replicas.")]


Mix = Annotated[list[TierReplicas], Field(max_length=TIERS_MOST), ListMap(key="name")]


class AlternativePlan(ApiModel):
    """A plan that was not taken."""

    tiers: Annotated[Mix, Field(description="Replicas by tier.")]
    cost_per_hour: Annotated[Number, Field(description="What it would cost per hour.")]
    attainment: Annotated[Number | None, Field(description="Predicted share of requests inside both targets.")] = None
    why_not: Annotated[str, Field(max_length=1024, description="Why it was not taken.")]


class DecisionStatus(ApiModel):
    """The last decision that differs from the one before."""

    time: Annotated[str, Field(description="When it was taken.", json_schema_extra={"format": "date-time"})]
    reason: Annotated[str, Field(max_length=64, description="Why, in one word.")]
    message: Annotated[str, Field(max_length=2048, description="Why, with the numbers.")]
    uncapped: Annotated[Mix | None, Field(description="What it would do without bounds, budget and capacity.")] = None
    binding_constraint: Annotated[Constraint, Field(description="What keeps it from that.")] = Constraint.NONE
    alternatives: Annotated[
        list[AlternativePlan],
        Field(
            max_length=5,
            description="The next best plans.",
            json_schema_extra={"x-kubernetes-list-type": "atomic"},
        ),
    ] = Field(default_factory=list)


class InferenceDeploymentStatus(ApiModel):
    """What was seen, what was decided, and why. Written by the operator only."""

    observed_generation: Annotated[Count | None, Field(description="The generation that the status speaks of.")] = None
    replicas: Annotated[Count | None, Field(description="Replicas of all tiers that exist.")] = None
    ready_replicas: Annotated[Count | None, Field(description="Those of them that answer.")] = None
    selector: Annotated[
        str | None, Field(max_length=512, description="Label selector of the pods, for the scale subresource.")
    ] = None
    mix: Annotated[
        str | None, Field(max_length=1024, description="The decided replicas by tier in words, for `kubectl get`.")
    ] = None
    conditions: Conditions = Field(default_factory=list)
    tiers: Annotated[
        list[TierStatus], Field(max_length=TIERS_MOST, description="State of each tier."), ListMap(key="name")
    ] = Field(default_factory=list)
    goodput: Annotated[Goodput | None, Field(description="What users got over the last window.")] = None
    cost: Annotated[CostStatus | None, Field(description="What it costs.")] = None
    gpu_utilization: Annotated[Number | None, Field(description="Mean utilization of the accelerators, 0 to 1.")] = None
    decision: Annotated[DecisionStatus | None, Field(description="The last decision, and why.")] = None


class AcceleratorClassStatus(ApiModel):
    """What the cluster has of the class. Written by the operator only."""

    observed_generation: Annotated[Count | None, Field(description="The generation that the status speaks of.")] = None
    allocatable: Annotated[Count | None, Field(description="Accelerators of the matching nodes.")] = None
    allocated_by_tidegate: Annotated[Count | None, Field(description="Held by replicas that Tidegate scales.")] = None
    allocated_by_others: Annotated[Count | None, Field(description="Held by other pods.")] = None
    conditions: Conditions = Field(default_factory=list)
