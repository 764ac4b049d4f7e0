"""The search, compared with brute force over all fleets."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.plan.fleets import ALONE, POOLS, estimate, forecast, spec, tier
from tidegate.domain.spec import Accelerator, Cost, Quality
from tidegate.plan import search
from tidegate.plan.cuts import Goal
from tidegate.plan.fleet import Fleet, FleetModel, build, expected_attainment, mean_quality, profile
from tidegate.plan.limits import Limits, accelerators_used, carried, limits
from tidegate.plan.scenario import Scenarios, scenarios
from tidegate.plan.search import SAME_COST, alone, best_effort, best_quality, cheapest
from tidegate.plan.solve import Given, solve, without_limits
from tidegate.plan.table import table

NAMES = ("bf16", "fp8", "int4")


@st.composite
def cases(draw: st.DrawFn) -> tuple[FleetModel, Limits, Goal]:
    """Up to three tiers on two classes, few replicas, every kind of limit now and then."""
    names = NAMES[: draw(st.integers(1, 3))]
    high = draw(st.integers(1, 5))
    tiers, estimates = [], {}
    for name in names:
        low = draw(st.sampled_from((0, 0, 0, 1)))
        tiers.append(
            tier(
                name,
                quality=draw(st.sampled_from((1.0, 0.99, 0.95, 0.9))),
                accelerator=draw(st.sampled_from(("h100", "l40s"))),
                gpus=draw(st.integers(1, 2)),
                low=low,
                high=high,
            )
        )
        estimates[name] = estimate(
            draw(st.floats(0.5, 12)),
            startup_s=draw(st.sampled_from((30.0, 120.0, 600.0))),
            idle=draw(st.sampled_from((1.0, 1.0, 0.97))),
            running=draw(st.floats(4, 100)),
            pooling=draw(
                st.sampled_from((ALONE, ALONE, (1.0, 1.05, 1.08, 1.1, 1.15, 1.2), (1.0, 1.2, 1.3, 1.4, 1.5, 1.6)))
            ),
        )
    demand = scenarios(forecast(draw(st.floats(0, 40)), spread=draw(st.sampled_from((0.0, 0.3, 2.0)))), 120.0)
    pools = {
        name: Accelerator(
            name=name,
            price_usd_per_hour=draw(st.sampled_from((0.7, 1.2, 3.0))),
            capacity=draw(st.sampled_from((None, None, 2, 6))),
        )
        for name in POOLS
    }
    wanted = spec(
        *tiers,
        replicas_min=draw(st.integers(0, 3)),
        replicas_max=draw(st.integers(3, 12)),
        cost=Cost(budget_usd_per_hour=draw(st.sampled_from((None, None, 4.0, 12.0)))),
        quality=Quality(
            minimum=draw(st.sampled_from((0.0, 0.95))), average_minimum=draw(st.sampled_from((0.0, 0.97, 0.99)))
        ),
    )
    model = build(wanted, estimates, pools)
    bounds = limits(wanted, model=model, accelerators=pools, time_s=0.0)
    goal = Goal(
        demand=demand,
        attainment=0.99,
        quality=wanted.quality.average_minimum,
        current=tuple(draw(st.integers(0, 3)) for _ in names),
        grow_usd=model.prices * draw(st.sampled_from((0.0, 0.1))),
        shrink_usd=model.prices * draw(st.sampled_from((0.0, 0.05))),
    )
    return model, bounds, goal


def scaled(demand: Scenarios, factor: float) -> Scenarios:
    """All rates times a factor."""
    rates = tuple(rate * factor for rate in demand.rates_rps)
    return replace(demand, rates_rps=rates, shown_rps=demand.shown_rps * factor, mean_rps=demand.mean_rps * factor)


def every_fleet(model: FleetModel, bounds: Limits) -> np.ndarray:
    fleets = [f for f in product(*[range(b + 1) for _, b in bounds.tiers]) if bounds.hold(model, f)]
    return np.array(fleets).reshape(len(fleets), len(model.names))


def meeting(model: FleetModel, fleets: np.ndarray, goal: Goal) -> np.ndarray:
    reached = expected_attainment(model, fleets, goal.demand)
    quality = mean_quality(model, fleets, goal.demand.mean_rps)
    return (reached >= goal.attainment - 1e-9) & (quality >= goal.quality - 1e-9)


def quality_of(model: FleetModel, fleet: Fleet, goal: Goal) -> float:
    return float(mean_quality(model, np.array([fleet]), goal.demand.mean_rps)[0])


def every_good_fleet(model: FleetModel, bounds: Limits, goal: Goal) -> np.ndarray:
    """Of all fleets inside the limits those that meet the goal."""
    fleets = every_fleet(model, bounds)
    return fleets[meeting(model, fleets, goal)] if len(fleets) else fleets


@settings(max_examples=250, deadline=None)
@given(cases())
def test_the_search_equals_brute_force(case: tuple[FleetModel, Limits, Goal]) -> None:
    model, bounds, goal = case
    good = every_good_fleet(model, bounds, goal)
    found = cheapest(model, bounds, goal)
    if not len(good):
        assert found is None
        return
    assert found is not None
    assert bounds.hold(model, found.fleet)
    assert found.objective <= goal.objective(model, good).min() * (1 + SAME_COST) + 1e-6
    assert found.attainment >= goal.attainment - 1e-9
    assert quality_of(model, found.fleet, goal) >= goal.quality - 1e-9


@settings(max_examples=120, deadline=None)
@given(cases())
def test_bounds_far_above_what_is_needed_cost_nothing(case: tuple[FleetModel, Limits, Goal]) -> None:
    model, bounds, goal = case
    good = every_good_fleet(model, bounds, goal)
    assume(len(good) > 0)
    high = tuple((low, 500 if most else 0) for low, most in bounds.tiers)
    found = cheapest(model, replace(bounds, total=(bounds.total[0], 500), tiers=high), goal)
    assert found is not None
    assert found.objective <= goal.objective(model, good).min() * (1 + SAME_COST) + 1e-6


@settings(max_examples=120, deadline=None)
@given(cases())
def test_the_search_result_does_not_depend_on_the_chunk_size(case: tuple[FleetModel, Limits, Goal]) -> None:
    model, bounds, goal = case
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "CHUNK", 1)
        found = cheapest(model, bounds, goal)
    at_once = cheapest(model, bounds, goal)
    assert (found and found.fleet) == (at_once and at_once.fleet)


@settings(max_examples=80, deadline=None)
@given(cases(), st.floats(1.0, 30.0))
def test_more_replicas_of_a_tier_never_carry_less_however_deep_the_overload(
    case: tuple[FleetModel, Limits, Goal], factor: float
) -> None:
    model, _, goal = case
    demand = scaled(goal.demand, factor)
    for i, _ in enumerate(model.names):
        fleets = np.array([[n if i == j else 0 for j in range(len(model.names))] for n in range(1, 8)])
        assert (np.diff(expected_attainment(model, fleets, demand)) >= -1e-12).all()


@settings(max_examples=120, deadline=None)
@given(cases())
def test_the_best_quality_and_the_best_effort_are_the_best_of_all_fleets(case: tuple[FleetModel, Limits, Goal]) -> None:
    model, bounds, goal = case
    fleets = every_fleet(model, bounds)
    kept, served = best_quality(model, bounds, goal), best_effort(model, bounds, goal)
    if not len(fleets):
        assert kept is None
        assert served is None
        return
    assert served is not None
    assert served.attainment >= expected_attainment(model, fleets, goal.demand).max() - 0.002 - 1e-9
    good = fleets[meeting(model, fleets, replace(goal, quality=0.0))]
    assert (kept is None) == (not len(good))
    if kept is not None:
        assert quality_of(model, kept.fleet, goal) >= mean_quality(model, good, goal.demand.mean_rps).max() - 1e-4


@settings(max_examples=250, deadline=None)
@given(cases(), st.integers(0, 6), st.integers(0, 6))
def test_a_table_gives_the_searchs_answer_for_any_room(
    case: tuple[FleetModel, Limits, Goal], h100: int, l40s: int
) -> None:
    model, bounds, goal = case
    all_of_them = table(model, bounds, goal, most=10_000)
    assert all_of_them is not None
    for room in ({"h100": h100}, {"h100": h100, "l40s": l40s}, {"l40s": l40s}):
        mine = {name: n for name, n in room.items() if name in model.classes}
        within = carried(replace(bounds, room={**bounds.room, **mine}), model)
        if not all_of_them.covers(within):
            assert any(mine[name] > most for name, most in bounds.room.items() if name in mine)
            continue
        looked_up, searched = solve(model, within, goal, finder=all_of_them), solve(model, within, goal)
        # How many fleets are computed together can change the last digit.
        assert looked_up.attainment == pytest.approx(searched.attainment, abs=1e-12)
        assert replace(looked_up, attainment=searched.attainment) == searched


def test_a_table_of_too_many_fleets_or_of_tiers_that_a_plan_leaves_out_is_not_made() -> None:
    for tiers, most in ((2, 65), (5, 10_000)):
        names = [f"t{i}" for i in range(tiers)]
        wanted = spec(*[tier(name, high=10) for name in names], replicas_max=10)
        model = build(wanted, {name: estimate(5) for name in names}, POOLS)
        bounds = limits(wanted, model=model, accelerators=POOLS, time_s=0.0)
        still = np.zeros(tiers)
        demand = scenarios(forecast(10.0), 120.0)
        goal = Goal(demand=demand, attainment=0.99, quality=0.0, current=(0,) * tiers, grow_usd=still, shrink_usd=still)
        assert table(model, bounds, goal, most=most) is None
        assert tiers > 2 or table(model, bounds, goal, most=most + 1) is not None


@settings(max_examples=120, deadline=None)
@given(cases(), st.floats(1.0, 3.0))
def test_more_demand_never_costs_less(case: tuple[FleetModel, Limits, Goal], factor: float) -> None:
    model, bounds, goal = case
    less, more = (
        cheapest(model, bounds, goal),
        cheapest(model, bounds, replace(goal, demand=scaled(goal.demand, factor))),
    )
    assert less is not None or more is None or goal.quality > 0
    if less is not None and more is not None and goal.quality == 0:
        assert less.objective <= more.objective * (1 + SAME_COST) + 1e-6


@settings(max_examples=150, deadline=None)
@given(cases())
def test_whatever_is_given_up_the_hard_limits_hold(case: tuple[FleetModel, Limits, Goal]) -> None:
    model, bounds, goal = case
    solution = solve(model, bounds, goal)
    assert bounds.below(model, solution.fleet)
    assert all(n == 0 for n, ok in zip(solution.fleet, model.usable, strict=True) if not ok)
    if solution.given is Given.NOTHING:
        assert bounds.hold(model, solution.fleet)
        assert solution.attainment >= goal.attainment - 1e-9
    used = accelerators_used(model, solution.fleet)
    assert all(used.get(name, 0) <= most for name, most in bounds.room.items())


@settings(max_examples=60, deadline=None)
@given(cases())
def test_single_and_batched_evaluation_agree(case: tuple[FleetModel, Limits, Goal]) -> None:
    model, bounds, goal = case
    fleets = every_fleet(model, bounds)[:20]
    if not len(fleets):
        return
    together = expected_attainment(model, fleets, goal.demand)
    for row, share in zip(fleets, together, strict=True):
        alone = profile(model, tuple(row.tolist())).attainment(goal.demand)
        assert abs(alone - share) < 1e-9


def test_a_mix_beats_one_tier_where_whole_replicas_are_coarse() -> None:
    """13 req/s on replicas of 10 ($6) and 3 ($2): two large ones cost $12, one of each costs $8."""
    wanted = spec(tier("large", gpus=2), tier("small", accelerator="l40s"))
    pools = {
        "h100": Accelerator(name="h100", price_usd_per_hour=3.0),
        "l40s": Accelerator(name="l40s", price_usd_per_hour=2.0),
    }
    model = build(wanted, {"large": estimate(10), "small": estimate(3.2)}, pools)
    bounds = limits(wanted, model=model, accelerators=pools, time_s=0.0)
    still = np.zeros(2)
    goal = Goal(
        demand=scenarios(forecast(13.0), 120.0),
        attainment=0.99,
        quality=0.0,
        current=(0, 0),
        grow_usd=still,
        shrink_usd=still,
    )
    found = cheapest(model, bounds, goal)
    assert found is not None
    assert found.fleet == (1, 1)


def test_two_hundred_replicas_of_three_tiers_are_still_planned() -> None:
    wanted = spec(*[tier(n, high=400) for n in NAMES], replicas_max=1000)
    model = build(wanted, {"bf16": estimate(6), "fp8": estimate(9), "int4": estimate(5)}, POOLS)
    bounds = limits(wanted, model=model, accelerators=POOLS, time_s=0.0)
    goal = Goal(
        demand=scenarios(forecast(1500.0, spread=0.2), 120.0),
        attainment=0.99,
        quality=0.0,
        current=(0, 0, 0),
        grow_usd=model.prices * 0.05,
        shrink_usd=model.prices * 0.05,
    )
    found = cheapest(model, bounds, goal)
    assert found is not None
    assert 160 <= sum(found.fleet) <= 200


# Fleets of three tiers with so many of each are few enough to try every one.
MOST = 12


@settings(max_examples=80, deadline=None)
@given(cases())
def test_the_plan_without_limits_is_the_best_fleet_with_no_more_of_a_tier_than_one_alone_needs(
    case: tuple[FleetModel, Limits, Goal],
) -> None:
    model, _, goal = case
    still = replace(goal, grow_usd=goal.grow_usd * 0.0, shrink_usd=goal.shrink_usd * 0.0)
    single = alone(model, still, replicas_max=MOST)
    if not single:
        return
    most = max(sum(fleet) for fleet in single.values())
    fleets = np.array(list(product(*[range(most + 1 if ok else 1) for ok in model.usable])))
    found = without_limits(model, goal, replicas_max=MOST)
    good = fleets[meeting(model, fleets, still)]
    if len(good):
        assert found.given is Given.NOTHING
        assert found.objective <= still.objective(model, good).min() * (1 + SAME_COST) + 1e-6
    else:
        assert found.given is Given.QUALITY
        carrying = fleets[meeting(model, fleets, replace(still, quality=0.0))]
        assert quality_of(model, found.fleet, goal) >= mean_quality(model, carrying, goal.demand.mean_rps).max() - 1e-4


def test_a_load_that_no_number_of_replicas_carries_is_answered_with_the_most_that_is_searched_for() -> None:
    wanted = spec(tier("bf16"), tier("fp8", quality=0.995))
    model = build(wanted, {"bf16": estimate(0.5), "fp8": estimate(0.8)}, POOLS)
    goal = Goal(
        demand=scenarios(forecast(1e6), 120.0),
        attainment=0.99,
        quality=0.0,
        current=(0, 0),
        grow_usd=model.prices * 0.0,
        shrink_usd=model.prices * 0.0,
    )
    found = without_limits(model, goal, replicas_max=2_000)
    assert (found.fleet, found.given) == ((0, 2_000), Given.ATTAINMENT)
