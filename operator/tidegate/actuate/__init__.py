"""
The hands: what to write to the cluster so that it becomes what was decided.

Question: which objects and which replicas does this deployment need, and what of that is not there yet?
Enters:   an `Order` (custom resource, decision, what the cluster has). Leaves: API calls, and an `Outcome`.
May import: ports, domain, errors, units. `cluster` sends; everything else is pure.
"""
