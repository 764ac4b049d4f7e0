"""
Offered load, whoever served it, from the readings of the tiers and the gateway.

Unknown is not zero: if a ready tier does not report, the sum is a lower bound; without any report it is `None`.
"""

from tidegate.domain.forecast import DemandSample
from tidegate.domain.observation import DeploymentObservation, TierReading

# A reading older than this is stale.
AGE_S_MAX = 120.0
WINDOW_S = 60.0
# Growth of requests in flight is a surge if it exceeds this many standard deviations of its usual variation plus this
# many requests. If the two looks are further apart than the window of a rate, growth tells no more than the rate does.
SURGE_SPREADS, SURGE_MIN, SURGE_S = 4.0, 4.0, 60.0
# Looks less far apart than this come from the same scrape: nobody scrapes that often, and ages are rounded.
SAME_LOOK_S = 1.0


def offered(
    observation: DeploymentObservation,
    *,
    in_flight_before: float | None,
    before_age_s: float | None,
    unrest: float = 1.0,
) -> DemandSample | None:
    """
    The offered load.

    offered = max(sum over tiers of arrivals + rejections, arrivals at the gateway, completions + growth)

    A tier counts a request when it reaches the server, waiting or not, so arrivals include its queue. If only
    completions are counted, arrivals are completions plus the growth of requests in flight. The same sum shows a burst
    earlier than a rate over a minute does, so it is also used if the growth is more than chance.

    Args:
        in_flight_before: Running and waiting requests at the last look; None: not known.
        before_age_s: Age of that look, s; None: there was none.
        unrest: Usual squared change of requests in flight, relative to chance alone; see `unrest_of`.

    Returns:
        The sample, `partial` if a ready tier did not report and no gateway counts all arrivals; None without any
        report.
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
    """The readings that are fresh enough, and whether some tier with ready replicas has none."""
    readings, silent = [], False
    for state in observation.tiers.values():
        reading = state.reading
        if isinstance(reading, TierReading) and not reading.older_than(AGE_S_MAX):
            readings.append(reading)
        elif state.ready > 0:
            silent = True
    return readings, silent


def _in_flight(readings: list[TierReading]) -> float | None:
    """Requests running or waiting; None if a tier does not report them."""
    total = 0.0
    for reading in readings:
        if reading.running is None or reading.waiting is None:
            return None
        total += reading.running + reading.waiting
    return total


def _apart_s(before_age_s: float | None, age_s: float) -> float | None:
    """Seconds between two looks of these ages; None if they are the same look, or there was no first one."""
    apart_s = 0.0 if before_age_s is None else before_age_s - age_s
    return apart_s if apart_s >= SAME_LOOK_S else None


def _growth_rps(now: float | None, before: float | None, apart_s: float | None) -> float:
    return 0.0 if now is None or before is None or apart_s is None else (now - before) / apart_s


def _surge_rps(
    readings: list[TierReading], flying: float | None, before: float | None, apart_s: float | None, unrest: float
) -> float:
    """
    Arrivals inferred from a sudden growth of requests in flight, requests/s; 0 if the growth may be chance.

    The growth is compared to its usual standard deviation, because long prompts, which delay others, make the number in
    flight vary much more than arrivals do.
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
    """Variance of the difference of two looks at this many requests in flight, if each were a Poisson count."""
    return 2 * max(in_flight, 1.0)


def unrest_of(before: float, in_flight: float, *, usual: float) -> float:
    """
    The squared growth of requests in flight in units of `chance`: 1 on average if only chance moves them.

    Args:
        usual: Its mean so far. Growth beyond `SURGE_SPREADS` usual standard deviations is clipped to that.
    """
    return min((in_flight - before) ** 2 / chance(before), SURGE_SPREADS**2 * max(usual, 1.0))


def _arrivals_rps(readings: list[TierReading], *, growth_rps: float) -> list[float]:
    """Arrivals plus rejections by tier; tiers that count only completions share the growth of requests in flight."""
    counting = [r for r in readings if r.arrival_rps is None and r.completion_rps is not None]
    rates = [r.arrival_rps + (r.rejection_rps or 0.0) for r in readings if r.arrival_rps is not None]
    for reading in counting:
        served = (reading.completion_rps or 0.0) + growth_rps / len(counting)
        rates.append(max(served, 0.0) + (reading.rejection_rps or 0.0))
    return rates


def _shape(readings: list[TierReading]) -> tuple[float | None, float | None, float]:
    """Mean prompt and output tokens over tiers, weighted by finished requests, and the number of those."""
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
