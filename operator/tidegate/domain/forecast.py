"""
How much demand comes: quantiles at the times when a replica requested now would be ready.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class DemandSample:
    """
    Offered load of one deployment over the last window, whoever served it.

    Args:
        arrival_rps: Requests/s that wanted to be served: arrivals, rejections and growth of the queue.
        prompt_tokens: Mean prompt tokens per request; None: no request finished in the window.
        output_tokens: Mean output tokens per request; None likewise.
        queued: Requests waiting now, in all tiers and the gateway.
        in_flight: Requests running or waiting on the replicas; None: not known.
        age_s: Age of the newest reading of `in_flight`, s.
        apart_s: Time between that reading and the one before it, s; None: it is the same reading, or the first.
        window_s: Length of the window of the rate, s, > 0.
        finished: Requests that finished in the window, over which the token means are taken; 0: none, or not known.
        partial: A ready tier did not report: `arrival_rps` and `queued` are only lower bounds.
    """

    arrival_rps: float
    prompt_tokens: float | None
    output_tokens: float | None
    queued: float
    in_flight: float | None = None
    age_s: float = 0.0
    apart_s: float | None = None
    window_s: float = 60.0
    finished: float = 0.0
    partial: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class HorizonForecast:
    """
    Distribution of the arrival rate at one horizon.

    Args:
        horizon_s: Seconds ahead.
        levels: Quantile levels, rising, in (0, 1); shape (levels,).
        rates_rps: Arrival rate at each level, never falling, >= 0; shape (levels,). Never below what the current
            queue or burst requires.
    """

    horizon_s: float
    levels: tuple[float, ...]
    rates_rps: tuple[float, ...]

    def quantile(self, level: float) -> float:
        """Arrival rate at a level in (0, 1), requests/s."""
        return at_level(self.levels, self.rates_rps, level)


def at_level(levels: Sequence[float], rates_rps: Sequence[float], level: float) -> float:
    """The rate at a level, given rates at rising levels: interpolated linearly between levels, constant beyond them."""
    right = bisect_left(levels, level)
    if right in (0, len(levels)):
        return rates_rps[0 if right == 0 else -1]
    share = (level - levels[right - 1]) / (levels[right] - levels[right - 1])
    return rates_rps[right - 1] + (rates_rps[right] - rates_rps[right - 1]) * share


@dataclass(frozen=True, slots=True, kw_only=True)
class DemandForecast:
    """
    What is known about the demand of one deployment.

    Args:
        now_rps: Current offered load, smoothed over the window only.
        queued: Requests waiting now.
        prompt_tokens, output_tokens: Expected request shape, tokens.
        burstiness: Index of dispersion of arrivals (variance / mean of counts), >= 1; 1 is Poisson.
        horizons: One per requested horizon, by rising `horizon_s`, at least one; all with the same levels.
        idle_s: Seconds that were observed to be without arrivals and without answers in progress; 0 while there is
            traffic. A gap in the metrics does not start it.
        usual_rps: After minutes without metrics, the usual load at this time of the day and week, requests/s: the
            higher one of this half hour and the next. None: not known, or there are metrics.
    """

    now_rps: float
    queued: float
    prompt_tokens: float
    output_tokens: float
    burstiness: float
    horizons: tuple[HorizonForecast, ...]
    idle_s: float
    usual_rps: float | None = None
