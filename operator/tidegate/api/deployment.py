"""
`InferenceDeployment`: one model, its latency promise, its budget, and the ways to serve it.
"""

from decimal import Decimal
from typing import Annotated, ClassVar

from pydantic import Field

from tidegate.api.fields import LABEL_PATTERN, ApiModel, DecimalString, ListMap, Rule
from tidegate.api.rules import SPEC_RULES
from tidegate.api.tier import REPLICAS_MOST, Tier
from tidegate.domain.spec import Mode

# Five fields of digits, names, lists, ranges and steps. What a pattern cannot detect (a 31st of February) becomes a
# condition.
CRON_PATTERN = r"^([0-9A-Za-z*/,-]+ ){4}[0-9A-Za-z*/,-]+$"
SECONDS_PER_WEEK = 604_800


class Slo(ApiModel):
    """The latency promise: this share of requests meets both targets."""

    ttft_milliseconds: Annotated[
        int, Field(ge=1, le=600_000, description="Target for the time to first token, queueing included, in ms.")
    ]
    itl_milliseconds: Annotated[
        int,
        Field(
            ge=1,
            le=60_000,
            description="Target for a request's mean inter-token latency (time per output token), in ms.",
        ),
    ]
    attainment: Annotated[
        Annotated[str, DecimalString(what="attainment", above="0", below="1", example="0.99")],
        Field(description="Share of requests that must meet both targets."),
    ] = "0.99"


class Cost(ApiModel):
    """Limits on cost, in the currency of the AcceleratorClasses."""

    budget_per_hour: Annotated[
        Annotated[str, DecimalString(what="budgetPerHour", above="0", example="40")] | None,
        Field(description="Hard limit on the cost per hour: no plan exceeds it. Absent: no limit."),
    ] = None
    target_per_million_output_tokens: Annotated[
        Annotated[str, DecimalString(what="targetPerMillionOutputTokens", above="0", example="0.50")] | None,
        Field(
            description="Soft target: reported and alerted on. It restricts nothing, because the cheapest fleet that "
            "keeps the promises is chosen anyway."
        ),
    ] = None


class Quality(ApiModel):
    """How much model quality may be traded for cost and latency."""

    minimum: Annotated[
        Annotated[str, DecimalString(what="minimum", at_least="0", at_most="1", example="0.95")],
        Field(description="Tiers with a lower quality score are never used."),
    ] = "0"
    average_minimum: Annotated[
        Annotated[str, DecimalString(what="averageMinimum", at_least="0", at_most="1", example="0.99")] | None,
        Field(
            description="Minimum of the traffic-weighted mean score. Given up (condition QualityReduced) only if "
            "targets, budget and capacity cannot all be met otherwise. Absent: same as minimum."
        ),
    ] = None

    rules: ClassVar = (
        Rule(
            cel="!has(self.averageMinimum) || double(self.averageMinimum) >= double(self.minimum)",
            message="averageMinimum must be at least minimum",
            holds=lambda q: q.average_minimum is None or Decimal(q.average_minimum) >= Decimal(q.minimum),
            field="averageMinimum",
        ),
    )


class ScaleToZero(ApiModel):
    """Scaling to zero while there are no requests."""

    idle_seconds: Annotated[
        int,
        Field(ge=10, le=SECONDS_PER_WEEK, description="Time without requests after which the last replica is removed."),
    ] = 900
    activation_query: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=4096,
            description="PromQL; a value above 0 means that requests are waiting (a gateway's queue, or a request rate "
            "over less than idleSeconds). Absent: requests do not wake the deployment; only a schedule, scaling by "
            "hand or an edit does that sets replicas or a tier's minReplicas or removes scaleToZero.",
        ),
    ] = None


class ScaleDown(ApiModel):
    """How cautious scaling down is."""

    stabilization_window_seconds: Annotated[
        int, Field(ge=0, le=3600, description="Scale down only to what would have been enough for this long.")
    ] = 300


class Schedule(ApiModel):
    """Replica bounds that apply for durationSeconds from each time the cron expression matches."""

    name: Annotated[str, Field(min_length=1, max_length=63, pattern=LABEL_PATTERN, description="Unique in the list.")]
    cron: Annotated[
        str,
        Field(
            min_length=9,
            max_length=128,
            pattern=CRON_PATTERN,
            description="Cron expression: minute, hour, day of month, month, day of week.",
        ),
    ]
    time_zone: Annotated[
        str,
        Field(
            min_length=1,
            max_length=64,
            pattern=r"^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*$",
            description="IANA time zone of the cron expression, e.g. `Europe/Berlin`.",
        ),
    ] = "UTC"
    duration_seconds: Annotated[int, Field(ge=60, le=SECONDS_PER_WEEK, description="How long the bounds apply.")]
    min_replicas: Annotated[int | None, Field(ge=0, le=REPLICAS_MOST, description="Replaces spec.minReplicas.")] = None
    max_replicas: Annotated[int | None, Field(ge=1, le=REPLICAS_MOST, description="Replaces spec.maxReplicas.")] = None

    rules: ClassVar = (
        Rule(
            cel="has(self.minReplicas) || has(self.maxReplicas)",
            message="a schedule must set minReplicas, maxReplicas or both",
            holds=lambda s: s.min_replicas is not None or s.max_replicas is not None,
        ),
        Rule(
            cel="!has(self.minReplicas) || !has(self.maxReplicas) || self.minReplicas <= self.maxReplicas",
            message="minReplicas must be at most maxReplicas of the schedule",
            holds=lambda s: None in (s.min_replicas, s.max_replicas) or s.min_replicas <= s.max_replicas,
            field="minReplicas",
        ),
    )


class InferenceDeploymentSpec(ApiModel):
    """Desired state: one model, its latency promise, its budget, and the ways to serve it."""

    model: Annotated[str, Field(min_length=1, max_length=256, description="Model name that clients request.")]
    mode: Annotated[
        Mode,
        Field(
            strict=False,
            description="Auto carries out the plan; Recommend plans and reports but scales nothing; Off does not plan "
            '(in YAML, quote it: `"Off"`).',
        ),
    ] = Mode.AUTO
    replicas: Annotated[
        int | None,
        Field(
            ge=0,
            le=REPLICAS_MOST,
            description="If set (also through the scale subresource), pins the total number of replicas; the operator "
            "only chooses their tiers. Between minReplicas and maxReplicas, or 0 to switch off.",
        ),
    ] = None
    min_replicas: Annotated[
        int,
        Field(ge=0, le=REPLICAS_MOST, description="Minimum number of replicas over all tiers; 0 requires scaleToZero."),
    ] = 1
    max_replicas: Annotated[
        int, Field(ge=1, le=REPLICAS_MOST, description="Maximum number of replicas over all tiers.")
    ] = 100
    priority: Annotated[
        int,
        Field(
            ge=-1_000_000_000,
            le=1_000_000_000,
            description="When accelerators are short, higher priorities get them first.",
        ),
    ] = 0
    slo: Annotated[Slo, Field(description="The latency promise: this share of requests meets both targets.")]
    cost: Annotated[Cost, Field(description="Limits on cost, in the currency of the AcceleratorClasses.")] = Cost()
    quality: Annotated[Quality, Field(description="How much model quality may be traded for cost and latency.")] = (
        Quality()
    )
    scale_to_zero: Annotated[
        ScaleToZero | None,
        Field(description="Allows zero replicas while there are no requests. Absent: never below minReplicas."),
    ] = None
    scale_down: Annotated[ScaleDown, Field(description="How cautious scaling down is.")] = ScaleDown()
    schedules: Annotated[
        list[Schedule],
        Field(
            max_length=16, description="Replica bounds by time of day; if several apply at once, the strictest does."
        ),
        ListMap(key="name"),
    ] = Field(default_factory=list)
    tiers: Annotated[
        list[Tier],
        Field(
            min_length=1,
            max_length=16,
            description="The ways to serve the model: the same model in other precisions, hardware or parallelism.",
        ),
        ListMap(key="name"),
    ]

    rules: ClassVar = SPEC_RULES
