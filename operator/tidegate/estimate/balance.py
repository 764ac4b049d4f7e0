"""
How far a router evens out the load over replicas, from how evenly they are seen to be loaded.

A picker of the least loaded replica leaves them within a request or two of each other; one that draws lots leaves each
with a Poisson number of its own. In between lie round robin and routers that look at caches first. What was never
seen is taken to draw lots.
"""

from collections.abc import Iterable

from tidegate.estimate.memory import TierMemory

# Windows of drawing lots that are believed before anything was seen.
PRIOR_WINDOWS = 2


def evenness_of(tiers: Iterable[TierMemory]) -> float:
    """0 (each replica has its own luck) to 1 (all share it), over the tiers of a deployment."""
    weight, total = float(PRIOR_WINDOWS), float(PRIOR_WINDOWS)
    for tier in tiers:
        weight += tier.balanced
        total += tier.balanced * min(tier.dispersion, 1.0)
    return max(0.0, 1.0 - total / weight)
