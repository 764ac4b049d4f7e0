"""
How well the router balances load over replicas, from the measured dispersion of requests over replicas.

A router that picks the least loaded replica keeps them within one or two requests of each other; a random one leaves
each with an independent Poisson count. Round robin and cache-aware routers lie in between. Until it is measured, a
router is assumed to be random.
"""

from collections.abc import Iterable

from tidegate.estimate.memory import TierMemory

# Weight of the initial assumption, in windows of a random router.
PRIOR_WINDOWS = 2


def evenness_of(tiers: Iterable[TierMemory]) -> float:
    """0 (replicas are loaded independently) to 1 (perfectly balanced), over the tiers of a deployment."""
    weight, total = float(PRIOR_WINDOWS), float(PRIOR_WINDOWS)
    for tier in tiers:
        weight += tier.balanced
        total += tier.balanced * min(tier.dispersion, 1.0)
    return max(0.0, 1.0 - total / weight)
