"""
The requests that estimates are made for: those expected, in steps that chance does not move to and fro.

In:    the expected request shape, how bursty arrivals are, how evenly a router loads replicas; the steps of before.
Out:   `Requests`, the same where nothing has moved far enough; and the `Workload` at these steps.

A shape in steps is a shape that stands still, so what was computed for it is kept. But a mean that hovers at the edge
between two steps would take every capacity with it, to and fro by 3 to 7 %, and the fleet after them. So a step holds
until the value is three quarters of a step away.
"""

from collections.abc import Iterable
from functools import lru_cache
from math import exp, log
from typing import NamedTuple

from tidegate.domain.law import Workload

TOKENS_STEP = log(1.05)
COMPUTED_STEP = log(1.06)
VARIATION_STEP = 0.1
BURST_STEP = log(1.5)
EVENNESS_STEP = 0.1
# A step is left for a value further away than this share of a step; halfway lies the edge to the next one.
HELD = 0.75
# No more of a prompt is taken to be in the cache.
HIT_MAX = 0.95


class Requests(NamedTuple):
    """
    Whole steps of what is expected.

    Args:
        prompt, output: Mean lengths, in `TOKENS_STEP` of their logarithm.
        prompt_variation, output_variation: Coefficients of variation of the lengths, in `VARIATION_STEP`.
        burst: Index of dispersion of arrivals, in `BURST_STEP` of its logarithm.
        even: How far a router evens out the load over replicas, in `EVENNESS_STEP`.
    """

    prompt: int
    output: int
    prompt_variation: int
    output_variation: int
    burst: int
    even: int

    @property
    def burstiness(self) -> float:
        """Index of dispersion of arrivals, >= 1."""
        return exp(self.burst * BURST_STEP)

    @property
    def evenness(self) -> float:
        """How far a router evens out the load over replicas, in [0, 1]."""
        return self.even * EVENNESS_STEP

    def to_json(self) -> list[int]:
        """Plain JSON values."""
        return list(self)

    @classmethod
    def from_json(cls, value: Iterable[int]) -> "Requests":
        """The inverse of `to_json`; TypeError or ValueError where it is none."""
        return cls(*map(int, value))


def held(step: int | None, exact: float) -> int:
    """The step of before, or the nearest one where the value (in steps) has left it, or there was none."""
    return step if step is not None and abs(exact - step) <= HELD else round(exact)


def expected(before: Requests | None, *, workload: Workload, burstiness: float, evenness: float) -> Requests:
    """
    The steps of now; the same object where all of them are held.

    Args:
        before: Those of the last tick; None: there were none.
        workload: Expected request shape; its `prefix_hit` is not looked at: each tier has its own.
        burstiness: Index of dispersion of arrivals; below 1 it counts as 1.
        evenness: In [0, 1].
    """
    exact = (
        log(workload.prompt_tokens) / TOKENS_STEP,
        log(workload.output_tokens) / TOKENS_STEP,
        workload.prompt_variation / VARIATION_STEP,
        workload.output_variation / VARIATION_STEP,
        log(max(1.0, burstiness)) / BURST_STEP,
        evenness / EVENNESS_STEP,
    )
    steps = before if before is not None else [None] * len(exact)
    now = Requests(*map(held, steps, exact))
    return before if before == now else now


def computed_step(before: int | None, prefix_hit: float) -> int:
    """The share of prompt tokens that has to be computed, in `COMPUTED_STEP` of its logarithm."""
    return held(before, log(1.0 - min(HIT_MAX, prefix_hit)) / COMPUTED_STEP)


@lru_cache(maxsize=16384)
def workload_of(requests: Requests, computed: int) -> Workload:
    """The request shape at these steps; `computed` as of `computed_step`."""
    return Workload(
        prompt_tokens=exp(requests.prompt * TOKENS_STEP),
        output_tokens=exp(requests.output * TOKENS_STEP),
        prefix_hit=1.0 - exp(computed * COMPUTED_STEP),
        prompt_variation=requests.prompt_variation * VARIATION_STEP,
        output_variation=requests.output_variation * VARIATION_STEP,
    )
