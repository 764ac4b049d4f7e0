"""
What was learned of a tier, on the prior of now.

Factors multiply the coefficients that they were learned on. Where those change (the user states figures, a new version
brings a better table) the old factors would count twice what the new coefficients know already; what was seen is
absolute and stays true.
"""

from dataclasses import replace

from tidegate.estimate import fit
from tidegate.estimate.law import coefficients_of, in_steps
from tidegate.estimate.memory import UNCHANGED, TierMemory
from tidegate.estimate.priors import Prior


def under(prior: Prior, memory: TierMemory | None) -> TierMemory | None:
    """
    The memory with factors on this prior, fitted anew to its samples where they were on another one.

    Returns:
        The same object where the prior is the one it was learned on; None where the tier serves otherwise than it did.
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
