"""
Comparison of predictions with measurements: TTFT, and the share of requests that meet the targets.

In:    the memory, and a window with the reading's histograms.
Out:   the memory with what was learned about prefill and misses. Slow on purpose, and bounded.
"""

from dataclasses import replace
from math import exp, log, sqrt

import numpy as np

from tidegate.domain.estimate import POOLS
from tidegate.domain.observation import TierReading
from tidegate.domain.spec import Slo
from tidegate.estimate.balance import evenness_of
from tidegate.estimate.latency import attainment, unqueued_s
from tidegate.estimate.law import law_in_force
from tidegate.estimate.memory import Prompt, TierMemory, digits
from tidegate.estimate.samples import Window, kept_prompts
from tidegate.estimate.service import Service, State, state_at

# Time between comparisons, s, with and without observed misses; the first windows are all compared.
PERIOD_S = 180.0
PERIOD_QUIET_S = 900.0
WINDOWS_CLOSE = 3
# If queueing is more than this share of TTFT, the prefill time cannot be told from it.
QUEUE_SHARE_MAX = 0.4
WAITING_MAX = 0.5
REQUESTS_MIN = 10.0
# The factor on misses: its bounds, and the share of its logarithmic error that one comparison corrects.
MISSES_MIN, MISSES_MAX = 0.25, 8.0
MISSES_SHARE = 0.3
MISSES_LEAP = log(4.0)
# A predicted share of misses of 0 counts as one in ten thousand.
PREDICTED_MIN = 1e-4
MISSES_DIGITS = 2


def compare(memory: TierMemory, window: Window) -> TierMemory:
    """The memory after a comparison; the same object if none is due or the reading does not allow one."""
    reading, slo, engines, time_s = window.reading, window.slo, window.engines, window.time_s
    rate = reading.arrival_rps
    if rate is None or rate * reading.window_s < REQUESTS_MIN or not window.steady:
        return memory
    seen = _missed_bounds(reading, slo, rate * reading.window_s)
    period_s = PERIOD_S if seen is not None and seen[0] > 0 else PERIOD_QUIET_S
    if memory.windows > WINDOWS_CLOSE and time_s - memory.compared_s < period_s:
        return memory
    service = _service(memory, window)
    if service is None or rate / engines >= service.rate_unstable:
        return memory
    state = state_at(service, np.array([rate / engines]))
    prompt = prompt_of(service, state, reading, engines)
    predicted = 1.0 - float(attainment(service, state)[0])
    return replace(
        memory,
        compared_s=time_s,
        prompts=memory.prompts if prompt is None else kept_prompts(memory.prompts, prompt),
        misses=memory.misses if seen is None else _misses(memory.misses, predicted, *seen),
    )


def _service(memory: TierMemory, window: Window) -> Service | None:
    """The replica under the requests of this window; None if their lengths are not known."""
    prior, slo, workload = window.prior, window.slo, window.workload
    if workload is None:
        return None
    return Service(
        law=law_in_force(prior, memory),
        workload=workload,
        batched_tokens_max=float(prior.serving.batched_tokens_max),
        context_max=prior.serving.context_max,
        burstiness=1.0,
        ttft_s=slo.ttft_s,
        itl_s=slo.itl_s,
        # The plan counts on no gain beyond the largest of these sizes, and its predictions are what is corrected.
        pooled=float(min(window.engines, POOLS[-1])),
        evenness=evenness_of([memory]),
    )


def prompt_of(service: Service, state: State, reading: TierReading, engines: int) -> Prompt | None:
    """Prefill time of the mean prompt, from the mean TTFT; None if queueing hides it."""
    ttft_s = reading.ttft_mean_s
    if not ttft_s or reading.waiting is None or reading.waiting / engines > WAITING_MAX:
        return None
    queue_s = float(state.waits[0] * state.wait_s[0])
    # The request waits for the current step, and decoding continues in the steps that compute its prompt.
    decode_s = float(unqueued_s(service, state)[0]) - service.law.prefill_s(service.workload)
    prefill_s = ttft_s - queue_s - decode_s
    if queue_s > QUEUE_SHARE_MAX * ttft_s or prefill_s < (1 - QUEUE_SHARE_MAX) / 2 * ttft_s:
        return None
    return Prompt(tokens=digits(service.workload.prefill_tokens, 3), prefill_s=digits(prefill_s, 3))


def _missed_bounds(reading: TierReading, slo: Slo, requests: float) -> tuple[float, float] | None:
    """
    Bounds of the share of requests that missed a target, from bucket edges and chance; None without histograms.

    The histogram of token gaps is not one of requests: prefills that lengthen one gap in twenty raise few means over
    the target. But if all gaps are short, so are the means, so it gives a lower bound of the share within the target.
    """
    ttft = reading.ttft.share_at_most(slo.ttft_s) if reading.ttft is not None else None
    itl = reading.request_itl.share_at_most(slo.itl_s) if reading.request_itl is not None else None
    if itl is None and reading.itl is not None:
        gaps = reading.itl.share_at_most(slo.itl_s)
        itl = (gaps[0], 1.0) if gaps is not None else None
    if itl is None and reading.gapless:
        itl = (1.0, 1.0)
    if ttft is None or itl is None:
        return None
    low, high = 1.0 - min(ttft[1], itl[1]), min(1.0, 2.0 - ttft[0] - itl[0])
    return max(0.0, low - _sampling_error(low, requests)), min(1.0, high + _sampling_error(high, requests))


def _sampling_error(share: float, requests: float) -> float:
    """Sampling error of a share of this many requests: two standard deviations, plus one request."""
    return 2 * sqrt(share * (1 - share) / requests) + 1 / requests


def _misses(before: float, predicted: float, low: float, high: float) -> float:
    """The factor on predicted misses, moved towards the measured bounds."""
    expected = min(1.0, before * max(predicted, PREDICTED_MIN))
    nearest = min(max(expected, low), high)
    moved = before * exp(MISSES_SHARE * min(MISSES_LEAP, max(-MISSES_LEAP, log(nearest / expected))))
    return digits(min(MISSES_MAX, max(MISSES_MIN, moved)), MISSES_DIGITS)
