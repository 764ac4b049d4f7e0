"""
How one replica serves a steady stream of requests: running requests, ITL and TTFT as distributions, attainment.

In:    a law, a request shape, the targets, an arrival rate and how bursty arrivals are.
Out:   an `OperatingPoint`; and the highest rate that keeps a share of requests inside both targets.

Decoding. A request that runs with N others takes a + (b + c*ctx)*(N + 1) per step; a share rate*p1*isl of the time goes
to prompts that share the steps. With Little's N = rate*osl*ITL this solves to

    ITL = (a + b + c*ctx) / (1 - rate*p1*isl - rate*osl*(b + c*ctx))

Per request it spreads: N moves while the request runs, and few prompts fall on a short answer, many on another.
The excess over an undisturbed step is taken as lognormal with mean and variance of the two.

First token. Prompts queue for the token budget of the steps (one server, general service times: Pollaczek-Khinchine,
scaled by the burstiness), and for a place in the batch where that is short (many servers: Sakasegawa). The wait has an
atom at 0 and an exponential tail; to it comes the prompt's own prefill, whose length is lognormal.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import erf, log, sqrt

from tidegate.domain.estimate import OperatingPoint
from tidegate.domain.law import PerformanceLaw, Workload

SQRT2 = sqrt(2.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """
    Everything about one replica but the rate.

    Args:
        law: Performance law.
        workload: Request shape.
        batched_tokens_max: Most tokens in one step.
        burstiness: Index of dispersion of arrivals at one replica, >= 1.
        ttft_s, itl_s: The targets.
    """

    law: PerformanceLaw
    workload: Workload
    batched_tokens_max: float
    burstiness: float
    ttft_s: float
    itl_s: float

    @property
    def decode_slope_s(self) -> float:
        """Decode work one running request adds to a step, s."""
        return self.law.b_s + self.law.c_s * self.workload.context_tokens

    @property
    def prefill_share(self) -> float:
        """Time the prompts of one request take from decoding, s."""
        return self.law.p1_s * self.workload.prefill_tokens

    @property
    def rate_unstable(self) -> float:
        """Arrival rate that one replica can not sustain however long the queue, requests/s."""
        work = self.prefill_share + self.workload.output_tokens * self.decode_slope_s
        limit = self.law.running_limit(self.workload)
        step = self.law.a_s + self.decode_slope_s * limit
        return min(1.0 / work, limit / (self.workload.output_tokens * step + limit * self.prefill_share))


# Quantile nodes: (probability at the node, weight), fine where a 99 % promise is decided.
WAIT_NODES = ((0.25, 0.5), (0.625, 0.25), (0.8125, 0.125), (0.91, 0.07), (0.965, 0.035), (0.99, 0.015), (0.998, 0.005))
OUTPUT_NODES = ((-1.96, 0.05), (-1.28, 0.1), (-0.76, 0.15), (-0.25, 0.2), (0.25, 0.2), (0.76, 0.15), (1.44, 0.15))


def operate(service: Service, rate_rps: float) -> OperatingPoint:
    """One replica at a steady rate, >= 0 and below `rate_unstable`."""
    law, workload = service.law, service.workload
    slope = service.decode_slope_s
    itl_mean = (law.a_s + slope) / (1 - rate_rps * (service.prefill_share + workload.output_tokens * slope))
    running = rate_rps * workload.output_tokens * itl_mean
    wait = _wait(service, rate_rps, running, itl_mean)
    spread = _itl_spread(service, rate_rps, running, itl_mean)
    attained = _ttft_share(service, wait, service.ttft_s) * _itl_share(service, spread, service.itl_s)
    return OperatingPoint(
        rate_rps=rate_rps,
        running=running,
        ttft_s_p95=_invert(lambda t: _ttft_share(service, wait, t), service.law.prefill_s(workload), 0.95),
        itl_s_p95=_invert(lambda t: _itl_share(service, spread, t), itl_mean, 0.95),
        attainment=attained,
    )


def attainment(service: Service, rate_rps: float) -> float:
    """Share of requests inside both targets at a rate; 0 from `rate_unstable` on."""
    if rate_rps >= service.rate_unstable:
        return 0.0
    law, workload = service.law, service.workload
    slope = service.decode_slope_s
    itl_mean = (law.a_s + slope) / (1 - rate_rps * (service.prefill_share + workload.output_tokens * slope))
    running = rate_rps * workload.output_tokens * itl_mean
    wait = _wait(service, rate_rps, running, itl_mean)
    spread = _itl_spread(service, rate_rps, running, itl_mean)
    return _ttft_share(service, wait, service.ttft_s) * _itl_share(service, spread, service.itl_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Time before the own prefill: 0 but for a share of requests, whose wait is exponential; and the decode step."""

    share: float
    mean_s: float
    step_s: float


def _wait(service: Service, rate_rps: float, running: float, itl_mean: float) -> Wait:
    law, workload = service.law, service.workload
    step = law.a_s * min(1.0, running) + service.decode_slope_s * running
    per_token = law.p1_s + step / service.batched_tokens_max
    work = workload.prefill_tokens * per_token + max(0.0, law.p0_s - step)
    squared = work * work * (1 + workload.prompt_variation**2)
    busy = min(0.999, rate_rps * work)
    queue = service.burstiness * rate_rps * squared / (2 * (1 - busy))
    limit = law.running_limit(workload)
    held = workload.output_tokens * itl_mean + work
    used = min(0.999, rate_rps * held / limit)
    crowded = used ** (sqrt(2 * (limit + 1)) - 1)
    slots = service.burstiness * (1 + workload.output_variation**2) / 2 * crowded / (limit * (1 - used)) * held
    share = 1 - (1 - busy) * (1 - crowded)
    mean = queue + slots
    return Wait(share=share, mean_s=mean / share if share > 0 else 0.0, step_s=step)


def _ttft_share(service: Service, wait: Wait, bound_s: float) -> float:
    """Share of requests whose first token comes within the bound."""
    own = _prompt_share(service, wait.step_s, bound_s)
    if wait.share <= 0:
        return own
    late = 0.0
    for probability, weight in WAIT_NODES:
        late += weight * _prompt_share(service, wait.step_s, bound_s + wait.mean_s * log(1 - probability))
    return (1 - wait.share) * own + wait.share * late


def _prompt_share(service: Service, step_s: float, bound_s: float) -> float:
    """Share of prompts whose own prefill takes no longer than the bound, a started step waited for."""
    law, workload = service.law, service.workload
    left = bound_s - max(law.p0_s, step_s) - step_s / 2
    if left <= 0:
        return 0.0
    per_token = law.p1_s + step_s / service.batched_tokens_max
    tokens = left / per_token / (1 - workload.prefix_hit)
    return _lognormal_share(tokens, workload.prompt_tokens, workload.prompt_variation)


def _itl_spread(service: Service, rate_rps: float, running: float, itl_mean: float) -> tuple[float, float, float]:
    """Floor of a request's ITL, and mean and one-token variance parts of its excess: (floor, mean, per token)."""
    law, workload = service.law, service.workload
    floor = law.a_s + service.decode_slope_s
    lump = law.p1_s**2 * workload.prefill_tokens**2 * (1 + workload.prompt_variation**2)
    per_token = service.burstiness * rate_rps * itl_mean * lump
    slow = (service.decode_slope_s**2) * running * service.burstiness
    return floor, max(itl_mean - floor, 1e-12), per_token / workload.output_tokens + 0.5 * slow


def _itl_share(service: Service, spread: tuple[float, float, float], bound_s: float) -> float:
    """Share of requests whose mean ITL is within the bound."""
    floor, mean, variance = spread
    if bound_s <= floor:
        return 0.0
    return _lognormal_share(bound_s - floor, mean, sqrt(variance) / mean)


def _lognormal_share(value: float, mean: float, variation: float) -> float:
    """Share of a lognormal with that mean and coefficient of variation at or below the value."""
    if variation <= 1e-6:
        return 1.0 if value >= mean else 0.0
    squared = log(1 + variation * variation)
    return 0.5 * (1 + erf((log(value / mean) + squared / 2) / sqrt(2 * squared)))


def _invert(share: Callable[[float], float], guess_s: float, level: float) -> float:
    """Smallest time at which the share reaches the level, to 1 %."""
    high = guess_s
    while share(high) < level and high < 1e4:
        high *= 1.5
    low = high / 1.5
    for _ in range(6):
        middle = (low + high) / 2
        if share(middle) < level:
            low = middle
        else:
            high = middle
    return high
