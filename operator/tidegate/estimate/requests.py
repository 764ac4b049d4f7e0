"""
The requests that estimates are made for: the expected ones, rounded to steps with hysteresis.

In:    the expected request shape, burstiness and router balance; the previous steps.
Out:   `Requests`, the same object if nothing has moved far enough; and the `Workload` for these steps.

Because of the steps, what was computed for a shape can be reused. But a mean at the edge of two steps would move every
capacity back and forth by 3 to 7 %, and the fleet with it. So a step is kept until the value is three quarters of a
step away.
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
# A step is kept while the value is within this share of a step; plain rounding would change it at 0.5.
HELD = 0.75
# Largest share of a prompt that is assumed to be in the prefix cache.
HIT_MAX = 0.95


class Requests(NamedTuple):
    """
    The expected requests in whole steps.

    Args:
        prompt, output: Logarithm of the mean lengths, in units of `TOKENS_STEP`.
        prompt_variation, output_variation: Coefficients of variation of the lengths, in units of `VARIATION_STEP`.
        burst: Logarithm of the index of dispersion of arrivals, in units of `BURST_STEP`.
        even: Router balance (`balance.evenness_of`), in units of `EVENNESS_STEP`.
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
        """Router balance, in [0, 1]: 0 for a random router, 1 for a perfect one."""
        return self.even * EVENNESS_STEP

    def to_json(self) -> list[int]:
        """Plain JSON values."""
        return list(self)

    @classmethod
    def from_json(cls, value: Iterable[int]) -> "Requests":
        """The inverse of `to_json`. Raises TypeError or ValueError if the value is damaged."""
        return cls(*map(int, value))


def held(step: int | None, exact: float) -> int:
    """The previous step if the value (in steps) is close enough to it, else the nearest one."""
    return step if step is not None and abs(exact - step) <= HELD else round(exact)


def expected(before: Requests | None, *, workload: Workload, burstiness: float, evenness: float) -> Requests:
    """
    The current steps; the same object if none of them has changed.

    Args:
        before: Those of the last tick; None: there were none.
        workload: Expected request shape; its `prefix_hit` is ignored, since each tier has its own.
        burstiness: Index of dispersion of arrivals; below 1 it counts as 1.
        evenness: Router balance, in [0, 1].
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
    """Logarithm of the share of prompt tokens that must be computed, in units of `COMPUTED_STEP`."""
    return held(before, log(1.0 - min(HIT_MAX, prefix_hit)) / COMPUTED_STEP)


@lru_cache(maxsize=16384)
def workload_of(requests: Requests, computed: int) -> Workload:
    """The request shape for these steps; `computed` is a result of `computed_step`."""
    return Workload(
        prompt_tokens=exp(requests.prompt * TOKENS_STEP),
        output_tokens=exp(requests.output * TOKENS_STEP),
        prefix_hit=1.0 - exp(computed * COMPUTED_STEP),
        prompt_variation=requests.prompt_variation * VARIATION_STEP,
        output_variation=requests.output_variation * VARIATION_STEP,
    )
