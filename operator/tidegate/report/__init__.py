"""
What the operator reports: status, conditions, events, metrics.

Question: what should a person, a dashboard or a pipeline see now?
Enters:   a `Report` (what was wanted, observed, decided and done). Leaves: a status, events, metric families.
May import: ports, domain, errors, units. `events` posts; `metrics` exposes; the rest is pure. If nothing that matters
            has changed, the status is equal to the old one and is not written.
"""
