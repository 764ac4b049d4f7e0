"""
How one replica serves a steady stream of requests: running requests, ITL and TTFT as distributions, attainment.

In:    a law, a request shape, the targets, an arrival rate and how bursty arrivals are.
Out:   an `OperatingPoint`; and the highest rate that keeps a share of requests inside both targets.

Decoding. A request that runs with N others takes a + (b + c*ctx)*(N + 1) per step; a share rate*p1*isl of the time goes
to prompts that share the steps. With Little's N = rate*osl*ITL this solves to

    ITL = (a + b + c*ctx) / (1 - rate*p1*isl - rate*osl*(b + c*ctx))

Per request it spreads: N moves while the request runs, and few prompts fall on a short answer, many on another. The
excess over an undisturbed step is taken as lognormal with the mean and the variance of the two, over the lengths of
answers.

First token. Prompts queue for the token budget of the steps (one server, general service times: Pollaczek-Khinchine,
scaled by the burstiness), and for a place in the batch where that is short (many servers: Sakasegawa). The wait has an
atom at 0 and an exponential tail; to it comes the prompt's own prefill, whose length is lognormal.

Bursts. Arrivals are given an index of dispersion over one tick. A queue that forgets within tau sees the part of it that
happens within tau, and what lasts longer than a tick is the forecast's business: 1 + ln(index) * min(1, tau / tick).
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import erf, exp, log, sqrt

from tidegate.domain.estimate import OperatingPoint
from tidegate.domain.law import PerformanceLaw, Workload
from tidegate.units import TICK_S

# The wait beyond its atom: (its length in means at the node, weight); fine where a 99 % promise is decided.
WAIT_NODES = tuple(
    (-log(1 - probability), weight)
    for probability, weight in (
        (0.25, 0.5), (0.625, 0.25), (0.8125, 0.125), (0.91, 0.07), (0.965, 0.035), (0.99, 0.015), (0.998, 0.005)
    )
)  # fmt: skip
# Lengths of answers: (normal quantile, weight); short answers spread most, so they are looked at closer.
OUTPUT_NODES = ((-2.05, 0.04), (-1.48, 0.06), (-1.04, 0.1), (-0.52, 0.2), (0.0, 0.2), (0.52, 0.2), (1.28, 0.2))
# A queue is taken to be stable up to this share of its capacity; beyond it waits are longer than any target.
USED_MAX = 0.999


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """
    Everything about one replica but the rate.

    Args:
        law: Performance law.
        workload: Request shape.
        batched_tokens_max: Most tokens in one step.
        burstiness: Index of dispersion of arrivals over one tick, >= 1.
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
    def prompt_s(self) -> float:
        """Time the prompt of one request takes from decoding, s."""
        return self.law.p1_s * self.workload.prefill_tokens

    @property
    def rate_unstable(self) -> float:
        """Arrival rate at which the queue of one replica grows without end, requests/s."""
        work = self.prompt_s + self.workload.output_tokens * self.decode_slope_s
        limit = self.law.running_limit(self.workload)
        full = self.workload.output_tokens * (self.law.a_s + self.decode_slope_s * limit) + limit * self.prompt_s
        return min(1.0 / work if work > 0 else limit / full, limit / full)

    def dispersion(self, tau_s: float) -> float:
        """Index of dispersion of arrivals as a queue with this memory sees it."""
        return 1.0 + log(self.burstiness) * min(1.0, tau_s / TICK_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Time before the own prefill: 0 but for a share of requests, whose wait is exponential; and the decode step."""

    share: float
    mean_s: float
    step_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """
    Distribution of a request's mean ITL.

    Args:
        floor_s: ITL of a request alone.
        excess_s: Mean of what comes on top.
        slow: Variance of the excess that the answer's length does not average away, s^2.
        lumps: Variance that falls with the number of output tokens, s^2 * token.
        ceiling_s: What not even a replica that prefills in every step exceeds.
    """

    floor_s: float
    excess_s: float
    slow: float
    lumps: float
    ceiling_s: float


def operate(service: Service, rate_rps: float) -> OperatingPoint:
    """One replica at a steady rate, >= 0 and below `rate_unstable`."""
    wait, spread = distributions(service, rate_rps)
    itl_mean = spread.floor_s + spread.excess_s
    return OperatingPoint(
        rate_rps=rate_rps,
        running=rate_rps * service.workload.output_tokens * itl_mean,
        ttft_s_p95=quantile(lambda t: ttft_share(service, wait, t), 0.95, service.law.prefill_s(service.workload)),
        itl_s_p95=quantile(lambda t: itl_share(service, spread, t), 0.95, itl_mean),
        attainment=ttft_share(service, wait, service.ttft_s) * itl_share(service, spread, service.itl_s),
    )


def attainment(service: Service, rate_rps: float) -> float:
    """Share of requests inside both targets at a rate; 0 from `rate_unstable` on."""
    if rate_rps >= service.rate_unstable:
        return 0.0
    wait, spread = distributions(service, rate_rps)
    return ttft_share(service, wait, service.ttft_s) * itl_share(service, spread, service.itl_s)


def distributions(service: Service, rate_rps: float) -> tuple[Wait, Spread]:
    """Wait of a request before its prefill, and spread of its ITL, at a rate below `rate_unstable`."""
    law, workload = service.law, service.workload
    floor = law.a_s + service.decode_slope_s
    itl_mean = floor / (1 - rate_rps * (service.prompt_s + workload.output_tokens * service.decode_slope_s))
    running = rate_rps * workload.output_tokens * itl_mean
    return _wait(service, rate_rps, running, itl_mean), _spread(service, rate_rps, running, itl_mean)


def _wait(service: Service, rate_rps: float, running: float, itl_mean: float) -> Wait:
    law, workload = service.law, service.workload
    step = law.a_s * min(1.0, running) + service.decode_slope_s * running
    work = workload.prefill_tokens * (law.p1_s + step / service.batched_tokens_max) + max(0.0, law.p0_s - step)
    squared = work * work * (1 + workload.prompt_variation**2)
    busy = min(USED_MAX, rate_rps * work)
    queue = service.dispersion(work / (1 - busy) ** 2) * rate_rps * squared / (2 * (1 - busy))
    limit = law.running_limit(workload)
    held = workload.output_tokens * itl_mean + work
    used = min(USED_MAX, rate_rps * held / limit)
    crowded = used ** (sqrt(2 * (limit + 1)) - 1)
    scatter = (service.dispersion(held) + workload.output_variation**2) / 2
    slots = scatter * crowded / (limit * (1 - used)) * held
    share = 1 - (1 - busy) * (1 - crowded)
    return Wait(share=share, mean_s=(queue + slots) / share if share > 0 else 0.0, step_s=step)


def _spread(service: Service, rate_rps: float, running: float, itl_mean: float) -> Spread:
    law, workload = service.law, service.workload
    floor = law.a_s + service.decode_slope_s
    free = floor / itl_mean
    slope = service.decode_slope_s + service.prompt_s / workload.output_tokens
    burst = service.dispersion(workload.output_tokens * itl_mean)
    prompt_squared = service.prompt_s**2 * (1 + workload.prompt_variation**2)
    return Spread(
        floor_s=floor,
        excess_s=itl_mean - floor,
        # Each step that is longer lets more requests in: fluctuations of N grow as the replica has less time left. N is
        # averaged over the time that the request runs, about as long as N remembers: half of its variance stays.
        slow=slope**2 * running * burst / free / 2,
        # Prompts that arrive while an answer is written make it longer, so that more of them arrive.
        lumps=burst * rate_rps * itl_mean * prompt_squared / free**2,
        # Every step takes at most its budget of prompt tokens, beside a batch that is at its busiest.
        ceiling_s=floor
        + law.p1_s * service.batched_tokens_max
        + service.decode_slope_s * (running + 2 * sqrt(running * burst / free)),
    )


def ttft_share(service: Service, wait: Wait, bound_s: float) -> float:
    """Share of requests whose first token comes within the bound."""
    share = (1 - wait.share) * _prompt_share(service, wait.step_s, bound_s)
    if wait.share <= 0:
        return share
    for means, weight in WAIT_NODES:
        share += wait.share * weight * _prompt_share(service, wait.step_s, bound_s - wait.mean_s * means)
    return share


def _prompt_share(service: Service, step_s: float, bound_s: float) -> float:
    """Share of prompts whose own prefill takes no longer than the bound, a started step waited for."""
    law, workload = service.law, service.workload
    left = bound_s - max(law.p0_s, step_s) - step_s / 2
    if left <= 0:
        return 0.0
    per_token = (law.p1_s + step_s / service.batched_tokens_max) * (1 - workload.prefix_hit)
    return _lognormal_share(left, workload.prompt_tokens * per_token, workload.prompt_variation)


def itl_share(service: Service, spread: Spread, bound_s: float) -> float:
    """Share of requests whose mean ITL is within the bound."""
    left = bound_s - spread.floor_s
    if left <= 0:
        return 0.0
    if spread.excess_s <= 0 or bound_s >= spread.ceiling_s:
        return 1.0
    workload = service.workload
    width = sqrt(log(1 + workload.output_variation**2))
    share = 0.0
    for z, weight in OUTPUT_NODES:
        tokens = max(1.0, workload.output_tokens * exp(z * width - width * width / 2))
        deviation = sqrt(spread.slow + spread.lumps / tokens)
        share += weight * _lognormal_share(left, spread.excess_s, deviation / spread.excess_s)
    return share


def _lognormal_share(value: float, mean: float, variation: float) -> float:
    """Share of a lognormal with that mean and coefficient of variation at or below the value."""
    if mean <= 0:
        return 1.0
    if variation <= 1e-6:
        return 1.0 if value >= mean else 0.0
    squared = log(1 + variation * variation)
    return 0.5 * (1 + erf((log(value / mean) + squared / 2) / sqrt(2 * squared)))


def quantile(share: Callable[[float], float], level: float, guess_s: float) -> float:
    """Time at which a share reaches the level, to about 1 %; `guess_s` is above 0."""
    low, high = 0.0, guess_s
    while share(high) < level and high < QUANTILE_MAX_S:
        low, high = high, high * 1.5
    for _ in range(6):
        middle = (low + high) / 2
        if share(middle) < level:
            low = middle
        else:
            high = middle
    return high


# No target is longer than this; a quantile beyond it is "never".
QUANTILE_MAX_S = 3600.0
