"""
The law in force: the prior times the learned factors.
"""

from dataclasses import replace
from math import exp, log, sqrt

from tidegate.domain.law import PerformanceLaw, Provenance
from tidegate.estimate.memory import TierMemory
from tidegate.estimate.priors import Prior
from tidegate.estimate.roofline import Coefficients

# Lower bounds of a prior's coefficients, so that a factor can move each of them: 10 us per step, 1 ms per prompt, ...
A_MIN_S, B_MIN_S, C_MIN_S, P0_MIN_S, P1_MIN_S = 1e-5, 1e-7, 1e-10, 1e-3, 1e-8
FACTOR_STEP = log(1.01)
# Trust in measurements is one half after this many windows, and zero if predictions err by half.
WINDOWS_HALF = 2.0
ERROR_USELESS = 0.5
# Confidence moves in steps: a change of 0.01 is noise, and would change the capacity by 0.2 %.
CONFIDENCE_STEP = 0.05


def coefficients_of(prior: Prior) -> Coefficients:
    """The five coefficients of a prior's law, each above 0."""
    law = prior.law
    return Coefficients(
        a_s=max(law.a_s, A_MIN_S),
        b_s=max(law.b_s, B_MIN_S),
        c_s=max(law.c_s, C_MIN_S),
        p0_s=max(law.p0_s, P0_MIN_S),
        p1_s=max(law.p1_s, P1_MIN_S),
    )


def in_steps(factors: Coefficients) -> Coefficients:
    """Factors rounded to a grid of 1 %, so that practically equal laws are equal."""
    return factors.mapped(_step)


def _step(factor: float) -> float:
    return float(f"{exp(round(log(factor) / FACTOR_STEP) * FACTOR_STEP):.4g}")


def law_in_force(prior: Prior, memory: TierMemory | None, kin: float = 1.0, held: float = 1.0) -> PerformanceLaw:
    """
    The law to plan with.

    Args:
        kin, held: Factor on the prior of a tier without measurements, and what requests hold there; see `kin.kin_of`.
    """
    kv_cache_tokens = _kv_cache_tokens(prior, memory, held)
    if memory is None or not memory.windows:
        if kin == 1.0:
            # A step takes some time, even if a user states 0.
            return replace(prior.law, a_s=max(prior.law.a_s, A_MIN_S), kv_cache_tokens=kv_cache_tokens)
        factors = Coefficients(a_s=kin, b_s=kin, c_s=kin, p0_s=kin, p1_s=kin)
    else:
        factors = memory.factors
    learned = coefficients_of(prior).times(factors)
    return PerformanceLaw(
        a_s=learned.a_s,
        b_s=learned.b_s,
        c_s=learned.c_s,
        p0_s=learned.p0_s,
        p1_s=learned.p1_s,
        kv_cache_tokens=kv_cache_tokens,
        running_max=prior.law.running_max,
    )


def _kv_cache_tokens(prior: Prior, memory: TierMemory | None, held: float) -> float:
    """Tokens of context that fit into an engine: as the user states, else by what running requests hold of it."""
    size = prior.law.kv_cache_tokens
    if prior.kv_stated:
        return size
    if memory is not None:
        size, held = memory.kv_cache_tokens or size, memory.held or held
    return max(1.0, size / held)


def trust_in(memory: TierMemory) -> float:
    """Trust in the measurements of a tier by their number, in [0, 1)."""
    return memory.windows / (memory.windows + WINDOWS_HALF)


def provenance_of(prior: Prior, memory: TierMemory | None) -> Provenance:
    """Where the law in force comes from."""
    if memory is None or not memory.windows:
        return prior.provenance
    return Provenance.LEARNED if memory.vector else Provenance.SCALED


def confidence_of(prior: Prior, memory: TierMemory | None, *, running: float, kin: float = 0.0) -> float:
    """
    Confidence in the law, in [0, 1].

    Args:
        prior: Where learning started.
        memory: What was learned; None: nothing.
        running: N at which the law is used; if it is beyond the largest measured N, confidence is lower.
        kin: Share of the doubt about the prior that related tiers remove if nothing was measured; see `kin.kin_of`.
    """
    if memory is None or not memory.windows:
        return round(prior.confidence + (1.0 - prior.confidence) * kin, 2)
    seen = trust_in(memory)
    right = max(0.0, 1.0 - memory.error / ERROR_USELESS)
    reached = max((s.running for s in memory.samples), default=1.0)
    covered = min(1.0, reached / max(1.0, running))
    # A single factor on the prior extrapolates less reliably than a fit of every coefficient.
    far = sqrt(sqrt(covered)) if memory.vector else sqrt(covered)
    start = prior.confidence * right
    steps = round((start + (1.0 - start) * seen * right * far) / CONFIDENCE_STEP)
    return round(steps * CONFIDENCE_STEP, 2)
