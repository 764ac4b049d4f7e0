"""
What users got: attainment, goodput and percentiles of one deployment, out of the histograms of its tiers.

In:    readings, and the targets.
Out:   `Goodput`.
Rules: pure. vLLM counts TTFT and ITL apart, so the share of requests inside *both* is not in the data: only bounds are,
       and they are handed on. Aborted and rejected requests are misses: someone left, or was sent away. Aborts that
       nobody counted and that are only inferred never lower the upper bound: it is what is beyond doubt.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tidegate.domain.observation import DeploymentObservation, Histogram, TierReading, merge_histograms
from tidegate.domain.spec import DeploymentSpec, Slo


@dataclass(frozen=True, slots=True, kw_only=True)
class Attainment:
    """
    Share of requests inside both targets, each in [0, 1].

    Args:
        lower, upper: What the marginal shares a and b allow: max(0, a + b - 1) and min(a, b), each at the side of the
            target's bucket that makes it extreme. Inferred aborts count in `lower` and `likely` only, as do late gaps
            of servers that time no requests.
        likely: a * b, interpolated inside the bucket: between the bounds, and a little low, since both targets are
            missed by the same overload.
    """

    lower: float
    likely: float
    upper: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Percentiles:
    """
    Latencies at the 95th percentile.

    Args:
        p95_s: As Prometheus interpolates it.
        p95_between_s: The edges of the bucket that it lies in: the server counts no finer.
    """

    p95_s: float
    p95_between_s: tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Goodput:
    """
    What one deployment gave its users over the window. None: not known, or no request.

    Args:
        attainment: Share of requests inside both targets.
        good_rps: Requests/s inside both targets.
        good_tokens_per_s: Output tokens/s of those requests, at the mean length of all that were let in.
        output_tokens_per_s: All output tokens/s.
        arrival_rps: Requests/s that came, rejected ones included.
        ttft, itl: Latency over all tiers.
        gpu_utilization: Mean over accelerators.
        power_w: Sum; None where one tier does not know.
    """

    attainment: Attainment | None
    good_rps: float | None
    good_tokens_per_s: float | None
    output_tokens_per_s: float | None
    arrival_rps: float | None
    ttft: Percentiles | None
    itl: Percentiles | None
    gpu_utilization: float | None
    power_w: float | None


def goodput_of(seen: DeploymentObservation, spec: DeploymentSpec) -> Goodput:
    """What one deployment gave. Its sums are not known while a tier that serves is silent: a part is no sum."""
    states = [(seen.tiers[t.name], t.accelerators_per_replica) for t in spec.tiers if t.name in seen.tiers]
    told = [(s.reading, each) for s, each in states if isinstance(s.reading, TierReading)]
    got = goodput([reading for reading, _ in told], spec.slo, accelerators_each=[each for _, each in told])
    if not any(s.ready and not isinstance(s.reading, TierReading) for s, _ in states):
        return got
    return replace(got, good_rps=None, good_tokens_per_s=None, output_tokens_per_s=None, arrival_rps=None, power_w=None)


def goodput(readings: Sequence[TierReading], slo: Slo, *, accelerators_each: Sequence[int] = ()) -> Goodput:
    """
    What the tiers of one deployment gave together.

    Args:
        readings: Of the tiers that report; an empty sequence gives a Goodput that knows nothing.
        slo: The targets.
        accelerators_each: Accelerators of one replica of each; empty: one.
    """
    ttft, itl = _latencies(readings)
    attainment = _attainment(ttft, itl, slo, readings)
    completed = _sum(readings, lambda r: r.completion_rps)
    tokens = _sum(readings, lambda r: r.output_tokens_per_s)
    good_share = _times(tokens, attainment)
    return Goodput(
        attainment=attainment,
        good_rps=_times(_offered(readings, completed), attainment),
        good_tokens_per_s=good_share / _let_in(readings) if good_share is not None else None,
        output_tokens_per_s=tokens,
        arrival_rps=_sum(
            readings, lambda r: None if r.arrival_rps is None else r.arrival_rps + (r.rejection_rps or 0.0)
        ),
        ttft=_percentiles(ttft),
        itl=_percentiles(itl),
        gpu_utilization=_mean_utilization(readings, accelerators_each or [1] * len(readings)),
        power_w=_sum(readings, lambda r: r.power_w) if all(r.power_w is not None for r in readings) else None,
    )


def attainment_of(readings: Sequence[TierReading], slo: Slo) -> Attainment | None:
    """`Goodput.attainment` alone."""
    return _attainment(*_latencies(readings), slo, readings)


def _latencies(readings: Sequence[TierReading]) -> tuple[Histogram | None, Histogram | None]:
    """TTFT and ITL of all tiers together."""
    ttft = merge_histograms([r.ttft for r in readings if r.ttft is not None])
    itl_of = _itl if all(r.request_itl is None for r in readings) else _request_itl
    return ttft, merge_histograms([h for r in readings if (h := itl_of(r)) is not None])


def _counts_gaps(reading: TierReading) -> bool:
    """Gaps and no requests: a prompt that lengthens one gap in twenty spoils few means, so late gaps prove no miss."""
    return reading.request_itl is None and reading.itl is not None and reading.itl.total > 0


def _itl(reading: TierReading) -> Histogram | None:
    """Per request where the server counts that (the promise is per request), else per token."""
    return reading.request_itl if reading.request_itl is not None else reading.itl


def _request_itl(reading: TierReading) -> Histogram | None:
    """The same, where another tier counts requests: gaps of as many weigh as much, not a hundred times."""
    gaps, completed = _itl(reading), reading.completion_rps
    if gaps is None or completed is None or not _counts_gaps(reading):
        return gaps
    share = completed * reading.window_s / gaps.total
    return Histogram(gaps.bounds_s, tuple(count * share for count in gaps.counts))


def _attainment(
    ttft: Histogram | None, itl: Histogram | None, slo: Slo, readings: Sequence[TierReading]
) -> Attainment | None:
    first = ttft.share_at_most(slo.ttft_s) if ttft is not None else None
    between = itl.share_at_most(slo.itl_s) if itl is not None else None
    if between is None and readings and all(r.gapless for r in readings):
        between = (1.0, 1.0)
    if ttft is None or first is None or between is None:
        return None
    likely = _share(ttft, slo.ttft_s, first) * (_share(itl, slo.itl_s, between) if itl is not None else 1.0)
    upper = first[1] if any(_counts_gaps(r) for r in readings) else min(first[1], between[1])
    lower = min(upper, max(0.0, first[0] + between[0] - 1.0))  # the sum has dust
    kept, kept_most = _kept(readings, lambda r: r.abort_rps), _kept(readings, lambda r: r.abort_rps_counted)
    return Attainment(lower=lower * kept, likely=min(max(likely, lower), upper) * kept, upper=upper * kept_most)


def _share(histogram: Histogram, bound_s: float, ends: tuple[float, float]) -> float:
    """Share at or below a bound by straight line inside its bucket; the lower end in the open last bucket."""
    below_s = max((edge for edge in histogram.bounds_s if edge <= bound_s), default=0.0)
    above_s = min((edge for edge in histogram.bounds_s if edge >= bound_s), default=float("inf"))
    if above_s == float("inf") or above_s <= below_s:
        return ends[0]
    return ends[0] + (ends[1] - ends[0]) * (bound_s - below_s) / (above_s - below_s)


def _kept(readings: Sequence[TierReading], aborts: Callable[[TierReading], float | None]) -> float:
    """Share of requests that were neither sent away nor left before the end; 1 where nothing is known."""
    lost = sum((aborts(r) or 0.0) + (r.rejection_rps or 0.0) for r in readings)
    completed = sum(r.completion_rps or 0.0 for r in readings)
    return completed / (completed + lost) if completed > 0 else 1.0


def _let_in(readings: Sequence[TierReading]) -> float:
    """Share of requests that were not rejected, and so have tokens; 1 where none is known to have been let in."""
    begun = sum((r.completion_rps or 0.0) + (r.abort_rps or 0.0) for r in readings)
    rejected = sum(r.rejection_rps or 0.0 for r in readings)
    return begun / (begun + rejected) if begun > 0 else 1.0


def _offered(readings: Sequence[TierReading], completed: float | None) -> float | None:
    """Requests/s that came to an end, good or bad."""
    if completed is None:
        return None
    return completed + sum((r.abort_rps or 0.0) + (r.rejection_rps or 0.0) for r in readings)


def _times(rate: float | None, attainment: Attainment | None) -> float | None:
    return rate * attainment.likely if rate is not None and attainment is not None else None


def _sum(readings: Sequence[TierReading], pick: Callable[[TierReading], float | None]) -> float | None:
    values = [value for r in readings if (value := pick(r)) is not None]
    return sum(values) if values else None


def _mean_utilization(readings: Sequence[TierReading], accelerators_each: Sequence[int]) -> float | None:
    known = [
        (r.gpu_utilization, (r.replicas_reporting or 1) * each)
        for r, each in zip(readings, accelerators_each, strict=True)
        if r.gpu_utilization is not None
    ]
    return sum(u * n for u, n in known) / sum(n for _, n in known) if known else None


def _percentiles(histogram: Histogram | None) -> Percentiles | None:
    if histogram is None:
        return None
    p95, between = histogram.quantile(0.95), histogram.bucket_of(0.95)
    return None if p95 is None or between is None else Percentiles(p95_s=p95, p95_between_s=between)
