"""
Tidegate's own metrics: what the last tick observed and decided, for Prometheus.

In:    a `Tick` after each plan, and counts of what happened.
Out:   `tidegate_*` in base units.
Rules: gauges are made from the last tick at scrape time, so the series of a deleted object disappear with it. An
       unknown number has no series. No gauge has a reason as a label. Counters of a deleted deployment are removed.
"""

from collections import Counter as Tally
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from tidegate.domain.decision import Decision, Prediction
from tidegate.domain.goodput import Goodput, goodput_of
from tidegate.domain.key import Key
from tidegate.domain.observation import DeploymentObservation, TierReading
from tidegate.domain.spec import Accelerator, DeploymentSpec
from tidegate.plan.sight import silent
from tidegate.ports import AcceleratorUse
from tidegate.report.price import price_per_hour, price_per_million

_DEPLOYMENT = ("namespace", "name")
_TIER = ("namespace", "name", "tier")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """Everything that one tick showed."""

    specs: Mapping[Key, DeploymentSpec] = field(default_factory=dict)
    observations: Mapping[Key, DeploymentObservation] = field(default_factory=dict)
    decisions: Mapping[Key, Decision] = field(default_factory=dict)
    accelerators: Mapping[str, Accelerator] = field(default_factory=dict)
    use: Mapping[str, AcceleratorUse] = field(default_factory=dict)


# name -> (help, labels), in the order of the page.
FAMILIES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "desired_replicas": ("Replicas that the last decision asks for.", _TIER),
    "uncapped_replicas": ("Replicas that the plan would have without bounds, budget and capacity.", _TIER),
    "ready_replicas": ("Ready replicas. A ready pod counts once its metrics arrive, or after 90 seconds.", _TIER),
    "starting_replicas": ("Replicas that are starting.", _TIER),
    "failing_replicas": ("Starting replicas that crash or cannot be started.", _TIER),
    "terminating_replicas": ("Replicas that are terminating.", _TIER),
    "startup_seconds": ("Time from the creation of a replica until it was ready: median of the last three.", _TIER),
    "capacity_requests_per_second": (
        "Arrival rate that one replica sustains within the targets, safety margin deducted.",
        _TIER,
    ),
    "metric_age_seconds": ("Age of the newest sample of the tier.", _TIER),
    "metrics_missing": ("1 if a tier with ready replicas has no usable metrics.", _TIER),
    "attainment_ratio": ("Share of requests that met both targets, likely value.", _DEPLOYMENT),
    "attainment_lower_ratio": ("Lower bound of that share.", _DEPLOYMENT),
    "attainment_upper_ratio": ("Upper bound of that share.", _DEPLOYMENT),
    "attainment_target_ratio": ("The promised share.", _DEPLOYMENT),
    "arrival_requests_per_second": ("Arriving requests, rejected ones included.", _DEPLOYMENT),
    "goodput_requests_per_second": ("Requests that met both targets.", _DEPLOYMENT),
    "output_tokens_per_second": ("Output tokens.", _DEPLOYMENT),
    "goodput_tokens_per_second": ("Output tokens of requests that met both targets.", _DEPLOYMENT),
    "forecast_requests_per_second": ("Forecast demand (90 % quantile).", _DEPLOYMENT),
    "forecast_horizon_seconds": ("How far ahead that forecast is.", _DEPLOYMENT),
    "planner_fault": ("1 while the planner fails on the deployment, which is left as it is.", _DEPLOYMENT),
    "replicas_stuck": ("1 while replicas do not start in time and the plan works around them.", _DEPLOYMENT),
    "ttft_p95_seconds": ("Time to first token, 95th percentile.", _DEPLOYMENT),
    "itl_p95_seconds": ("Inter-token latency of a request, 95th percentile.", _DEPLOYMENT),
    "prediction_error_ratio": (
        "Measured over predicted, minus 1, for the decided fleet; 0 within the measured histogram bucket.",
        (*_DEPLOYMENT, "quantity"),
    ),
    "cost_dollars_per_hour": ("Cost of the replicas that exist.", _DEPLOYMENT),
    "budget_dollars_per_hour": ("The hourly budget.", _DEPLOYMENT),
    "cost_dollars_per_million_output_tokens": ("Current cost per million output tokens.", _DEPLOYMENT),
    "target_dollars_per_million_output_tokens": ("targetPerMillionOutputTokens.", _DEPLOYMENT),
    "cost_dollars_per_million_good_tokens": (
        "Current cost per million output tokens of requests that met both targets.",
        _DEPLOYMENT,
    ),
    "energy_joules_per_output_token": ("Energy of the accelerators per output token.", _DEPLOYMENT),
    "gpu_utilization_ratio": ("Mean utilization of the accelerators.", _DEPLOYMENT),
    "accelerators_allocatable": ("Accelerators that the nodes of the class offer.", ("accelerator",)),
    "accelerators_tidegate": ("Accelerators held by Tidegate's replicas.", ("accelerator",)),
    "accelerators_others": ("Accelerators held by other pods.", ("accelerator",)),
}

Sample = tuple[str, tuple[str, ...], float | None]


def samples(tick: Tick) -> Iterator[Sample]:
    """(family, label values, number) of a tick; None if the number is unknown."""
    for key, spec in tick.specs.items():
        seen, decision = tick.observations.get(key), tick.decisions.get(key)
        owner = (key.namespace, key.name)
        yield "attainment_target_ratio", owner, spec.slo.attainment
        yield "budget_dollars_per_hour", owner, spec.cost.budget_usd_per_hour
        target = spec.cost.target_usd_per_million_output_tokens
        yield "target_dollars_per_million_output_tokens", owner, target
        if decision is not None:
            yield from _decided(owner, decision)
        if seen is not None:
            got = goodput_of(seen, spec)
            yield from _states(owner, seen)
            yield from _goodput_samples(owner, got)
            yield from _cost(owner, got, price_per_hour(spec, seen, tick.accelerators))
            if decision is not None and decision.prediction is not None and _is_in_place(decision, seen):
                yield from _errors(owner, decision.prediction, got)
    for name, use in tick.use.items():
        yield "accelerators_allocatable", (name,), use.allocatable
        yield "accelerators_tidegate", (name,), use.by_tidegate
        yield "accelerators_others", (name,), use.by_others


def _decided(owner: tuple[str, str], decision: Decision) -> Iterator[Sample]:
    yield "forecast_requests_per_second", owner, decision.forecast_rps
    yield "forecast_horizon_seconds", owner, decision.horizon_s
    yield "planner_fault", owner, float(decision.error is not None)
    yield "replicas_stuck", owner, float(any(c.reason == "ReplicasStuck" for c in decision.conditions))
    for name, tier in decision.tiers.items():
        yield "desired_replicas", (*owner, name), tier.replicas
        yield "capacity_requests_per_second", (*owner, name), tier.capacity_rps
    for name, replicas in (decision.uncapped or {}).items():
        yield "uncapped_replicas", (*owner, name), replicas


def _states(owner: tuple[str, str], seen: DeploymentObservation) -> Iterator[Sample]:
    unseen = silent(seen.tiers)
    for name, state in seen.tiers.items():
        tier = (*owner, name)
        yield "ready_replicas", tier, state.ready
        yield "starting_replicas", tier, state.on_the_way
        yield "failing_replicas", tier, state.failing
        yield "terminating_replicas", tier, state.terminating
        yield "startup_seconds", tier, state.startup_s
        reading = state.reading if isinstance(state.reading, TierReading) else None
        yield "metric_age_seconds", tier, reading.age_s if reading is not None else None
        yield "metrics_missing", tier, float(name in unseen)


def _goodput_samples(owner: tuple[str, str], got: Goodput) -> Iterator[Sample]:
    if got.attainment is not None:
        yield "attainment_ratio", owner, got.attainment.likely
        yield "attainment_lower_ratio", owner, got.attainment.lower
        yield "attainment_upper_ratio", owner, got.attainment.upper
    yield "arrival_requests_per_second", owner, got.arrival_rps
    yield "goodput_requests_per_second", owner, got.good_rps
    yield "output_tokens_per_second", owner, got.output_tokens_per_s
    yield "goodput_tokens_per_second", owner, got.good_tokens_per_s
    yield "ttft_p95_seconds", owner, got.ttft.p95_s if got.ttft is not None else None
    yield "itl_p95_seconds", owner, got.itl.p95_s if got.itl is not None else None
    yield "gpu_utilization_ratio", owner, got.gpu_utilization


def _cost(owner: tuple[str, str], got: Goodput, usd_per_hour: float | None) -> Iterator[Sample]:
    yield "cost_dollars_per_hour", owner, usd_per_hour
    yield "cost_dollars_per_million_output_tokens", owner, price_per_million(usd_per_hour, got.output_tokens_per_s)
    yield "cost_dollars_per_million_good_tokens", owner, price_per_million(usd_per_hour, got.good_tokens_per_s)
    energy_j = got.power_w / got.output_tokens_per_s if got.power_w is not None and got.output_tokens_per_s else None
    yield "energy_joules_per_output_token", owner, energy_j


def _is_in_place(decision: Decision, seen: DeploymentObservation) -> bool:
    """Whether the decided fleet is the one that serves; for any other nothing was predicted."""
    return {name: tier.replicas for name, tier in decision.tiers.items()} == {n: s.ready for n, s in seen.tiers.items()}


def _errors(owner: tuple[str, str], predicted: Prediction, got: Goodput) -> Iterator[Sample]:
    """Prediction errors, as far as the buckets prove them: with edges at 10 and 25 ms, a true 12 ms reads as 24 ms."""
    pairs = {
        "attainment": (predicted.attainment, (got.attainment.lower, got.attainment.upper) if got.attainment else None),
        "ttft_p95": (predicted.ttft_s_p95, got.ttft.p95_between_s if got.ttft else None),
        "itl_p95": (predicted.itl_s_p95, got.itl.p95_between_s if got.itl else None),
    }
    for quantity, (expected, between) in pairs.items():
        if expected and between is not None:
            nearest = min(max(expected, between[0]), between[1])
            yield "prediction_error_ratio", (*owner, quantity), nearest / expected - 1.0


class _Gauges(Collector):
    def __init__(self) -> None:
        self.tick = Tick()

    def collect(self) -> Iterable[GaugeMetricFamily]:
        families = {
            name: GaugeMetricFamily(f"tidegate_{name}", about, labels=labels)
            for name, (about, labels) in FAMILIES.items()
        }
        for name, labels, value in samples(self.tick):
            if value is not None:
                families[name].add_metric(labels, value)
        return families.values()


class Metrics:
    """All metrics of one process, in a registry of their own."""

    def __init__(self, version: str) -> None:
        self._registry = registry = CollectorRegistry()
        self._gauges = _Gauges()
        registry.register(self._gauges)
        Gauge("tidegate_info", "Always 1; the label has the version.", ["version"], registry=registry).labels(
            version
        ).set(1)
        self.leader = Gauge("tidegate_leader", "1 on the leader.", registry=registry)
        self.loop_lag_s = Gauge("tidegate_loop_lag_seconds", "How late the event loop last was.", registry=registry)
        self.cache_age_s = Gauge(
            "tidegate_cache_age_seconds",
            "Time since the API server last confirmed the oldest cache.",
            registry=registry,
        )
        self.prometheus_up = Gauge(
            "tidegate_prometheus_up", "1 if the last tick had complete metrics.", registry=registry
        )
        self.tick_s = Histogram(
            "tidegate_tick_seconds", "Duration of a tick: observe, decide, hand over to the writers.", registry=registry
        )
        self.memory_bytes = Gauge(
            "tidegate_memory_bytes", "Size of what was learned, as last saved.", registry=registry
        )
        self._decisions = Counter(
            "tidegate_decisions",
            "Decisions that differ from the previous one, by reason.",
            [*_DEPLOYMENT, "reason"],
            registry=registry,
        )
        self._calls = Counter(
            "tidegate_api_requests",
            "Calls to the API server; status 0: no answer.",
            ["method", "status"],
            registry=registry,
        )
        self._failures = Counter(
            "tidegate_prometheus_failures",
            "Failed queries, by query and reason.",
            ["query", "reason"],
            registry=registry,
        )
        self._faults = Counter(
            "tidegate_planner_faults",
            "Failures on an object through a bug of the operator's own.",
            registry=registry,
        )
        self._counted: dict[Key, Tally[str]] = {}

    def show(self, tick: Tick) -> None:
        """Replace what the gauges show, and remove counters of deleted deployments."""
        self._gauges.tick = tick
        for key in self._counted.keys() - tick.specs.keys():
            for reason in self._counted.pop(key):
                self._decisions.remove(key.namespace, key.name, reason)

    def decided(self, decision: Decision) -> None:
        """Count a decision that differs from the last one."""
        key, reason = decision.key, decision.reason.value
        self._decisions.labels(key.namespace, key.name, reason).inc()
        self._counted.setdefault(key, Tally())[reason] += 1
        if decision.error is not None:
            self._faults.inc()

    def faulted(self) -> None:
        """Count a bug met while carrying out or reporting a plan."""
        self._faults.inc()

    def called(self, method: str, status: int) -> None:
        """Count a call to the API server."""
        self._calls.labels(method, str(status)).inc()

    def failed(self, failures: Mapping[str, str]) -> None:
        """Count failed queries; `failures` are reasons by query name."""
        for query, reason in failures.items():
            self._failures.labels(query, reason).inc()

    def page(self) -> bytes:
        """The page for Prometheus."""
        return generate_latest(self._registry)
