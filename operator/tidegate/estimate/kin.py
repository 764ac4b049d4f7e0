"""
Corrections of the prior of a tier without measurements, from related tiers that have them.

If a prior is wrong for one precision, it is usually wrong for the others on the same accelerators, too: the engine, the
host and the clocks are the same. What requests hold of the KV cache depends on the model and the requests. Without this
correction, a tier that turned out slower than its prior, or to have room for fewer requests, would always lose to one
that was never tried.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log

from tidegate.estimate import fit
from tidegate.estimate.law import CONFIDENCE_STEP, coefficients_of, trust_in
from tidegate.estimate.memory import TierMemory
from tidegate.estimate.priors import Prior

# Share of the logarithmic error of the others that is taken over.
KIN_SHARE = 2 / 3
# The factor moves in steps, so that computed curves stay valid.
STEP = log(1.05)


@dataclass(frozen=True, slots=True)
class Kin:
    """
    The correction from related tiers.

    Args:
        factor: Factor on the prior's step times of a tier without measurements.
        held: KV cache that a request holds there over the tokens of its context.
        trust: Share of the doubt about its prior that the correction removes, in [0, 0.65].
    """

    factor: float
    held: float
    trust: float


ALONE = Kin(factor=1.0, held=1.0, trust=0.0)


def kin_of(others: Sequence[tuple[Prior, TierMemory]]) -> Kin:
    """
    The correction for a tier without measurements; `ALONE` if no other tier has any.

    factor = exp(share * sum(w * log(learned / prior)) / max(1, sum(w))),  w = `trust_in`; and so is `held`

    Args:
        others: Prior and memory of each other tier of the same deployment and accelerator class.
    """
    weight = slower = held = 0.0
    for prior, memory in others:
        if memory.windows and memory.samples:
            trust = trust_in(memory)
            weight += trust
            slower += trust * _error(prior, memory)
            held += trust * log(memory.held or 1.0)
    # The divisor is at least 1, so that a single tier with few measurements moves the others little.
    share = KIN_SHARE / max(1.0, weight)
    trusted = round(KIN_SHARE * min(1.0, weight) / CONFIDENCE_STEP) * CONFIDENCE_STEP
    return Kin(factor=_in_steps(share * slower), held=_in_steps(share * held), trust=trusted)


def _in_steps(moved: float) -> float:
    return exp(round(moved / STEP) * STEP)


def _error(prior: Prior, memory: TierMemory) -> float:
    """Mean logarithm of the learned law's step times over the prior's, at the stored samples."""
    base = coefficients_of(prior)
    learned = base.times(memory.factors)
    errors = [log(fit.predicted_s(learned, s) / fit.predicted_s(base, s)) for s in memory.samples]
    return sum(errors) / len(errors)
