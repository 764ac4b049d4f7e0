"""
How much demand comes?

Enters:   what was seen of one deployment at one instant, and what is remembered.
Leaves:   the next memory, and demand as quantiles at the horizons asked for.
May import: domain, units, errors.

The quantiles come from errors that were really observed at that horizon, kept over days, because arrivals burst far
more than any Poisson law allows. Silence changes nothing: a missing reading is not a zero.
"""

from collections.abc import Sequence

from tidegate.domain.forecast import DemandForecast, DemandSample
from tidegate.domain.observation import DeploymentObservation
from tidegate.forecast.demand import offered
from tidegate.forecast.expect import expected_demand
from tidegate.forecast.learn import advanced
from tidegate.forecast.memory import ForecastMemory

__all__ = ["ForecastMemory", "backfill", "observe", "predict"]


def observe(memory: ForecastMemory | None, *, observation: DeploymentObservation, time_s: float) -> ForecastMemory:
    """
    The memory after what was seen at one instant; the same one where nothing was, or time did not go on.

    Args:
        memory: Result of the last call; None: nothing is remembered.
        observation: One deployment, every tier.
        time_s: Unix seconds.
    """
    before = memory if memory is not None else ForecastMemory()
    elapsed = None if before.time_s is None else time_s - before.time_s
    if elapsed is not None and elapsed <= 0:
        return before
    sample = offered(observation, in_flight_before=before.in_flight, elapsed_s=elapsed)
    # A lower bound says something only where it lies above what is already believed.
    if sample is None or (sample.partial and sample.arrival_rps <= before.levels.mid):
        return before
    return advanced(before, sample, time_s=time_s)


def predict(memory: ForecastMemory, *, horizons_s: tuple[float, ...], time_s: float) -> DemandForecast:
    """
    Demand at each horizon, as quantiles.

    Args:
        memory: Result of `observe`.
        horizons_s: Rising, > 0, at least one.
        time_s: Unix seconds, not before the last observation.
    """
    return expected_demand(memory, horizons_s=horizons_s, time_s=time_s)


def backfill(memory: ForecastMemory | None, *, history: Sequence[tuple[float, float]]) -> ForecastMemory:
    """
    A memory that knows the past, as if it had been watched.

    Args:
        memory: What a restart found; kept where it is newer than the history.
        history: (unix s, arrivals/s) by rising time, at any step; a week of it is enough.
    """
    learned = ForecastMemory() if memory is None else memory
    previous = None
    for time_s, rate_rps in history:
        if learned.time_s is not None and time_s <= learned.time_s:
            previous = time_s
            continue
        window = time_s - previous if previous is not None else 60.0
        sample = DemandSample(
            arrival_rps=rate_rps, prompt_tokens=None, output_tokens=None, queued=0.0, window_s=max(window, 1.0)
        )
        learned, previous = advanced(learned, sample, time_s=time_s), time_s
    return learned
