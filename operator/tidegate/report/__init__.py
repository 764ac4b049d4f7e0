"""
What the operator tells: status, conditions, events, metrics.

Question: what should a person, a dashboard or a pipeline see now?
Enters:   a `Report` (what was wanted, seen, decided and done). Leaves: a status, events, metric families.
May import: ports, domain, errors, units. `events` posts; `metrics` exposes; the rest is pure. A status is the same
            value as before where nothing that matters has changed, so that nothing is written.
"""
