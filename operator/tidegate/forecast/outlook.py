"""
From the memory to quantiles of demand at the horizons asked for.
"""

import math
from bisect import bisect_right
from functools import lru_cache

from tidegate.domain.forecast import DemandForecast, HorizonForecast
from tidegate.forecast.experts import forecasts
from tidegate.forecast.learn import small_rps
from tidegate.forecast.memory import ForecastMemory
from tidegate.forecast.track import HORIZONS_S, LEVELS, mixed

# Before any request finished: a chat request of the public Azure traces, rounded.
PROMPT_TOKENS, OUTPUT_TOKENS = 1_024.0, 256.0
# Waiting requests are to be served within this time: they are a floor on the rate to plan for.
DRAIN_S = 60.0
# The load of now is a floor on the levels from here up: whoever plans for a bad case plans for the present at least.
FLOOR_LEVEL = 0.75
VARIATION_MIN, VARIATION_MAX = 0.1, 4.0
_FLOOR_INDEX = LEVELS.index(FLOOR_LEVEL)


def outlook(memory: ForecastMemory, *, horizons_s: tuple[float, ...], time_s: float) -> DemandForecast:
    """Demand at each horizon; see `forecast.predict`."""
    shape, last = memory.shape, memory.levels.last
    small = small_rps(memory.usual_rps)
    seen_s = memory.time_s
    idle = 0.0 if seen_s is None or memory.idle_since_s is None else seen_s - memory.idle_since_s
    return DemandForecast(
        now_rps=last,
        queued=memory.queued,
        prompt_tokens=shape.prompt_tokens or PROMPT_TOKENS,
        output_tokens=shape.output_tokens or OUTPUT_TOKENS,
        prompt_variation=_variation(shape.prompt_variance),
        output_variation=_variation(shape.output_variance),
        burstiness=max(shape.dispersion, 1.0),
        horizons=tuple(_at(memory, horizon, time_s=time_s, small=small) for horizon in horizons_s),
        idle_s=idle,
        known=seen_s is not None,
    )


def _at(memory: ForecastMemory, horizon_s: float, *, time_s: float, small: float) -> HorizonForecast:
    if memory.time_s is None:
        return HorizonForecast(horizon_s=horizon_s, levels=LEVELS, rates_rps=(0.0,) * len(LEVELS))
    index, share = _place(horizon_s)
    low, high = memory.tracks[index], memory.tracks[index + 1]
    expected = forecasts(memory.levels, memory.season, time_s=time_s, horizon_s=horizon_s)
    left = mixed(low.shares, expected)
    base = left + (mixed(high.shares, expected) - left) * share + small
    queue_floor = memory.queued / DRAIN_S
    floor = max(queue_floor, memory.levels.last)
    rates = [
        max(base * (f + (g - f) * share) - small, queue_floor)
        for f, g in zip(low.factors, high.factors, strict=True)
    ]
    rates[_FLOOR_INDEX:] = [rate if rate > floor else floor for rate in rates[_FLOOR_INDEX:]]
    return HorizonForecast(horizon_s=horizon_s, levels=LEVELS, rates_rps=tuple(rates))


@lru_cache(maxsize=4096)
def _place(horizon_s: float) -> tuple[int, float]:
    """The record before a horizon and the share of the one after it, by the logarithm of time; flat outside."""
    clipped = min(max(horizon_s, HORIZONS_S[0]), HORIZONS_S[-1])
    index = min(bisect_right(HORIZONS_S, clipped) - 1, len(HORIZONS_S) - 2)
    span = math.log(HORIZONS_S[index + 1] / HORIZONS_S[index])
    return index, math.log(clipped / HORIZONS_S[index]) / span


def _variation(variance: float) -> float:
    return min(max(math.sqrt(max(variance, 0.0)), VARIATION_MIN), VARIATION_MAX)
