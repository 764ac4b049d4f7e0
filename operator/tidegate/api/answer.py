"""
The plan on the wire: decisions in the protocol's form, finite and rounded, the same bytes for the same input.
"""

import math
from collections.abc import Iterable

import msgspec

from tidegate.domain.decision import Decision, Prediction, Reason, Status
from tidegate.domain.key import Key

# Decimals that matter: a tenth of a millisecond, a hundredth of a cent.
RATE_DIGITS, SECONDS_DIGITS, SHARE_DIGITS, MONEY_DIGITS = 4, 4, 4, 4

_ENCODER = msgspec.json.Encoder()


class Tier(msgspec.Struct, frozen=True):
    """Replicas to set now."""

    replicas: int


class Forecast(msgspec.Struct, frozen=True):
    """Demand that the plan was sized for, in requests/s, and how far ahead."""

    arrival_rate: float | None
    horizon_s: float | None


class Predicted(msgspec.Struct, frozen=True):
    """What the decided fleet will do."""

    ttft_p95_s: float | None
    itl_p95_s: float | None
    attainment: float | None
    cost_per_hour: float | None
    cost_per_million_output_tokens: float | None


class Plan(msgspec.Struct, frozen=True):
    """The decision for one deployment."""

    namespace: str
    name: str
    tiers: dict[str, Tier]
    reason: Reason
    message: str
    forecast: Forecast
    predicted: Predicted | None
    conditions: dict[str, Status]


class Refusal(msgspec.Struct, frozen=True):
    """A deployment that could not be planned: leave it alone."""

    namespace: str
    name: str
    error: str


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of output; `error` is set if the whole line could not be planned."""

    time: float | None
    deployments: list[Plan | Refusal]
    error: str | None = None


def plan_of(decision: Decision) -> Plan | Refusal:
    """One decision in the protocol's form."""
    if decision.error is not None:
        return refusal(decision.key, decision.error)
    return Plan(
        namespace=decision.key.namespace,
        name=decision.key.name,
        tiers={name: Tier(tier.replicas) for name, tier in decision.tiers.items()},
        reason=decision.reason,
        message=decision.message,
        forecast=Forecast(rounded(decision.forecast_rps, RATE_DIGITS), rounded(decision.horizon_s, 1)),
        predicted=None if decision.prediction is None else _predicted(decision.prediction),
        conditions={condition.type: condition.status for condition in decision.conditions},
    )


def refusal(key: Key, error: str) -> Refusal:
    """An entry for a deployment that could not be planned."""
    return Refusal(key.namespace, key.name, error)


def write(time_s: float | None, entries: Iterable[Plan | Refusal], *, error: str | None = None) -> bytes:
    """One line, with its line break."""
    return _ENCODER.encode(Answer(time=time_s, deployments=list(entries), error=error)) + b"\n"


def rounded(value: float | None, digits: int) -> float | None:
    """The number rounded to `digits` decimals; None if it is not finite."""
    if value is None or not math.isfinite(value):
        return None
    return round(float(value), digits)


def _predicted(prediction: Prediction) -> Predicted:
    return Predicted(
        ttft_p95_s=rounded(prediction.ttft_s_p95, SECONDS_DIGITS),
        itl_p95_s=rounded(prediction.itl_s_p95, SECONDS_DIGITS),
        attainment=rounded(prediction.attainment, SHARE_DIGITS),
        cost_per_hour=rounded(prediction.usd_per_hour, MONEY_DIGITS),
        cost_per_million_output_tokens=rounded(prediction.usd_per_million_output_tokens, MONEY_DIGITS),
    )
