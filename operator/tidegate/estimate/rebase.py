"""
What was learned about a tier, applied to its current prior.

Factors multiply the coefficients that they were learned on. If these change (the user states figures, a new version has
a better table), the old factors would count twice what the new coefficients already include. Samples are absolute and
remain valid.
"""

from dataclasses import replace

from tidegate.estimate import fit
from tidegate.estimate.law import coefficients_of, in_steps
from tidegate.estimate.memory import UNCHANGED, TierMemory
from tidegate.estimate.priors import Prior


def under(prior: Prior, memory: TierMemory | None) -> TierMemory | None:
    """
    The memory with factors for this prior, refitted to its samples if they were learned on another one.

    Returns:
        The same object if the prior has not changed; None if the configuration of the tier has changed.
    """
    if memory is None or memory.mark != prior.mark:
        return None
    if memory.base == prior.base:
        return memory
    samples = memory.samples
    if not samples:
        return replace(memory, base=prior.base, factors=UNCHANGED, vector=False)
    evidence = max(1.0, memory.windows / len(samples))
    found = fit.fit(coefficients_of(prior), samples, memory.prompts, evidence=evidence)
    return replace(memory, base=prior.base, factors=in_steps(found.factors), vector=found.vector)
