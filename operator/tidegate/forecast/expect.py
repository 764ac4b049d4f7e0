"""
From the memory to quantiles of demand at the horizons asked for.
"""

import math
from bisect import bisect_right
from functools import lru_cache

from tidegate.domain.forecast import DemandForecast, HorizonForecast
from tidegate.forecast.experts import mixed, season_factor
from tidegate.forecast.memory import ForecastMemory
from tidegate.forecast.track import HORIZONS_S, LEVELS, rooted, squared, unit_rps

# Before any request finished: a chat request of the public Azure traces, rounded.
PROMPT_TOKENS, OUTPUT_TOKENS = 1_024.0, 256.0
# Waiting requests are to be served within this time: they are a floor on the rate to plan for.
DRAIN_S = 180.0
# The load of now is a floor on the levels from here up: whoever plans for a bad case plans for the present at least.
FLOOR_INDEX = LEVELS.index(0.75)
VARIATION_MIN, VARIATION_MAX = 0.1, 4.0
# Errors are learned at one load and added at another: no level lies above both the median and a little more than the
# highest load of the last days. A burst on top of a burst is a load that nobody ever saw.
ABOVE_RECORD = 1.15
_MEDIAN = LEVELS.index(0.5)
_NOTHING = (0.0,) * len(LEVELS)


def expected_demand(memory: ForecastMemory, *, horizons_s: tuple[float, ...], time_s: float) -> DemandForecast:
    """Demand at each horizon; see `forecast.predict`."""
    shape, seen_s = memory.shape, memory.time_s
    idle = 0.0 if seen_s is None or memory.idle_since_s is None else seen_s - memory.idle_since_s
    return DemandForecast(
        now_rps=memory.levels.last,
        queued=memory.queued,
        prompt_tokens=shape.prompt_tokens or PROMPT_TOKENS,
        output_tokens=shape.output_tokens or OUTPUT_TOKENS,
        burstiness=max(shape.dispersion, 1.0),
        horizons=_horizons(memory, horizons_s, time_s),
        idle_s=idle,
        known=seen_s is not None,
    )


def variations(memory: ForecastMemory) -> tuple[float, float]:
    """Coefficients of variation of prompt and output lengths, >= 0; 1 where none were seen yet."""
    return _variation(memory.shape.prompt_variance), _variation(memory.shape.output_variance)


def _horizons(memory: ForecastMemory, horizons_s: tuple[float, ...], time_s: float) -> tuple[HorizonForecast, ...]:
    if memory.time_s is None:
        return tuple(HorizonForecast(horizon_s=h, levels=LEVELS, rates_rps=_NOTHING) for h in horizons_s)
    queue_floor = memory.queued / DRAIN_S
    floor = max(queue_floor, memory.levels.last)
    found = []
    for horizon in horizons_s:
        rates = _rates(memory, horizon, time_s)
        _raise(rates, queue_floor, floor)
        found.append(HorizonForecast(horizon_s=horizon, levels=LEVELS, rates_rps=tuple(rates)))
    return tuple(found)


def _rates(memory: ForecastMemory, horizon_s: float, time_s: float) -> list[float]:
    """Load at each of `LEVELS`: the mix of the two records next to the horizon, and their errors."""
    index, share = _place(horizon_s)
    low, high = memory.tracks[index], memory.tracks[index + 1]
    factor = season_factor(memory.season, time_s=time_s, horizon_s=horizon_s)
    left, unit = mixed(low.form, memory.levels, factor), unit_rps(memory.usual_rps)
    base = rooted(left + (mixed(high.form, memory.levels, factor) - left) * share, unit)
    errors = [x + (y - x) * share for x, y in zip(low.errors, high.errors, strict=True)]
    rates = [max(squared(base + error, unit), 0.0) for error in errors]
    ceiling = max(ABOVE_RECORD * memory.record_rps, rates[_MEDIAN])
    return [min(rate, ceiling) for rate in rates] if rates[-1] > ceiling else rates


def _raise(rates: list[float], queue_floor: float, floor: float) -> None:
    """Lift the rising rates to what is waiting, and from `FLOOR_INDEX` on to the load of now."""
    if rates[0] < queue_floor:
        rates[:] = [max(rate, queue_floor) for rate in rates]
    index = FLOOR_INDEX
    while index < len(rates) and rates[index] < floor:
        rates[index] = floor
        index += 1


@lru_cache(maxsize=4096)
def _place(horizon_s: float) -> tuple[int, float]:
    """The record before a horizon and the share of the one after it, by the logarithm of time; flat outside."""
    clipped = min(max(horizon_s, HORIZONS_S[0]), HORIZONS_S[-1])
    index = min(bisect_right(HORIZONS_S, clipped) - 1, len(HORIZONS_S) - 2)
    span = math.log(HORIZONS_S[index + 1] / HORIZONS_S[index])
    return index, math.log(clipped / HORIZONS_S[index]) / span


def _variation(variance: float) -> float:
    return min(max(math.sqrt(max(variance, 0.0)), VARIATION_MIN), VARIATION_MAX)
