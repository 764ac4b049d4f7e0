"""
What users got: attainment, goodput and percentiles of one deployment, from the histograms of its tiers.

In:    readings, and the targets.
Out:   `Goodput`.
Rules: pure. vLLM counts TTFT and ITL separately, so the share of requests that meet *both* is not in the data. Only
       bounds are, and they are passed on. Aborted and rejected requests are misses: a user left, or was sent away.
       Aborts that the server did not count and that are only inferred never lower the upper bound.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tidegate.domain.observation import DeploymentObservation, Histogram, TierReading, merge_histograms
from tidegate.domain.spec import DeploymentSpec, Slo


@dataclass(frozen=True, slots=True, kw_only=True)
class Attainment:
    """
    Share of requests that meet both targets, each in [0, 1].

    Args:
        lower, upper: Bounds from the marginal shares a and b: max(0, a + b - 1) and min(a, b), each evaluated at the
            edge of the target's bucket that makes it extreme. Inferred aborts count in `lower` and `likely` only, and
            so do late gaps on servers that do not time whole requests.
        likely: a * b, interpolated within the buckets. It lies between the bounds and is slightly low, because the same
            overload causes both kinds of misses.
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
        p95_between_s: The edges of the bucket that contains the 95th percentile: the data is no finer than that.
    """

    p95_s: float
    p95_between_s: tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Goodput:
    """
    What one deployment gave its users over the window. None: not known, or no request.

    Args:
        attainment: Share of requests that met both targets.
        good_rps: Requests/s that met both targets.
        good_tokens_per_s: Output tokens/s of those requests, at the mean length of all admitted requests.
        output_tokens_per_s: All output tokens/s.
        arrival_rps: Requests/s that arrived, including rejected ones.
        ttft, itl: Latency over all tiers.
        gpu_utilization: Mean over accelerators.
        power_w: Sum; None if any tier's power is unknown.
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
    """Goodput of one deployment. Sums are unknown while a tier with ready replicas does not report."""
    states = [(seen.tiers[t.name], t.accelerators_per_replica) for t in spec.tiers if t.name in seen.tiers]
    reporting = [(s.reading, each) for s, each in states if isinstance(s.reading, TierReading)]
    got = goodput([reading for reading, _ in reporting], spec.slo, accelerators_each=[each for _, each in reporting])
    if not any(s.ready and not isinstance(s.reading, TierReading) for s, _ in states):
        return got
    return replace(got, good_rps=None, good_tokens_per_s=None, output_tokens_per_s=None, arrival_rps=None, power_w=None)


def goodput(readings: Sequence[TierReading], slo: Slo, *, accelerators_each: Sequence[int] = ()) -> Goodput:
    """
    Goodput of the tiers of one deployment together.

    Args:
        readings: One per tier that reports. If empty, everything in the result is None.
        slo: The targets.
        accelerators_each: Accelerators per replica, one number per reading; empty: one each.
    """
    ttft, itl = _latencies(readings)
    attainment = _attainment(ttft, itl, slo, readings)
    completed = _sum(readings, lambda r: r.completion_rps)
    tokens = _sum(readings, lambda r: r.output_tokens_per_s)
    good_share = _times(tokens, attainment)
    return Goodput(
        attainment=attainment,
        good_rps=_times(_ended_rps(readings, completed), attainment),
        good_tokens_per_s=good_share / _admitted_share(readings) if good_share is not None else None,
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
    """TTFT and ITL of all tiers, merged."""
    ttft = merge_histograms([r.ttft for r in readings if r.ttft is not None])
    itl_of = _itl if all(r.request_itl is None for r in readings) else _request_itl
    return ttft, merge_histograms([h for r in readings if (h := itl_of(r)) is not None])


def _times_only_gaps(reading: TierReading) -> bool:
    """Whether ITL is known per gap only. Late gaps then prove no miss: one in twenty hardly moves a request's mean."""
    return reading.request_itl is None and reading.itl is not None and reading.itl.total > 0


def _itl(reading: TierReading) -> Histogram | None:
    """ITL per request if the server counts it (the promise is per request), else per gap."""
    return reading.request_itl if reading.request_itl is not None else reading.itl


def _request_itl(reading: TierReading) -> Histogram | None:
    """
    The same, with gap counts scaled to the number of requests.

    Used when another tier counts requests, so that gaps do not outweigh them a hundred times.
    """
    gaps, completed = _itl(reading), reading.completion_rps
    if gaps is None or completed is None or not _times_only_gaps(reading):
        return gaps
    share = completed * reading.window_s / gaps.total
    return Histogram(gaps.bounds_s, tuple(count * share for count in gaps.counts))


def _attainment(
    ttft: Histogram | None, itl: Histogram | None, slo: Slo, readings: Sequence[TierReading]
) -> Attainment | None:
    kept, kept_most = (
        _served_share(readings, lambda r: r.abort_rps),
        _served_share(readings, lambda r: r.abort_rps_counted),
    )
    if kept_most == 0.0:  # nobody was served, whatever latencies were measured until then
        return Attainment(lower=0.0, likely=0.0, upper=0.0)
    first = ttft.share_at_most(slo.ttft_s) if ttft is not None else None
    between = itl.share_at_most(slo.itl_s) if itl is not None else None
    if between is None and readings and all(r.gapless for r in readings):
        between = (1.0, 1.0)
    if ttft is None or first is None or between is None:
        return None
    likely = _share(ttft, slo.ttft_s, first) * (_share(itl, slo.itl_s, between) if itl is not None else 1.0)
    upper = first[1] if any(_times_only_gaps(r) for r in readings) else min(first[1], between[1])
    lower = min(upper, max(0.0, first[0] + between[0] - 1.0))  # rounding error in the sum
    return Attainment(lower=lower * kept, likely=min(max(likely, lower), upper) * kept, upper=upper * kept_most)


def _share(histogram: Histogram, bound_s: float, ends: tuple[float, float]) -> float:
    """Share at or below a bound, interpolated linearly within its bucket; the lower end in the last, open bucket."""
    below_s = max((edge for edge in histogram.bounds_s if edge <= bound_s), default=0.0)
    above_s = min((edge for edge in histogram.bounds_s if edge >= bound_s), default=float("inf"))
    if above_s == float("inf") or above_s <= below_s:
        return ends[0]
    return ends[0] + (ends[1] - ends[0]) * (bound_s - below_s) / (above_s - below_s)


def _served_share(readings: Sequence[TierReading], aborts: Callable[[TierReading], float | None]) -> float:
    """
    Share of requests that were neither rejected nor aborted; 1 if nothing is known.

    Until the first long answers are complete, the requests that run stand for those that are served.
    """
    lost = sum((aborts(r) or 0.0) + (r.rejection_rps or 0.0) for r in readings)
    completed = _sum(readings, lambda r: r.completion_rps)
    if completed is None or not lost:
        return 1.0
    served = completed or sum((r.running or 0.0) / r.window_s for r in readings)
    return served / (served + lost)


def _admitted_share(readings: Sequence[TierReading]) -> float:
    """Share of requests that were not rejected and so have tokens; 1 if no admitted request is known."""
    begun = sum((r.completion_rps or 0.0) + (r.abort_rps or 0.0) for r in readings)
    rejected = sum(r.rejection_rps or 0.0 for r in readings)
    return begun / (begun + rejected) if begun > 0 else 1.0


def _ended_rps(readings: Sequence[TierReading], completed: float | None) -> float | None:
    """Requests/s that ended, well or badly."""
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
