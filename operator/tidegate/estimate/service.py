"""
How one replica serves a steady stream of requests: running requests, ITL and TTFT as distributions, attainment.

In:    a law, a request shape, the targets, an arrival rate and how bursty arrivals are.
Out:   attainment and `OperatingPoint`s, for many rates at once: arrays are of shape (rates,) unless stated.

Decoding. A request that runs with N others takes a + (b + c*ctx)*(N + 1) per step; a share rate*p1*isl of the time goes
to prompts that share the steps. With Little's N = rate*osl*ITL this solves to

    ITL = (a + b + c*ctx) / (1 - rate*p1*isl - rate*osl*(b + c*ctx))

Per request it spreads: N moves while the request runs (a birth and death process that prompts shake), and few prompts
fall on a short answer, many on another. The excess over an undisturbed step is taken as lognormal, by length of answer.

First token. Prompts queue for the token budget of the steps (one server, general service times: Pollaczek-Khinchine,
scaled by the burstiness), and for a place in the batch where that is short (many servers: Sakasegawa). The wait has an
atom at 0 and an exponential tail; to it comes the prompt's own prefill, whose length is lognormal.

Memory. Contexts of running requests have to fit into the KV cache together. Their sum moves with N and with the
lengths; where it runs over, requests wait, or are thrown out and computed again, which makes it run over more often.

Bursts. What the forecast measures as dispersion is mostly the rate that moves from minute to minute, and its quantiles
are for that. Given the rate of a tick, arrivals of real services are close to Poisson: 1 + 0.12*ln(index).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from math import log, sqrt
from typing import TypeVar

import numpy as np

from tidegate.domain.estimate import OperatingPoint
from tidegate.domain.law import PerformanceLaw, Workload
from tidegate.estimate.normal import Floats, normal_quantile, normal_share

Number = TypeVar("Number", float, Floats)

# The exponential wait as nodes: (probability at the node, weight); fine where a 99 % promise is decided. The first node
# is no wait at all: it serves those who do not wait, and has no weight among those who do.
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
# Lengths of answers: (normal quantile, weight); short answers spread most, so they are looked at closer.
_OUTPUT = ((-2.05, 0.04), (-1.48, 0.06), (-1.04, 0.1), (-0.52, 0.2), (0.0, 0.2), (0.52, 0.2), (1.28, 0.2))
OUTPUT_QUANTILES = np.array([z for z, _ in _OUTPUT])
OUTPUT_WEIGHTS = np.array([weight for _, weight in _OUTPUT])
# Six real and rebuilt traces, by the index of counts per minute: 16 (Azure chat), 25, 12, 8000 (ServeGen) and 2, 1; of
# counts per second within 15 s: 1.1, 1.2, 1.8, 7.6 and 1.0, 1.1 (2026-11-21).
BURST_SHARE = 0.12
# Prompts that arrive during a step are computed together in the next: they fall on an answer in heaps, by this factor
# on the variance.
LUMPING = 1.4
# A queue is taken to be stable up to this share of its capacity; beyond it waits are longer than any target.
USED_MAX = 0.999
# Memory that runs over this rarely (standard deviations of the sum of contexts) already feeds on itself: requests that
# are thrown out come back with longer prompts. Our simulator collapses between 1.4 and 2.2 (32B, 4000-token prompts).
COLLAPSE_DEVIATIONS = 1.3
# A request is hit when memory runs over anywhere in its life, which is some times as long as N remembers.
OVERFLOWS_PER_LIFE = 6.0
HALVINGS = 14
# Smallest spread of a logarithm: below it a distribution is a step.
WIDTH_MIN = 1e-4
# Where a quantile is looked for between its bounds.
GRID = np.linspace(0.0, 1.0, 9)


@dataclass(frozen=True, kw_only=True)
class Service:
    """
    Everything about one replica but the rate.

    Args:
        law: Performance law.
        workload: Request shape.
        batched_tokens_max: Most tokens in one step.
        context_max: Longest prompt that is taken, tokens; infinity where nothing limits it.
        burstiness: Index of dispersion of arrivals as the forecast measures it, >= 1.
        ttft_s, itl_s: The targets.
    """

    law: PerformanceLaw
    workload: Workload
    batched_tokens_max: float
    context_max: float
    burstiness: float
    ttft_s: float
    itl_s: float

    @cached_property
    def decode_slope_s(self) -> float:
        """Decode work one running request adds to a step, s."""
        return self.law.b_s + self.law.c_s * self.workload.context_tokens

    @cached_property
    def prompt_s(self) -> float:
        """Time the prompt of one request takes from decoding, s."""
        return self.law.p1_s * self.workload.prefill_tokens

    @cached_property
    def prompt_squared(self) -> float:
        """Mean square of the time that the prompt of one request takes from decoding, s^2."""
        return self.prompt_s**2 * (1 + self.workload.prompt_variation**2)

    @cached_property
    def floor_s(self) -> float:
        """ITL of a request that runs alone, s."""
        return self.law.a_s + self.decode_slope_s

    @cached_property
    def slope_s(self) -> float:
        """What one more running request adds to everyone's ITL, its share of prompts included, s."""
        return self.decode_slope_s + self.prompt_s / self.workload.output_tokens

    @cached_property
    def context_variation(self) -> float:
        """Variance of a running request's context over its mean squared."""
        prompt, context = self.workload.prompt_tokens, self.workload.context_tokens
        return ((prompt * self.workload.prompt_variation) ** 2 + (context - prompt) ** 2) / context**2

    @cached_property
    def weight_variation(self) -> float:
        """Variance of the step time that one running request adds, by its context, over its mean squared."""
        share = self.law.c_s * self.workload.context_tokens / self.decode_slope_s if self.decode_slope_s > 0 else 0.0
        return share * share * self.context_variation

    @cached_property
    def running_limit(self) -> float:
        """Most requests that can run in the long run: the scheduler's limit or what memory bears, at least 1."""
        room = self.law.kv_cache_tokens / self.workload.context_tokens
        low, high = 1.0, max(1.0, min(room, self.law.running_max))
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            fits = middle + COLLAPSE_DEVIATIONS * sqrt(self.contexts_variance(middle)) <= room
            low, high = (middle, high) if fits else (low, middle)
        return high

    def contexts_variance(self, running: Number) -> Number:
        """Variance of the sum of contexts, in units of one context, when so many requests run on average."""
        # N spreads more as the replica has less time left, 1 / free = 1 + N*slope / floor.
        return running * (self.burst * (1.0 + running * self.slope_s / self.floor_s) + self.context_variation)

    @cached_property
    def rate_unstable(self) -> float:
        """Arrival rate at which the queue of one replica grows without end, requests/s."""
        work = self.prompt_s + self.workload.output_tokens * self.decode_slope_s
        limit = self.running_limit
        full = self.workload.output_tokens * (self.law.a_s + self.decode_slope_s * limit) + limit * self.prompt_s
        return min(1.0 / work, limit / full) if work > 0 else limit / full

    @cached_property
    def prompt_width(self) -> float:
        """Spread of the logarithm of prompt lengths."""
        return max(WIDTH_MIN, sqrt(log(1 + self.workload.prompt_variation**2)))

    @cached_property
    def prompts_served(self) -> float:
        """Share of the lognormal of prompt lengths that `context_max` lets in."""
        ratio = log(self.context_max / self.workload.prompt_tokens)
        return max(1e-9, float(normal_share(np.array(ratio / self.prompt_width + self.prompt_width / 2))))

    @cached_property
    def answers(self) -> Floats:
        """Lengths of answers at `OUTPUT_QUANTILES`, tokens."""
        width = sqrt(log(1 + self.workload.output_variation**2))
        lengths = self.workload.output_tokens * np.exp(OUTPUT_QUANTILES * width - width * width / 2)
        return np.asarray(np.maximum(1.0, lengths))

    @cached_property
    def burst(self) -> float:
        """Index of dispersion of arrivals within a tick."""
        return 1.0 + BURST_SHARE * log(self.burstiness)


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """
    One replica at each rate.

    Args:
        rates: Arrival rates below `rate_unstable`, requests/s.
        itl_s: Mean inter-token latency.
        running: Mean requests decoding.
        step_s: Mean decode step without prompts in it.
        waits: Share of requests that wait for others before their prefill.
        wait_s: Mean wait of those, s; exponential.
        backlog_s: Time of prompts that a request meets at its start, beyond their usual share.
        slow: Variance of ITL from one instant to another, through N and the contexts of those that run, s^2.
        memory: How fast that variance averages out, per mean answer; the less time is left, the slower.
        lumps: Variance of the time of an answer by prompts that fall on it, per second of it, s.
        ceiling_s: ITL that not even a replica which prefills in every step exceeds.
    """

    rates: Floats
    itl_s: Floats
    running: Floats
    step_s: Floats
    waits: Floats
    wait_s: Floats
    backlog_s: Floats
    slow: Floats
    memory: Floats
    lumps: Floats
    ceiling_s: Floats


def state_at(service: Service, rates: Floats) -> State:
    """The replica at each of the rates, all below `rate_unstable`."""
    law, workload = service.law, service.workload
    prompts = rates * service.prompt_s
    decodes = 1 - prompts
    free = decodes - rates * workload.output_tokens * service.decode_slope_s
    itl = service.floor_s / free
    # A request starts to decode where its own prompt was in the queue: those behind it come first.
    backlog = prompts * _backlog(service, rates, itl)
    itl = (service.floor_s + backlog / workload.output_tokens) / free
    running = rates * workload.output_tokens * itl
    step = law.a_s * np.minimum(1.0, running) + service.decode_slope_s * running
    waits, wait = _wait(service, rates, itl, step)
    spread = _spread(service, prompts) / free
    return State(
        rates=rates,
        itl_s=itl,
        running=running,
        step_s=step,
        waits=waits,
        wait_s=wait,
        backlog_s=backlog / decodes,
        slow=(service.decode_slope_s / decodes) ** 2 * running * (spread + service.weight_variation),
        memory=free / decodes,
        # Prompts that arrive while an answer is written make it longer, so that more of them arrive.
        lumps=LUMPING * service.burst * rates * service.prompt_squared / (decodes * decodes),
        # Every step takes at most its budget of prompt tokens, beside a batch that is at its busiest.
        ceiling_s=service.floor_s
        + law.p1_s * service.batched_tokens_max
        + service.decode_slope_s * (running + 2 * np.sqrt(running * spread)),
    )


def _spread(service: Service, prompts: Floats) -> Floats:
    """
    Variance of N over its mean, in units of 1 / free: 1 for Poisson arrivals whose prompts take no time.

    Noise over pull: an arrival adds itself and those that do not leave while its prompt is computed; a departure takes
    one; what pulls N back is the time that is left.
    """
    decodes = 1 - prompts
    held = prompts / decodes
    added = (1 + held) ** 2 + (held * service.workload.prompt_variation) ** 2
    return np.asarray(decodes * (service.burst * added + 1) / 2)


def _backlog(service: Service, rates: Floats, itl: Floats) -> Floats:
    """Time between an arrival and its first token, s: so long prompts of others gather behind it."""
    running = rates * service.workload.output_tokens * itl
    busy = np.minimum(USED_MAX, rates * service.prompt_s)
    queue = service.burst * rates * service.prompt_squared / (2 * (1 - busy))
    return np.asarray(queue + service.prompt_s + service.law.a_s + service.decode_slope_s * running)


def _wait(service: Service, rates: Floats, itl: Floats, step: Floats) -> tuple[Floats, Floats]:
    """Share of requests that wait before their prefill, and for how long."""
    law, workload = service.law, service.workload
    idle = np.maximum(0.0, min(law.p0_s, law.a_s) - step)
    work = workload.prefill_tokens * (law.p1_s + step / service.batched_tokens_max) + idle
    squared = work * work * (1 + workload.prompt_variation**2)
    busy = np.minimum(USED_MAX, rates * work)
    # Prompts that arrive during a step share the next one, and all of them have their first token at its end.
    together = 1 + busy / (1 + busy)
    queue = together * service.burst * rates * squared / (2 * (1 - busy))
    limit = service.running_limit
    held = workload.output_tokens * itl + work
    used = np.minimum(USED_MAX, rates * held / limit)
    crowded = used ** (sqrt(2 * (limit + 1)) - 1)
    scatter = (service.burst + workload.output_variation**2) / 2
    slots = scatter * crowded / (limit * (1 - used)) * held
    room = law.kv_cache_tokens / workload.context_tokens
    running = rates * workload.output_tokens * itl
    deviations = (room - running) / np.sqrt(service.contexts_variance(np.maximum(running, 1e-9)))
    overflow = np.minimum(1.0, OVERFLOWS_PER_LIFE * normal_share(-deviations))
    waits = 1 - (1 - busy) * (1 - crowded) * (1 - overflow)
    return waits, (queue + slots + overflow * held / 2) / np.maximum(waits, 1e-12)


def attainment(service: Service, state: State) -> Floats:
    """Share of requests inside both targets."""
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
    """Share of requests whose first token comes within each bound; both of shape (rates, bounds)."""
    left = bounds_s - _before_prompt(service, state)[:, None]
    late = _prompt_share(service, state, left[:, :, None] - (state.wait_s[:, None] * WAIT_MEANS)[:, None, :])
    waits = state.waits[:, None]
    return np.asarray(waits * (late @ WAIT_WEIGHTS) + (1 - waits) * late[:, :, 0])


def itl_share(service: Service, state: State, bounds_s: Floats) -> Floats:
    """Share of requests whose mean ITL is within each bound; both of shape (rates, bounds)."""
    left = np.maximum(bounds_s - service.floor_s, 0.0)
    excess, width = _itl_excess(service, state)
    ratio = np.log(np.maximum(left, 1e-300)[:, :, None] / excess[:, None, :])
    share = normal_share(ratio / width[:, None, :] + width[:, None, :] / 2) @ OUTPUT_WEIGHTS
    return np.where(left <= 0, 0.0, np.where(bounds_s >= state.ceiling_s[:, None], 1.0, share))


def ttft_quantile(service: Service, state: State, level: float) -> Floats:
    """Time within which this share of requests has its first token."""
    before, mean = _before_prompt(service, state), _prompt_mean(service, state)
    width = service.prompt_width

    def own(share: float) -> Floats:
        return np.asarray(before + mean * np.exp(normal_quantile(share) * width - width * width / 2))

    # Neither prompt nor wait alone may be late more often than both, nor both more often than the two together.
    half = (1 + level) / 2
    waiting = state.wait_s * np.log(np.maximum(state.waits / (1 - half), 1.0))
    return _between(lambda t: ttft_share(service, state, t), level, own(level), own(half) + waiting)


def itl_quantile(service: Service, state: State, level: float) -> Floats:
    """Mean ITL that this share of requests does not exceed."""
    excess, width = _itl_excess(service, state)
    ends = excess * np.exp(normal_quantile(level) * width - width * width / 2)
    low, high = service.floor_s + ends.min(axis=1), service.floor_s + ends.max(axis=1)
    found = _between(lambda t: itl_share(service, state, t), level, low, high)
    return np.asarray(np.minimum(found, state.ceiling_s))


def _before_prompt(service: Service, state: State) -> Floats:
    """
    Time before the tokens of the own prompt count: half of a started step, and the fixed part of the next.

    What a prompt costs beyond an empty step is time outside of the engine: no step shortens it.
    """
    law = service.law
    outside = max(0.0, law.p0_s - law.a_s)
    return np.asarray(np.maximum(law.p0_s, state.step_s + outside) + state.step_s / 2)


def _prompt_mean(service: Service, state: State) -> Floats:
    return service.workload.prefill_tokens * (service.law.p1_s + state.step_s / service.batched_tokens_max)


def _prompt_share(service: Service, state: State, left_s: Floats) -> Floats:
    """Share of prompts computed within the time left, of shape (rates, ...); none is longer than `context_max`."""
    width = service.prompt_width
    ratio = np.log(np.maximum(left_s, 1e-300) / _prompt_mean(service, state)[:, None, None])
    share = normal_share(ratio / width + width / 2)
    if service.prompts_served < 1.0:
        share = np.minimum(1.0, share / service.prompts_served)
    return np.asarray(share)


def _itl_excess(service: Service, state: State) -> tuple[Floats, Floats]:
    """Mean of the excess over an undisturbed step by length of the answer, s, and the spread of its logarithm; both of
    shape (rates, nodes)."""
    answers = service.answers
    typical = state.itl_s - state.backlog_s / service.workload.output_tokens
    excess = np.maximum((typical - service.floor_s)[:, None] + state.backlog_s[:, None] / answers, 1e-12)
    # What moves slower than the answer is long is not averaged away.
    slow = state.slow[:, None] / (1 + state.memory[:, None] * answers / (3 * service.workload.output_tokens))
    lumps = state.lumps[:, None] * (service.floor_s + excess) / answers
    return excess, np.maximum(WIDTH_MIN, np.sqrt(np.log1p((slow + lumps) / (excess * excess))))


def _between(share: Callable[[Floats], Floats], level: float, low: Floats, high: Floats) -> Floats:
    """Where a rising share reaches the level, between two bounds of it: on a grid, then by straight line."""
    times = low[:, None] + (high - low)[:, None] * GRID
    shares = share(times)
    rows = np.arange(len(low))
    right = np.maximum(1, np.argmax(shares >= level, axis=1))
    left = right - 1
    rise = np.maximum(shares[rows, right] - shares[rows, left], 1e-12)
    part = np.clip((level - shares[rows, left]) / rise, 0.0, 1.0)
    return np.asarray(times[rows, left] + part * (times[rows, right] - times[rows, left]))
