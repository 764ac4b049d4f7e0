r"""
What is in the cluster right now?

Question: how many replicas does each tier have, and what do they report?
Enters:   the API server's objects and Prometheus' vectors. Leaves: `TierState`s of one instant, a `ClusterView`,
          and `Missing(reason)` wherever a source is silent; never a zero in its place.
May import: ports, settings, the domain. I/O lives in `prometheus`, `informer` and `kinds`; `collect` and `history`
            send queries, `cluster` joins the results, the rest is pure.

    dialects -> queries -> prometheus -> decode -> readings -\
    informer -> objects, health -> replicas, stock ----------- cluster -> DeploymentObservation, ClusterView
"""
