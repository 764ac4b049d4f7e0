"""
What one replica of each tier does, and how certain that is.

Enters:     the deployment, its accelerators, the observation, the expected request shape.
Leaves:     a `TierEstimate` per tier (law, service curve, capacity within the SLO, start-up time, power), and the
            memory of what was learned.
May import: domain, units, errors, numpy.

    arguments, models, hardware -> serving -> priors (table, roofline)      configuration and prior of a tier
    observation -> samples, comparison -> shift, fit -> learning -> memory  what was measured
    prior, memory -> law; law, requests, targets -> service -> capacity     what it can carry
"""

from tidegate.estimate.assessment import assess, startup_times
from tidegate.estimate.learning import expect, learn
from tidegate.estimate.memory import EstimateMemory

__all__ = ["EstimateMemory", "assess", "expect", "learn", "startup_times"]
