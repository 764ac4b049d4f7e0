"""
The plan protocol on the wire: one JSON object per line in (a tick), one per line out (a plan).

In:    bytes of a line.
Out:   domain observations, or a SpecError that names field, value and what is allowed.
Rules: unknown fields are ignored. Whole numbers may be written as 2 or 2.0. A reading below zero counts as unknown. A
       wrong count, a wrong type, or an impossibly large number is an error of its deployment alone.

A line is decoded in two steps, so that an invalid deployment does not affect the others: first the tick, with each
deployment left as bytes, then each deployment.
"""

import math
from collections.abc import Mapping
from functools import lru_cache
from itertools import accumulate
from typing import cast

import msgspec

from tidegate.domain.key import Key
from tidegate.domain.observation import (
    DeploymentObservation,
    GatewayReading,
    Histogram,
    Missing,
    TierReading,
    TierState,
    answer_tokens,
)
from tidegate.domain.spec import Accelerator
from tidegate.errors import SHOWN, SpecError, shown

Number = int | float | None
Amount = float | None  # reads 2 like 2.0

NO_REPLICAS = Missing(reason="NoReplicas")
NO_METRICS = Missing(reason="NoMetrics", detail="the tick has no observation of a tier with ready replicas")
# No measured value is larger. Floats represent whole numbers up to here exactly, and sums of them stay finite.
MOST = 1e15
AMOUNT_ALLOWED = f"must be a number up to {MOST:g}, or null"
COUNT_ALLOWED = f"must be a whole number from 0 to {MOST:g}"


class Reading(msgspec.Struct, frozen=True):
    """Metrics of one tier; names and units as in the protocol."""

    window_s: Amount = None
    age_s: Amount = None
    arrival_rate: Amount = None
    completion_rate: Amount = None
    prompt_tokens_mean: Amount = None
    output_tokens_mean: Amount = None
    running: Amount = None
    waiting: Amount = None
    kv_cache_usage: Amount = None
    preemption_rate: Amount = None
    prefix_cache_hit_rate: Amount = None
    ttft_buckets: dict[str, Amount] | None = None
    itl_buckets: dict[str, Amount] | None = None
    ttft_mean: Amount = None
    itl_mean: Amount = None
    gpu_utilization: Amount = None
    power_watts: Amount = None


class Tier(msgspec.Struct, frozen=True):
    """Replicas of one tier as the cluster has them."""

    ready: Number = None
    starting: Number = 0
    terminating: Number = 0
    startup_s: Number = None
    observation: Reading | None = None


class Gateway(msgspec.Struct, frozen=True):
    """What a gateway in front of all tiers reports."""

    arrival_rate: Number = None
    queued: Number = None


class Deployment(msgspec.Struct, frozen=True):
    """
    One deployment of a tick.

    `spec` stays bytes, so that an unchanged one is not parsed again. So do tiers, so that an error can name its tier.
    """

    name: str
    namespace: str = "default"
    spec: msgspec.Raw = msgspec.Raw()
    tiers: dict[str, msgspec.Raw] | None = None
    gateway: Gateway | None = None

    @property
    def key(self) -> Key:
        """Its name in the fleet."""
        return Key(self.namespace, self.name)


class Name(msgspec.Struct, frozen=True):
    """What can be read of an invalid deployment."""

    name: object = None
    namespace: object = "default"


class Class(msgspec.Struct, frozen=True):
    """One accelerator class; `pricePerHour` may be a decimal string, as in the CRD."""

    name: str
    pricePerHour: int | float | str
    capacity: Number = None


class Tick(msgspec.Struct, frozen=True):
    """One line of input, with deployments still as bytes."""

    time: int | float
    deployments: list[msgspec.Raw] = []
    accelerators: list[msgspec.Raw] | None = None


_TICK = msgspec.json.Decoder(Tick)
_DEPLOYMENT = msgspec.json.Decoder(Deployment)
_CLASS = msgspec.json.Decoder(Class)
_NAME = msgspec.json.Decoder(Name)
_TIER = msgspec.json.Decoder(Tier)
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def read_tick(line: bytes) -> Tick:
    """
    The tick of one line.

    Raises:
        SpecError: the line is not JSON, or not an object with `time` and a list of deployments.
    """
    try:
        tick = _TICK.decode(line)
    except _UNREADABLE as fault:
        raise _unreadable(line, fault, path="line", allowed="must be an object with time and deployments") from None
    if not abs(tick.time) <= MOST:
        raise SpecError(field="time", value=shown(tick.time), allowed=f"must be unix seconds up to {MOST:g}")
    return tick


def read_deployment(raw: msgspec.Raw) -> Deployment:
    """One deployment of a tick; SpecError if a field has the wrong type."""
    try:
        return _DEPLOYMENT.decode(raw)
    except _UNREADABLE as fault:
        raise _unreadable(bytes(raw), fault, path="deployment", allowed="must follow the plan protocol") from None


def read_name(raw: msgspec.Raw) -> Key:
    """The name of a deployment that could not be read, as far as it is readable."""
    try:
        found = _NAME.decode(raw)
    except _UNREADABLE:
        return Key("", "")
    return Key(*(part if isinstance(part, str) else "" for part in (found.namespace, found.name)))


def read_accelerator(raw: msgspec.Raw) -> Accelerator:
    """One accelerator class; SpecError if it is invalid."""
    try:
        found = _CLASS.decode(raw)
    except _UNREADABLE as fault:
        raise _unreadable(
            bytes(raw), fault, path="accelerator", allowed="must have name, pricePerHour and capacity"
        ) from None
    field = f"accelerators[{found.name}]"
    try:
        price = float(found.pricePerHour)
    except (ValueError, OverflowError):
        price = math.nan
    if not 0 <= price <= MOST:
        allowed = f"must be dollars from 0 to {MOST:g}"
        raise SpecError(field=f"{field}.pricePerHour", value=shown(found.pricePerHour), allowed=allowed)
    capacity = None if found.capacity is None else _count(found.capacity, field, "capacity")
    return Accelerator(name=found.name, price_usd_per_hour=price, capacity=capacity)


def observation_of(deployment: Deployment) -> DeploymentObservation:
    """What was observed of one deployment; SpecError for an impossible count, window or reading."""
    tiers = {name: _state(raw, name) for name, raw in (deployment.tiers or {}).items()}
    gateway = None if deployment.gateway is None else _gateway(deployment.gateway)
    return DeploymentObservation(tiers=tiers, gateway=gateway)


def _state(raw: msgspec.Raw, name: str) -> TierState:
    try:
        tier = _TIER.decode(raw)
    except _UNREADABLE as fault:
        raise _unreadable(bytes(raw), fault, path=f"tiers[{name}]", allowed="must follow the plan protocol") from None
    field = f"tiers[{name}]"
    ready, starting = _count(tier.ready, field, "ready"), _count(tier.starting, field, "starting")
    terminating, startup_s = _count(tier.terminating, field, "terminating"), _amount(tier.startup_s, field, "startup_s")
    if tier.observation is None:
        return _silent(ready, starting, terminating, startup_s)
    return TierState(
        ready=ready,
        starting=starting,
        terminating=terminating,
        startup_s=startup_s,
        reading=_reading(tier.observation, f"{field}.observation"),
    )


@lru_cache(maxsize=4096)
def _silent(ready: int, starting: int, terminating: int, startup_s: float | None) -> TierState:
    """A tier without metrics. Cached, because most tiers of most deployments run nothing."""
    silence = NO_METRICS if ready else NO_REPLICAS
    return TierState(ready=ready, starting=starting, terminating=terminating, startup_s=startup_s, reading=silence)


def _reading(seen: Reading, field: str) -> TierReading:
    window = _amount(seen.window_s, field, "window_s")
    if not window:
        raise SpecError(field=f"{field}.window_s", value=seen.window_s, allowed="must be seconds above 0")
    return TierReading(
        window_s=window,
        age_s=_amount(seen.age_s, field, "age_s") or 0.0,  # no age: fresh, since a stale reading is null
        arrival_rps=_amount(seen.arrival_rate, field, "arrival_rate"),
        completion_rps=_amount(seen.completion_rate, field, "completion_rate"),
        prompt_tokens_mean=_amount(seen.prompt_tokens_mean, field, "prompt_tokens_mean") or None,
        output_tokens_mean=answer_tokens(_amount(seen.output_tokens_mean, field, "output_tokens_mean")),
        running=_amount(seen.running, field, "running"),
        waiting=_amount(seen.waiting, field, "waiting"),
        kv_cache_usage=_share(seen.kv_cache_usage, field, "kv_cache_usage"),
        preemption_rps=_amount(seen.preemption_rate, field, "preemption_rate"),
        prefix_cache_hit_rate=_share(seen.prefix_cache_hit_rate, field, "prefix_cache_hit_rate"),
        ttft=_histogram(seen.ttft_buckets, field, "ttft_buckets"),
        itl=_histogram(seen.itl_buckets, field, "itl_buckets"),
        ttft_mean_s=_amount(seen.ttft_mean, field, "ttft_mean"),
        itl_mean_s=_amount(seen.itl_mean, field, "itl_mean"),
        gpu_utilization=_share(seen.gpu_utilization, field, "gpu_utilization"),
        power_w=_amount(seen.power_watts, field, "power_watts"),
    )


def _gateway(seen: Gateway) -> GatewayReading | None:
    rate, queued = _amount(seen.arrival_rate, "gateway", "arrival_rate"), _amount(seen.queued, "gateway", "queued")
    if rate is None and queued is None:
        return None
    return GatewayReading(arrival_rps=rate, queued=queued or 0.0)


def _amount(value: Number, field: str, name: str) -> float | None:
    """A measured number; None if it is unknown or below zero, SpecError if it is impossibly large."""
    if value is None or value < 0.0:
        return None
    if value > MOST:
        raise SpecError(field=f"{field}.{name}", value=shown(value), allowed=AMOUNT_ALLOWED)
    return float(value)


def _share(value: Number, field: str, name: str) -> float | None:
    amount = _amount(value, field, name)
    return None if amount is None else min(amount, 1.0)


def _count(value: Number, field: str, name: str) -> int:
    if value is None or not 0 <= value <= MOST or value != int(value):
        raise SpecError(field=f"{field}.{name}", value=shown(value), allowed=COUNT_ALLOWED)
    return int(value)


def _histogram(buckets: Mapping[str, Amount] | None, field: str, name: str) -> Histogram | None:
    """
    Cumulative counts by upper bound; None if a bound or a count is not a number, SpecError if a count is too large.

    A count below that of a lower bound (a scrape in the middle of an update) is raised to it.
    """
    if not buckets:
        return None
    layout = _layout(tuple(buckets))
    if layout is None:
        return None
    order, bounds = layout
    values = cast(list[float], list(buckets.values()))
    counts = values if order is None else [values[index] for index in order]
    try:
        rising = sorted(counts)
    except TypeError:  # a count is null
        return None
    if rising[0] < 0.0:
        return None
    if rising[-1] > MOST:
        raise SpecError(field=f"{field}.{name}", value=rising[-1], allowed=AMOUNT_ALLOWED)
    if rising != counts:
        rising = [*accumulate(counts, max)]
    return Histogram(bounds, tuple(rising if len(rising) == len(bounds) else [*rising, rising[-1]]))


@lru_cache(maxsize=1024)
def _layout(names: tuple[str, ...]) -> tuple[tuple[int, ...] | None, tuple[float, ...]] | None:
    """Order of the bounds (None: as they are) and the bounds, with infinity last; None if one is not a number."""
    try:
        bounds = [float(name) for name in names]
    except ValueError:
        return None
    if not all(bound >= 0.0 for bound in bounds) or len(set(bounds)) < len(bounds):
        return None
    order = sorted(range(len(bounds)), key=bounds.__getitem__)
    rising = [bounds[i] for i in order]
    closed = tuple(rising if rising[-1] == math.inf else [*rising, math.inf])
    return None if rising == bounds else tuple(order), closed


def _unreadable(raw: bytes, fault: Exception, *, path: str, allowed: str) -> SpecError:
    """The decoder's message, with the field it refers to and its value."""
    reason, _, inside = str(fault).partition(" - at `$")
    inside = inside.rstrip("`")
    return SpecError(field=f"{path}{inside}", value=_value_at(raw, inside), allowed=f"{allowed}: {reason}")


def _value_at(raw: bytes, inside: str) -> str:
    """The value at a decoder's path such as `.observation.running`, shortened; the bytes if they are not JSON."""
    try:
        value = msgspec.json.decode(raw)
    except _UNREADABLE:
        return raw[:SHOWN].decode(errors="replace")
    for name in inside.split(".")[1:]:
        if isinstance(value, dict) and name in value:
            value = value[name]
    return str(shown(value if isinstance(value, str) else repr(value)))
