"""
From one sample of load to the next memory: levels, season, request shape, and the record of errors.
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

# New forecasts per tick.
WRITTEN_MAX = 2
# A stretch without samples longer than this is a gap: only the sample's own window of it is known.
GAP_S = 300.0
# Request shape follows within a quarter of an hour.
SHAPE_S = 900.0
# So many requests count as much as the means of before a gap: where lengths vary as much as they are long, the mean of
# thirty is known to a fifth.
FEW = 30.0
# Where fewer requests than this are expected in a window, how many come says nothing of how they scatter. After a night
# without any the level is 1e-50, and the first one would make an index of dispersion that outlasts the week.
EXPECTED_MIN = 1.0
# Yesterday's peak is known today.
RECORD_HALF_LIFE_S = 7 * SECONDS_PER_DAY


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
    seen_s = _known_s(sample, elapsed)
    usual, usual_s = _usual(memory, rate, seen_s or sample.window_s)
    season = _season(memory.season, rate, since_s=time_s - seen_s, time_s=time_s)
    tracks, turns = [], _turns(memory.tracks, time_s)
    for record in memory.tracks:
        after = record.compared(time_s=time_s, seen_rps=rate, usual_rps=usual)
        if record.index in turns:
            factor = season_factor(season, time_s=time_s, horizon_s=HORIZONS_S[record.index])
            after = after.written(time_s=time_s, levels=levels, factor=factor)
        tracks.append(after)
    in_flight, looked_s = _looked(memory, sample, time_s)
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
    """The memory without what is tied to an instant: what is left holds at any time."""
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


def _turns(tracks: tuple[Track, ...], time_s: float) -> list[int]:
    """Which records write a forecast down now: those that have waited longest, a few per tick so that none is slow."""
    due = [record for record in tracks if time_s >= record.written_s + record.interval_s]
    if len(due) > WRITTEN_MAX:
        due = sorted(due, key=lambda record: record.written_s)[:WRITTEN_MAX]
    return [record.index for record in due]


def _known_s(sample: DemandSample, elapsed_s: float) -> float:
    """How much of the time since the last sample this one speaks for, s."""
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
    """The plain mean of the first day, after that a mean with a memory of a day; and how many seconds are in it."""
    seen_s = min(memory.usual_s + span_s, SECONDS_PER_DAY)
    return memory.usual_rps + (rate - memory.usual_rps) * span_s / seen_s, seen_s


def _season(season: Season, rate_rps: float, *, since_s: float, time_s: float) -> Season:
    """The season after a stretch of any length, half an hour at a time."""
    while time_s - since_s > SLOT_S:
        season = season.observed(rate_rps=rate_rps, since_s=since_s, time_s=since_s + SLOT_S)
        since_s += SLOT_S
    return season.observed(rate_rps=rate_rps, since_s=since_s, time_s=time_s)


def _looked(memory: ForecastMemory, sample: DemandSample, time_s: float) -> tuple[float | None, float | None]:
    """What is in flight and when that was; the look of before where there is no newer one."""
    if sample.in_flight is None:
        return None, None
    if memory.in_flight is not None and sample.apart_s is None:
        return memory.in_flight, memory.looked_s
    return sample.in_flight, time_s - sample.age_s


def _idle_since(memory: ForecastMemory, sample: DemandSample, time_s: float) -> float | None:
    """Since when nobody asks and no answer is under way. That nothing is under way has to be seen once."""
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
    follow = _share(sample, elapsed_s, seen_s)
    prompt = _followed(shape.prompt_tokens, sample.prompt_tokens, follow)
    output = _followed(shape.output_tokens, sample.output_tokens, follow)
    batch, (prompt_variance, output_variance) = _compared(memory, sample, (prompt, output), seen_s, time_s)
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


def _share(sample: DemandSample, elapsed_s: float, seen_s: float) -> float:
    """
    How far mean lengths follow those of a sample, in [0, 1].

    Short answers are the first to finish. So at the start each second counts by how late it is: the weights rise along
    a straight line, and what came too early is soon outweighed.
    """
    known_s = _known_s(sample, elapsed_s)
    share = max(1.0 - math.exp(-known_s / SHAPE_S), min(1.0, 2 * known_s / max(1.0, seen_s)))
    if known_s == elapsed_s:
        return share
    # After a gap the old means are stale, but a few requests make no new ones.
    crowd = sample.finished / (sample.finished + FEW)
    return max(share, crowd * (1.0 - math.exp(-elapsed_s / SHAPE_S)))


def _compared(
    memory: ForecastMemory, sample: DemandSample, means: lengths.Pair, seen_s: float, time_s: float
) -> tuple[Batch | None, lengths.Pair]:
    """The batch that the next one is compared with, and the squared coefficients of variation of the lengths."""
    shape = memory.shape
    before, known = shape.batch, (shape.prompt_variance, shape.output_variance)
    if not lengths.steady(sample, memory.levels.mid):
        return None, known
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
