"""
The backtest: a scaling policy controls a simulated fleet of vLLM servers in a closed loop.

Question: what would a policy have done on this traffic, and what would it have cost?
Enters:   deployments, traffic, the true performance of each tier (hidden from the policy), faults, a policy.
Leaves:   a scored run: attainment, cost, energy, quality, actions, and the time series behind them.
May import: everything from `cycle` down, numpy, numba. The product's core never imports it.

    engine/    iteration-level replicas (compiled): which requests run in which step, and how long the step takes
    world      pods, nodes, accelerators, start-up, faults, billing
    metrics    what Prometheus would report about the fleet
    policies/  one file per family; tidegate's own policy is `cycle.step` itself
    runner     the loop that connects them; `score` computes the figures of a run
"""
