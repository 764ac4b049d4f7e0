"""
The variation of request lengths, estimated from the means of batches of finished requests.

The relative difference of the means of two batches of n and m requests has the standard deviation
variation * sqrt(1/n + 1/m). Consecutive batches are compared, not a batch with a long-term mean: that drifts with the
load, and at a thousand requests a minute a drift of 2 % would look like a variation of 0.6. While the load changes
nothing is compared, because short answers finish first; nor while requests get longer, which is no spread either.
"""

import math

from tidegate.domain.forecast import DemandSample
from tidegate.forecast.memory import Batch, Shape
from tidegate.units import TICK_S

# Time constant of the variation; and the weight of the prior, as seconds of observation.
SPREAD_S, SPREAD_PRIOR_S = 3_600.0, 300.0
# At first the means rise because short answers finish first; that is not variation, so it is ignored for this long.
SETTLED_S = 600.0
# Batches further apart than this are not compared.
APART_S = 300.0
# The load is steady within this share of the mid level plus this many standard deviations of a count.
STEADY_SHARE, STEADY_SPREADS = 0.15, 3.0
# Requests have grown if their mean length exceeds the expected one by this share, and by this many of its standard
# deviations.
GROWN_SHARE, GROWN_SPREADS = 0.25, 4.0
# One squared difference counts as at most this many times the usual one; by chance it is larger in one case of 70.
UNUSUAL, VARIANCE_MIN = 6.0, 0.01

# For prompts and answers.
Pair = tuple[float, float]


def gain_of(elapsed_s: float, seen_s: float) -> float:
    """Weight of one sample in a variation, after `seen_s` seconds of samples."""
    return max(1.0 - math.exp(-elapsed_s / SPREAD_S), elapsed_s / (seen_s + SPREAD_PRIOR_S))


def grown(shape: Shape, sample: DemandSample) -> bool:
    """Whether the prompts or answers of a sample are longer on average than expected, by more than chance."""
    pairs = (
        (shape.prompt_tokens, sample.prompt_tokens, shape.prompt_variance),
        (shape.output_tokens, sample.output_tokens, shape.output_variance),
    )
    return sample.finished > 0 and any(
        mean and seen and seen / mean - 1.0 > max(GROWN_SHARE, GROWN_SPREADS * math.sqrt(variance / sample.finished))
        for mean, seen, variance in pairs
    )


def steady(sample: DemandSample, level_rps: float) -> bool:
    """Whether a rate equals that of the last minutes except for chance."""
    chance = STEADY_SPREADS * math.sqrt(max(level_rps, 0.0) / sample.window_s)
    return abs(sample.arrival_rps - level_rps) <= STEADY_SHARE * level_rps + chance


def batch_of(sample: DemandSample, time_s: float) -> Batch | None:
    """The requests that finished in a window; None if their lengths or number are not known."""
    if sample.prompt_tokens is None or sample.output_tokens is None or sample.finished <= 0:
        return None
    # A rate is computed between the first and the last scrape in its window, which are one interval less apart.
    finished = sample.finished * max(TICK_S, sample.window_s - TICK_S) / sample.window_s
    return Batch(
        time_s=time_s, finished=finished, prompt_tokens=sample.prompt_tokens, output_tokens=sample.output_tokens
    )


def variances(shape: Shape, batch: Batch, means: Pair, seen_s: float) -> Pair:
    """
    Squared coefficients of variation of prompt and output lengths after one more batch.

    Args:
        batch: Later than `shape.batch` by at least a window, so that no request is in both.
        means: Mean lengths of prompts and answers, tokens.
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
