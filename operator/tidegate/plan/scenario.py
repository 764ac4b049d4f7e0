"""
The demand a fleet is sized for: a few rates with probabilities instead of a single number.

A plan is judged by the share of *requests* that meet the targets, so a rate counts with its probability times the
rate: a burst of four times the load in 5 % of the time brings 17 % of the requests.
"""

import itertools
from dataclasses import dataclass
from functools import lru_cache

from tidegate.domain.forecast import DemandForecast, at_level

# The quantile that messages show, and that tells whether demand has risen.
SHOWN_LEVEL = 0.9


@dataclass(frozen=True, slots=True)
class Scenarios:
    """
    Demand at one lead time.

    Args:
        rates_rps: Arrival rates, not decreasing, >= 0, requests/s; shape (scenarios,).
        shown_rps: The quantile `SHOWN_LEVEL`, requests/s.
        horizon_s: How far ahead, s.
        mean_rps: Expected arrival rate, requests/s.
        shares: Share of all expected requests that each scenario brings; the probabilities if all rates are 0.
    """

    rates_rps: tuple[float, ...]
    shown_rps: float
    horizon_s: float
    mean_rps: float
    shares: tuple[float, ...]

    def showing(self, rate_rps: float) -> "Scenarios":
        """All rates multiplied by the same factor, so that the shown one is at least `rate_rps`."""
        if rate_rps <= self.shown_rps or self.shown_rps <= 0:
            return self
        factor = rate_rps / self.shown_rps
        rates = tuple([r * factor for r in self.rates_rps])
        return Scenarios(rates, rate_rps, self.horizon_s, self.mean_rps * factor, self.shares)

    def at_least(self, rate_rps: float) -> "Scenarios":
        """All rates raised to at least `rate_rps`."""
        if rate_rps <= self.rates_rps[0]:
            return self
        rates = tuple([max(r, rate_rps) for r in self.rates_rps])
        shown, mean = max(self.shown_rps, rate_rps), max(self.mean_rps, rate_rps)
        return Scenarios(rates, shown, self.horizon_s, mean, self.shares)


def scenarios(forecast: DemandForecast, lead_s: float) -> Scenarios:
    """
    Demand up to the time when a replica requested now could serve.

    For each quantile level it is the highest rate at any horizon up to the lead time: falling demand is still served on
    its way down, and rising demand is met where it will be.

    Args:
        forecast: Quantiles at rising horizons, all with the same levels.
        lead_s: Time until a replica requested now serves, s.
    """
    last, *later = forecast.horizons
    rates, levels = last.rates_rps, last.levels
    for horizon in later:
        if last.horizon_s >= lead_s - 1e-9:
            break
        last, rates = horizon, tuple(map(max, rates, horizon.rates_rps))
    weights = _weights(levels)
    brought = [w * r for w, r in zip(weights, rates, strict=True)]
    mean = sum(brought)
    shares = tuple([b / mean for b in brought]) if mean > 0 else weights
    return Scenarios(rates, at_level(levels, rates, SHOWN_LEVEL), last.horizon_s, mean, shares)


@lru_cache(maxsize=64)
def _weights(levels: tuple[float, ...]) -> tuple[float, ...]:
    """Probability of each level: cells end halfway between neighbouring levels, the outer ones at 0 and 1."""
    edges = [0.0, *[(a + b) / 2 for a, b in itertools.pairwise(levels)], 1.0]
    return tuple([b - a for a, b in itertools.pairwise(edges)])
