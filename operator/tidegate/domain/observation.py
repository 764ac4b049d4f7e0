"""
What was observed of the whole fleet at one instant.

Unknown is not zero: an unknown value within a reading is `None`, and a source that is silent is `Missing(reason)`.
Nothing here is ever filled in with 0.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from tidegate.domain.key import Key


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """A source that gave no data: `reason` is one CamelCase word, `detail` a sentence for people."""

    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Histogram:
    """
    Cumulative counts of a Prometheus histogram over a window.

    Args:
        bounds_s: Upper bounds, increasing, the last one infinity; shape (buckets,).
        counts: Observations at or below each bound; shape (buckets,).
    """

    bounds_s: tuple[float, ...]
    counts: tuple[float, ...]

    @property
    def total(self) -> float:
        """Observations in the window; 0 for an empty histogram."""
        return self.counts[-1] if self.counts else 0.0

    def share_at_most(self, bound_s: float) -> tuple[float, float] | None:
        """
        Lower and upper bound of the share of observations <= `bound_s`; equal if it is a bucket edge.

        None if nothing was observed.
        """
        if self.total <= 0:
            return None
        below, above = 0.0, self.total
        for edge, count in zip(self.bounds_s, self.counts, strict=True):
            if edge <= bound_s * (1 + 1e-9):
                below = count
            if edge >= bound_s * (1 - 1e-9):
                above = count
                break
        return below / self.total, above / self.total

    def quantile(self, share: float) -> float | None:
        """Quantile by linear interpolation within the bucket, as Prometheus does; None if nothing was observed."""
        if self.total <= 0:
            return None
        rank, lower, before = share * self.total, 0.0, 0.0
        for edge, count in zip(self.bounds_s, self.counts, strict=True):
            if count >= rank and count > before:
                if edge == math.inf:
                    return lower
                return lower + (edge - lower) * (rank - before) / (count - before)
            lower, before = (edge if edge != math.inf else lower), count
        return lower

    def bucket_of(self, share: float) -> tuple[float, float] | None:
        """The edges of the bucket that contains a quantile; None if nothing was observed."""
        if self.total <= 0:
            return None
        at = next(i for i, count in enumerate(self.counts) if count >= share * self.total)
        return self.bounds_s[at - 1] if at else 0.0, self.bounds_s[at]


def merge_histograms(histograms: Sequence[Histogram]) -> Histogram | None:
    """
    The sum of several histograms, on the edges that all of them have: there the counts are exact.

    Replicas of different versions, or with custom buckets, have different edges. A count interpolated between edges
    would look as certain as a real one. None if there is no histogram, or if they share no edge but infinity.
    """
    if not histograms:
        return None
    edges = histograms[0].bounds_s
    if all(h.bounds_s == edges for h in histograms):
        columns = list(zip(*[h.counts for h in histograms], strict=True))
    else:
        counted = [dict(zip(h.bounds_s, h.counts, strict=True)) for h in histograms]
        edges = tuple(sorted(set.intersection(*(set(c) for c in counted))))
        columns = [tuple(c[edge] for c in counted) for edge in edges]
    if len(edges) < 2 or edges[-1] != math.inf:
        return None
    # Prometheus extrapolates each series separately, so a cumulative count can fall by a rounding error.
    return Histogram(edges, tuple(accumulate(map(math.fsum, columns), max, initial=0.0))[1:])


# One token per answer, with slack for rounding in a mean of counters.
ONE_TOKEN = 1.001


def answer_tokens(mean: float | None) -> float | None:
    """
    Mean tokens per answer, >= 1, of a mean as the server counts it; None for None.

    A pooling model (embeddings, scores) answers without a token. Its answer is complete at once, like one of one token.
    """
    return None if mean is None else max(1.0, mean)


@dataclass(frozen=True, slots=True, kw_only=True)
class TierReading:
    """
    Metrics of one tier over a window, summed over its replicas unless stated otherwise.

    Rates are per second, times in seconds, shares in [0, 1]. None: not known (never zero by default).
    The fields up to `power_w` are those of the plan protocol; the others are known only in a cluster.

    Sums stand for all ready replicas: if `replicas_reporting` is lower, the silent replicas are already assumed to be
    like the mean of the others, so that a lost scrape does not look like lost demand. Do not scale again.

    Args:
        window_s: Length of the window of rates, s.
        age_s: Age of the newest sample, s.
        arrival_rps: Requests that reached the tier: those begun, and growth of the queue. Without rejected ones.
        running, waiting: Requests now.
        ttft, itl: Histograms of the window. `ttft` counts requests; `itl` counts gaps between outputs, each of one
            token, or of several with speculative decoding.
        itl_mean_s: Time per output token after the first, however many tokens a step produces.
        request_itl: Mean ITL per request (vLLM's request_time_per_output_token_seconds).
        rejection_rps: Requests refused at admission: demand that no other metric shows.
        abort_rps: Requests that began and never finished, because the client left. Misses, whatever their latency.
        abort_rps_counted: The part of `abort_rps` that the server counted; the rest is inferred from its other metrics.
        kv_cache_tokens_per_replica: Tokens that fit into one replica's KV cache.
        replicas_reporting: Ready replicas with a fresh sample.
        dispersion: Variance over mean, across ready replicas, of the requests each one holds (running or waiting): near
            0 if a router evens them out, 1 or more if it picks at random. None with fewer than two replicas, or if no
            replica holds any.
    """

    window_s: float
    age_s: float
    arrival_rps: float | None
    completion_rps: float | None = None
    prompt_tokens_mean: float | None = None
    output_tokens_mean: float | None = None
    running: float | None = None
    waiting: float | None = None
    kv_cache_usage: float | None = None
    preemption_rps: float | None = None
    prefix_cache_hit_rate: float | None = None
    ttft: Histogram | None = None
    itl: Histogram | None = None
    ttft_mean_s: float | None = None
    itl_mean_s: float | None = None
    gpu_utilization: float | None = None
    power_w: float | None = None
    # Not in the plan protocol:
    request_itl: Histogram | None = None
    rejection_rps: float | None = None
    abort_rps: float | None = None
    abort_rps_counted: float | None = None
    output_tokens_per_s: float | None = None
    kv_cache_tokens_per_replica: float | None = None
    replicas_reporting: int | None = None
    dispersion: float | None = None

    def older_than(self, limit_s: float) -> bool:
        """
        Whether the newest sample is too old to describe the present: older than the limit and than the window.

        The window covers at least two scrapes. If scrapes are minutes apart, the newest sample may be just as old.
        """
        return self.age_s > max(limit_s, self.window_s)

    @property
    def gapless(self) -> bool:
        """Whether every answer had a single token: such requests have no gap between tokens that could be too long."""
        return self.output_tokens_mean is not None and self.output_tokens_mean <= ONE_TOKEN


def dispersion_of(held: Sequence[float]) -> float | None:
    """Variance over mean of the requests that replicas hold; see `TierReading.dispersion`."""
    mean = sum(held) / len(held) if held else 0.0
    if len(held) < 2 or mean <= 0:
        return None
    return sum((n - mean) ** 2 for n in held) / (len(held) - 1) / mean


@dataclass(frozen=True, slots=True, kw_only=True)
class TierState:
    """
    Replicas of one tier as the cluster has them, and what they report.

    Args:
        ready, starting, terminating: Replicas, >= 0. Each is counted in one of them only.
        startup_s: Time from scale-up to ready, as last seen; None: never seen.
        surplus: Starting pods beyond what the workload asks for while a new template rolls out; they replace others.
            Not counted in any other number.
        unplaced: Replicas on the way that are on no node: without a pod, gated, or unschedulable.
        unschedulable: The part of `starting` that the scheduler found no room for; None: unknown.
        failing: The part of `starting` that crashes repeatedly, cannot be started, or may not be created.
        lost: The part of `starting` on nodes that are not ready, which Kubernetes replaces only after five minutes.
        unasked: The part of `starting` beyond what the workload asks for: pods of a rollout that cannot start.
        arrived: Replicas that became ready since the last observation; 0 also if only the counts are known. During a
            rollout as many may leave, and `ready` stays the same.
        spares_ready: Whether starting replicas are removed before ready ones if fewer are requested.
        trouble: What is wrong with the failing and lost replicas, in words; empty: nothing.
        placeable: Replicas of this tier that the nodes can hold, if the free accelerators are so spread over nodes that
            it is fewer than the capacity of the class allows. None: no such limit is known.
        reading: Metrics, or why there are none. A tier without a ready replica has `Missing("NoReplicas")`.
    """

    ready: int = 0
    starting: int = 0
    terminating: int = 0
    startup_s: float | None = None
    surplus: int = 0
    unplaced: int = 0
    unschedulable: int | None = None
    failing: int = 0
    lost: int = 0
    unasked: int = 0
    arrived: int = 0
    spares_ready: bool = True
    trouble: str = ""
    placeable: int | None = None
    reading: TierReading | Missing = Missing(reason="NoReplicas")

    @property
    def wanted(self) -> int:
        """Replicas that exist and are not terminating."""
        return self.ready + self.starting

    @property
    def on_the_way(self) -> int:
        """Starting pods, whether they add a replica or replace one."""
        return self.starting + self.surplus


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayReading:
    """
    What a gateway in front of all tiers sees; the only signal at zero replicas.

    Args:
        arrival_rps: Requests/s that arrived at it; None: it reports only how many wait.
        queued: Requests that wait in it.
    """

    arrival_rps: float | None
    queued: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentObservation:
    """
    One deployment.

    Args:
        tiers: State of each tier, by name.
        gateway: None: there is no gateway, or nothing is known about it.
        unheard: Why a gateway that was queried gave no answer; None: it answered, or was not queried.
    """

    tiers: Mapping[str, TierState]
    gateway: GatewayReading | None = None
    unheard: Missing | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetObservation:
    """The whole fleet at `time_s` (unix seconds). A deployment that is not listed was not observed."""

    time_s: float
    deployments: Mapping[Key, DeploymentObservation]
