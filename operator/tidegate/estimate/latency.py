"""
Latency of a replica in a known state: distributions of TTFT and ITL, and attainment.

In:    a replica (`Service`) and its `State` at some rates.
Out:   shares, quantiles, attainment and `OperatingPoint`s; arrays have shape (rates,) unless stated otherwise.

ITL. The mean ITL of individual requests scatters: N varies while a request runs (a birth-death process disturbed by
prefills), and a short answer may be hit by few prefills or by many. The excess over an undisturbed step is modelled as
lognormal, for each answer length.

TTFT. The wait is 0 with some probability and otherwise exponential. Then follows the request's own prefill, whose
length is lognormal.
"""

from collections.abc import Callable
from math import log

import numpy as np

from tidegate.domain.estimate import OperatingPoint
from tidegate.estimate.normal import Floats, normal_quantile, normal_share
from tidegate.estimate.service import OUTPUT_WEIGHTS, WIDTH_MIN, Service, State, state_at

# Nodes of the exponential wait: (probability at the node, weight), densest in the tail that decides a 99 % promise. The
# first node is a wait of 0, for requests that do not wait; it has no weight among those that do.
_WAIT = (
    (0, 0),
    (0.25, 0.5),
    (0.625, 0.25),
    (0.8125, 0.125),
    (0.91, 0.07),
    (0.965, 0.035),
    (0.99, 0.015),
    (0.998, 0.005),
)
WAIT_MEANS = np.array([-log(1 - probability) for probability, _ in _WAIT])
WAIT_WEIGHTS = np.array([weight for _, weight in _WAIT])
# Where a quantile is searched between its bounds.
GRID = np.linspace(0.0, 1.0, 9)


def attainment(service: Service, state: State) -> Floats:
    """Share of requests that meet both targets."""
    ttft = ttft_share(service, state, np.full((len(state.rates), 1), service.ttft_s))
    itl = itl_share(service, state, np.full((len(state.rates), 1), service.itl_s))
    return np.asarray((ttft * itl)[:, 0])


def operate(service: Service, rates: Floats) -> tuple[OperatingPoint, ...]:
    """One replica at each rate, all below `rate_unstable`."""
    state = state_at(service, rates)
    share = attainment(service, state)
    columns = (rates, state.running, ttft_quantile(service, state, 0.95), itl_quantile(service, state, 0.95), share)
    return tuple(
        OperatingPoint(rate_rps=rate, running=running, ttft_s_p95=ttft, itl_s_p95=itl, attainment=inside)
        for rate, running, ttft, itl, inside in zip(*(column.tolist() for column in columns), strict=True)
    )


def ttft_share(service: Service, state: State, bounds_s: Floats) -> Floats:
    """Share of requests with TTFT within each bound; both of shape (rates, bounds)."""
    left = bounds_s - _before_prompt(service, state)[:, None]
    late = _prompt_share(service, state, left[:, :, None] - (state.wait_s[:, None] * WAIT_MEANS)[:, None, :])
    waits = state.waits[:, None]
    return np.asarray(waits * (late @ WAIT_WEIGHTS) + (1 - waits) * late[:, :, 0])


def itl_share(service: Service, state: State, bounds_s: Floats) -> Floats:
    """Share of requests whose mean ITL is within each bound; both of shape (rates, bounds)."""
    left = np.maximum(bounds_s - service.floor_s, 0.0)
    excess, width = _itl_excess(service, state)
    ratio = np.log(np.maximum(left, 1e-300)[:, :, None] / excess[:, None, :])
    by_length = normal_share(ratio / width[:, None, :] + width[:, None, :] / 2)
    share = np.where(service.gaps > 0, by_length, 1.0) @ OUTPUT_WEIGHTS
    return np.where(bounds_s >= state.ceiling_s[:, None], 1.0, share)


def ttft_quantile(service: Service, state: State, level: float) -> Floats:
    """TTFT that this share of requests does not exceed, s."""
    before, mean = _before_prompt(service, state), _prompt_mean(service, state)
    width = service.prompt_width

    def own(share: float) -> Floats:
        taken = share * service.prompts_served  # as a share of all prompts, including those that are too long
        return np.asarray(before + mean * np.exp(normal_quantile(taken) * width - width * width / 2))

    # Lower bound: the prompt's own time at `level`. Upper bound: own time plus wait, each at (1 + level) / 2, which
    # TTFT exceeds in at most 1 - level of the cases.
    half = (1 + level) / 2
    waiting = state.wait_s * np.log(np.maximum(state.waits / (1 - half), 1.0))
    return _between(lambda t: ttft_share(service, state, t), level, own(level), own(half) + waiting)


def itl_quantile(service: Service, state: State, level: float) -> Floats:
    """Mean ITL of a request that this share of requests does not exceed, s."""
    excess, width = _itl_excess(service, state)
    ends = excess * np.exp(normal_quantile(level) * width - width * width / 2)
    low, high = service.floor_s + ends.min(axis=1), service.floor_s + ends.max(axis=1)
    found = _between(lambda t: itl_share(service, state, t), level, low, high)
    return np.asarray(np.minimum(found, state.ceiling_s))


def unqueued_s(service: Service, state: State) -> Floats:
    """Mean TTFT of a request that waits for no other request, s."""
    return _before_prompt(service, state) + _prompt_mean(service, state)


def _before_prompt(service: Service, state: State) -> Floats:
    """
    Time before the request's own prompt tokens are computed, s: half of the current step, and the fixed part of the
    next one.

    The part of p0 beyond an empty step (a) is spent outside the engine, so it is added to any step.
    """
    law = service.law
    outside = max(0.0, law.p0_s - law.a_s)
    return np.asarray(np.maximum(law.p0_s, state.step_s + outside) + state.step_s / 2)


def _prompt_mean(service: Service, state: State) -> Floats:
    return service.workload.prefill_tokens * (service.law.p1_s + state.step_s / service.batched_tokens_max)


def _prompt_share(service: Service, state: State, left_s: Floats) -> Floats:
    """Share of prompts computed within the time left; shape (rates, ...). None is longer than `context_max`."""
    width = service.prompt_width
    ratio = np.log(np.maximum(left_s, 1e-300) / _prompt_mean(service, state)[:, None, None])
    share = normal_share(ratio / width + width / 2)
    if service.prompts_served < 1.0:
        share = np.minimum(1.0, share / service.prompts_served)
    return np.asarray(share)


def _itl_excess(service: Service, state: State) -> tuple[Floats, Floats]:
    """
    Excess of the ITL over an undisturbed step, for each answer length.

    Returns:
        Its mean, s, and the standard deviation of its logarithm; both of shape (rates, nodes).
    """
    gaps = np.maximum(service.gaps, 1.0)
    typical = state.itl_s - state.backlog_s / service.workload.output_tokens
    excess = np.maximum((typical - service.floor_s)[:, None] + state.backlog_s[:, None] / gaps, 1e-12)
    # Variations that are slow compared to the duration of the answer do not average out.
    slow = state.slow[:, None] / (1 + state.memory[:, None] * gaps / (3 * service.workload.output_tokens))
    lumps = state.lumps[:, None] * (service.floor_s + excess) / gaps
    return excess, np.maximum(WIDTH_MIN, np.sqrt(np.log1p((slow + lumps) / (excess * excess))))


def _between(share: Callable[[Floats], Floats], level: float, low: Floats, high: Floats) -> Floats:
    """Where an increasing share reaches the level, between two bounds: on a grid, then by linear interpolation."""
    times = low[:, None] + (high - low)[:, None] * GRID
    shares = share(times)
    rows = np.arange(len(low))
    right = np.maximum(1, np.argmax(shares >= level, axis=1))
    left = right - 1
    rise = np.maximum(shares[rows, right] - shares[rows, left], 1e-12)
    part = np.clip((level - shares[rows, left]) / rise, 0.0, 1.0)
    return np.asarray(times[rows, left] + part * (times[rows, right] - times[rows, left]))
