"""
How much load was really offered, whoever served it, from what each tier and the gateway report.

Unknown is not zero: a ready tier that does not report makes the sum a lower bound, and no report at all is `None`.
"""

from tidegate.domain.forecast import DemandSample
from tidegate.domain.observation import DeploymentObservation, TierReading

# A reading older than this says nothing about now.
AGE_S_MAX = 120.0
WINDOW_S = 60.0
# When growth of what is in flight is more than chance: so many spreads of its usual growth, and so many requests; looks
# further apart than a rate's window tell nothing that the rate does not.
SURGE_SPREADS, SURGE_MIN, SURGE_S = 4.0, 4.0, 60.0
# Two looks less far apart are one: nobody scrapes that often, and ages are rounded.
SAME_LOOK_S = 1.0


def offered(
    observation: DeploymentObservation,
    *,
    in_flight_before: float | None,
    before_age_s: float | None,
    unrest: float = 1.0,
) -> DemandSample | None:
    """
    The load that wanted to be served.

    offered = max(sum over tiers of arrivals + rejections, arrivals at the gateway, completions + growth)

    A tier counts a request when it reaches the server, waiting or not, so its queue is already in. Where only
    completions are counted, arrivals are completions plus the growth of what is in flight. The same sum sees a burst
    before a rate over a minute does, so it counts wherever the growth is more than chance.

    Args:
        in_flight_before: Running and waiting requests at the last look; None: not known.
        before_age_s: How long ago that look was, s; None: there was none.
        unrest: How much more than by chance alone what is in flight usually moves; see `unrest_of`.

    Returns:
        The sample; `partial` where a ready tier did not report and no gateway saw the whole. None: nobody reported.
    """
    readings, silent = _heard(observation)
    gateway = observation.gateway
    seen_rps = None if gateway is None else gateway.arrival_rps
    if not readings and (gateway is None or (silent and seen_rps is None)):
        return None
    flying = None if silent else _in_flight(readings)
    age_s = min([reading.age_s for reading in readings], default=0.0)
    apart_s = _apart_s(before_age_s, age_s)
    rates = _arrivals_rps(readings, growth_rps=_growth_rps(flying, in_flight_before, apart_s))
    if readings and not rates and seen_rps is None:
        return None
    prompt, output, finished = _shape(readings)
    arrivals = max(sum(rates), _surge_rps(readings, flying, in_flight_before, apart_s, unrest))
    return DemandSample(
        arrival_rps=arrivals if seen_rps is None else max(arrivals, seen_rps),
        prompt_tokens=prompt,
        output_tokens=output,
        queued=sum([r.waiting or 0.0 for r in readings], 0.0 if gateway is None else gateway.queued),
        in_flight=flying,
        age_s=age_s,
        apart_s=apart_s,
        window_s=max([r.window_s for r in readings], default=0.0) or WINDOW_S,
        finished=finished,
        partial=seen_rps is None and (silent or len(rates) < len(readings)),
    )


def _heard(observation: DeploymentObservation) -> tuple[list[TierReading], bool]:
    """Readings that are new enough, and whether a tier with ready replicas has none."""
    readings, silent = [], False
    for state in observation.tiers.values():
        reading = state.reading
        if isinstance(reading, TierReading) and not reading.older_than(AGE_S_MAX):
            readings.append(reading)
        elif state.ready > 0:
            silent = True
    return readings, silent


def _in_flight(readings: list[TierReading]) -> float | None:
    """Requests running or waiting; None where a tier does not say."""
    total = 0.0
    for reading in readings:
        if reading.running is None or reading.waiting is None:
            return None
        total += reading.running + reading.waiting
    return total


def _apart_s(before_age_s: float | None, age_s: float) -> float | None:
    """Seconds between two looks of these ages; None where the second is the first again, or there was no first."""
    apart_s = 0.0 if before_age_s is None else before_age_s - age_s
    return apart_s if apart_s >= SAME_LOOK_S else None


def _growth_rps(now: float | None, before: float | None, apart_s: float | None) -> float:
    return 0.0 if now is None or before is None or apart_s is None else (now - before) / apart_s


def _surge_rps(
    readings: list[TierReading], flying: float | None, before: float | None, apart_s: float | None, unrest: float
) -> float:
    """
    Arrivals that a sudden growth of what is in flight gives away, requests/s; 0 where the growth may be chance.

    The growth is counted in spreads of what is usual: long prompts that hold others up make it move far more than
    arrivals do.
    """
    if flying is None or before is None or apart_s is None or apart_s > SURGE_S:
        return 0.0
    growth = flying - before
    completions = [r.completion_rps for r in readings if r.completion_rps is not None]
    spread = (max(unrest, 1.0) * chance(before)) ** 0.5
    if len(completions) < len(readings) or growth <= SURGE_SPREADS * spread + SURGE_MIN:
        return 0.0
    return sum(completions) + growth / apart_s


def chance(in_flight: float) -> float:
    """Variance of the difference of two looks at so many requests in flight, were each a Poisson count."""
    return 2 * max(in_flight, 1.0)


def unrest_of(before: float, in_flight: float, *, usual: float) -> float:
    """
    The square of one growth of what is in flight, in units of `chance`: 1 on average where nothing but chance moves it.

    Args:
        usual: The mean of it so far. A surge counts as `SURGE_SPREADS` of the usual spread, not as what it is.
    """
    return min((in_flight - before) ** 2 / chance(before), SURGE_SPREADS**2 * max(usual, 1.0))


def _arrivals_rps(readings: list[TierReading], *, growth_rps: float) -> list[float]:
    """Arrivals and rejections by tier; tiers that count only completions share the growth of what is in flight."""
    counting = [r for r in readings if r.arrival_rps is None and r.completion_rps is not None]
    rates = [r.arrival_rps + (r.rejection_rps or 0.0) for r in readings if r.arrival_rps is not None]
    for reading in counting:
        served = (reading.completion_rps or 0.0) + growth_rps / len(counting)
        rates.append(max(served, 0.0) + (reading.rejection_rps or 0.0))
    return rates


def _shape(readings: list[TierReading]) -> tuple[float | None, float | None, float]:
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
