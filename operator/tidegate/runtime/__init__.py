"""
How do the parts become one process?

Question: what runs, in which order, who may act, and what happens when something dies?
Enters:   settings. Leaves: a running operator: caches warm on every replica, writes by the leader only.
May import: every package below the command line.

    process   one TaskGroup of everything; the first crash ends it
    parts     every long-lived object, made once from the settings
    kube      the connection to the API server (implements ports.KubeApi)
    fenced    the same for writes: by the leader only, and rate-limited
    elector   leader election (implements ports.Fence)
    resources kopf in its own thread: custom resources come in
    inventory what users wrote (implements ports.Inventory)
    sweep     compares what exists with what kopf delivered
    planner   observe, step, hand over: every 15 s or when something changed
    policy    what the core is asked to plan
    coretime  the core's clock: the wall clock, but never backwards
    hands     executes and reports decisions, leader only
    keeper    memory in ConfigMaps
    recovery  loads and saves memory; reads demand from Prometheus where it is missing
    server    /metrics, /healthz, /readyz
    logs      format of log lines
"""
