"""
A histogram of observed forecast errors that forgets over days, and its quantiles.

The width of the bins grows with the error (x = A*sinh(B*k)), from 0.006 at zero to 0.3 of the error at the ends. So
steady load has tight quantiles, and a surge to 25 times the usual load still has its own bin.

A sample has the weight 16. When the histogram is full, every bin loses a sixteenth, rounded up: a single surge is gone
after eight to sixteen such losses, two and a half to five days with an error every three minutes. Counts are whole
numbers, so a restart restores them exactly.
"""

import math
from bisect import bisect_left
from itertools import accumulate

WIDTH = 0.02
GROWTH = 0.3
BIN_LOW = -18  # x = -2.2: six times the usual load was expected, and none came
BIN_HIGH = 20  # x = 4.0: the usual load was expected, and 25 times as much came
BINS = BIN_HIGH - BIN_LOW + 1
SAMPLE_WEIGHT = 16
# 2,500 samples, with one every three minutes (`track.INTERVAL_LATER_S`) about five days.
TOTAL_MAX = 2_500 * SAMPLE_WEIGHT

Sketch = tuple[int, ...]


def _edge(k: float) -> float:
    return WIDTH * math.sinh(GROWTH * k)


# Lower edge of each bin, and the upper edge of the last one; shape (BINS + 1,).
EDGES = tuple(_edge(BIN_LOW + i - 0.5) for i in range(BINS + 1))


def place_of(error: float) -> float:
    """Fractional bin index of an error, in [0, BINS - 1]; errors beyond the ends count in the outer bins."""
    place = math.asinh(error / WIDTH) / GROWTH - BIN_LOW
    return min(max(place, 0.0), BINS - 1.0)


def add(sketch: Sketch, error: float) -> Sketch:
    """The histogram with one more error, shared between the two nearest bins so that quantiles do not jump."""
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
    The prior histogram: errors around 0 with heavy tails.

    Half of the weight is a Laplace distribution with scale `spread`, half one with three times that scale, since surges
    are rare but large.

    Args:
        spread: Scale of the error, > 0.
        samples: Total weight, in samples.
    """

    def below(x: float, scale: float) -> float:
        return 0.5 * math.exp(x / scale) if x < 0 else 1 - 0.5 * math.exp(-x / scale)

    def share(low: float, high: float) -> float:
        return sum(0.5 * (below(high, scale) - below(low, scale)) for scale in (spread, 3 * spread))

    return tuple(round(samples * SAMPLE_WEIGHT * share(EDGES[i], EDGES[i + 1])) for i in range(BINS))


def quantiles(sketch: Sketch, levels: tuple[float, ...]) -> list[float]:
    """
    Errors at rising levels, by linear interpolation within a bin.

    Args:
        sketch: Not empty.
        levels: Rising, in (0, 1); shape (levels,).

    Returns:
        Errors, not decreasing; shape (levels,).
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
