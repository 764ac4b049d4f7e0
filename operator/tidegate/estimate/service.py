"""
How a replica serves a steady stream of requests: running requests, queues, and how far both swing.

In:    a law, a request shape, the targets, how bursty arrivals are, and what company it has; arrival rates.
Out:   `State`, for many rates at once: arrays are of shape (rates,). `latency` makes distributions of it.

Decoding. A request that runs with N others takes a + (b + c*ctx)*(N + 1) per step; a share rate*p1*isl of the time goes
to prompts that share the steps. With Little's N = rate*osl*ITL this solves to

    ITL = (a + b + c*ctx) / (1 - rate*p1*isl - rate*osl*(b + c*ctx))

First token. Prompts queue for the token budget of the steps (one server, general service times: Pollaczek-Khinchine,
scaled by the burstiness), and for a place in the batch where that is short (many servers: Sakasegawa).

Memory. Contexts of running requests have to fit into the KV cache together. Their sum moves with N and with the
lengths; where it runs over, requests wait until their whole prompt finds room, or are thrown out and computed again.

Company. A router that picks the replica with the fewest requests evens out chance: N moves with the whole fleet's
number, not with its own luck, and prompts come to a replica at longer and more even distances. `pooled` replicas share
what would be swings, heaps and queues of one; the exponents are fitted to our simulator.

Bursts. What the forecast measures as dispersion is mostly the rate that moves from minute to minute, and its quantiles
are for that. Given the rate of a tick, arrivals of real services are close to Poisson: 1 + 0.12*ln(index).
"""

from dataclasses import dataclass
from functools import cached_property
from math import log, pow, sqrt
from typing import TypeVar

import numpy as np

from tidegate.domain.law import PerformanceLaw, Workload
from tidegate.estimate.normal import Floats, normal_share

Number = TypeVar("Number", float, Floats)

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
# Memory that is to spare at the most that can run in the long run (standard deviations of the sum of contexts), and how
# often as long as N remembers a request is in the way of memory that runs over. Fitted to knees of replicas short of
# memory in our simulator (8B to 70B, prompts of 500 to 100,000 tokens).
SPARE_DEVIATIONS = 0.3
OVERFLOWS_PER_LIFE = 2.0
HALVINGS = 14
# How much of one replica's luck is shared with those it is pooled with: exponents on their number, for the swing of N,
# for the prompts that fall on an answer, and for the wait. Fitted to the knees of fleets of 1 to 8 replicas in our
# simulator (`benchmarks/service_model.py`).
SWING_SHARED, LUMPS_SHARED, WAIT_SHARED = 1.0, 0.75, 0.35
# Smallest spread of a logarithm: below it a distribution is a step.
WIDTH_MIN = 1e-4


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
        pooled: Replicas that serve the same requests, this one included, >= 1.
        evenness: How far a router evens out the load over them, in [0, 1]; 0: each has its own luck.
    """

    law: PerformanceLaw
    workload: Workload
    batched_tokens_max: float
    context_max: float
    burstiness: float
    ttft_s: float
    itl_s: float
    pooled: float = 1.0
    evenness: float = 0.0

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
        return self.law.itl_slope_s(self.workload)

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
            fits = middle + SPARE_DEVIATIONS * sqrt(self.contexts_variance(middle)) <= room
            low, high = (middle, high) if fits else (low, middle)
        return high

    def contexts_variance(self, running: Number) -> Number:
        """Variance of the sum of contexts, in units of one context, when so many requests run on average."""
        # N spreads more as the replica has less time left, 1 / free = 1 + N*slope / floor.
        swing = self.burst * (1.0 + running * self.slope_s / self.floor_s) / self.company_of(SWING_SHARED)
        return running * (swing + self.context_variation)

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
    def gaps(self) -> Floats:
        """Gaps between the tokens of an answer at `OUTPUT_QUANTILES`; an answer of one token has none."""
        width = sqrt(log(1 + self.workload.output_variation**2))
        lengths = self.workload.output_tokens * np.exp(OUTPUT_QUANTILES * width - width * width / 2)
        return np.asarray(np.maximum(0.0, np.round(lengths) - 1.0))

    @cached_property
    def company(self) -> float:
        """Replicas that share their luck, >= 1."""
        return pow(self.pooled, self.evenness)

    def company_of(self, exponent: float) -> float:
        """What company divides something by that it shares with this exponent, >= 1."""
        return pow(self.company, exponent)

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
        lumps=LUMPING
        * service.burst
        * rates
        * service.prompt_squared
        / (decodes * decodes * service.company_of(LUMPS_SHARED)),
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
    return np.asarray(decodes * (service.burst * added + 1) / (2 * service.company_of(SWING_SHARED)))


def _backlog(service: Service, rates: Floats, itl: Floats) -> Floats:
    """Time between an arrival and its first token, s: so long prompts of others gather behind it."""
    running = rates * service.workload.output_tokens * itl
    busy = np.minimum(USED_MAX, rates * service.prompt_s)
    queue = service.burst * rates * service.prompt_squared / (2 * (1 - busy)) / service.company_of(WAIT_SHARED)
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
    queue = together * service.burst * rates * squared / (2 * (1 - busy)) / service.company_of(WAIT_SHARED)
    limit = service.running_limit
    held = workload.output_tokens * itl + work
    used = np.minimum(USED_MAX, rates * held / limit)
    places = limit * service.company
    crowded = used ** (sqrt(2 * (places + 1)) - 1)
    scatter = (service.burst + workload.output_variation**2) / 2
    slots = scatter * crowded / (places * (1 - used)) * held
    room = law.kv_cache_tokens / workload.context_tokens
    running = rates * workload.output_tokens * itl
    deviations = (room - running) / np.sqrt(service.contexts_variance(np.maximum(running, 1e-9)))
    overflow = np.minimum(1.0, OVERFLOWS_PER_LIFE * normal_share(-deviations))
    waits = 1 - (1 - busy) * (1 - crowded) * (1 - overflow)
    return waits, (queue + slots + overflow * held / 2) / np.maximum(waits, 1e-12)
