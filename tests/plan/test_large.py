"""Deployments too large for an exhaustive search: a coarser plan, but always one, and within the limits."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.plan.fleets import Loop, estimate, fleet, forecast, spec, tier
from tidegate.domain.decision import Constraint
from tidegate.domain.spec import Accelerator, Cost, DeploymentSpec
from tidegate.plan.cuts import Goal
from tidegate.plan.fleet import FleetModel, build, expected_attainment
from tidegate.plan.limits import Limits, limits
from tidegate.plan.scenario import scenarios
from tidegate.plan.search import best_effort, cheapest
from tidegate.plan.solve import Given, solve

NAMES = ("a", "b", "c", "d", "e")


def pools(capacity: int | None = None) -> dict[str, Accelerator]:
    """A class for each tier, each a little dearer than the one before."""
    return {
        name: Accelerator(name=name, price_usd_per_hour=2.0 + 0.4 * i, capacity=capacity)
        for i, name in enumerate(NAMES)
    }


def problem(wanted: DeploymentSpec, rate: float, capacity: int | None = None) -> tuple[FleetModel, Limits, Goal]:
    model = build(wanted, {name: estimate(5 + 0.8 * i) for i, name in enumerate(NAMES)}, pools(capacity))
    bounds = limits(wanted, model=model, accelerators=pools(capacity), time_s=0.0)
    goal = Goal(
        demand=scenarios(forecast(rate, spread=0.2), 120.0),
        attainment=0.99,
        quality=0.0,
        current=(5,) + (0,) * (len(wanted.tiers) - 1),
        grow_usd=model.prices * 0.05,
        shrink_usd=model.prices * 0.05,
    )
    return model, bounds, goal


@st.composite
def large(draw: st.DrawFn) -> tuple[FleetModel, Limits, Goal]:
    """Four or five tiers of up to 400 replicas, and every kind of limit now and then."""
    total = draw(st.integers(60, 400))
    tiers = [
        tier(name, accelerator=name, low=draw(st.sampled_from((0, 0, 0, 3))), high=draw(st.integers(40, total)))
        for name in NAMES[: draw(st.integers(4, 5))]
    ]
    wanted = spec(
        *tiers,
        replicas_min=draw(st.integers(1, 20)),
        replicas_max=total,
        cost=Cost(budget_usd_per_hour=draw(st.sampled_from((None, None, 60.0, 333.0)))),
    )
    return problem(wanted, draw(st.floats(100, 5_000)), draw(st.sampled_from((None, 30, 75))))


def each_alone(model: FleetModel, bounds: Limits) -> np.ndarray:
    """As many replicas as there may be of each tier on top of the lower bounds of the others."""
    rows = []
    for i, (low, high) in enumerate(bounds.tiers):
        row = [n for n, _ in bounds.tiers]
        row[i] = max(n for n in range(low, high + 1) if bounds.below(model, (*row[:i], n, *row[i + 1 :])))
        rows.append(row)
    return np.array(rows)


@settings(max_examples=15, deadline=None)
@given(large())
def test_a_large_deployment_is_never_planned_to_nothing_nor_worse_than_with_one_tier(
    case: tuple[FleetModel, Limits, Goal],
) -> None:
    model, bounds, goal = case
    solution = solve(model, bounds, goal)
    assert any(solution.fleet)
    assert bounds.hold(model, solution.fleet)
    best = expected_attainment(model, each_alone(model, bounds), goal.demand).max()
    assert solution.attainment >= min(goal.attainment, best * 0.998) - 1e-9


@pytest.mark.parametrize(
    ("high", "total", "capacity", "rate"),
    [(60, 240, None, 600.0), (100, 100, 50, 420.0), (100, 100, 60, 450.0)],
    ids=["a bound of each tier", "a small class", "a class that is a little larger"],
)
def test_where_no_tier_carries_it_alone_a_mix_of_many_is_found(
    high: int, total: int, capacity: int | None, rate: float
) -> None:
    wanted = spec(*[tier(name, accelerator=name, high=high) for name in NAMES[:4]], replicas_max=total)
    model, bounds, goal = problem(wanted, rate, capacity)
    found = cheapest(model, bounds, goal)
    assert found is not None
    assert bounds.hold(model, found.fleet)
    assert found.attainment >= 0.99 - 1e-9
    # Divisible replicas of the cheapest tiers, each as far as it goes, cost this much at least.
    fluid, left = 0.0, rate
    for price, each in zip(model.each_usd, model.capacities, strict=True):
        n = min(left / each, capacity or high)
        fluid, left = fluid + n * price, left - n * each
    assert model.usd_per_hour(found.fleet) <= fluid * 1.2


def test_of_five_tiers_four_may_grow() -> None:
    wanted = spec(*[tier(name, accelerator=name, high=10) for name in NAMES], replicas_max=50)
    model, bounds, goal = problem(wanted, 190.0)
    assert sum(sorted(model.capacities)[:3]) * 10 < 190.0, "the three cheapest tiers do not carry it"
    found = cheapest(model, bounds, goal)
    assert found is not None
    assert sum(n > 0 for n in found.fleet) == 4


def test_sixteen_tiers_that_all_run_are_searched_too() -> None:
    names = [f"t{i}" for i in range(16)]
    wanted = spec(*[tier(name, low=1, high=100) for name in names], replicas_max=400)
    one = {"h100": Accelerator(name="h100", price_usd_per_hour=3.0)}
    model = build(wanted, {name: estimate(5 + 0.1 * i) for i, name in enumerate(names)}, one)
    bounds = limits(wanted, model=model, accelerators=one, time_s=0.0)
    still = np.zeros(16)
    demand = scenarios(forecast(1e4), 120.0)
    goal = Goal(demand=demand, attainment=0.99, quality=0.0, current=(4,) * 16, grow_usd=still, shrink_usd=still)
    found = best_effort(model, bounds, goal)
    assert found is not None
    assert bounds.hold(model, found.fleet)
    assert sum(found.fleet) > 350


def test_four_tiers_in_overload_get_all_replicas_there_may_be_and_say_why() -> None:
    tiers = [tier(name, high=100) for name in NAMES[:4]]
    loop = Loop(spec=spec(*tiers, replicas_max=100), estimates={n: estimate(5) for n in NAMES}, ready={"a": 5})
    loop.run(forecast(20), 2)
    decision = loop.tick(forecast(1e4))
    assert sum(fleet(decision).values()) == 100
    assert decision.binding is Constraint.MAX_REPLICAS
    assert loop.memory is not None
    assert loop.memory.given == Given.ATTAINMENT
