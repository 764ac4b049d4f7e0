"""
From one sample of load to the next memory: levels, season, request shape, and the records of errors.
"""

import math
from dataclasses import replace

from tidegate.domain.forecast import DemandSample
from tidegate.forecast import lengths
from tidegate.forecast.demand import SURGE_S, unrest_of
from tidegate.forecast.experts import FAST_S, MID_S, SLOW_S, Levels, season_factor
from tidegate.forecast.memory import Batch, ForecastMemory, Shape
from tidegate.forecast.season import SLOT_S, Season
from tidegate.forecast.track import HORIZONS_S, Track
from tidegate.units import SECONDS_PER_DAY

# Most forecasts recorded per tick.
WRITTEN_MAX = 2
# A longer time without samples is a gap, of which only the next sample's own window is known.
GAP_S = 300.0
# Time constant of the request shape.
SHAPE_S = 900.0
# The same while requests grow: a fleet planned for the old lengths would be overloaded for as long.
GROWN_S = 60.0
# After a gap, this many requests weigh as much as the means from before it: if the standard deviation of lengths equals
# their mean, the mean of thirty is known to a fifth.
FEW = 30.0
# If fewer requests than this are expected in a window, their number says nothing about dispersion. After a night
# without any, the level is 1e-50, and the first request would give an index of dispersion that outlasts the week.
EXPECTED_MIN = 1.0
# Half-life of the highest load, so that yesterday's peak is remembered today.
RECORD_HALF_LIFE_S = 7 * SECONDS_PER_DAY


def advanced(memory: ForecastMemory, sample: DemandSample, *, time_s: float) -> ForecastMemory:
    """
    The memory after one more sample.

    Args:
        sample: The sample of load; if it is partial, above the current estimate.
        time_s: Unix seconds, later than the memory's time.
    """
    rate, before = sample.arrival_rps, memory.time_s
    if before is None:
        before, levels = time_s, Levels(rate, rate, rate, rate)
    else:
        levels = _moved(memory, rate, time_s - before)
    elapsed = time_s - before
    seen_s = _known_s(sample, elapsed)
    usual, usual_s = _usual(memory, rate, seen_s or sample.window_s)
    season = _season(memory.season, rate, since_s=time_s - seen_s, time_s=time_s)
    tracks, due = [], _due(memory.tracks, time_s)
    for record in memory.tracks:
        after = record.compared(time_s=time_s, seen_rps=rate, usual_rps=usual)
        if record.index in due:
            factor = season_factor(season, time_s=time_s, horizon_s=HORIZONS_S[record.index])
            after = after.written(time_s=time_s, levels=levels, factor=factor)
        tracks.append(after)
    in_flight, looked_s = _last_look(memory, sample, time_s)
    return ForecastMemory(
        time_s=time_s,
        levels=levels,
        usual_rps=usual,
        usual_s=usual_s,
        record_rps=max(levels.fast, memory.record_rps * 0.5 ** (elapsed / RECORD_HALF_LIFE_S)),
        queued=sample.queued,
        in_flight=in_flight,
        looked_s=looked_s,
        idle_since_s=_idle_since(memory, sample, time_s),
        shape=_shape(memory, sample, elapsed, time_s),
        season=season,
        tracks=tuple(tracks),
    )


def set_back(memory: ForecastMemory) -> ForecastMemory:
    """The memory without everything that refers to a point in time."""
    return replace(
        memory,
        time_s=None,
        in_flight=None,
        looked_s=None,
        idle_since_s=None,
        shape=replace(memory.shape, batch=None),
        season=replace(memory.season, requests=0.0, seen_s=0.0),
        tracks=tuple([record.forgotten() for record in memory.tracks]),
    )


def _due(tracks: tuple[Track, ...], time_s: float) -> list[int]:
    """Which records add a new forecast now: those waiting longest, a few per tick so that no tick is slow."""
    due = [record for record in tracks if time_s >= record.written_s + record.interval_s]
    if len(due) > WRITTEN_MAX:
        due = sorted(due, key=lambda record: record.written_s)[:WRITTEN_MAX]
    return [record.index for record in due]


def _known_s(sample: DemandSample, elapsed_s: float) -> float:
    """How much of the time since the last sample this one stands for, s."""
    return elapsed_s if elapsed_s <= GAP_S else min(elapsed_s, sample.window_s)


def _moved(memory: ForecastMemory, rate: float, elapsed_s: float) -> Levels:
    levels = memory.levels
    fast, mid = 1.0 - math.exp(-elapsed_s / FAST_S), 1.0 - math.exp(-elapsed_s / MID_S)
    slow = 1.0 - math.exp(-elapsed_s / SLOW_S)
    return Levels(
        rate,
        levels.fast + fast * (rate - levels.fast),
        levels.mid + mid * (rate - levels.mid),
        levels.slow + slow * (rate - levels.slow),
    )


def _usual(memory: ForecastMemory, rate: float, span_s: float) -> tuple[float, float]:
    """The usual load: a plain mean for the first day, then smoothed over a day; and the seconds that are in it."""
    seen_s = min(memory.usual_s + span_s, SECONDS_PER_DAY)
    return memory.usual_rps + (rate - memory.usual_rps) * span_s / seen_s, seen_s


def _season(season: Season, rate_rps: float, *, since_s: float, time_s: float) -> Season:
    """The season after a period of any length, learned half an hour at a time."""
    while time_s - since_s > SLOT_S:
        season = season.observed(rate_rps=rate_rps, since_s=since_s, time_s=since_s + SLOT_S)
        since_s += SLOT_S
    return season.observed(rate_rps=rate_rps, since_s=since_s, time_s=time_s)


def _last_look(memory: ForecastMemory, sample: DemandSample, time_s: float) -> tuple[float | None, float | None]:
    """Requests in flight and the time of that look; the previous one if there is no newer look."""
    if sample.in_flight is None:
        return None, None
    if memory.in_flight is not None and sample.apart_s is None:
        return memory.in_flight, memory.looked_s
    return sample.in_flight, time_s - sample.age_s


def _idle_since(memory: ForecastMemory, sample: DemandSample, time_s: float) -> float | None:
    """Since when there are no requests. To start, it must be known once that none is in flight."""
    if sample.arrival_rps > 0 or sample.queued > 0 or (sample.in_flight or 0.0) > 0:
        return None
    gap = memory.time_s is None or time_s - memory.time_s > GAP_S
    since = None if gap else memory.idle_since_s
    return time_s if since is None and sample.in_flight is not None else since


def _shape(memory: ForecastMemory, sample: DemandSample, elapsed_s: float, time_s: float) -> Shape:
    shape, known_s = memory.shape, _known_s(sample, elapsed_s)
    seen_s = shape.seen_s + known_s
    dispersion = _dispersion(memory, sample, gain=lengths.gain_of(known_s, seen_s))
    unrest = _unrest(memory, sample)
    if sample.prompt_tokens is None or sample.output_tokens is None:
        return replace(shape, dispersion=dispersion, unrest=unrest)
    grown = lengths.grown(shape, sample)
    share = _share(sample, elapsed_s, seen_s, grown=grown)
    prompt = _followed(shape.prompt_tokens, sample.prompt_tokens, share)
    output = _followed(shape.output_tokens, sample.output_tokens, share)
    batch, (prompt_variance, output_variance) = None, (shape.prompt_variance, shape.output_variance)
    if lengths.steady(sample, memory.levels.mid) and not grown:
        batch, (prompt_variance, output_variance) = _compared(shape, sample, (prompt, output), seen_s, time_s)
    return Shape(
        prompt_tokens=prompt,
        output_tokens=output,
        prompt_variance=prompt_variance,
        output_variance=output_variance,
        dispersion=dispersion,
        seen_s=min(seen_s, SECONDS_PER_DAY),
        unrest=unrest,
        batch=batch,
    )


def _dispersion(memory: ForecastMemory, sample: DemandSample, *, gain: float) -> float:
    before, level = memory.shape.dispersion, memory.levels.mid
    if level * sample.window_s < EXPECTED_MIN:
        return before
    excess = sample.window_s * (sample.arrival_rps - level) ** 2 / level
    return before + gain * (excess - before)


def _share(sample: DemandSample, elapsed_s: float, seen_s: float, *, grown: bool) -> float:
    """
    Weight of a sample in the mean lengths, in [0, 1].

    Short answers finish first. So while a deployment is new, the weight of each second grows linearly with the time
    since the start, and the early, too short answers are soon outweighed.

    Args:
        grown: The requests of the sample are longer than expected.
    """
    known_s = _known_s(sample, elapsed_s)
    share = max(1.0 - math.exp(-known_s / SHAPE_S), min(1.0, 2 * known_s / max(1.0, seen_s)))
    # After a gap, or when requests have grown, the old means are stale. But a few requests do not replace them.
    crowd = sample.finished / (sample.finished + FEW)
    if known_s < elapsed_s:
        share = max(share, crowd * (1.0 - math.exp(-elapsed_s / SHAPE_S)))
    return max(share, crowd * (1.0 - math.exp(-known_s / GROWN_S))) if grown else share


def _compared(
    shape: Shape, sample: DemandSample, means: lengths.Pair, seen_s: float, time_s: float
) -> tuple[Batch | None, lengths.Pair]:
    """The batch to compare the next one with, and the squared coefficients of variation of the lengths."""
    before, known = shape.batch, (shape.prompt_variance, shape.output_variance)
    if before is not None and time_s - before.time_s < sample.window_s:
        return before, known
    batch = lengths.batch_of(sample, time_s)
    return batch, known if batch is None else lengths.variances(shape, batch, means, seen_s)


def _unrest(memory: ForecastMemory, sample: DemandSample) -> float:
    usual, before, apart_s = memory.shape.unrest, memory.in_flight, sample.apart_s
    if before is None or sample.in_flight is None or apart_s is None or apart_s > SURGE_S:
        return usual
    gain = lengths.gain_of(apart_s, memory.shape.seen_s + apart_s)
    return usual + gain * (unrest_of(before, sample.in_flight, usual=usual) - usual)


def _followed(mean: float | None, seen: float, share: float) -> float:
    return seen if mean is None or mean <= 0 else mean + share * (seen - mean)
