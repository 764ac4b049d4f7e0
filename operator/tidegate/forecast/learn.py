"""
From one sample of load to the next memory: levels, season, request shape, and the record of errors.
"""

import math

from tidegate.domain.forecast import DemandSample
from tidegate.forecast.demand import SURGE_S, unrest_of
from tidegate.forecast.experts import FAST_S, MID_S, SLOW_S, Levels, season_factor
from tidegate.forecast.memory import ForecastMemory, Shape
from tidegate.forecast.season import SLOT_S, Season
from tidegate.forecast.track import HORIZONS_S, Track
from tidegate.units import SECONDS_PER_DAY

# New forecasts per tick.
WRITTEN_MAX = 2
# A stretch without samples longer than this is a gap: only the sample's own window of it is known.
GAP_S = 300.0
# Request shape follows within a quarter of an hour, its spread and the dispersion within an hour.
SHAPE_S = 900.0
SPREAD_S = 3_600.0
# The spread believed before anything was seen counts for so long.
SPREAD_PRIOR_S = 300.0
# At first means rise because short answers finish first: that is no spread of lengths.
SETTLED_S = 600.0
RECORD_HALF_LIFE_S = 2 * SECONDS_PER_DAY


def advanced(memory: ForecastMemory, sample: DemandSample, *, time_s: float) -> ForecastMemory:
    """
    The memory after one more sample.

    Args:
        sample: Not partial.
        time_s: Later than the memory's time.
    """
    rate, before = sample.arrival_rps, memory.time_s
    if before is None:
        before, levels = time_s, Levels(rate, rate, rate, rate)
    else:
        levels = _moved(memory, rate, time_s - before)
    elapsed = time_s - before
    seen_s = elapsed if elapsed <= GAP_S else min(elapsed, sample.window_s)
    usual, usual_s = _usual(memory, rate, seen_s or sample.window_s)
    season = _season(memory.season, rate, since_s=time_s - seen_s, time_s=time_s)
    tracks, turns = [], _turns(memory.tracks, time_s)
    for record in memory.tracks:
        after = record.compared(time_s=time_s, seen_rps=rate, usual_rps=usual)
        if record.index in turns:
            factor = season_factor(season, time_s=time_s, horizon_s=HORIZONS_S[record.index])
            after = after.written(time_s=time_s, levels=levels, factor=factor)
        tracks.append(after)
    return ForecastMemory(
        time_s=time_s,
        levels=levels,
        usual_rps=usual,
        usual_s=usual_s,
        record_rps=max(rate, memory.record_rps * 0.5 ** (elapsed / RECORD_HALF_LIFE_S)),
        queued=sample.queued,
        in_flight=sample.in_flight,
        idle_since_s=_idle_since(memory, sample, time_s),
        shape=_shape(memory, sample, elapsed),
        season=season,
        tracks=tuple(tracks),
    )


def _turns(tracks: tuple[Track, ...], time_s: float) -> list[int]:
    """Which records write a forecast down now: those that have waited longest, a few per tick so that none is slow."""
    due = [record for record in tracks if time_s >= record.written_s + record.interval_s]
    if len(due) > WRITTEN_MAX:
        due = sorted(due, key=lambda record: record.written_s)[:WRITTEN_MAX]
    return [record.index for record in due]


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
    """The plain mean of the first day, after that a mean with a memory of a day; and how many seconds are in it."""
    seen_s = min(memory.usual_s + span_s, SECONDS_PER_DAY)
    return memory.usual_rps + (rate - memory.usual_rps) * span_s / seen_s, seen_s


def _season(season: Season, rate_rps: float, *, since_s: float, time_s: float) -> Season:
    """The season after a stretch of any length, half an hour at a time."""
    while time_s - since_s > SLOT_S:
        season = season.observed(rate_rps=rate_rps, since_s=since_s, time_s=since_s + SLOT_S)
        since_s += SLOT_S
    return season.observed(rate_rps=rate_rps, since_s=since_s, time_s=time_s)


def _idle_since(memory: ForecastMemory, sample: DemandSample, time_s: float) -> float | None:
    if sample.arrival_rps > 0 or sample.queued > 0:
        return None
    gap = memory.time_s is None or time_s - memory.time_s > GAP_S
    return time_s if memory.idle_since_s is None or gap else memory.idle_since_s


def _shape(memory: ForecastMemory, sample: DemandSample, elapsed_s: float) -> Shape:
    shape, level = memory.shape, memory.levels.mid
    seen_s = shape.seen_s + elapsed_s
    gain = _gain(elapsed_s, seen_s)
    dispersion = shape.dispersion
    if level > 0.0:
        excess = sample.window_s * (sample.arrival_rps - level) ** 2 / level
        dispersion += gain * (excess - dispersion)
    unrest = _unrest(memory, sample, elapsed_s, gain)
    if sample.prompt_tokens is None or sample.output_tokens is None:
        return Shape(
            prompt_tokens=shape.prompt_tokens,
            output_tokens=shape.output_tokens,
            prompt_variance=shape.prompt_variance,
            output_variance=shape.output_variance,
            dispersion=dispersion,
            seen_s=shape.seen_s,
            unrest=unrest,
        )
    # Short answers are the first to finish. So at the start each second counts by how late it is: the weights rise
    # along a straight line, and what came too early is soon outweighed.
    follow = max(1.0 - math.exp(-elapsed_s / SHAPE_S), min(1.0, 2 * elapsed_s / max(1.0, seen_s)))
    gain = _gain(elapsed_s, seen_s - SETTLED_S) if seen_s > SETTLED_S else 0.0
    prompt, prompt_variance = _length(
        shape.prompt_tokens, shape.prompt_variance, sample.prompt_tokens, sample.finished, (follow, gain)
    )
    output, output_variance = _length(
        shape.output_tokens, shape.output_variance, sample.output_tokens, sample.finished, (follow, gain)
    )
    return Shape(
        prompt_tokens=prompt,
        output_tokens=output,
        prompt_variance=prompt_variance,
        output_variance=output_variance,
        dispersion=dispersion,
        seen_s=min(seen_s, SECONDS_PER_DAY),
        unrest=unrest,
    )


def _unrest(memory: ForecastMemory, sample: DemandSample, elapsed_s: float, gain: float) -> float:
    usual, before = memory.shape.unrest, memory.in_flight
    if before is None or sample.in_flight is None or not 0.0 < elapsed_s <= SURGE_S:
        return usual
    return usual + gain * (unrest_of(before, sample.in_flight, usual=usual) - usual)


def _gain(elapsed_s: float, seen_s: float) -> float:
    """How far a spread follows one sample after so many seconds of them."""
    return max(1.0 - math.exp(-elapsed_s / SPREAD_S), elapsed_s / (seen_s + SPREAD_PRIOR_S))


def _length(
    mean: float | None, variance: float, seen: float, finished: float, gains: tuple[float, float]
) -> tuple[float, float]:
    """
    Mean length and its squared coefficient of variation after one more window.

    The mean of n requests spreads by variation/sqrt(n), so n * (relative deviation)^2 is variation^2 on average. The
    deviation is taken from the mean before and from the mean after, as Welford does: a mean that still finds its level
    is not taken for a spread.
    """
    if mean is None or mean <= 0:
        return seen, variance
    follow, gain = gains
    moved = mean + follow * (seen - mean)
    spread = finished * (seen - mean) * (seen - moved) / (mean * moved)
    return moved, variance + gain * (spread - variance)
