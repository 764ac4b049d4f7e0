"""The quick proof is correct, and succeeds often enough to be useful."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.plan.fleets import POOLS, estimate, forecast, spec, tier
from tests.plan.test_search import cases, every_fleet, meeting
from tidegate.domain.spec import Cost
from tidegate.plan.cuts import Goal
from tidegate.plan.fleet import FleetModel, build
from tidegate.plan.limits import Limits, limits
from tidegate.plan.proof import nothing_cheaper
from tidegate.plan.scenario import scenarios


@settings(deadline=None, max_examples=200)
@given(case=cases(), share=st.floats(0.3, 1.5))
def test_where_nothing_is_said_to_be_cheaper_no_fleet_is(case: tuple[FleetModel, Limits, Goal], share: float) -> None:
    model, bounds, goal = case
    fleets = every_fleet(model, bounds)
    costs = goal.objective(model, fleets)
    below = share * float(np.median(costs)) if len(fleets) else 1.0
    if nothing_cheaper(model, bounds, goal, below_usd=below):
        assert not meeting(model, fleets[costs < below], goal).any()


def one_tier() -> tuple[FleetModel, Limits, Goal]:
    """5 requests/s for sure, 2 a replica."""
    wanted = spec(tier("bf16", high=60), replicas_max=60, cost=Cost())
    model = build(wanted, {"bf16": estimate(2.0, startup_s=60.0)}, {"h100": POOLS["h100"]})
    demand = scenarios(forecast(5.0, spread=0.0), 75.0)
    still = np.zeros(1)
    goal = Goal(demand=demand, attainment=0.99, quality=0.0, current=(3,), grow_usd=still, shrink_usd=still)
    return model, limits(wanted, model=model, accelerators=POOLS, time_s=0.0), goal


def test_three_replicas_that_are_needed_are_proven_to_be() -> None:
    model, bounds, goal = one_tier()
    usd = model.usd_per_hour((3,))
    assert nothing_cheaper(model, bounds, goal, below_usd=usd)
    assert not nothing_cheaper(model, bounds, goal, below_usd=usd + 0.01)
