"""
What to write to the cluster so that it matches the decision.

Question: which objects and how many replicas does this deployment need, and what of that is missing?
Enters:   an `Order` (custom resource, decision, what the cluster has). Leaves: API calls, and an `Outcome`.
May import: ports, estimate, domain, errors, units. `cluster` sends; everything else is pure.
"""
