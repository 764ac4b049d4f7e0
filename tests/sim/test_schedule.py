"""The cheapest schedule, compared with brute force over all schedules."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.sim.builders import KEY, poisson, scenario, tier
from tidegate.domain.spec import Cost, DeploymentSpec, ScaleToZero, Schedule
from tidegate.sim.limits import in_force
from tidegate.sim.schedule import Axis, Floats, Grid, Penalties, Problem, late_share

WINDOW_S = 60.0


def spec(**changes: object) -> DeploymentSpec:
    base = scenario(poisson(1.0, 60.0), tiers=(tier("bf16"), tier("int4", quality=0.9))).services[0].spec
    return replace(base, **changes)  # type: ignore[arg-type]


def axis(name: str, windows: int, **changes: object) -> Axis:
    values: dict[str, object] = {
        "key": KEY, "name": name, "fluid_rps": 10.0, "knee_rps": 8.0, "quality": 1.0, "most": 2, "initial": 1,
        "accelerator": "gpu", "accelerators": 1, "usd_per_hour": np.full(windows, 2.0),
        "created_s": (np.arange(windows) - 1) * WINDOW_S, "stay_s": 5.0,
    }  # fmt: skip
    return Axis(**values | changes)  # type: ignore[arg-type]


def problem(demand: list[float], axes: list[Axis], capacity: float = 4.0, **changes: object) -> Problem:
    of = spec(**changes)
    return Problem(
        specs={KEY: of},
        axes=axes,
        demand_rps={KEY: np.array(demand)},
        limits={KEY: [in_force(of, window * WINDOW_S) for window in range(len(demand))]},
        window_s=WINDOW_S,
        capacity={"gpu": np.full(len(demand), capacity)},
    )


def usd(of: Problem, path: list[tuple[int, ...]], penalty: Penalties) -> float:
    """Cost of a schedule from the definitions, $; infinite if it breaks a bound."""
    total, limit = 0.0, of.capacity["gpu"][0]
    for window in range(1, len(path)):
        before, now = path[window - 1], path[window]
        held = [max(b, n) for b, n in zip(before, now, strict=True)]
        for fleet in (held, now):
            budget = of.specs[KEY].cost.budget_usd_per_hour
            price = sum(n * a.usd_per_hour[window] for n, a in zip(fleet, of.axes, strict=True))
            if sum(fleet) > limit or sum(fleet) < 1 or (budget is not None and price > budget + 1e-9):
                return float("inf")
        for a, b, n in zip(of.axes, before, now, strict=True):
            lead_s = window * WINDOW_S - a.created_s[window] + a.stay_s
            total += max(0, n - b) * a.usd_per_hour[window] * lead_s / 3600
            total += n * a.usd_per_hour[window] * WINDOW_S / 3600
        total += penalty_usd(of, window, now, penalty)
    return total


def penalty_usd(of: Problem, window: int, now: tuple[int, ...], penalty: Penalties) -> float:
    demand = of.demand_rps[KEY][window]
    fluid = sum(n * a.fluid_rps for n, a in zip(now, of.axes, strict=True))
    safety = sum(n * (a.fluid_rps - a.knee_rps) ** 2 for n, a in zip(now, of.axes, strict=True)) ** 0.5
    late = float(late_share(demand, np.array(fluid), np.array(safety), of.specs[KEY].slo.attainment))
    served = sum(n * a.knee_rps for n, a in zip(now, of.axes, strict=True))
    quality = sum(n * a.knee_rps * a.quality for n, a in zip(now, of.axes, strict=True)) / served
    requests = demand * WINDOW_S
    return (
        penalty.late_usd * (requests * late + max(0.0, demand - fluid) * WINDOW_S)
        - penalty.poor_usd * requests * quality
    )


@settings(max_examples=40, deadline=None)
@given(
    demand=st.lists(st.floats(0.5, 30.0), min_size=3, max_size=5),
    price=st.floats(0.5, 4.0),
    late=st.sampled_from([1e-4, 1e-3, 1e-2]),
    poor=st.sampled_from([0.0, 1e-2]),
    budget=st.sampled_from([None, 4.5]),
)
def test_no_schedule_is_cheaper(
    demand: list[float], price: float, late: float, poor: float, budget: float | None
) -> None:
    windows = len(demand)
    axes = [
        axis("bf16", windows),
        axis("int4", windows, usd_per_hour=np.full(windows, price), quality=0.9, knee_rps=6.0, initial=0),
    ]
    of = problem(demand, axes, capacity=3.0, cost=Cost(budget_usd_per_hour=budget))
    penalty = Penalties(late_usd=late, poor_usd=poor)
    found = [tuple(int(n) for n in row) for row in Grid(of).cheapest({KEY: penalty})]
    fleets = list(product(range(3), range(3)))
    best = min(usd(of, [(1, 0), *rest], penalty) for rest in product(fleets, repeat=windows - 1))
    assert usd(of, found, penalty) == pytest.approx(best, abs=1e-9)


def test_a_replica_that_cannot_be_created_in_time_is_kept_through_the_trough() -> None:
    """Two needed, then one, then two again: with a start-up of a window or more the second stays."""
    slow = axis("bf16", 4, initial=2, created_s=np.array([-np.inf, -np.inf, -np.inf, -np.inf]))
    path = Grid(problem([12.0, 12.0, 1.0, 12.0], [slow])).cheapest({KEY: Penalties(late_usd=0.1)})
    assert [int(n) for n in path[:, 0]] == [2, 2, 2, 2]


def test_a_trough_longer_than_a_start_up_is_used() -> None:
    path = Grid(problem([12.0, *[1.0] * 8, 12.0], [axis("bf16", 10, initial=2)])).cheapest(
        {KEY: Penalties(late_usd=0.1)}
    )
    assert [int(n) for n in path[:, 0]] == [2, *[1] * 8, 2]


def test_the_penalty_for_quality_moves_the_schedule_to_the_better_tier() -> None:
    axes = [
        axis("bf16", 4, usd_per_hour=np.full(4, 3.0)),
        axis("int4", 4, usd_per_hour=np.full(4, 1.0), quality=0.9, initial=1),
    ]
    grid = Grid(problem([5.0] * 4, axes))
    cheap, good = (grid.cheapest({KEY: Penalties(late_usd=0.01, poor_usd=p)}) for p in (0.0, 10.0))
    assert cheap[-1].tolist() == [0, 1]
    assert grid.quality(KEY, cheap) < grid.quality(KEY, good)
    assert good[-1].tolist() == [1, 0]


def test_the_mean_quality_counts_requests_and_tiers_share_them_by_their_knees() -> None:
    """5 requests/s on bf16, 14 on both, 1 on int4: (5 + 14 * (8 + 6 * 0.9) / 14 + 1 * 0.9) / 20."""
    axes = [axis("bf16", 3), axis("int4", 3, knee_rps=6.0, quality=0.9)]
    grid = Grid(problem([5.0, 14.0, 1.0], axes))
    assert grid.quality(KEY, np.array([[1, 0], [1, 1], [0, 1]])) == pytest.approx(19.3 / 20)
    assert grid.quality(KEY, np.array([[0, 1]] * 3)) == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("demand", "low", "high"),
    [(0.0, 0.0, 0.0), (4.0, 0.0, 0.01), (8.0, 0.0099, 0.0101), (10.0, 0.49, 0.51), (20.0, 0.99, 1.0)],
    ids=["nobody", "half a load", "at the knee the target", "at the ceiling half", "twice the ceiling"],
)
def test_lateness_rises_through_the_target_at_the_knee(demand: float, low: float, high: float) -> None:
    share: Floats = late_share(demand, np.array([10.0]), np.array([2.0]), 0.99)
    assert low <= share[0] <= high


def test_no_schedule_uses_more_accelerators_than_exist() -> None:
    path = Grid(problem([50.0] * 3, [axis("bf16", 3, most=8, initial=4)], capacity=4.0)).cheapest(
        {KEY: Penalties(late_usd=1.0)}
    )
    assert path.max() == 4


def test_a_first_fleet_above_the_limits_leaves_as_far_as_it_must() -> None:
    axes = [axis("bf16", 4, initial=2), axis("int4", 4, initial=0, accelerator="other")]
    path = Grid(problem([12.0] * 4, axes, capacity=1.0)).cheapest({KEY: Penalties(late_usd=1.0)})
    assert path[:, 0].tolist() == [1] * 4
    assert path[-1].tolist() == [1, 1]


def test_without_a_price_it_is_also_too_late_for_what_cannot_be_created_in_time() -> None:
    late = axis("bf16", 4, usd_per_hour=np.zeros(4), created_s=np.array([-np.inf, -np.inf, 60.0, 120.0]))
    path = Grid(problem([12.0] * 4, [late])).cheapest({KEY: Penalties(late_usd=1.0)})
    assert path[:, 0].tolist() == [1, 1, 2, 2]


@pytest.mark.parametrize(
    ("demand", "idle", "expected"),
    [
        pytest.param([4.0, 4.0, 0.0, 0.0, 0.0, 0.0], 2, [1, 1, 1, 1, 0, 0], id="after the last request"),
        pytest.param([4.0, 0.0, 0.0, 0.0, 0.0], 3, [1, 1, 1, 1, 0], id="which may come in the first window"),
    ],
)
def test_zero_waits_for_the_idle_time(demand: list[float], idle: int, expected: list[int]) -> None:
    of = problem(demand, [axis("bf16", len(demand))], replicas_min=0, scale_to_zero=ScaleToZero(idle_s=idle * WINDOW_S))
    assert Grid(of).cheapest({KEY: Penalties(late_usd=1.0)})[:, 0].tolist() == expected


def hour(low: int | None = None, high: int | None = None, *, minutes: float) -> Schedule:
    """Bounds for some minutes of every hour, from the third one on."""
    return Schedule(
        name="hour", cron="2 * * * *", time_zone="UTC", duration_s=60.0 * minutes, replicas_min=low, replicas_max=high
    )


@pytest.mark.parametrize(
    ("changes", "most", "expected"),
    [
        ({"schedules": (hour(2, minutes=2),)}, 2, [1, 1, 2, 2, 1, 1]),
        ({"schedules": (hour(high=1, minutes=2),)}, 2, [2, 2, 1, 1, 1, 2]),
        ({"schedules": (hour(3, 3, minutes=2),), "replicas_max": 1}, 3, [1, 1, 1, 3, 1, 1]),
        ({"replicas_pinned": 2}, 2, [2, 2, 2, 2, 2, 2]),
        ({"replicas_min": 3, "cost": Cost(budget_usd_per_hour=4.0)}, 3, [2, 2, 2, 2, 2, 2]),
    ],
    ids=[
        "as many as a schedule asks for while it holds",
        "no more than a schedule allows while it holds, and a window for what is created after it",
        "a bound that jumps with its ceiling is reached a window later",
        "a pin is kept",
        "a minimum that the budget cannot carry gives way as little as it must",
    ],
)
def test_bounds_hold_in_every_window(changes: dict[str, object], most: int, expected: list[int]) -> None:
    load = 12.0 if expected[0] == 2 else 1.0
    bf16 = axis("bf16", 6, most=most, initial=expected[0])
    assert (
        Grid(problem([load] * 6, [bf16], **changes)).cheapest({KEY: Penalties(late_usd=0.01)})[:, 0].tolist()
        == expected
    )


def test_a_tier_keeps_its_minimum_where_another_is_cheaper() -> None:
    tiers = (replace(tier("bf16"), replicas_min=1), tier("int4", quality=0.9))
    axes = [axis("bf16", 4), axis("int4", 4, usd_per_hour=np.full(4, 0.1), quality=0.9, initial=0)]
    path = Grid(problem([12.0] * 4, axes, tiers=tiers)).cheapest({KEY: Penalties(late_usd=1.0)})
    assert path[1:].tolist() == [[1, 1]] * 3


def test_a_bound_that_cannot_be_met_in_time_is_met_as_soon_as_can_be() -> None:
    never = -np.inf
    slow = axis("bf16", 5, created_s=np.array([never, never, never, 0.0, 0.0]))
    path = Grid(problem([1.0] * 5, [slow], replicas_min=2)).cheapest({KEY: Penalties(late_usd=0.01)})
    assert path[:, 0].tolist() == [1, 1, 1, 2, 2]
