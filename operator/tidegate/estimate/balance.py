"""
How far a router evens out the load over replicas, from how evenly they are seen to be loaded.

A router that picks the least loaded replica keeps them within a request or two of each other; one that picks at random
leaves each with a Poisson count of its own. Round robin and routers that look at caches first lie in between. A router
that was never seen at work is taken to pick at random.
"""

from collections.abc import Iterable

from tidegate.estimate.memory import TierMemory

# Windows of picking at random that are assumed before anything was seen.
PRIOR_WINDOWS = 2


def evenness_of(tiers: Iterable[TierMemory]) -> float:
    """0 (each replica has its own luck) to 1 (all share it), over the tiers of a deployment."""
    weight, total = float(PRIOR_WINDOWS), float(PRIOR_WINDOWS)
    for tier in tiers:
        weight += tier.balanced
        total += tier.balanced * min(tier.dispersion, 1.0)
    return max(0.0, 1.0 - total / weight)
