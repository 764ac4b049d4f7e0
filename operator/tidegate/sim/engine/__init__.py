"""
Iteration-level replicas, compiled.

Question: which request runs in which step of which replica, and when is each token emitted?
Enters:   arrivals, step times per tier, replicas that are added and removed.
Leaves:   times per request, counters per replica.
May import: numpy, numba, domain, `sim.traces`. No clock; no randomness except the router's own generator.
"""
