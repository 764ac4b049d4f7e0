"""
What does one replica of each tier do, and how sure is that?

Enters:     the deployment, its accelerators, what was observed, the expected request shape.
Leaves:     `TierEstimate` per tier (law, service curve, capacity inside the SLO, start-up, power), and the memory of
            what was learned.
May import: domain, units, errors, numpy.

    arguments, models, hardware -> serving -> priors (table, roofline)      what a tier is
    observation -> samples, comparison -> fit -> learning -> memory         what was seen of it
    prior, memory -> law; law, requests, targets -> service -> capacity     what it can carry
"""

from tidegate.estimate.assessment import assess, startup_times
from tidegate.estimate.learning import expect, learn
from tidegate.estimate.memory import EstimateMemory

__all__ = ["EstimateMemory", "assess", "expect", "learn", "startup_times"]
