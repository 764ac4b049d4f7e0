"""
How a replica serves a steady stream of requests: running requests, queues, and how far both vary.

In:    a law, a request shape, the targets, burstiness, size and balance of the fleet; arrival rates.
Out:   `State`, for many rates at once: arrays have shape (rates,). `latency` derives distributions from it.

Decoding. A request that runs with N others takes a + (b + c*ctx)*(N + 1) per step; a share rate*p1*isl of the time goes
to prefill that shares the steps (isl: prompt tokens that are not in the prefix cache). With Little's N = rate*osl*ITL
this solves to

    ITL = (a + b + c*ctx) / (1 - rate*p1*isl - rate*osl*(b + c*ctx))

First token. Prompts queue for the token budget of the steps (one server, general service times: Pollaczek-Khinchine,
scaled by the burstiness), and for a place in the batch if that is limited (many servers: Sakasegawa).

Memory. The contexts of all running requests must fit into the KV cache. Their sum varies with N and with the lengths.
When it exceeds the cache, requests wait until there is room for their whole prompt, or are evicted and recomputed.

Fleet size. A router that picks the replica with the fewest requests averages out chance: N varies with the total of the
fleet, and prompts arrive at a replica at more regular intervals. So variations of N, clusters of prefills and waits are
divided by powers of the number of `pooled` replicas; the exponents are fitted to our simulator.

Bursts. The dispersion that the forecast measures comes mostly from the rate changing from minute to minute, which its
quantiles cover. Within a tick, arrivals of real services are close to Poisson: their index of dispersion is taken to be
1 + 0.12*ln(measured index).
"""

from dataclasses import dataclass
from functools import cached_property
from math import log, pow, sqrt
from typing import TypeVar

import numpy as np

from tidegate.domain.law import PerformanceLaw, Workload
from tidegate.domain.observation import ONE_TOKEN
from tidegate.estimate.normal import Floats, normal_share

Number = TypeVar("Number", float, Floats)

# Answer lengths: (normal quantile, weight). Nodes are densest for short answers, whose ITL scatters most.
_OUTPUT = ((-2.05, 0.04), (-1.48, 0.06), (-1.04, 0.1), (-0.52, 0.2), (0.0, 0.2), (0.52, 0.2), (1.28, 0.2))
OUTPUT_QUANTILES = np.array([z for z, _ in _OUTPUT])
OUTPUT_WEIGHTS = np.array([weight for _, weight in _OUTPUT])
# Six real and rebuilt traces have these indices of dispersion of counts per minute: 16 (Azure chat), 25, 12, 8000
# (ServeGen), 2 and 1; and of counts per second within 15 s: 1.1, 1.2, 1.8, 7.6, 1.0 and 1.1 (2026-11-21).
BURST_SHARE = 0.12
# Prompts that arrive during one step are computed together in the next, so prefills hit an answer in clusters. This is
# the factor on the variance.
LUMPING = 1.4
# Utilization at which queueing formulas are capped; there, waits are longer than any target.
USED_MAX = 0.999
# Memory to spare at the largest sustainable N, in standard deviations of the sum of contexts; and the factor from the
# probability that this sum exceeds the memory to the share of requests that are delayed by it. Fitted to the capacity
# of replicas short of memory in our simulator (8B to 70B, prompts of 500 to 100,000 tokens).
SPARE_DEVIATIONS = 0.3
OVERFLOWS_PER_LIFE = 2.0
HALVINGS = 14
# Exponents on the number of pooled replicas, by which variations are divided: for the variance of N, for the prefills
# that hit an answer, and for the wait. Fitted to the capacity of fleets of 1 to 8 replicas in our simulator
# (`benchmarks/service_model.py`).
SWING_EXPONENT, LUMPS_EXPONENT, WAIT_EXPONENT = 1.0, 0.75, 0.35
# Smallest standard deviation of a logarithm; below it a distribution counts as a step.
WIDTH_MIN = 1e-4


@dataclass(frozen=True, kw_only=True)
class Service:
    """
    One replica (engine) and its requests, except for their rate.

    Args:
        law: Performance law.
        workload: Request shape.
        batched_tokens_max: Most tokens in one step.
        context_max: Longest prompt that is accepted, tokens; infinity if nothing limits it.
        burstiness: Index of dispersion of arrivals as the forecast measures it, >= 1.
        ttft_s, itl_s: The targets, s.
        pooled: Replicas that serve the same requests, including this one, >= 1.
        evenness: How well the router balances load over them, in [0, 1]; 0: they are loaded independently.
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
        """Decode time that one running request adds to a step, s."""
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
        """Increase of the ITL per additional running request, including its share of prefill, s."""
        return self.law.itl_slope_s(self.workload)

    @cached_property
    def context_variation(self) -> float:
        """Squared coefficient of variation of a running request's context."""
        prompt, context = self.workload.prompt_tokens, self.workload.context_tokens
        return ((prompt * self.workload.prompt_variation) ** 2 + (context - prompt) ** 2) / context**2

    @cached_property
    def weight_variation(self) -> float:
        """Squared coefficient of variation of the step time that one running request adds, because of its context."""
        share = self.law.c_s * self.workload.context_tokens / self.decode_slope_s if self.decode_slope_s > 0 else 0.0
        return share * share * self.context_variation

    @cached_property
    def running_limit(self) -> float:
        """Largest sustainable N: the limit of the scheduler or what fits into memory, at least 1."""
        room = self.law.kv_cache_tokens / self.workload.context_tokens
        low, high = 1.0, max(1.0, min(room, self.law.running_max))
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            fits = middle + SPARE_DEVIATIONS * sqrt(self.contexts_variance(middle)) <= room
            low, high = (middle, high) if fits else (low, middle)
        return high

    def contexts_variance(self, running: Number) -> Number:
        """Variance of the sum of contexts, in units of the mean context squared, with N = `running` on average."""
        # The variance of N grows as less time is left: 1 / free = 1 + N*slope / floor.
        swing = self.burst * (1.0 + running * self.slope_s / self.floor_s) / self.pooling_divisor(SWING_EXPONENT)
        return running * (swing + self.context_variation)

    @cached_property
    def rate_unstable(self) -> float:
        """Arrival rate at which the queue of one replica grows without bound, requests/s."""
        work = self.prompt_s + self.workload.output_tokens * self.decode_slope_s
        limit = self.running_limit
        full = self.workload.output_tokens * (self.law.a_s + self.decode_slope_s * limit) + limit * self.prompt_s
        return min(1.0 / work, limit / full) if work > 0 else limit / full

    @cached_property
    def prompt_width(self) -> float:
        """Standard deviation of the logarithm of prompt lengths."""
        return max(WIDTH_MIN, sqrt(log(1 + self.workload.prompt_variation**2)))

    @cached_property
    def prompts_served(self) -> float:
        """Share of the lognormal distribution of prompt lengths up to `context_max`."""
        ratio = log(self.context_max / self.workload.prompt_tokens)
        return max(1e-9, float(normal_share(np.array(ratio / self.prompt_width + self.prompt_width / 2))))

    @cached_property
    def gaps(self) -> Floats:
        """Number of gaps between tokens for answers at `OUTPUT_QUANTILES`; 0 for an answer of one token."""
        if self.workload.output_tokens <= ONE_TOKEN:
            return np.zeros_like(OUTPUT_QUANTILES)
        width = sqrt(log(1 + self.workload.output_variation**2))
        lengths = self.workload.output_tokens * np.exp(OUTPUT_QUANTILES * width - width * width / 2)
        return np.asarray(np.maximum(0.0, np.round(lengths) - 1.0))

    @cached_property
    def pool_size(self) -> float:
        """Effective number of pooled replicas, given the balance of the router, >= 1."""
        return pow(self.pooled, self.evenness)

    def pooling_divisor(self, exponent: float) -> float:
        """Divisor, with this exponent, of a variation that is averaged over the fleet, >= 1."""
        return pow(self.pool_size, exponent)

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
        itl_s: Mean inter-token latency, s.
        running: Mean requests decoding.
        step_s: Mean decode step without prefill, s.
        waits: Share of requests that wait for others before their prefill.
        wait_s: Mean wait of those, s; exponential.
        backlog_s: Prefill time of prompts that queued behind a request when it starts decoding, s.
        slow: Variance of the ITL over time, from N and the contexts of the running requests, s^2.
        memory: Rate at which that variance averages out, per mean answer; slower when less time is left.
        lumps: Variance of the duration of an answer from prefills that hit it, per second of the answer, s.
        ceiling_s: Upper bound of the ITL, s: that of a replica with prefill in every step.
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
    # When a request starts decoding, the prompts that queued behind its own are prefilled.
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
        # Prefills during an answer make it last longer, so that more of them hit it.
        lumps=LUMPING
        * service.burst
        * rates
        * service.prompt_squared
        / (decodes * decodes * service.pooling_divisor(LUMPS_EXPONENT)),
        # A step computes at most its budget of prompts, next to a batch two standard deviations above the mean.
        ceiling_s=service.floor_s
        + law.p1_s * service.batched_tokens_max
        + service.decode_slope_s * (running + 2 * np.sqrt(running * spread)),
    )


def _spread(service: Service, prompts: Floats) -> Floats:
    """
    Variance of N over its mean, in units of 1 / free: 1 for Poisson arrivals whose prompts take no time.

    It is noise over restoring force. An arrival adds itself and the requests that cannot leave while its prompt is
    computed, a departure removes one; the restoring force is the time that is left.
    """
    decodes = 1 - prompts
    held = prompts / decodes
    added = (1 + held) ** 2 + (held * service.workload.prompt_variation) ** 2
    return np.asarray(decodes * (service.burst * added + 1) / (2 * service.pooling_divisor(SWING_EXPONENT)))


def _backlog(service: Service, rates: Floats, itl: Floats) -> Floats:
    """Time from arrival to first token, s: for this long, prompts of others queue behind the request."""
    running = rates * service.workload.output_tokens * itl
    busy = np.minimum(USED_MAX, rates * service.prompt_s)
    queue = service.burst * rates * service.prompt_squared / (2 * (1 - busy)) / service.pooling_divisor(WAIT_EXPONENT)
    return np.asarray(queue + service.prompt_s + service.law.a_s + service.decode_slope_s * running)


def _wait(service: Service, rates: Floats, itl: Floats, step: Floats) -> tuple[Floats, Floats]:
    """Share of requests that wait before their prefill, and their mean wait, s."""
    law, workload = service.law, service.workload
    idle = np.maximum(0.0, min(law.p0_s, law.a_s) - step)
    work = workload.prefill_tokens * (law.p1_s + step / service.batched_tokens_max) + idle
    squared = work * work * (1 + workload.prompt_variation**2)
    busy = np.minimum(USED_MAX, rates * work)
    # Prompts that arrive during one step share the next one, and all get their first token at its end.
    together = 1 + busy / (1 + busy)
    queue = together * service.burst * rates * squared / (2 * (1 - busy)) / service.pooling_divisor(WAIT_EXPONENT)
    limit = service.running_limit
    held = workload.output_tokens * itl + work
    used = np.minimum(USED_MAX, rates * held / limit)
    places = limit * service.pool_size
    crowded = used ** (sqrt(2 * (places + 1)) - 1)
    scatter = (service.burst + workload.output_variation**2) / 2
    slots = scatter * crowded / (places * (1 - used)) * held
    room = law.kv_cache_tokens / workload.context_tokens
    running = rates * workload.output_tokens * itl
    deviations = (room - running) / np.sqrt(service.contexts_variance(np.maximum(running, 1e-9)))
    overflow = np.minimum(1.0, OVERFLOWS_PER_LIFE * normal_share(-deviations))
    waits = 1 - (1 - busy) * (1 - crowded) * (1 - overflow)
    return waits, (queue + slots + overflow * held / 2) / np.maximum(waits, 1e-12)
