"""
Iteration-level replicas, compiled.

Question: which request runs in which step of which replica, and when does each token come out?
Enters:   arrivals, a step-time law per tier, replicas that come and go.
Leaves:   times per request, counters per replica.
May import: numpy, numba, domain. No randomness but its own counter-based stream, no clock.
"""
