"""
How much load was really offered, whoever served it, from what each tier and the gateway report.

Unknown is not zero: a ready tier that does not report makes the sum a lower bound, and no report at all is `None`.
"""

from collections.abc import Iterable

from tidegate.domain.forecast import DemandSample
from tidegate.domain.observation import DeploymentObservation, TierReading, TierState

# A reading older than this says nothing about now.
AGE_S_MAX = 120.0
WINDOW_S = 60.0


def offered(
    observation: DeploymentObservation, *, in_flight_before: float | None, elapsed_s: float | None
) -> DemandSample | None:
    """
    The load that wanted to be served.

    offered = max(sum over tiers of arrivals + rejections, arrivals at the gateway)

    A tier counts a request when it reaches the server, waiting or not, so its queue is already in. Where only
    completions are counted, arrivals are completions plus the growth of what is in flight.

    Args:
        in_flight_before: Running and waiting requests at the last sample; None: not known.
        elapsed_s: Seconds since then; None: there was none.

    Returns:
        The sample; `partial` where a ready tier did not report and no gateway saw the whole. None: nobody reported.
    """
    readings = [r for state in observation.tiers.values() if (r := _usable(state)) is not None]
    silent = any(_is_silent(state) for state in observation.tiers.values())
    growth = _growth_rps(in_flight(observation), in_flight_before, elapsed_s)
    rates = [rate for r in readings if (rate := _arrivals_rps(r, growth_rps=growth / len(readings))) is not None]
    gateway = observation.gateway
    if not rates and gateway is None:
        return None
    seen = sum(rates)
    prompt, output, finished = _shape(readings)
    return DemandSample(
        arrival_rps=seen if gateway is None else max(seen, gateway.arrival_rps),
        prompt_tokens=prompt,
        output_tokens=output,
        queued=sum(r.waiting or 0.0 for r in readings) + (gateway.queued if gateway is not None else 0.0),
        window_s=max((r.window_s for r in readings), default=WINDOW_S),
        finished=finished,
        partial=(silent or len(rates) < len(readings)) and gateway is None,
    )


def in_flight(observation: DeploymentObservation) -> float | None:
    """Requests running or waiting over all tiers; None where a ready tier does not say."""
    total = 0.0
    for state in observation.tiers.values():
        reading = _usable(state)
        if reading is not None and reading.running is not None and reading.waiting is not None:
            total += reading.running + reading.waiting
        elif reading is not None or _is_silent(state):
            return None
    return total


def _usable(state: TierState) -> TierReading | None:
    reading = state.reading
    if isinstance(reading, TierReading) and reading.age_s <= AGE_S_MAX:
        return reading
    return None


def _is_silent(state: TierState) -> bool:
    return state.ready > 0 and _usable(state) is None


def _growth_rps(now: float | None, before: float | None, elapsed_s: float | None) -> float:
    if now is None or before is None or elapsed_s is None or elapsed_s <= 0:
        return 0.0
    return (now - before) / elapsed_s


def _arrivals_rps(reading: TierReading, *, growth_rps: float) -> float | None:
    if reading.arrival_rps is not None:
        return reading.arrival_rps + (reading.rejection_rps or 0.0)
    if reading.completion_rps is not None:
        return max(reading.completion_rps + growth_rps, 0.0) + (reading.rejection_rps or 0.0)
    return None


def _shape(readings: Iterable[TierReading]) -> tuple[float | None, float | None, float]:
    """Mean prompt and output tokens over tiers, by requests finished, and how many finished."""
    prompts = outputs = finished = 0.0
    for r in readings:
        count = (r.completion_rps or 0.0) * r.window_s
        if count > 0 and r.prompt_tokens_mean is not None and r.output_tokens_mean is not None:
            prompts += r.prompt_tokens_mean * count
            outputs += r.output_tokens_mean * count
            finished += count
    if finished <= 0:
        return None, None, 0.0
    return prompts / finished, outputs / finished, finished
