"""
How far the lengths of requests spread, read off the means of the batches that finish.

The means of two batches of n and m requests differ by variation * sqrt(1/n + 1/m). Batches that follow each other are
compared, not one with a mean over long: that moves with the load, and at a thousand requests a minute a drift of 2 %
would be taken for a spread of 0.6. While the load moves nothing is compared: short answers are the first to finish.
"""

import math

from tidegate.domain.forecast import DemandSample
from tidegate.forecast.memory import Batch, Shape
from tidegate.units import TICK_S

# A spread is followed within an hour. That believed before anything was seen counts for so long.
SPREAD_S, SPREAD_PRIOR_S = 3_600.0, 300.0
# At first means rise because short answers finish first: that is no spread of lengths.
SETTLED_S = 600.0
# Batches further apart than this are not compared.
APART_S = 300.0
# Lengths are compared while the load is within this share of the level of minutes, and so many spreads of a count.
STEADY_SHARE, STEADY_SPREADS = 0.15, 3.0
# The square of one difference counts as so many times the usual one at most: by chance it is more in one case of 70.
UNUSUAL, VARIANCE_MIN = 6.0, 0.01

# Of prompts and of answers.
Pair = tuple[float, float]


def gain_of(elapsed_s: float, seen_s: float) -> float:
    """How far a spread follows one sample after so many seconds of them."""
    return max(1.0 - math.exp(-elapsed_s / SPREAD_S), elapsed_s / (seen_s + SPREAD_PRIOR_S))


def steady(sample: DemandSample, level_rps: float) -> bool:
    """Whether a rate is that of the last minutes, but for chance."""
    chance = STEADY_SPREADS * math.sqrt(max(level_rps, 0.0) / sample.window_s)
    return abs(sample.arrival_rps - level_rps) <= STEADY_SHARE * level_rps + chance


def batch_of(sample: DemandSample, time_s: float) -> Batch | None:
    """The requests that finished in a window; None where nobody says what they look like."""
    if sample.prompt_tokens is None or sample.output_tokens is None or sample.finished <= 0:
        return None
    # A rate is taken between the samples in its window, and those lie one interval less apart.
    finished = sample.finished * max(TICK_S, sample.window_s - TICK_S) / sample.window_s
    return Batch(
        time_s=time_s, finished=finished, prompt_tokens=sample.prompt_tokens, output_tokens=sample.output_tokens
    )


def variances(shape: Shape, batch: Batch, means: Pair, seen_s: float) -> Pair:
    """
    Squared coefficients of variation of prompt and output lengths after one more batch.

    Args:
        batch: Apart from `shape.batch` in time, so that no request is in both.
        means: Of prompts and answers, tokens.
        seen_s: Seconds in which requests were seen to finish.
    """
    before = shape.batch
    if before is None or batch.time_s - before.time_s > APART_S or seen_s <= SETTLED_S:
        return shape.prompt_variance, shape.output_variance
    gain = gain_of(batch.time_s - before.time_s, seen_s - SETTLED_S)
    each = 1.0 / (1.0 / batch.finished + 1.0 / before.finished)
    prompt = (batch.prompt_tokens - before.prompt_tokens) / means[0]
    output = (batch.output_tokens - before.output_tokens) / means[1]
    return _moved(shape.prompt_variance, each * prompt**2, gain), _moved(shape.output_variance, each * output**2, gain)


def _moved(variance: float, seen: float, gain: float) -> float:
    return variance + gain * (min(seen, UNUSUAL * max(variance, VARIANCE_MIN)) - variance)
