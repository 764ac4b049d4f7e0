"""
Simple forecasts of the load at a horizon, and their mix, weighted by recent accuracy.

Each expert is right in some situation: the last value in a burst, a slow level in noise, the trend on a ramp, the
season in the morning. None is selected; each is weighted by the inverse fourth power of its recent error at that
horizon.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tidegate.forecast.season import Season

# Time constants of the levels, s; also the mean age of the load in a level.
FAST_S, MID_S, SLOW_S = 45.0, 240.0, 1_200.0
# A slope is extrapolated for about this long: a trend of minutes does not last for hours.
DAMP_S = 120.0
EXPERTS = ("last", "fast", "mid", "slow", "trend", "season")
# Bounds of the factor by which the season may change the level within one horizon.
SEASON_FACTOR_MIN, SEASON_FACTOR_MAX = 0.25, 4.0

Forecasts = tuple[float, ...]
Mix = tuple[float, float, float, float, float]


@dataclass(frozen=True, slots=True)
class Levels:
    """The current load and its smoothed levels, requests/s."""

    last: float
    fast: float
    mid: float
    slow: float


def reach(horizon_s: float) -> float:
    """
    How far the trend is extrapolated at a horizon, in multiples of (fast - mid).

    A level lags a ramp by its time constant T, so the slope is (fast - mid) / (T_mid - T_fast). It is extrapolated over
    the lag of the fast level and a damped horizon D * (1 - exp(-h/D)).
    """
    return (FAST_S + DAMP_S * (1.0 - math.exp(-horizon_s / DAMP_S))) / (MID_S - FAST_S)


def season_factor(season: Season, *, time_s: float, horizon_s: float) -> float:
    """Usual load at the horizon over the usual load at the mean age of the slow level; 1.0 if either is unknown."""
    if season.around[1] < 0.0:
        return 1.0
    behind = season.usual_rps(time_s - SLOW_S)
    if behind <= 0.0:
        return 1.0
    ahead = season.usual_rps(time_s + horizon_s)
    if ahead < 0.0:
        return 1.0
    factor = ahead / behind
    if factor > SEASON_FACTOR_MAX:
        return SEASON_FACTOR_MAX
    return factor if factor > SEASON_FACTOR_MIN else SEASON_FACTOR_MIN


def forecasts(levels: Levels, *, carry: float, factor: float) -> Forecasts:
    """
    Forecast of each of `EXPERTS`, requests/s; the trend may be below 0.

    Args:
        carry: `reach` of that horizon.
        factor: `season_factor` at that horizon.
    """
    fast, mid = levels.fast, levels.mid
    return (levels.last, fast, mid, levels.slow, fast + (fast - mid) * carry, levels.slow * factor)


def weights(losses: Sequence[float]) -> tuple[float, ...]:
    """
    Weight of each expert in the mix; they sum to 1.

    Args:
        losses: Recent mean absolute error of each as a share of the usual load, >= 0; shape (experts,).
    """
    squares = [loss * loss for loss in losses]
    raw = [1.0 / (1e-8 + square * square) for square in squares]
    total = sum(raw)
    return tuple([share / total for share in raw])


def mix(shares: tuple[float, ...], *, carry: float) -> Mix:
    """The weighted mean of the experts as a linear form in (last, fast, mid, slow, slow * season factor)."""
    last, fast, mid, slow, trend, season = shares
    return (last, fast + trend * (1.0 + carry), mid - trend * carry, slow, season)


def mixed(form: Mix, levels: Levels, factor: float) -> float:
    """The mix of the experts, requests/s, >= 0."""
    a, b, c, d, e = form
    value = a * levels.last + b * levels.fast + c * levels.mid + (d + e * factor) * levels.slow
    return value if value > 0.0 else 0.0
