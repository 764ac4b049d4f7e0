"""Invariants in a closed loop with an ideal cluster."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.plan.fleets import KEY, Loop, estimate, forecast, spec, tier
from tidegate.domain.decision import Decision
from tidegate.domain.observation import GatewayReading
from tidegate.domain.spec import Accelerator, Cost, Quality, ScaleToZero
from tidegate.plan import PlanMemory, choose

NAMES = ("bf16", "fp8", "int4")


@st.composite
def loops(draw: st.DrawFn) -> Loop:
    names = NAMES[: draw(st.integers(1, 3))]
    tiers = [
        tier(
            name,
            quality=draw(st.sampled_from((1.0, 0.99, 0.95))),
            accelerator=draw(st.sampled_from(("h100", "l40s"))),
            gpus=draw(st.integers(1, 2)),
            high=draw(st.integers(1, 8)),
        )
        for name in names
    ]
    estimates = {
        name: estimate(
            draw(st.floats(1, 12)),
            startup_s=draw(st.sampled_from((30.0, 120.0, 300.0))),
            idle=draw(st.sampled_from((1.0, 1.0, 1.0, 0.9))),
        )
        for name in names
    }
    pools = {
        "h100": Accelerator(name="h100", price_usd_per_hour=3.0, capacity=draw(st.sampled_from((None, 3, 8)))),
        "l40s": Accelerator(name="l40s", price_usd_per_hour=1.2, capacity=draw(st.sampled_from((None, 4)))),
    }
    wanted = spec(
        *tiers,
        replicas_min=draw(st.integers(1, 3)),
        replicas_max=draw(st.integers(3, 12)),
        cost=Cost(budget_usd_per_hour=draw(st.sampled_from((None, 8.0, 20.0)))),
        quality=Quality(
            minimum=draw(st.sampled_from((0.0, 0.97))), average_minimum=draw(st.sampled_from((0.0, 0.985)))
        ),
        scale_down_window_s=draw(st.sampled_from((0.0, 60.0, 300.0))),
        scale_to_zero=draw(st.sampled_from((None, ScaleToZero(idle_s=120.0)))),
    )
    placeable = {name: most for name in names if (most := draw(st.sampled_from((None, None, 0, 1, 3)))) is not None}
    startup_ticks = draw(st.sampled_from((0, 3)))
    return Loop(spec=wanted, estimates=estimates, pools=pools, startup_ticks=startup_ticks, placeable=placeable)


rates = st.floats(0.05, 40)


def cost(loop: Loop, decision: Decision) -> float:
    return sum(
        loop.pools[t.accelerator].price_usd_per_hour * t.accelerators_per_replica * decision.tiers[t.name].replicas
        for t in loop.spec.tiers
    )


def keeps_promises(loop: Loop, decision: Decision) -> None:
    counts = {t.name: decision.tiers[t.name].replicas for t in loop.spec.tiers}
    assert sum(counts.values()) <= loop.spec.replicas_max
    assert all(counts[t.name] <= t.replicas_max for t in loop.spec.tiers)
    assert all(counts[t.name] == 0 for t in loop.spec.tiers if t.quality < loop.spec.quality.minimum)
    assert all(counts[name] <= most for name, most in loop.placeable.items())
    budget = loop.spec.cost.budget_usd_per_hour
    assert budget is None or cost(loop, decision) <= budget + 1e-6
    for name, pool in loop.pools.items():
        used = sum(counts[t.name] * t.accelerators_per_replica for t in loop.spec.tiers if t.accelerator == name)
        assert pool.capacity is None or used <= pool.capacity


@settings(max_examples=60, deadline=None)
@given(loops(), st.lists(st.tuples(rates, st.integers(1, 25)), min_size=1, max_size=5), st.floats(0, 1))
def test_bounds_budget_capacity_and_quality_hold_whatever_comes(
    loop: Loop, phases: list[tuple[float, int]], spread: float
) -> None:
    for rate, ticks in phases:
        for _ in range(ticks):
            keeps_promises(loop, loop.tick(forecast(rate, spread=spread)))


limits = st.tuples(st.sampled_from((None, 8.0, 20.0)), st.integers(3, 12), st.sampled_from((2, 3, 8)))


@settings(max_examples=60, deadline=None)
@given(loops(), st.lists(st.tuples(rates, st.integers(1, 12), limits, st.booleans()), min_size=2, max_size=5))
def test_limits_that_change_are_kept_at_once_seen_or_silent(
    loop: Loop, phases: list[tuple[float, int, tuple[float | None, int, int], bool]]
) -> None:
    for rate, ticks, (budget, most, capacity), silent in phases:
        loop.spec = replace(loop.spec, replicas_max=most, cost=Cost(budget_usd_per_hour=budget))
        loop.pools = {name: replace(pool, capacity=capacity) for name, pool in loop.pools.items()}
        for _ in range(ticks):
            keeps_promises(loop, loop.tick(forecast(rate), silent=NAMES if silent else ()))


@settings(max_examples=60, deadline=None)
@given(loops(), rates, rates, st.floats(0, 1))
def test_under_steady_load_the_fleet_settles(loop: Loop, first: float, then: float, spread: float) -> None:
    loop.run(forecast(first, spread=spread), 30)
    loop.run(forecast(then, spread=spread), 70)
    rest = [{n: t.replicas for n, t in d.tiers.items()} for d in loop.history[-20:]]
    assert all(plan == rest[0] for plan in rest)


@settings(max_examples=60, deadline=None)
@given(loops(), rates)
def test_planning_again_after_carrying_out_a_plan_changes_nothing(loop: Loop, rate: float) -> None:
    loop = replace(loop, startup_ticks=0)
    once = loop.tick(forecast(rate))
    twice = loop.tick(forecast(rate))
    assert {n: t.replicas for n, t in twice.tiers.items()} == {n: t.replicas for n, t in once.tiers.items()}


@settings(max_examples=60, deadline=None)
@given(loops(), rates, rates, st.integers(1, 60))
def test_missing_metrics_never_shrink_the_fleet(loop: Loop, first: float, then: float, ticks: int) -> None:
    last = loop.run(forecast(first), 10)
    before = {n: t.replicas for n, t in last.tiers.items()}
    serving = dict(loop.ready)
    for _ in range(ticks):
        decision = loop.tick(forecast(then), silent=NAMES)
        if any(serving.values()):
            assert all(t.replicas >= min(before[n], serving.get(n, 0)) for n, t in decision.tiers.items())
            assert sum(t.replicas for t in decision.tiers.values()) >= sum(serving.values())


@settings(max_examples=40, deadline=None)
@given(loops(), rates, rates)
def test_the_same_input_gives_the_same_output(loop: Loop, first: float, then: float) -> None:
    loop.run(forecast(first), 5)
    problem = loop.problem(forecast(then))
    one = choose([problem], accelerators=loop.pools, time_s=loop.time_s)
    two = choose([problem], accelerators=loop.pools, time_s=loop.time_s)
    assert repr(one) == repr(two)


@settings(max_examples=40, deadline=None)
@given(loops(), st.lists(st.tuples(rates, st.integers(1, 12)), min_size=2, max_size=4))
def test_a_restart_through_json_changes_no_later_decision(loop: Loop, phases: list[tuple[float, int]]) -> None:
    other = replace(loop, ready=dict(loop.ready), starting=list(loop.starting), history=[])
    for rate, ticks in phases:
        loop.run(forecast(rate, spread=0.1), ticks)
        for _ in range(ticks):
            if other.memory is not None:
                other.memory = PlanMemory.from_json(other.memory.to_json())
            other.tick(forecast(rate, spread=0.1))
    for ours, theirs in zip(loop.history, other.history, strict=True):
        assert (ours.tiers, ours.reason, ours.message) == (theirs.tiers, theirs.reason, theirs.message)
        assert (ours.conditions, ours.prediction, ours.binding) == (
            theirs.conditions,
            theirs.prediction,
            theirs.binding,
        )


@settings(max_examples=40, deadline=None)
@given(loops(), rates)
def test_zero_needs_proof_and_one_request_ends_it(loop: Loop, rate: float) -> None:
    loop.placeable = {}
    loop.spec = replace(loop.spec, scale_to_zero=ScaleToZero(idle_s=120.0))
    loop.run(forecast(rate), 5)
    silent = loop.run(forecast(0.0, idle_s=10_000.0), 10, silent=NAMES)
    served = any(loop.ready.values())
    assert any(t.replicas for t in silent.tiers.values()) or not served
    asleep = loop.run(forecast(0.0, idle_s=10_000.0), 10)
    if served:
        assert not any(t.replicas for t in asleep.tiers.values())
    awake = loop.tick(forecast(0.0, idle_s=10_000.0), gateway=GatewayReading(arrival_rps=0.0, queued=1.0))
    usable = [t for t in loop.spec.tiers if t.quality >= loop.spec.quality.minimum]
    assert any(t.replicas for t in awake.tiers.values()) or not usable
    assert awake.key == KEY
