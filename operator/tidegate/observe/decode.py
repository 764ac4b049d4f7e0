"""
From vectors to readings: per pod first, then per tier.

In:    the answers to `tick_queries`, the instant they were evaluated at, and which pods each tier has.
Out:   `TierReading` per tier, or `Missing(reason)`.
Rules: pure. Values that are NaN, infinite, impossibly large, stale or absent are left out and never become zero.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

from tidegate.domain.observation import Histogram, Missing, TierReading, answer_tokens, dispersion_of, merge_histograms
from tidegate.observe.dialects import FLOW, GPU, HISTOGRAMS, KV_INFO_LABELS, NOW, Shape
from tidegate.observe.queries import SIGNAL, Dialect

# (namespace, name) of a pod.
PodName = tuple[str, str]
# One series of an instant vector as Prometheus' API gives it: {"metric": {...}, "value": [time, "number"]}.
Series = Mapping[str, object]
Vector = Sequence[Series]

# No metric of a pod is larger, in any unit. Larger values come from a broken exporter, and sums and squares of them
# overflow.
LARGEST = 1e15

# Standard deviations by which the number of requests in prefill at one instant may differ from its mean, for Poisson
# arrivals.
PREFILL_DEVIATIONS = 3.0
# Requests at the edges of the window. Four scrapes of 15 s span 45 s, extrapolated to 60: each counts as 1.33.
EDGE_REQUESTS = 2.0

# Signals that are counters, all signals over the window, and the values of a server that has had no request yet.
_COUNTED = frozenset(signal.name for signal in FLOW if signal.shape is Shape.RATE)
_FLOWS = frozenset(signal.name for signal in FLOW)
_UNUSED = {"started": 0.0, "finished": 0.0}
_SCALES = {signal.name: signal.scale for signal in (*NOW, *FLOW, *GPU)}


@dataclass(slots=True)
class PodSample:
    """
    What one pod reports.

    Args:
        values: By signal, finite numbers in our units.
        buckets: By histogram and upper bound in seconds, increase over the window.
        kv_tokens: Tokens that fit into its KV cache; None: not stated.
        age_s: Age of its newest gauge; None: no gauge.
    """

    values: dict[str, float] = field(default_factory=dict)
    buckets: dict[str, dict[float, float]] = field(default_factory=dict)
    kv_tokens: float | None = None
    age_s: float | None = None

    def answers(self, stale_s: float) -> bool:
        """True for a fresh sample of an engine that is awake."""
        return self.age_s is not None and self.age_s <= stale_s and "running" in self.values and not self.asleep

    @property
    def flows(self) -> bool:
        """The window has at least two scrapes: a single one shows no rate."""
        return not _FLOWS.isdisjoint(self.values)

    @property
    def asleep(self) -> bool:
        """The engine is in sleep mode: /health succeeds, and requests wait without showing in any gauge."""
        return self.values.get("asleep", 0.0) > 0

    @property
    def unused(self) -> bool:
        """
        No request has come yet: nothing is in flight, no request was ever counted, and no other counter moves.

        SGLang and vLLM's V0 engine export a counter only after the first count. That its rates are missing is therefore
        taken for zero only if a gauge shows a change over the window, which proves that there were two scrapes.
        """
        in_flight = [self.values.get(signal) for signal in ("running", "waiting")]
        never = _UNUSED.keys().isdisjoint(self.values) and "waiting_growth" in self.values
        return never and in_flight == [0, 0] and not any(self.values.get(signal) for signal in _COUNTED)


Samples = Mapping[PodName, PodSample]


def pod_samples(vectors: Mapping[str, Vector], dialect: Dialect, *, time_s: float) -> dict[PodName, PodSample]:
    """
    Everything the vectors contain, by pod.

    Args:
        vectors: Answers by query name.
        dialect: The one the queries were made with.
        time_s: Instant of the queries, unix seconds.
    """
    reader = _Reader(dialect)
    for query, sample_of in (("now", reader.sample), ("flow", reader.sample), ("gpu", reader.gpu_sample)):
        for labels, value in _measured(vectors.get(query, ())):
            sample, signal = sample_of(labels), labels.get(SIGNAL, "")
            if signal == "seen":
                sample.age_s = max(0.0, time_s - value)
            else:
                # Any scrape target can export series that name another pod, as a GPU exporter does. The highest value
                # counts: a pod's GPUs are idle only if all of them say so.
                amount = value * _SCALES.get(signal, 1.0)
                sample.values[signal] = max(amount, sample.values.get(signal, amount))
    for name in HISTOGRAMS:
        for labels, value in _measured(vectors.get(name, ())):
            bound = _bound(labels.get("le", ""))
            if bound is not None:
                reader.sample(labels).buckets.setdefault(name, {})[bound] = value
    for labels, value in _measured(vectors.get("kv", ())):
        sample, tokens = reader.sample(labels), _kv_tokens(labels, value)
        if tokens is not None and is_possible(tokens):
            sample.kv_tokens = (sample.kv_tokens or 0.0) + tokens
    return reader.done()


class _Reader:
    """Samples by pod."""

    def __init__(self, dialect: Dialect) -> None:
        self.samples: dict[PodName, PodSample] = {}
        self._dialect = dialect
        self._namespace, self._pod = dialect.namespace_label, dialect.pod_label

    def sample(self, labels: Mapping[str, str]) -> PodSample:
        """The sample of the pod that was scraped."""
        return self._of((labels.get(self._namespace, ""), labels.get(self._pod, "")))

    def gpu_sample(self, labels: Mapping[str, str]) -> PodSample:
        """The sample of the pod that uses the GPU; the scraped pod is the exporter."""
        return self._of((_first(labels, self._dialect.namespace_labels), _first(labels, self._dialect.pod_labels)))

    def done(self) -> dict[PodName, PodSample]:
        """Every sample, after all vectors have been read."""
        for sample in self.samples.values():
            if sample.unused:
                sample.values |= _UNUSED
        return self.samples

    def _of(self, name: PodName) -> PodSample:
        found = self.samples.get(name)
        if found is None:
            found = self.samples[name] = PodSample()
        return found


def _first(labels: Mapping[str, str], names: Iterable[str]) -> str:
    """The first of these labels that a series has; empty ones count as missing, as in Prometheus."""
    return next((labels[name] for name in names if labels.get(name)), "")


def _measured(vector: Vector) -> Iterable[tuple[Mapping[str, str], float]]:
    """
    Labels and value of each series with a possible value. A plain loop, because fleets send a hundred thousand series.
    """
    for series in vector:
        labels, point = series.get("metric"), series.get("value")
        if type(labels) is not dict or type(point) is not list or len(point) != 2:
            continue
        try:
            value = float(point[1])
        except (TypeError, ValueError):
            continue
        if is_possible(value):
            yield labels, value


def is_possible(value: float) -> bool:
    """Whether a value can have been measured: not NaN, infinite or impossibly large."""
    return -LARGEST <= value <= LARGEST


def number(text: str) -> float | None:
    """The number, possibly infinite; None if it is no number or an impossible one."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if is_possible(value) or value == math.inf else None


# Cached, because a fleet has only a few dozen bucket edges, repeated in every series.
_bound = lru_cache(maxsize=4096)(number)


def _kv_tokens(labels: Mapping[str, str], value: float) -> float | None:
    """Tokens of KV cache. vLLM's info metric is 1 per engine; the value of SGLang's metric is the number itself."""
    stated, blocks, size = (number(labels.get(name, "")) for name in KV_INFO_LABELS)
    if stated:
        return stated * value
    if blocks and size:
        return blocks * size
    return value if not any(name in labels for name in KV_INFO_LABELS) and value > 0 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class TierPods:
    """
    The pods whose series belong to one tier.

    Args:
        ready: Replicas that take requests now, at least one; what they report stands for the tier.
        leaving: Terminating pods and those deleted within the window: their arrivals count, their gauges do not.
        workers: The other pods of replicas that are groups: their GPUs draw power, but they serve no requests
            themselves.
        fresh: Those of `ready` that never showed a rate: they were scraped only once and have served almost nothing.
    """

    ready: tuple[PodName, ...]
    leaving: tuple[PodName, ...] = ()
    workers: tuple[PodName, ...] = ()
    fresh: frozenset[PodName] = frozenset()


def tier_reading(pods: TierPods, samples: Samples, *, window_s: float, stale_s: float) -> TierReading | Missing:
    """
    What one tier reports.

    A ready replica that is silent is assumed to be like the mean of those that report, as long as at least half of them
    do: a lost scrape must not look like lost demand. The same holds, for rates, for a replica that reports but shows no
    rate, because one of the two scrapes in its window was lost.

    Returns:
        The reading; `Missing` with reason `NoSeries` (never scraped), `Stale` (scraped too long ago), `PartialScrape`
        (most are silent) or `Asleep` (in sleep mode).
    """
    known = {pod: samples[pod] for pod in pods.ready if pod in samples}
    reporting = [sample for sample in known.values() if sample.answers(stale_s)]
    ready = len(pods.ready)
    if 2 * len(reporting) < ready:
        return _silence(pods, list(known.values()), reporting)
    leaving = [samples[pod] for pod in pods.leaving if pod in samples]
    flowing = sum(s.answers(stale_s) and (s.flows or pod in pods.fresh) for pod, s in known.items())
    flow_factor = ready / flowing if 2 * flowing >= ready else None
    reading = _TierSums(reporting, leaving, ready / len(reporting), flow_factor, window_s).reading()
    drawn = [samples[pod].values.get("gpu_power_w", 0.0) for pod in pods.workers if pod in samples]
    return reading if reading.power_w is None else replace(reading, power_w=reading.power_w + sum(drawn))


def _silence(pods: TierPods, known: list[PodSample], reporting: list[PodSample]) -> Missing:
    ages = [sample.age_s for sample in known if sample.age_s is not None]
    ready = len(pods.ready)
    if known and all(sample.asleep for sample in known):
        return Missing(reason="Asleep", detail=f"the engines of {ready} ready replicas are in sleep mode")
    if reporting:
        return Missing(reason="PartialScrape", detail=f"only {len(reporting)} of {ready} ready replicas report")
    if ages:
        return Missing(reason="Stale", detail=f"the newest sample of {ready} ready replicas is {min(ages):.0f} s old")
    return Missing(
        reason="NoSeries",
        detail=f"Prometheus has no series of {ready} ready replicas: is pod {pods.ready[0][1]} scraped?",
    )


class _TierSums:
    """
    The arithmetic of one tier.

    Args:
        reporting: Samples of ready replicas, at least one.
        leaving: Samples of replicas that are terminating or gone.
        factor: Ready replicas per reporting one, >= 1.
        flow_factor: Ready replicas per one whose rates are known, >= 1; None: the rates of most are not.
        window_s: Window of rates, s.
    """

    def __init__(
        self,
        reporting: list[PodSample],
        leaving: list[PodSample],
        factor: float,
        flow_factor: float | None,
        window_s: float,
    ) -> None:
        self._reporting, self._leaving = reporting, leaving
        self._factor, self._flow_factor, self._window_s = factor, flow_factor, window_s

    def reading(self) -> TierReading:
        started, finished = self._flow("started"), self._flow("finished")
        # During a rollout from a version that does not time requests, the new replicas do not stand for all.
        timed = all("request_itl" in s.buckets for s in (*self._reporting, *self._leaving) if "itl" in s.buckets)
        return TierReading(
            window_s=self._window_s,
            age_s=min(s.age_s for s in self._reporting if s.age_s is not None),
            arrival_rps=self._total(self._arrivals),
            completion_rps=finished,
            prompt_tokens_mean=self._per_request("prompt_length", self._flow("prompt_tokens"), started) or None,
            output_tokens_mean=answer_tokens(self._per_request("output_length", self._flow("output_tokens"), finished)),
            running=self._now("running"),
            waiting=self._now("waiting"),
            kv_cache_usage=self._mean("kv_usage"),
            preemption_rps=self._flow("preempted"),
            prefix_cache_hit_rate=self._hit_rate(started, finished),
            ttft=self._histogram("ttft"),
            itl=self._histogram("itl"),
            ttft_mean_s=ratio(self._flow("ttft_sum"), started),
            itl_mean_s=ratio(self._flow("itl_sum"), self._later_tokens(started)),
            gpu_utilization=self._mean("gpu_busy"),
            power_w=self._now("gpu_power_w"),
            request_itl=self._histogram("request_itl") if timed else None,
            rejection_rps=self._flow("rejected"),
            abort_rps=self._aborts(started, finished),
            abort_rps_counted=self._flow("aborted"),
            output_tokens_per_s=self._flow("output_tokens", "output_length_sum"),
            kv_cache_tokens_per_replica=_mean([s.kv_tokens for s in self._reporting if s.kv_tokens is not None]),
            replicas_reporting=len(self._reporting),
            dispersion=dispersion_of([s.values["running"] + s.values.get("waiting", 0.0) for s in self._reporting]),
        )

    def _now(self, signal: str) -> float | None:
        """A gauge summed over ready replicas; those without it are assumed to be like the mean of the others."""
        mean = self._mean(signal)
        return mean * len(self._reporting) * self._factor if mean is not None else None

    def _mean(self, signal: str) -> float | None:
        return _mean([s.values[signal] for s in self._reporting if signal in s.values])

    def _flow(self, *signals: str) -> float | None:
        """A rate summed over ready and leaving replicas, by the first of these that each has; unknown if none has."""
        return self._total(lambda sample: next((sample.values[s] for s in signals if s in sample.values), None))

    def _total(self, flow_of: Callable[[PodSample], float | None]) -> float | None:
        ready = [flow for s in self._reporting if (flow := flow_of(s)) is not None]
        leaving = [flow for s in self._leaving if (flow := flow_of(s)) is not None]
        if self._flow_factor is None or not (ready or leaving):
            return None
        return sum(ready) * self._flow_factor + sum(leaving)

    def _arrivals(self, sample: PodSample) -> float | None:
        """
        Arrivals at one replica: first tokens plus growth of the queue, since vLLM has no counter of them.

        Never negative: a queue that is lost with its server does not reduce the arrivals at the others.
        """
        started = sample.values.get("started")
        if started is None:
            return None
        return max(0.0, started + sample.values.get("waiting_growth", 0.0) / self._window_s)

    def _later_tokens(self, started: float | None) -> float | None:
        """
        Output tokens per second after the first, over which the counted gaps are spread.

        vLLM times steps. With speculative decoding a step produces several tokens; without it gaps and tokens are
        equal. SGLang counts a gap for each token, and the tokens themselves only when a request has finished.
        """
        gaps, tokens = self._flow("itl_count"), self._flow("output_tokens")
        return gaps if gaps is None or tokens is None or started is None else max(gaps, tokens - started)

    def _aborts(self, started: float | None, finished: float | None) -> float | None:
        """
        Requests per second that began and neither finished nor still run, unless something else explains it.

        Disconnects leave no other trace; older versions counted some of them.
        """
        counted, growth = self._flow("aborted"), self._flow("running_growth")
        if started is None or finished is None or growth is None:
            return counted
        vanished = started - finished - growth / self._window_s
        return max(0.0, vanished - self._prefilled() / self._window_s, counted or 0.0)

    def _prefilled(self) -> float:
        """
        Requests of one window that seem to vanish although nobody left: they were in prefill when it began.

        Such a request already runs and has no first token yet, so it later counts as started without increasing the
        number that run. The mean number of requests without a first token is the sum of their waits per second
        (Little's law). Those in prefill are the ones that are not queued. Their number at one instant varies around the
        mean by chance.
        """
        queued = (self._now("waiting") or 0.0) - (self._flow("waiting_growth") or 0.0) / 2
        mean = max(0.0, (self._flow("ttft_sum") or 0.0) - max(0.0, queued))
        return mean + PREFILL_DEVIATIONS * math.sqrt(mean) + EDGE_REQUESTS

    def _per_request(self, length: str, tokens: float | None, requests: float | None) -> float | None:
        """Mean tokens per request, from the length histogram, else from the counters of tokens and requests."""
        mean = ratio(self._flow(f"{length}_sum"), self._flow(f"{length}_count"))
        return mean if mean is not None else ratio(tokens, requests)

    def _hit_rate(self, started: float | None, finished: float | None) -> float | None:
        """Share of prompt tokens found in the prefix cache; 0 if it is off: prompts come, and none is looked up."""
        hits, queries, came = self._flow("prefix_hits"), self._flow("prefix_queries"), (started or 0.0) * self._window_s
        return 0.0 if queries == 0 and finished and came > self._prefilled() else ratio(hits or 0.0, queries)

    def _histogram(self, name: str) -> Histogram | None:
        buckets = [sorted(s.buckets[name].items()) for s in (*self._reporting, *self._leaving) if name in s.buckets]
        return merge_histograms([Histogram(*map(tuple, zip(*pairs, strict=True))) for pairs in buckets])


def ratio(part: float | None, whole: float | None) -> float | None:
    """part / whole; None if either is unknown or the whole is zero."""
    return part / whole if part is not None and whole is not None and whole > 0 else None


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
