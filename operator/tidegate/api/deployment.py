"""`InferenceDeployment`: one model, its promises, its money, and the ways to serve it."""

from decimal import Decimal
from typing import Annotated, ClassVar

from pydantic import Field

from tidegate.api.fields import LABEL_PATTERN, ApiModel, DecimalString, ListMap, Rule
from tidegate.api.rules import SPEC_RULES
from tidegate.api.tier import REPLICAS_MOST, Tier
from tidegate.domain.spec import Mode

# Five fields of digits, names, lists, ranges and steps. What it cannot see (a 31st of February) becomes a condition.
CRON_PATTERN = r"^([0-9A-Za-z*/,-]+ ){4}[0-9A-Za-z*/,-]+$"
SECONDS_PER_WEEK = 604_800


class Slo(ApiModel):
    """The promise: a share of the requests meets both targets."""

    ttft_milliseconds: Annotated[
        int, Field(ge=1, le=600_000, description="Time to first token of a request, queueing included, in ms.")
    ]
    itl_milliseconds: Annotated[
        int, Field(ge=1, le=60_000, description="Mean inter-token latency of a request (time per output token), in ms.")
    ]
    attainment: Annotated[
        Annotated[str, DecimalString(what="attainment", above="0", below="1", example="0.99")],
        Field(description="Share of requests that must meet both targets, above 0 and below 1."),
    ] = "0.99"


class Cost(ApiModel):
    """Money, in the currency of the AcceleratorClasses."""

    budget_per_hour: Annotated[
        Annotated[str, DecimalString(what="budgetPerHour", above="0", example="40")] | None,
        Field(description="Hard ceiling in money per hour: nothing above it is ever planned. Absent: none."),
    ] = None
    target_per_million_output_tokens: Annotated[
        Annotated[str, DecimalString(what="targetPerMillionOutputTokens", above="0", example="0.50")] | None,
        Field(
            description="Soft target: reported and alerted on. It stops nothing: the cheapest fleet that keeps the "
            "promises is taken anyway."
        ),
    ] = None


class Quality(ApiModel):
    """What may be traded for money and speed."""

    minimum: Annotated[
        Annotated[str, DecimalString(what="minimum", at_least="0", at_most="1", example="0.95")],
        Field(description="No tier below this score is ever used."),
    ] = "0"
    average_minimum: Annotated[
        Annotated[str, DecimalString(what="averageMinimum", at_least="0", at_most="1", example="0.99")] | None,
        Field(
            description="Least traffic-weighted mean score; given up (condition QualityReduced) only where targets, "
            "budget and capacity cannot all be met otherwise. Absent: as minimum."
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
    """No replica at all while nobody asks."""

    idle_seconds: Annotated[
        int, Field(ge=10, le=SECONDS_PER_WEEK, description="Without a request for so long, the last replica goes.")
    ] = 900
    activation_query: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=4096,
            description="PromQL; a value above 0 means that somebody is waiting (a gateway's queue, or request rate "
            "over less than idleSeconds). Absent: no request ends the sleep, only a schedule, an edit or a hand.",
        ),
    ] = None


class ScaleDown(ApiModel):
    """How careful a scale-down is."""

    stabilization_window_seconds: Annotated[
        int, Field(ge=0, le=3600, description="Fewer replicas only where they would have done for so long.")
    ] = 300


class Schedule(ApiModel):
    """Bounds by time of day: they hold from each firing of the cron expression for a while."""

    name: Annotated[str, Field(min_length=1, max_length=63, pattern=LABEL_PATTERN, description="Unique in the list.")]
    cron: Annotated[
        str,
        Field(
            min_length=9,
            max_length=128,
            pattern=CRON_PATTERN,
            description="Five fields: minute, hour, day of month, month, day of week.",
        ),
    ]
    time_zone: Annotated[
        str,
        Field(
            min_length=1,
            max_length=64,
            pattern=r"^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*$",
            description="Name in the IANA database, e.g. `Europe/Berlin`.",
        ),
    ] = "UTC"
    duration_seconds: Annotated[int, Field(ge=60, le=SECONDS_PER_WEEK, description="How long the bounds hold.")]
    min_replicas: Annotated[
        int | None, Field(ge=0, le=REPLICAS_MOST, description="Instead of the deployment's minReplicas.")
    ] = None
    max_replicas: Annotated[
        int | None, Field(ge=1, le=REPLICAS_MOST, description="Instead of the deployment's maxReplicas.")
    ] = None

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
    """What you want: one model, its promises, its money, and the ways to serve it."""

    model: Annotated[str, Field(min_length=1, max_length=256, description="The name that clients ask for.")]
    mode: Annotated[
        Mode,
        Field(
            strict=False, description="Auto carries the plan out; Recommend only plans and reports; Off does neither."
        ),
    ] = Mode.AUTO
    replicas: Annotated[
        int | None,
        Field(
            ge=0,
            le=REPLICAS_MOST,
            description="Set (also through the scale subresource): fixes the total, the operator chooses tiers only. "
            "Between minReplicas and maxReplicas, or 0 to switch off.",
        ),
    ] = None
    min_replicas: Annotated[
        int, Field(ge=0, le=REPLICAS_MOST, description="Replicas over all tiers, at least; 0 needs scaleToZero.")
    ] = 1
    max_replicas: Annotated[int, Field(ge=1, le=REPLICAS_MOST, description="Replicas over all tiers, at most.")] = 100
    priority: Annotated[
        int,
        Field(
            ge=-1_000_000_000,
            le=1_000_000_000,
            description="Who gets accelerators first when they run short; higher first.",
        ),
    ] = 0
    slo: Annotated[Slo, Field(description="The promise: a share of the requests meets both targets.")]
    cost: Annotated[Cost, Field(description="Money, in the currency of the AcceleratorClasses.")] = Cost()
    quality: Annotated[Quality, Field(description="What may be traded for money and speed.")] = Quality()
    scale_to_zero: Annotated[
        ScaleToZero | None, Field(description="No replica at all while nobody asks. Absent: never below minReplicas.")
    ] = None
    scale_down: Annotated[ScaleDown, Field(description="How careful a scale-down is.")] = ScaleDown()
    schedules: Annotated[
        list[Schedule],
        Field(max_length=16, description="Bounds by time of day; of several that hold at once the strictest counts."),
        ListMap(key="name"),
    ] = Field(default_factory=list)
    tiers: Annotated[
        list[Tier],
        Field(
            min_length=1,
            max_length=16,
            description="The ways to serve the model: the same model in different precision, hardware or parallelism.",
        ),
        ListMap(key="name"),
    ]

    rules: ClassVar = SPEC_RULES
