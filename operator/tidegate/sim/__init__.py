"""
The backtest: a simulated fleet of vLLM servers that a scaling policy runs in closed loop.

Question: what would a policy have done on this traffic, and what would it have cost?
Enters:   deployments, traffic, a hidden truth about each tier, faults, a policy.
Leaves:   a scored run: attainment, money, energy, quality, actions, and the series behind them.
May import: everything from `cycle` down, numpy, numba. The product's core never imports it.

    engine/    iteration-level replicas (compiled): who runs in which step, how long the step takes
    world      pods, nodes, accelerators, start-up, faults, bills
    metrics    what Prometheus would have said of it
    policies/  one file per family; tidegate's own is `cycle.step` itself
    runner     the loop that joins them; score what came out
"""
