"""
From the memory to quantiles of demand at the requested horizons.
"""

import math
from bisect import bisect_right
from functools import lru_cache

from tidegate.domain.forecast import DemandForecast, HorizonForecast
from tidegate.forecast.experts import mixed, season_factor
from tidegate.forecast.memory import ForecastMemory
from tidegate.forecast.track import HORIZONS_S, LEVELS, rooted, squared, unit_rps
from tidegate.units import SECONDS_PER_DAY

# Assumed until a request has finished: a chat request of the public Azure traces, rounded.
PROMPT_TOKENS, OUTPUT_TOKENS = 1_024.0, 256.0
# Waiting requests are to be served within this time, besides new arrivals: a fleet that is just large enough for
# arrivals never gets rid of its queue.
DRAIN_S = 300.0
# From this level up, no forecast is below the current load: a plan for a bad case must at least serve the present.
FLOOR_INDEX = LEVELS.index(0.75)
VARIATION_MIN, VARIATION_MAX = 0.1, 4.0
# Errors are learned at one load and applied at another: at the top of a burst they would predict a burst on top of it.
# So no level exceeds the highest load of the last days by more than this factor, unless the 75 % level does. After a
# day of observation the factor is 1.05, with which peaks are exceeded as often as the levels say (Azure 2024,
# ServeGen); at the start it is 1.25.
ABOVE_RECORD, ABOVE_FIRST = 1.05, 1.25
# After this long without metrics, the season is the best guess at the load.
BLIND_S = 300.0
_NOTHING = (0.0,) * len(LEVELS)


def predict(memory: ForecastMemory, *, horizons_s: tuple[float, ...], time_s: float) -> DemandForecast:
    """
    Demand at each horizon, as quantiles.

    Args:
        memory: Result of `forecast.observe`.
        horizons_s: Horizons, s: rising, > 0, at least one.
        time_s: Now, unix seconds, not before the last observation.
    """
    shape, seen_s = memory.shape, memory.time_s
    idle = 0.0 if seen_s is None or memory.idle_since_s is None else seen_s - memory.idle_since_s
    blind = seen_s is None or time_s - seen_s >= BLIND_S
    return DemandForecast(
        now_rps=memory.levels.last,
        queued=memory.queued,
        prompt_tokens=shape.prompt_tokens or PROMPT_TOKENS,
        output_tokens=shape.output_tokens or OUTPUT_TOKENS,
        burstiness=max(shape.dispersion, 1.0),
        horizons=_horizons(memory, horizons_s, time_s),
        idle_s=idle,
        usual_rps=memory.season.expected_rps(time_s) if blind else None,
    )


def variations(memory: ForecastMemory) -> tuple[float, float]:
    """Coefficients of variation of prompt and output lengths, in [0.1, 4]; 1 until they are measured."""
    return _variation(memory.shape.prompt_variance), _variation(memory.shape.output_variance)


def _horizons(memory: ForecastMemory, horizons_s: tuple[float, ...], time_s: float) -> tuple[HorizonForecast, ...]:
    if memory.time_s is None:
        return tuple(HorizonForecast(horizon_s=h, levels=LEVELS, rates_rps=_NOTHING) for h in horizons_s)
    drained_rps = memory.queued / DRAIN_S
    found = []
    for horizon in horizons_s:
        rates = _rates(memory, horizon, time_s)
        _raise(rates, memory.levels.last)
        rising = tuple([rate + drained_rps for rate in rates])
        found.append(HorizonForecast(horizon_s=horizon, levels=LEVELS, rates_rps=rising))
    return tuple(found)


def _rates(memory: ForecastMemory, horizon_s: float, time_s: float) -> list[float]:
    """
    Load at each of `LEVELS`: the mix and the errors, interpolated between the two records next to the horizon.

    None is expected of a deployment that never had any.
    """
    if memory.record_rps <= 0.0:
        return list(_NOTHING)
    index, share = _between_records(horizon_s)
    low, high = memory.tracks[index], memory.tracks[index + 1]
    factor = season_factor(memory.season, time_s=time_s, horizon_s=horizon_s)
    left, unit = mixed(low.form, memory.levels, factor), unit_rps(memory.usual_rps)
    base = rooted(left + (mixed(high.form, memory.levels, factor) - left) * share, unit)
    errors = [x + (y - x) * share for x, y in zip(low.errors, high.errors, strict=True)]
    rates = [max(squared(base + error, unit), 0.0) for error in errors]
    ceiling = max(_ceiling_factor(memory) * memory.record_rps, rates[FLOOR_INDEX])
    return [min(rate, ceiling) for rate in rates] if rates[-1] > ceiling else rates


def _ceiling_factor(memory: ForecastMemory) -> float:
    """Factor by which a level may exceed the record load; larger while less than a day was observed."""
    return ABOVE_FIRST + (ABOVE_RECORD - ABOVE_FIRST) * memory.usual_s / SECONDS_PER_DAY


def _raise(rates: list[float], floor: float) -> None:
    """Raise the rates from `FLOOR_INDEX` up to at least the current load."""
    index = FLOOR_INDEX
    while index < len(rates) and rates[index] < floor:
        rates[index] = floor
        index += 1


@lru_cache(maxsize=4096)
def _between_records(horizon_s: float) -> tuple[int, float]:
    """The record below a horizon and the weight of the next one, by the logarithm of time; constant outside."""
    clipped = min(max(horizon_s, HORIZONS_S[0]), HORIZONS_S[-1])
    index = min(bisect_right(HORIZONS_S, clipped) - 1, len(HORIZONS_S) - 2)
    span = math.log(HORIZONS_S[index + 1] / HORIZONS_S[index])
    return index, math.log(clipped / HORIZONS_S[index]) / span


def _variation(variance: float) -> float:
    return min(max(math.sqrt(max(variance, 0.0)), VARIATION_MIN), VARIATION_MAX)
