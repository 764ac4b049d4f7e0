"""
From samples to readings: what each tier reports.

In:    a sample per pod, and which pods each tier has.
Out:   `TierReading` per tier, or `Missing(reason)`.
Rules: pure. What is stale or absent is left out and never becomes zero.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tidegate.domain.observation import Histogram, Missing, TierReading, answer_tokens, dispersion_of, merge_histograms
from tidegate.observe.decode import PodName, PodSample, Samples

# Standard deviations by which the number of requests in prefill at one instant may differ from its mean, for Poisson
# arrivals.
PREFILL_DEVIATIONS = 3.0
# Requests at the edges of the window. Four scrapes of 15 s span 45 s, extrapolated to 60: each counts as 1.33.
EDGE_REQUESTS = 2.0


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
            ttft_mean_s=_ratio(self._flow("ttft_sum"), started),
            itl_mean_s=_ratio(self._flow("itl_sum"), self._later_tokens(started)),
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
        mean = _ratio(self._flow(f"{length}_sum"), self._flow(f"{length}_count"))
        return mean if mean is not None else _ratio(tokens, requests)

    def _hit_rate(self, started: float | None, finished: float | None) -> float | None:
        """Share of prompt tokens found in the prefix cache; 0 if it is off: prompts come, and none is looked up."""
        hits, queries, came = self._flow("prefix_hits"), self._flow("prefix_queries"), (started or 0.0) * self._window_s
        return 0.0 if queries == 0 and finished and came > self._prefilled() else _ratio(hits or 0.0, queries)

    def _histogram(self, name: str) -> Histogram | None:
        buckets = [sorted(s.buckets[name].items()) for s in (*self._reporting, *self._leaving) if name in s.buckets]
        return merge_histograms([Histogram(*map(tuple, zip(*pairs, strict=True))) for pairs in buckets])


def _ratio(part: float | None, whole: float | None) -> float | None:
    """part / whole; None if either is unknown or the whole is zero."""
    return part / whole if part is not None and whole is not None and whole > 0 else None


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
