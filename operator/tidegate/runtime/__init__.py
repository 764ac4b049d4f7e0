"""
How do the parts become one process?

Question: what runs, in which order, who may act, and what happens when something dies?
Enters:   settings. Leaves: a running operator: caches warm on every replica, hands only on the leader.
May import: every room below the command line.

    process   one TaskGroup of everything; the first crash ends it
    parts     every long-lived object, made once from the settings
    kube      the connection to the API server (implements ports.KubeApi)
    fenced    the same for writes: as leader only, and slowly enough
    elector   who leads (implements ports.Fence)
    resources kopf in a thread of its own: custom resources in
    inventory what users wrote (implements ports.Inventory)
    sweep     what really exists, against what kopf brought
    planner   observe, step, hand over: every 15 s or when something changed
    coretime  the time that the core lives in: the wall clock, never back
    hands     actuator queue and status writer, leader only
    keeper    memory in ConfigMaps
    recovery  the memory loaded and saved; demand from Prometheus where it is lost
    server    /metrics, /healthz, /readyz
    logs      how log lines look
"""
