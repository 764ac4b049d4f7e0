"""
What tiers that were seen say of tiers that were not.

A prior that is wrong for one precision is mostly wrong for the others on the same accelerators too: the same engine,
the same host, the same clocks. Without this, a tier that turned out slower than its prior would always lose to one
that nobody has tried yet.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log

from tidegate.estimate import fit
from tidegate.estimate.law import CONFIDENCE_STEP, coefficients_of, trust_in
from tidegate.estimate.memory import TierMemory
from tidegate.estimate.priors import Prior

# Share of the others' error, as a logarithm, that is taken over.
KIN_SHARE = 2 / 3
# What differs by less is the same: curves that were computed stay.
STEP = log(1.05)


@dataclass(frozen=True, slots=True)
class Kin:
    """
    What the others say.

    Args:
        factor: On the prior step times of a tier that was never seen.
        trust: How far that makes its prior believed beyond what it is by itself, in [0, `KIN_SHARE`].
    """

    factor: float
    trust: float


ALONE = Kin(factor=1.0, trust=0.0)


def kin_of(others: Sequence[tuple[Prior, TierMemory]]) -> Kin:
    """
    What tiers that were seen say of one on the same accelerators that was not; `ALONE` where none was seen.

    factor = exp(share * sum(w * log(seen / prior)) / max(1, sum(w))),  w = `trust_in`

    Args:
        others: Prior and memory of each tier of the same deployment and accelerator class.
    """
    weight = total = 0.0
    for prior, memory in others:
        if memory.windows and memory.samples:
            trust = trust_in(memory)
            weight += trust
            total += trust * _error(prior, memory)
    # One tier that is hardly known yet moves the others as little.
    moved = KIN_SHARE * total / max(1.0, weight)
    trusted = round(KIN_SHARE * min(1.0, weight) / CONFIDENCE_STEP) * CONFIDENCE_STEP
    return Kin(factor=exp(round(moved / STEP) * STEP), trust=trusted)


def _error(prior: Prior, memory: TierMemory) -> float:
    """Mean logarithm of the learned law's step times over the prior's, where the tier was seen."""
    base = coefficients_of(prior)
    learned = base.times(memory.factors)
    errors = [log(fit.predicted_s(learned, s) / fit.predicted_s(base, s)) for s in memory.samples]
    return sum(errors) / len(errors)
