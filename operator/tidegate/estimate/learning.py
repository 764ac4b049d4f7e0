"""
Learning from one tick.

In:    the memory and one observation.
Out:   the next memory; the same object if nothing was learned.

Only windows that do not overlap are used, since overlapping ones are not independent; so most ticks cost nothing.
Ignored: replicas that just became ready, stale readings, empty windows, outliers. Several outliers in a row on the same
side mean that the law has changed, and what was known is dropped.
"""

from collections.abc import Mapping
from dataclasses import replace
from math import log, sqrt

from tidegate.domain.law import Workload
from tidegate.domain.observation import DeploymentObservation, TierReading, TierState
from tidegate.domain.spec import Accelerator, DeploymentSpec, Slo
from tidegate.estimate import comparison, fit, requests, startup
from tidegate.estimate.balance import evenness_of
from tidegate.estimate.law import coefficients_of, in_steps
from tidegate.estimate.memory import EstimateMemory, Sample, TierMemory, digits
from tidegate.estimate.priors import Prior, prior_of
from tidegate.estimate.rebase import under
from tidegate.estimate.roofline import Coefficients
from tidegate.estimate.samples import Window, alike, bucket, hit_of, kept, sample_of
from tidegate.estimate.shift import unshifted

# A reading older than this is stale, s.
AGE_MAX_S = 60.0
# A new replica is slow at first (graphs, caches, connections). After a change of replicas, one window and this many
# seconds are ignored.
WARMUP_S = 60.0
# The first windows may be far off, because they correct the prior. Later ones that are this far off are outliers.
WINDOWS_TRUSTING = 3
OUTLIER_LOG = log(1.5)
SURPRISES_FOR_CHANGE = 3
# A law with a mean error of this much to one side has drifted.
BIAS_FOR_CHANGE = 0.10
SAMPLES_AFTER_CHANGE = 3
# A window that the law predicts this well changes nothing, if there are enough samples like it.
FORESEEN_LOG = log(1.03)
BUCKET_FULL = 3
# Laws that differ by less than this at all samples count as the same.
SAME_LOG = log(1.025)
WINDOWS_MAX = 50
# From here on every second window is enough, as long as there is no surprise.
WINDOWS_SETTLED = 10
# The dispersion over replicas is averaged over this many windows.
BALANCED_MAX = 20
# With a random router, a few replicas reach this dispersion in some windows; more means a queue on one of them.
DISPERSION_MAX = 4.0
ERROR_SHARE = 0.25
ERROR_FIRST = 0.1
HIT_SHARE = 0.3
# Fewer hits are believed at once if they leave this much more of the prompts to compute, and are fewer by this many
# standard deviations (at most those of requests that hit completely or not at all): a cache that no longer hits can
# multiply the work within a minute.
HIT_WORK, HIT_SPREADS = 0.5, 4.0
# What running requests hold of the KV cache is measured from this usage on, because some servers round it to percents,
# and with this many of them and of finished ones, because their contexts differ: of answers that take minutes, too few
# end within a window. It is believed within these bounds.
HELD_USAGE_MIN, HELD_USAGE_DOUBT = 0.2, 0.01
HELD_RUNNING_MIN, HELD_FINISHED_MIN = 4.0, 16.0
HELD_LEAST, HELD_MOST = 0.25, 16.0
HELD_SHARE = 0.3
# Less is chance.
HELD_SAME_LOG = log(1.1)


def learn(
    memory: EstimateMemory | None,
    *,
    spec: DeploymentSpec,
    accelerators: Mapping[str, Accelerator],
    observation: DeploymentObservation,
    time_s: float,
    variations: tuple[float, float] = (1.0, 1.0),
) -> EstimateMemory:
    """
    The memory after one tick.

    Args:
        memory: Result of the last tick; None: nothing yet.
        spec: The deployment.
        accelerators: Classes by name.
        observation: The observation of the deployment.
        time_s: Time of the observation, unix seconds.
        variations: Coefficients of variation of prompt and output lengths; the mean context depends on them.

    Returns:
        The same object if nothing was learned. Tiers that left the spec are forgotten.
    """
    before = memory.tiers if memory is not None else {}
    after: dict[str, TierMemory] = {}
    same = memory is not None and len(before) == len(spec.tiers)
    for tier in spec.tiers:
        name = tier.name
        known, state = before.get(name), observation.tiers.get(name)
        if known is not None and (state is None or _nothing_new(known, state, time_s)):
            after[name] = known
            continue
        prior = prior_of(spec.model, tier, accelerators.get(tier.accelerator))
        after[name] = _learn_tier(known, prior, spec.slo, state, time_s, variations)
        same = same and after[name] is known
    if memory is None:
        return EstimateMemory(tiers=after)
    return memory if same else EstimateMemory(tiers=after, requests=memory.requests)


def expect(memory: EstimateMemory, *, workload: Workload, burstiness: float) -> EstimateMemory:
    """
    The memory with the requests that estimates are made for; the same object if they have not changed.

    Args:
        workload: Expected request shape; its `prefix_hit` is ignored, since each tier learns its own.
        burstiness: Index of dispersion of arrivals, >= 1.
    """
    evenness = evenness_of(memory.tiers.values())
    asked = requests.expected(memory.requests, workload=workload, burstiness=burstiness, evenness=evenness)
    return memory if asked is memory.requests else EstimateMemory(tiers=memory.tiers, requests=asked)


def _nothing_new(known: TierMemory, state: TierState, time_s: float) -> bool:
    """True if nothing can be learned from this tick; a cheap check that ends most of them."""
    if state.ready != known.ready or time_s < known.sampled_s or time_s < known.changed_s:
        return False
    reading = state.reading
    if not isinstance(reading, TierReading) or state.ready <= 0:
        return True
    pause = reading.window_s if known.windows < WINDOWS_SETTLED or known.surprises else 2 * reading.window_s
    return time_s - known.sampled_s < pause or time_s - known.changed_s < reading.window_s + WARMUP_S


def _set_back(memory: TierMemory, time_s: float) -> TierMemory:
    """The memory with times in the future set to now, after a clock that was ahead has been corrected."""
    sampled_s, changed_s = min(memory.sampled_s, time_s), min(memory.changed_s, time_s)
    if (sampled_s, changed_s) == (memory.sampled_s, memory.changed_s):
        return memory
    return replace(memory, sampled_s=sampled_s, changed_s=changed_s, compared_s=min(memory.compared_s, time_s))


def _learn_tier(
    known: TierMemory | None,
    prior: Prior,
    slo: Slo,
    state: TierState | None,
    time_s: float,
    variations: tuple[float, float],
) -> TierMemory:
    memory = under(prior, known) or TierMemory(mark=prior.mark, base=prior.base)
    if state is None:
        return memory
    memory = _set_back(memory, time_s)
    if state.ready != memory.ready:
        memory = _count_replicas(memory, prior, state, time_s)
    reading = state.reading
    if not isinstance(reading, TierReading) or state.ready <= 0 or reading.older_than(AGE_MAX_S):
        return memory
    if _nothing_new(memory, state, time_s):
        return memory
    # The law describes one engine; a pod reports the sum over its engines.
    engines = state.ready * prior.serving.data_parallel
    window = Window(prior=prior, slo=slo, reading=reading, engines=engines, variations=variations, time_s=time_s)
    sample = sample_of(window)
    if sample is not None:
        return _learn_window(_learn_cache(memory, window), window, sample)
    return _learn_gapless(_learn_cache(memory, window), window) if reading.gapless else memory


def _count_replicas(memory: TierMemory, prior: Prior, state: TierState, time_s: float) -> TierMemory:
    """The memory after the number of ready replicas has changed."""
    # Replicas that are already ready at the first observation are assumed to be warm.
    since = time_s - WARMUP_S if memory.ready is None and not state.starting else time_s
    seen = state.startup_s
    grown = memory.ready is not None and state.ready > memory.ready
    known = memory.startup
    news = seen is not None and seen > 0 and (grown or known is None or digits(seen) != known.last_s)
    return replace(
        memory,
        ready=state.ready,
        changed_s=since,
        startup=startup.remember(known, prior.serving, seen) if news and seen is not None else known,
    )


def _learn_window(memory: TierMemory, window: Window, sample: Sample) -> TierMemory:
    """The memory after learning from one window."""
    base = coefficients_of(window.prior)
    law = base.times(memory.factors)
    log_error = log(sample.itl_s / fit.predicted_s(law, sample))
    if memory.windows >= WINDOWS_TRUSTING and _surprising(memory, sample, log_error):
        surprises = max(0, memory.surprises) + 1 if log_error > 0 else min(0, memory.surprises) - 1
        if abs(surprises) < SURPRISES_FOR_CHANGE:
            return replace(memory, surprises=surprises, sampled_s=window.time_s)
        # The law has changed: earlier samples do not apply to the new one.
        memory = replace(memory, samples=(), prompts=(), windows=0, bias=0.0, vector=False)
    memory = _counted(memory, window, log_error)
    compared = comparison.compare(memory, window)
    full = _bucket_size(memory, sample) >= BUCKET_FULL
    if full and abs(log_error) < FORESEEN_LOG and compared.prompts is memory.prompts:
        return compared
    together = kept(compared.samples, sample)
    samples = unshifted(law, together)
    if len(samples) < len(together):
        compared = replace(compared, windows=len(samples), bias=0.0)
    evidence = max(1.0, compared.windows / len(samples))
    found = fit.fit(base, samples, compared.prompts, evidence=evidence)
    if found.vector == memory.vector and _agree(base, samples, found.factors, memory.factors):
        return replace(compared, samples=samples)
    return replace(compared, samples=samples, factors=in_steps(found.factors), vector=found.vector)


def _surprising(memory: TierMemory, sample: Sample, log_error: float) -> bool:
    """
    Whether a window is too far off to learn from: an outlier, or the first window after the law has changed.

    If similar samples exist, the limit for faster windows is tighter. A tier that got faster runs fewer requests at the
    same load. Together with the old samples they would look like an engine that is slow under load, and the fleet would
    stay too large for this ever to be corrected.
    """
    beyond = 4 * memory.error
    if abs(log_error) > max(OUTLIER_LOG, beyond):
        return True
    return log_error < -max(BIAS_FOR_CHANGE, beyond) and sum(alike(s, sample) for s in memory.samples) >= BUCKET_FULL


def _learn_gapless(memory: TierMemory, window: Window) -> TierMemory:
    """
    The memory after a window in which every answer has one token, so that there is no ITL to learn the law from.

    Misses, prefill and router balance are still learned.
    """
    return comparison.compare(replace(_counted(memory, window, 0.0), error=memory.error), window)


def _counted(memory: TierMemory, window: Window, log_error: float) -> TierMemory:
    """The memory with one more window counted; if the law has drifted to one side, older samples are dropped."""
    reading = window.reading
    dispersion = reading.dispersion if window.steady else None
    bias = memory.bias + ERROR_SHARE * (log_error - memory.bias) if memory.windows else 0.0
    moved = memory.windows >= WINDOWS_TRUSTING and abs(bias) > BIAS_FOR_CHANGE
    samples = memory.samples[-SAMPLES_AFTER_CHANGE:] if moved else memory.samples
    # The error of the first window is that of the prior, not of the law learned from it.
    error = memory.error + ERROR_SHARE * (abs(log_error) - memory.error) if memory.windows else ERROR_FIRST
    return replace(
        memory,
        samples=samples,
        windows=len(samples) if moved else min(WINDOWS_MAX, memory.windows + 1),
        error=digits(error, 3),
        bias=0.0 if moved else digits(bias, 3),
        surprises=0,
        sampled_s=window.time_s,
        dispersion=_dispersion(memory, dispersion),
        balanced=memory.balanced if dispersion is None else min(BALANCED_MAX, memory.balanced + 1),
    )


def _dispersion(memory: TierMemory, seen: float | None) -> float:
    """The mean of the first `BALANCED_MAX` windows, then exponentially smoothed."""
    if seen is None:
        return memory.dispersion
    gain = 1.0 / min(BALANCED_MAX, memory.balanced + 1)
    return digits(memory.dispersion + gain * (min(seen, DISPERSION_MAX) - memory.dispersion), 3)


def _bucket_size(memory: TierMemory, sample: Sample) -> int:
    return sum(bucket(s) == bucket(sample) for s in memory.samples)


def _agree(base: Coefficients, samples: tuple[Sample, ...], new: Coefficients, old: Coefficients) -> bool:
    """True if two laws agree within noise, so that the old one, and what was computed from it, can stay."""
    one, other = base.times(new), base.times(old)
    if abs(log(new.p0_s / old.p0_s)) > SAME_LOG * 5 or abs(log(new.p1_s / old.p1_s)) > SAME_LOG * 5:
        return False
    return all(abs(log(fit.predicted_s(one, s) / fit.predicted_s(other, s))) < SAME_LOG for s in samples)


def _learn_cache(memory: TierMemory, window: Window) -> TierMemory:
    """The memory with what the window says of the KV cache, whether or not the law fits."""
    tokens = (window.reading.kv_cache_tokens_per_replica or 0.0) / window.prior.serving.data_parallel
    if tokens and tokens != memory.kv_cache_tokens:
        memory = replace(memory, kv_cache_tokens=tokens)
    return _learn_hits(_learn_held(memory, window), window.reading)


def _learn_held(memory: TierMemory, window: Window) -> TierMemory:
    """
    The memory with what a running request holds of the KV cache.

    Layers with a sliding window hold less than the context, a state of fixed size is held by the shortest request, and
    a shared prefix is held once. None of them is in the size that servers report.

    A usage too low to be measured only shows that they do not hold several times their contexts: what was learned from
    shorter requests would keep the fleet so large that the usage stays low.
    """
    reading, workload = window.reading, window.workload
    usage, running = reading.kv_cache_usage, reading.running or 0.0
    if workload is None or usage is None or running < HELD_RUNNING_MIN:
        return memory
    room = window.engines * (memory.kv_cache_tokens or window.prior.law.kv_cache_tokens)
    before, least, most = memory.held or 1.0, HELD_LEAST, HELD_MOST
    if usage < HELD_USAGE_MIN:
        usage, least, most = usage + HELD_USAGE_DOUBT, 1.0, before
    elif (reading.completion_rps or 0.0) * reading.window_s < HELD_FINISHED_MIN:
        return memory
    seen = min(most, max(least, usage * room / (running * workload.context_tokens)))
    if abs(log(seen / before)) < HELD_SAME_LOG:
        return memory
    share = 1.0 if memory.held is None else HELD_SHARE
    return replace(memory, held=digits(before + share * (seen - before), 3))


def _learn_hits(memory: TierMemory, reading: TierReading) -> TierMemory:
    """The memory with the share of prompt tokens found in the prefix cache, whether or not the law fits the window."""
    if reading.prefix_cache_hit_rate is None:
        return memory
    seen, came = hit_of(reading), (reading.arrival_rps or 0.0) * reading.window_s
    before = seen if memory.prefix_hit is None else memory.prefix_hit
    share = 1.0 if _fewer_hits(before, seen, requests_seen=came) else HIT_SHARE
    hit = digits(before + share * (seen - before), 3)
    return replace(memory, prefix_hit=hit, computed=requests.computed_step(memory.computed, hit))


def _fewer_hits(before: float, seen: float, *, requests_seen: float) -> bool:
    """Whether a window has fewer hits than before by more than chance, and much more work for it."""
    chance = HIT_SPREADS * sqrt(before * (1.0 - before) / max(1.0, requests_seen))
    return before - seen > max(chance, HIT_WORK * (1.0 - before))
