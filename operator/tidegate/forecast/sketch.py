"""
How wrong the forecast was: a histogram of observed errors that forgets over days, and its quantiles.

The bins grow with the error (x = A*sinh(B*k)), 0.6 % wide at zero and a third of the ratio at the ends: steady load
gets tight quantiles and a surge of 60 times has a bin.

A sample weighs 16. When a histogram is full, every bin loses a sixteenth, at least 1: a single surge is gone after
sixteen such losses, two to three days at the short horizons. Whole numbers, so that a restart changes nothing.
"""

import math
from bisect import bisect_left
from itertools import accumulate

WIDTH = 0.02
GROWTH = 0.3
BIN_LOW = -18  # -2.2: a ninth of what was expected
BIN_HIGH = 20  # 4.0: 56 times
BINS = BIN_HIGH - BIN_LOW + 1
SAMPLE_WEIGHT = 16
# 2,500 samples: two to three days of the short horizons, a week of the longest.
TOTAL_MAX = 2_500 * SAMPLE_WEIGHT

Sketch = tuple[int, ...]


def _edge(k: float) -> float:
    return WIDTH * math.sinh(GROWTH * k)


# Lower edge of each bin, and the upper edge of the last one; shape (BINS + 1,).
EDGES = tuple(_edge(BIN_LOW + i - 0.5) for i in range(BINS + 1))


def place_of(error: float) -> float:
    """Where an error lies between the middles of the bins, in [0, BINS - 1]; the ends take everything beyond them."""
    place = math.asinh(error / WIDTH) / GROWTH - BIN_LOW
    return min(max(place, 0.0), BINS - 1.0)


def add(sketch: Sketch, error: float) -> Sketch:
    """The histogram with one more error, shared by the two bins it lies between so that no edge makes a jump."""
    bins = list(sketch)
    place = place_of(error)
    index = int(place)
    upper = round((place - index) * SAMPLE_WEIGHT)
    bins[index] += SAMPLE_WEIGHT - upper
    if upper:
        bins[index + 1] += upper
    if sum(bins) > TOTAL_MAX:
        bins = [n - (n + 15) // 16 for n in bins]
    return tuple(bins)


def prior(spread: float, *, samples: float) -> Sketch:
    """
    What is believed before anything was seen: errors around 0 with heavy tails.

    Half of the weight is Laplace with scale `spread`, half has three times that scale: surges are rare but large.

    Args:
        spread: Scale of the error, > 0.
        samples: Weight of the whole, in samples; after twice as many real ones it hardly counts.
    """

    def below(x: float, scale: float) -> float:
        return 0.5 * math.exp(x / scale) if x < 0 else 1 - 0.5 * math.exp(-x / scale)

    def share(low: float, high: float) -> float:
        return sum(0.5 * (below(high, scale) - below(low, scale)) for scale in (spread, 3 * spread))

    return tuple(round(samples * SAMPLE_WEIGHT * share(EDGES[i], EDGES[i + 1])) for i in range(BINS))


def quantiles(sketch: Sketch, levels: tuple[float, ...]) -> list[float]:
    """
    Errors at rising levels, straight line inside a bin.

    Args:
        sketch: Not empty.
        levels: Rising, in (0, 1); shape (levels,).

    Returns:
        Errors, not falling; shape (levels,).
    """
    sums = list(accumulate(sketch))
    total = sums[-1]
    assert total > 0, "an empty histogram has no quantiles"
    found, index = [], 0
    for level in levels:
        rank = level * total
        index = bisect_left(sums, rank, index)
        inside = 1.0 - (sums[index] - rank) / sketch[index]
        low = EDGES[index]
        found.append(low + (EDGES[index + 1] - low) * inside)
    return found
