"""
Simple forecasts of the load at a horizon, and the mix of them that has been right of late.

Each expert is right at some time: the last value in a burst, a slow level in noise, a trend on a ramp, the season in
the morning. None is chosen; each counts by the inverse of the square of its own recent error at that horizon.
"""

import math
from dataclasses import dataclass

from tidegate.forecast.season import Season

# Time constants of the levels, s. Their mean age is the constant itself.
FAST_S, MID_S, SLOW_S = 45.0, 240.0, 1_200.0
# A slope is believed for so long: a trend of minutes does not last for hours.
DAMP_FAST_S, DAMP_SLOW_S = 120.0, 900.0
EXPERTS = ("last", "fast", "mid", "slow", "ramp", "trend", "season")
Forecasts = tuple[float, float, float, float, float, float, float]


@dataclass(frozen=True, slots=True)
class Levels:
    """The load now and its smoothed levels, requests/s."""

    last: float
    fast: float
    mid: float
    slow: float


def forecasts(levels: Levels, season: Season, *, time_s: float, horizon_s: float) -> Forecasts:
    """What each of `EXPERTS` expects at `time_s + horizon_s`, requests/s, each >= 0."""
    last, fast, mid, slow = levels.last, levels.fast, levels.mid, levels.slow
    reach_fast = FAST_S + DAMP_FAST_S * (1.0 - math.exp(-horizon_s / DAMP_FAST_S))
    reach_slow = MID_S + DAMP_SLOW_S * (1.0 - math.exp(-horizon_s / DAMP_SLOW_S))
    ramp = fast + (fast - mid) / (MID_S - FAST_S) * reach_fast
    trend = mid + (mid - slow) / (SLOW_S - MID_S) * reach_slow
    ahead, behind = season.usual_rps(time_s + horizon_s), season.usual_rps(time_s - MID_S)
    seasonal = mid * min(max(ahead / behind, 0.25), 4.0) if ahead >= 0.0 and behind > 0.0 else mid
    return (last, fast, mid, slow, ramp if ramp > 0.0 else 0.0, trend if trend > 0.0 else 0.0, seasonal)


def weights(losses: tuple[float, ...]) -> tuple[float, ...]:
    """
    Share of each expert in the mix, summing to 1.

    Args:
        losses: Recent mean absolute error of each, relative, >= 0; shape (experts,).
    """
    raw = [1.0 / (1e-6 + loss * loss) for loss in losses]
    total = sum(raw)
    return tuple(share / total for share in raw)
