"""
From a reading to a sample for the law, and which samples are kept.

In:    the metrics of one tier over a window.
Out:   a `Sample` of decoding; a bounded set of samples that covers the operating range.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import floor, log2, sqrt

from tidegate.domain.law import Workload
from tidegate.domain.observation import TierReading
from tidegate.domain.spec import Slo
from tidegate.estimate.memory import Prompt, Sample, digits
from tidegate.estimate.priors import Prior
from tidegate.estimate.requests import HIT_MAX

SAMPLES_MAX = 12
PROMPTS_MAX = 3
# Samples are alike within this factor.
ALIKE = 2.0
# At the same load, a tier that gets faster by 30 % runs half the requests, and fewer near saturation. So samples are
# also alike if their tokens/s are within this factor; near saturation, twice the requests raise them by less than that.
ALIKE_LOAD = 1.25
# Weight of a new measurement in the stored prefill for its prompt length.
PROMPT_SHARE = 0.3
# The current gauge and Little's law over the window describe the same load if they agree within this factor.
AGREEMENT = 2.0
# In a steady window, arrivals and completions differ by at most this share plus this many standard deviations.
STEADY_SHARE, STEADY_SPREADS = 0.1, 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """
    The metrics of one tier over a window that may be learned from.

    Args:
        engines: Those that served: ready replicas times engines per replica.
        variations: Coefficients of variation of prompt and output lengths.
        time_s: End of the window, unix seconds.
    """

    prior: Prior
    slo: Slo
    reading: TierReading
    engines: int
    variations: tuple[float, float]
    time_s: float

    @property
    def workload(self) -> Workload | None:
        """The request shape of this window; None if the mean lengths are not reported."""
        isl, osl = self.reading.prompt_tokens_mean, self.reading.output_tokens_mean
        if not (isl and osl) or isl <= 0 or osl <= 0:
            return None
        prompt, output = self.variations
        return Workload(
            prompt_tokens=isl,
            output_tokens=osl,
            prefix_hit=hit_of(self.reading),
            prompt_variation=prompt,
            output_variation=output,
        )

    @property
    def steady(self) -> bool:
        """Whether arrivals equal completions except for chance; else the window had a queue that the gauge misses."""
        reading = self.reading
        if reading.arrival_rps is None or reading.completion_rps is None:
            return True
        came, went = reading.arrival_rps * reading.window_s, reading.completion_rps * reading.window_s
        return abs(came - went) <= STEADY_SHARE * came + STEADY_SPREADS * sqrt(came)


def sample_of(window: Window) -> Sample | None:
    """
    The window in the terms of the law, per engine; None if a metric is missing, nothing ran, or the load was changing.

    The mean ITL is an average over tokens, so it is that of the batch that a token is in. With random arrivals this
    batch is larger by one than the time average, hence the 1 added to N.
    """
    reading, workload = window.reading, window.workload
    itl_s = reading.itl_mean_s
    if workload is None or not itl_s or itl_s <= 0:
        return None
    running = _running(reading, itl_s, workload.output_tokens)
    if running is None or running <= 0:
        return None
    return Sample(
        running=digits(running / window.engines + 1.0, 3),
        context=digits(workload.context_tokens, 3),
        interference=digits(workload.prefill_tokens / workload.output_tokens, 3),
        itl_s=digits(itl_s, 3),
    )


def hit_of(reading: TierReading) -> float:
    """Share of prompt tokens found in the prefix cache, in [0, `HIT_MAX`]; 0 if it is not reported."""
    return min(HIT_MAX, max(0.0, reading.prefix_cache_hit_rate or 0.0))


def _running(reading: TierReading, itl_s: float, osl: float) -> float | None:
    """Mean requests decoding over all replicas in the window, by Little's law; None if the gauge disagrees."""
    tokens = reading.output_tokens_per_s
    if tokens is None and reading.completion_rps is not None:
        tokens = reading.completion_rps * osl
    if tokens is None:
        return reading.running
    running = tokens * itl_s
    if reading.running is None:
        return running
    # The noise of the gauge is about its square root; beyond that, the load has changed within the window.
    slack = 2.0 * (running + 1.0) ** 0.5
    inside = running / AGREEMENT - slack <= reading.running <= running * AGREEMENT + slack
    return running if inside else None


def kept(samples: Sequence[Sample], new: Sample) -> tuple[Sample, ...]:
    """The samples with a new one; if there are too many, the oldest in the fullest doubling of N is dropped."""
    together = (*samples, new)
    if len(together) <= SAMPLES_MAX:
        return together
    counts = Counter(bucket(s) for s in together)
    fullest = max(counts, key=lambda b: (counts[b], b))
    oldest = next(i for i, s in enumerate(together) if bucket(s) == fullest)
    return together[:oldest] + together[oldest + 1 :]


def bucket(sample: Sample) -> int:
    """The doubling of N in which a sample lies."""
    return floor(log2(sample.running))


def alike(one: Sample, other: Sample, *, running: float = ALIKE) -> bool:
    """
    Whether two samples have nearly the same operating point: requests of one shape, as many or as much load.

    Args:
        running: Factor within which they are as many.
    """
    shaped = _within(ALIKE, one.context, other.context) and _within(ALIKE, one.interference, other.interference)
    loaded = _within(ALIKE_LOAD, one.running / one.itl_s, other.running / other.itl_s)
    return shaped and (loaded or _within(running, one.running, other.running))


def _within(factor: float, one: float, other: float) -> bool:
    """Whether two positive numbers, or zeros, differ by at most this factor."""
    return one <= factor * other and other <= factor * one


def kept_prompts(prompts: Sequence[Prompt], new: Prompt) -> tuple[Prompt, ...]:
    """The prefills with a new one, merged with that of its size; if there are too many, the oldest size is dropped."""
    size = floor(log2(new.tokens))
    same = [p for p in prompts if floor(log2(p.tokens)) == size]
    others = [p for p in prompts if floor(log2(p.tokens)) != size]
    if same:
        old = same[0]
        new = Prompt(
            tokens=digits(old.tokens + PROMPT_SHARE * (new.tokens - old.tokens), 3),
            prefill_s=digits(old.prefill_s + PROMPT_SHARE * (new.prefill_s - old.prefill_s), 3),
        )
    return (*others, new)[-PROMPTS_MAX:]
