"""
Simple forecasts of the load at a horizon, and the mix of them that has been right of late.

Each expert is right at some time: the last value in a burst, a slow level in noise, a trend on a ramp, the season in
the morning. None is chosen; each counts by the inverse fourth power of its own recent error at that horizon.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tidegate.forecast.season import Season

# Time constants of the levels, s. The mean age of what a level holds is the constant itself.
FAST_S, MID_S, SLOW_S = 45.0, 240.0, 1_200.0
# A slope is believed for so long: a trend of minutes does not last for hours.
DAMP_FAST_S, DAMP_SLOW_S = 120.0, 900.0
EXPERTS = ("last", "fast", "mid", "slow", "ramp", "trend", "season")
# The season may change the level by this factor at most within one horizon.
SEASON_FACTOR_MAX = 4.0

Forecasts = tuple[float, ...]
Mix = tuple[float, float, float, float, float]


@dataclass(frozen=True, slots=True)
class Levels:
    """The load now and its smoothed levels, requests/s."""

    last: float
    fast: float
    mid: float
    slow: float


@dataclass(frozen=True, slots=True)
class Reach:
    """How far each slope is carried at one horizon, in multiples of the difference of its two levels."""

    ramp: float
    trend: float


def reach(horizon_s: float) -> Reach:
    """
    The reach of both slopes at a horizon.

    A level lags a ramp by its time constant T, so (fast - mid) / (T_mid - T_fast) is the slope. It is carried over the
    level's own lag and a damped horizon D * (1 - exp(-h/D)).
    """
    ramp_s = FAST_S + DAMP_FAST_S * (1.0 - math.exp(-horizon_s / DAMP_FAST_S))
    trend_s = MID_S + DAMP_SLOW_S * (1.0 - math.exp(-horizon_s / DAMP_SLOW_S))
    return Reach(ramp=ramp_s / (MID_S - FAST_S), trend=trend_s / (SLOW_S - MID_S))


def season_factor(season: Season, *, time_s: float, horizon_s: float) -> float:
    """Usual load at the horizon over the usual load that the mid level remembers; 1.0 where either is unknown."""
    behind = season.usual_rps(time_s - MID_S)
    if behind <= 0.0:
        return 1.0
    ahead = season.usual_rps(time_s + horizon_s)
    if ahead < 0.0:
        return 1.0
    return min(max(ahead / behind, 1.0 / SEASON_FACTOR_MAX), SEASON_FACTOR_MAX)


def forecasts(levels: Levels, reaches: Reach, factor: float) -> Forecasts:
    """
    What each of `EXPERTS` expects, requests/s; a trend may fall below 0.

    Args:
        factor: `season_factor` at that horizon.
    """
    last, fast, mid, slow = levels.last, levels.fast, levels.mid, levels.slow
    return (
        last,
        fast,
        mid,
        slow,
        fast + (fast - mid) * reaches.ramp,
        mid + (mid - slow) * reaches.trend,
        mid * factor,
    )


def weights(losses: Sequence[float]) -> tuple[float, ...]:
    """
    Share of each expert in the mix, summing to 1.

    Args:
        losses: Recent mean absolute error of each, relative, >= 0; shape (experts,).
    """
    raw = [1.0 / (1e-8 + loss**4) for loss in losses]
    total = sum(raw)
    return tuple(share / total for share in raw)


def mix(shares: tuple[float, ...], reaches: Reach) -> Mix:
    """The weighted experts as one linear form in (last, fast, mid, slow, mid * season factor)."""
    last, fast, mid, slow, ramp, trend, season = shares
    return (
        last,
        fast + ramp * (1.0 + reaches.ramp),
        mid - ramp * reaches.ramp + trend * (1.0 + reaches.trend),
        slow - trend * reaches.trend,
        season,
    )


def mixed(form: Mix, levels: Levels, factor: float) -> float:
    """The mix of the experts, requests/s, >= 0."""
    a, b, c, d, e = form
    value = a * levels.last + b * levels.fast + (c + e * factor) * levels.mid + d * levels.slow
    return value if value > 0.0 else 0.0
