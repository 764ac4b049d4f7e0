"""
How wrong the forecast was: a histogram of observed errors that forgets over days, and its quantiles.

An error is `x = log((seen + s) / (expected + s))`: relative, so that it scales with the load; `s` is a small share of
the usual load, so that a burst out of silence has an error too. The bins grow with the error (x = A*sinh(B*k)), 0.6 %
wide at zero and a third of the ratio at the ends: steady load gets tight quantiles and a surge of 60 times has a bin.

A sample weighs 16. When a histogram is full, every bin loses a sixteenth, at least 1: a single surge is gone after
sixteen such losses, about two days where a sample comes each minute. Integers, so that a restart changes nothing.
"""

import math

WIDTH = 0.02
GROWTH = 0.3
BIN_LOW = -18  # x = -2.2: a ninth of what was expected
BIN_HIGH = 20  # x = 4.2: 56 times
BINS = BIN_HIGH - BIN_LOW + 1
SAMPLE_WEIGHT = 16
# 3,000 samples: two days of the shortest horizons, a week of the longest.
TOTAL_MAX = 3_000 * SAMPLE_WEIGHT

Sketch = tuple[int, ...]


def _edge(k: float) -> float:
    return WIDTH * math.sinh(GROWTH * k)


# Lower edge of each bin, and the upper edge of the last one; shape (BINS + 1,).
EDGES = tuple(_edge(BIN_LOW + i - 0.5) for i in range(BINS + 1))


def bin_of(error: float) -> int:
    """Index of the bin an error falls into; the ends take everything beyond them."""
    k = round(math.asinh(error / WIDTH) / GROWTH) - BIN_LOW
    return 0 if k < 0 else min(k, BINS - 1)


def add(sketch: Sketch, error: float) -> Sketch:
    """The histogram with one more error."""
    bins = list(sketch)
    bins[bin_of(error)] += SAMPLE_WEIGHT
    if sum(bins) > TOTAL_MAX:
        bins = [n - (n + 15) // 16 for n in bins]
    return tuple(bins)


def prior(spread: float, *, samples: float) -> Sketch:
    """
    What is believed before anything was seen: errors around 0, each tail falling off by a power of the ratio.

    Half of the weight is Laplace with scale `spread`, half has four times that scale: surges are rare but large.

    Args:
        spread: Scale of the error, > 0; 0.2 is about +-20 %.
        samples: Weight of the whole, in samples; after twice as many real ones it hardly counts.
    """

    def below(x: float, scale: float) -> float:
        return 0.5 * math.exp(x / scale) if x < 0 else 1 - 0.5 * math.exp(-x / scale)

    def share(low: float, high: float) -> float:
        return sum(0.5 * (below(high, scale) - below(low, scale)) for scale in (spread, 4 * spread))

    return tuple(round(samples * SAMPLE_WEIGHT * share(EDGES[i], EDGES[i + 1])) for i in range(BINS))


def quantiles(sketch: Sketch, levels: tuple[float, ...]) -> tuple[float, ...]:
    """
    Errors at rising levels, straight line inside a bin.

    Args:
        sketch: Not empty.
        levels: Rising, in (0, 1); shape (levels,).

    Returns:
        Errors, not falling; shape (levels,).
    """
    total = sum(sketch)
    assert total > 0, "an empty histogram has no quantiles"
    found = []
    index, before = 0, 0
    for level in levels:
        rank = level * total
        while index < BINS - 1 and before + sketch[index] < rank:
            before += sketch[index]
            index += 1
        inside = min((rank - before) / sketch[index], 1.0) if sketch[index] else 1.0
        found.append(EDGES[index] + (EDGES[index + 1] - EDGES[index]) * inside)
    return tuple(found)
