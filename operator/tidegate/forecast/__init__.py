"""
How much demand comes?

Enters:   what was seen of one deployment at one instant, and what is remembered.
Leaves:   the next memory, and demand as quantiles at the horizons asked for.
May import: domain, units, errors.

The quantiles come from errors that were really observed at that horizon, kept over days, because arrivals burst far
more than any Poisson law allows. Silence changes nothing: a missing reading is not a zero.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from tidegate.domain.forecast import DemandSample
from tidegate.domain.observation import DeploymentObservation
from tidegate.forecast.demand import WINDOW_S, offered
from tidegate.forecast.expect import predict, variations
from tidegate.forecast.learn import advanced, set_back
from tidegate.forecast.memory import ForecastMemory

__all__ = ["ForecastMemory", "backfill", "observe", "predict", "shaped", "suppose", "variations"]

# A clock further behind the memory than this was set right: the memory is from a time that is still to come.
SET_BACK_S = 300.0
# A steady load is believed once each horizon has some hundred errors of zero.
SUPPOSED_S = 8 * 3600.0


def observe(memory: ForecastMemory | None, *, observation: DeploymentObservation, time_s: float) -> ForecastMemory:
    """
    The memory after what was seen at one instant; the same one where nothing was, or time did not go on.

    Where the clock was set back, the forecast goes on from now: by the load of now, with all that was learned.

    Args:
        memory: Result of the last call; None: nothing is remembered.
        observation: One deployment, every tier.
        time_s: Unix seconds.
    """
    known = memory if memory is not None else ForecastMemory()
    before = known if known.time_s is None or time_s > known.time_s - SET_BACK_S else set_back(known)
    elapsed = None if before.time_s is None else time_s - before.time_s
    if elapsed is not None and elapsed <= 0:
        return known
    sample = offered(
        observation,
        in_flight_before=before.in_flight,
        before_age_s=before.look_age_s(time_s),
        unrest=before.shape.unrest,
    )
    # A lower bound says something only where it lies above what is already believed.
    if sample is None or (sample.partial and sample.arrival_rps <= before.levels.mid):
        return known
    return advanced(before, sample, time_s=time_s)


def backfill(memory: ForecastMemory | None, *, history: Sequence[tuple[float, float]]) -> ForecastMemory:
    """
    A memory that knows the past, as if it had been watched.

    Args:
        memory: What a restart found; only what is newer than it is taken from the history. None: all of it.
        history: (unix s, arrivals/s) by rising time, at any step; a week of it is enough. Short horizons learn
            their errors only from steps of a minute or less.
    """
    learned = ForecastMemory() if memory is None else memory
    # A hole in the history is longer than its step: the step is the length that a sample speaks for.
    step = min((later[0] - sooner[0] for sooner, later in pairwise(history)), default=WINDOW_S)
    for time_s, rate_rps in history:
        if learned.time_s is None or time_s > learned.time_s:
            sample = DemandSample(
                arrival_rps=rate_rps, prompt_tokens=None, output_tokens=None, queued=learned.queued, window_s=step
            )
            learned = advanced(learned, sample, time_s=time_s)
    return learned


def suppose(*, rate_rps: float, prompt_tokens: float, output_tokens: float, time_s: float) -> ForecastMemory:
    """
    The memory of a deployment that has had the same load for hours: what somebody states instead of what was seen.

    Args:
        rate_rps: Arrivals/s, >= 0; the forecast is this rate, with hardly any spread.
        prompt_tokens, output_tokens: Per request, > 0.
        time_s: Now, unix seconds.
    """
    steps = range(int(time_s - SUPPOSED_S), int(time_s) + 1, 60)
    memory = backfill(None, history=[(float(step), rate_rps) for step in steps])
    return shaped(memory, prompt_tokens=prompt_tokens, output_tokens=output_tokens)


def shaped(memory: ForecastMemory, *, prompt_tokens: float, output_tokens: float) -> ForecastMemory:
    """The memory with a request shape that is known from elsewhere, tokens per request > 0."""
    return replace(memory, shape=replace(memory.shape, prompt_tokens=prompt_tokens, output_tokens=output_tokens))
