"""
What one replica of each tier does at the expected request shape, and how sure that is.

In:    the memory, the deployment, the request shape and how bursty arrivals are.
Out:   a `TierEstimate` for every tier, also for those that nothing runs on.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from math import exp, log

from tidegate.domain.estimate import ServiceCurve, TierEstimate
from tidegate.domain.law import PerformanceLaw, Provenance, Workload
from tidegate.domain.spec import Accelerator, DeploymentSpec, TierSpec
from tidegate.estimate import service, startup
from tidegate.estimate.learning import mark_of, prior_coefficients
from tidegate.estimate.memory import EstimateMemory, TierMemory
from tidegate.estimate.power import power_w
from tidegate.estimate.priors import Prior, prior_of

# The shape of requests moves in steps of 3 percent, burstiness of 20: less is noise and would undo the memo.
WORKLOAD_STEP = log(1.03)
BURST_STEP = log(1.2)
# A guess gives up this share of its capacity, certainty none.
MARGIN_MAX = 0.3


def assess(
    memory: EstimateMemory,
    *,
    spec: DeploymentSpec,
    accelerators: Mapping[str, Accelerator],
    workload: Workload,
    burstiness: float,
) -> Mapping[str, TierEstimate]:
    """
    Estimate of every tier of a deployment, by name.

    Args:
        memory: What was learned.
        spec: The deployment.
        accelerators: Classes by name; a tier whose class is missing is estimated on a modest generic one.
        workload: Expected request shape; `prefix_hit` is replaced by what each tier was seen to have.
        burstiness: Index of dispersion of arrivals, >= 1.
    """
    return {
        tier.name: _assess_tier(memory.tiers.get(tier.name), spec, tier, accelerators, workload, burstiness)
        for tier in spec.tiers
    }


def startup_times(memory: EstimateMemory, *, spec: DeploymentSpec) -> Mapping[str, float]:
    """Expected start-up of a replica of each tier, s: learned, or a prior by the size of the model."""
    times: dict[str, float] = {}
    for tier in spec.tiers:
        known = memory.tiers.get(tier.name)
        seen = known.startup if known is not None else None
        times[tier.name] = startup.expected_s(seen, prior_of(spec.model, tier, None).serving)
    return times


def _assess_tier(
    known: TierMemory | None,
    spec: DeploymentSpec,
    tier: TierSpec,
    accelerators: Mapping[str, Accelerator],
    workload: Workload,
    burstiness: float,
) -> TierEstimate:
    prior = prior_of(spec.model, tier, accelerators.get(tier.accelerator))
    memory = known if known is not None and known.mark == mark_of(prior) else None
    law, provenance, confidence = in_force(prior, memory)
    hit = memory.prefix_hit if memory is not None and memory.prefix_hit is not None else workload.prefix_hit
    shape = _rounded(workload, hit)
    burst = exp(round(log(max(1.0, burstiness)) / BURST_STEP) * BURST_STEP)
    curve, knee = _curve(
        law, shape, float(prior.serving.batched_tokens_max), burst, spec.slo.ttft_s, spec.slo.itl_s, spec.slo.attainment
    )
    startups = memory.startup if memory is not None else None
    capacity = knee * (1 - MARGIN_MAX * (1 - confidence))
    return TierEstimate(
        law=law,
        provenance=provenance,
        confidence=confidence,
        workload=shape,
        curve=curve,
        capacity_rps=capacity,
        startup_s=startup.expected_s(startups, prior.serving),
        startup_s_late=startup.late_s(startups, prior.serving),
        power_w=power_w(prior.serving, curve.at_rate(capacity).running),
    )


def in_force(prior: Prior, memory: TierMemory | None) -> tuple[PerformanceLaw, Provenance, float]:
    """The prior's law with what was learned, where it comes from, and its confidence."""
    if memory is None:
        return prior.law, prior.provenance, prior.confidence
    kv = memory.kv_cache_tokens or prior.law.kv_cache_tokens
    learned = prior_coefficients(prior).times(memory.factors)
    law = replace(
        prior.law,
        a_s=learned.a_s,
        b_s=learned.b_s,
        c_s=learned.c_s,
        p0_s=learned.p0_s,
        p1_s=learned.p1_s,
        kv_cache_tokens=kv,
    )
    if not memory.windows:
        return law, prior.provenance, prior.confidence
    trust = memory.windows / (memory.windows + 4) * max(0.0, 1 - 2 * memory.error)
    confidence = prior.confidence + (1 - prior.confidence) * trust
    return law, Provenance.LEARNED if memory.vector else Provenance.SCALED, confidence


def _rounded(workload: Workload, hit: float) -> Workload:
    def step(value: float) -> float:
        return exp(round(log(value) / WORKLOAD_STEP) * WORKLOAD_STEP)

    return Workload(
        prompt_tokens=step(workload.prompt_tokens),
        output_tokens=step(workload.output_tokens),
        prefix_hit=1 - min(1.0, step(1 - min(0.95, max(0.0, hit)))),
        prompt_variation=round(workload.prompt_variation * 10) / 10,
        output_variation=round(workload.output_variation * 10) / 10,
    )


# Where the curve is sampled, as multiples of the knee; beyond it up to the rate that is not sustained.
AROUND_KNEE = (0.02, 0.3, 0.6, 0.8, 0.9, 1.0, 1.05, 1.1, 1.2, 1.35)
TO_THE_END = (0.02, 0.15, 0.3, 0.45, 0.6, 0.75, 0.85, 0.92, 0.97)


@lru_cache(maxsize=65536)
def _curve(
    law: PerformanceLaw,
    workload: Workload,
    batched_tokens_max: float,
    burstiness: float,
    ttft_s: float,
    itl_s: float,
    target: float,
) -> tuple[ServiceCurve, float]:
    """The service curve, and the rate at which attainment crosses the target (0: it never reaches it)."""
    one = service.Service(
        law=law,
        workload=workload,
        batched_tokens_max=batched_tokens_max,
        burstiness=burstiness,
        ttft_s=ttft_s,
        itl_s=itl_s,
    )
    end = one.rate_unstable
    knee = _knee(one, target)
    rates = sorted({f * knee for f in AROUND_KNEE if 0 < f * knee < 0.98 * end} | {f * end for f in TO_THE_END})
    points = []
    best = 1.0
    for rate in rates:
        point = service.operate(one, rate)
        best = min(best, point.attainment)
        points.append(replace(point, attainment=best))
    return ServiceCurve(points=tuple(points)), knee


def _knee(one: service.Service, target: float) -> float:
    high = one.rate_unstable
    low = 0.001 * high
    if service.attainment(one, low) < target:
        return 0.0
    for _ in range(12):
        middle = (low + high) / 2
        if service.attainment(one, middle) >= target:
            low = middle
        else:
            high = middle
    return low
