"""
What a tick teaches about each tier.

In:    the memory and one observation.
Out:   the next memory; the same object where the observation taught nothing.

A window is taken as one sample, and the next one only when that window has passed: readings of overlapping windows are
not independent, and most ticks cost nothing.
"""

from collections.abc import Mapping
from dataclasses import replace
from math import log
from zlib import crc32

from tidegate.domain.observation import DeploymentObservation, TierReading, TierState
from tidegate.domain.spec import Accelerator, DeploymentSpec, TierSpec
from tidegate.estimate import fit, startup
from tidegate.estimate.memory import EstimateMemory, Sample, TierMemory, digits
from tidegate.estimate.priors import Prior, prior_of
from tidegate.estimate.roofline import Coefficients

# A reading older than this says nothing about now, s.
AGE_MAX_S = 60.0
# A fresh replica is slow at first (graphs, caches, connections): its window and this long after are left out, s.
WARMUP_S = 60.0
# A sample this far from what the law says is an outlier, unless several in a row agree.
OUTLIER_LOG = log(1.6)
SURPRISES_FOR_CHANGE = 4
SAMPLES_MAX = 10
WINDOWS_MAX = 100
ERROR_SHARE = 0.2


def learn(
    memory: EstimateMemory | None,
    *,
    spec: DeploymentSpec,
    accelerators: Mapping[str, Accelerator],
    observation: DeploymentObservation,
    time_s: float,
) -> EstimateMemory:
    """
    The memory after one tick.

    Args:
        memory: Result of the last tick; None: nothing yet.
        spec: The deployment.
        accelerators: Classes by name.
        observation: What was seen of it.
        time_s: When, unix seconds.

    Returns:
        The same object where nothing was learned. Tiers that left the spec are forgotten.
    """
    before = memory.tiers if memory is not None else {}
    after: dict[str, TierMemory] = {}
    for tier in spec.tiers:
        known = before.get(tier.name)
        after[tier.name] = _learn_tier(known, spec, tier, accelerators, observation.tiers.get(tier.name), time_s)
    if memory is not None and len(before) == len(after) and all(after[name] is before.get(name) for name in after):
        return memory
    return EstimateMemory(tiers=after)


def _learn_tier(
    known: TierMemory | None,
    spec: DeploymentSpec,
    tier: TierSpec,
    accelerators: Mapping[str, Accelerator],
    state: TierState | None,
    time_s: float,
) -> TierMemory:
    prior = prior_of(spec.model, tier, accelerators.get(tier.accelerator))
    mark = mark_of(prior)
    memory = known if known is not None and known.mark == mark else TierMemory(mark=mark)
    if state is None:
        return memory
    memory = _see_replicas(memory, state, time_s)
    reading = state.reading
    if not isinstance(reading, TierReading) or state.ready <= 0 or reading.age_s > AGE_MAX_S:
        return memory
    if time_s - memory.changed_s < reading.window_s + WARMUP_S or time_s - memory.sampled_s < reading.window_s:
        return memory
    sample = sample_of(reading, state.ready)
    return memory if sample is None else _take(memory, prior, sample, reading, time_s)


def mark_of(prior: Prior) -> int:
    """Checksum of how a tier serves."""
    s = prior.serving
    return crc32(
        f"{s.shape}|{s.precision}|{s.hardware.name}|{s.tensor_parallel}|{s.pipeline_parallel}|{s.kv_fp8}".encode()
    )


def _see_replicas(memory: TierMemory, state: TierState, time_s: float) -> TierMemory:
    if state.ready != memory.ready:
        # The first sight of a running tier is not the start of its replicas, but nobody knows when that was.
        memory = replace(memory, ready=state.ready, changed_s=time_s)
        if state.startup_s is not None and state.startup_s > 0:
            memory = replace(memory, startup=startup.remember(memory.startup, state.startup_s))
    return memory


def sample_of(reading: TierReading, ready: int) -> Sample | None:
    """The window as the law sees it, per replica; None where something is missing or nothing ran."""
    itl_s, isl, osl = reading.itl_mean_s, reading.prompt_tokens_mean, reading.output_tokens_mean
    if not itl_s or not isl or not osl or itl_s <= 0:
        return None
    running = _running(reading, itl_s, osl)
    if running is None or running <= 0:
        return None
    hit = reading.prefix_cache_hit_rate or 0.0
    return Sample(
        running=digits(running / ready + 1.0, 3),
        context=digits(isl + osl, 3),
        interference=digits(isl * (1 - hit) / osl, 3),
        itl_s=digits(itl_s, 3),
    )


def _running(reading: TierReading, itl_s: float, osl: float) -> float | None:
    """Mean requests decoding in the window over all replicas: by Little from the token rate, else the gauge of now."""
    tokens = reading.output_tokens_per_s
    if tokens is None and reading.completion_rps is not None:
        tokens = reading.completion_rps * osl
    return tokens * itl_s if tokens is not None else reading.running


def _take(memory: TierMemory, prior: Prior, sample: Sample, reading: TierReading, time_s: float) -> TierMemory:
    base = prior_coefficients(prior)
    law = base.times(memory.factors)
    miss = log(sample.itl_s / fit.predicted_s(law, sample))
    samples = _with(memory.samples, sample)
    factors = fit.scalar(base, samples)
    hit = reading.prefix_cache_hit_rate
    return replace(
        memory,
        samples=samples,
        factors=Coefficients(a_s=factors, b_s=factors, c_s=factors, p0_s=factors, p1_s=factors),
        windows=min(WINDOWS_MAX, memory.windows + 1),
        error=digits(memory.error + ERROR_SHARE * (abs(miss) - memory.error), 3),
        sampled_s=time_s,
        prefix_hit=memory.prefix_hit if hit is None else digits(hit, 2),
        kv_cache_tokens=reading.kv_cache_tokens_per_replica or memory.kv_cache_tokens,
    )


def _with(samples: tuple[Sample, ...], sample: Sample) -> tuple[Sample, ...]:
    return (*samples, sample)[-SAMPLES_MAX:]


def prior_coefficients(prior: Prior) -> Coefficients:
    """The five coefficients of a prior's law; a zero is lifted a little so that a factor can act on it."""
    law = prior.law
    return Coefficients(
        a_s=max(law.a_s, 1e-5), b_s=max(law.b_s, 1e-8), c_s=max(law.c_s, 1e-12), p0_s=law.p0_s, p1_s=max(law.p1_s, 1e-8)
    )
