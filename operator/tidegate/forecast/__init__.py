"""
How much demand will there be?

Enters:   the observation of one deployment, and its memory.
Leaves:   the next memory, and demand as quantiles at the requested horizons.
May import: domain, units, errors.

The quantiles come from errors that were actually observed at each horizon over days, because arrivals are far burstier
than a Poisson process. Missing metrics change nothing: a missing reading is not a zero.
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

# If the clock is further behind the memory than this, the memory was written under a wrong clock.
SET_BACK_S = 300.0
# Length of the history that `suppose` makes up: each horizon then has some hundred errors of zero.
SUPPOSED_S = 8 * 3600.0


def observe(memory: ForecastMemory | None, *, observation: DeploymentObservation, time_s: float) -> ForecastMemory:
    """
    The memory after one observation; the same object if it has no new load, or time has not advanced.

    If the clock was set back, the forecast continues from the current load and keeps what it has learned.

    Args:
        memory: Result of the last call; None: there is none yet.
        observation: Observation of one deployment, with every tier.
        time_s: Time of the observation, unix seconds.
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
    # A partial sample is a lower bound, which counts only if it exceeds the current estimate.
    if sample is None or (sample.partial and sample.arrival_rps <= before.levels.mid):
        return known
    return advanced(before, sample, time_s=time_s)


def backfill(memory: ForecastMemory | None, *, history: Sequence[tuple[float, float]]) -> ForecastMemory:
    """
    The memory after learning from a history of load.

    Args:
        memory: A saved memory, to which only newer parts of the history are added; None: the whole history is used.
        history: (unix seconds, arrivals/s) by rising time, at any step; a week is enough. Short horizons learn their
            errors only from steps of a minute or less.
    """
    learned = ForecastMemory() if memory is None else memory
    # The history may have gaps, so its step, the time that a sample stands for, is the smallest difference.
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
    The memory of a deployment that has had the same, stated load for hours.

    Args:
        rate_rps: Arrivals/s, >= 0; the forecast is this rate, with hardly any spread.
        prompt_tokens, output_tokens: Tokens per request, > 0.
        time_s: Now, unix seconds.
    """
    steps = range(int(time_s - SUPPOSED_S), int(time_s) + 1, 60)
    memory = backfill(None, history=[(float(step), rate_rps) for step in steps])
    return shaped(memory, prompt_tokens=prompt_tokens, output_tokens=output_tokens)


def shaped(memory: ForecastMemory, *, prompt_tokens: float, output_tokens: float) -> ForecastMemory:
    """The memory with a stated request shape, tokens per request, > 0."""
    return replace(memory, shape=replace(memory.shape, prompt_tokens=prompt_tokens, output_tokens=output_tokens))
