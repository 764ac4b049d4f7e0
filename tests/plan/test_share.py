"""Deployments that share accelerators: who gets what, and that lower bounds are respected."""

from dataclasses import replace
from itertools import pairwise

import pytest

from tests.plan.fleets import POOLS, Loop, estimate, fleet, forecast, reading, spec, tick, tier
from tidegate.domain.decision import Constraint, Decision
from tidegate.domain.key import Key
from tidegate.domain.observation import Missing, TierReading, TierState
from tidegate.domain.spec import Accelerator, Cost
from tidegate.plan import PlanMemory, Problem, choose

ONE = {"bf16": estimate(5)}
THREE = {"bf16": estimate(6), "fp8": estimate(9), "int4": estimate(5)}
TIERS = (tier("bf16"), tier("fp8", quality=0.995), tier("int4", quality=0.95))


def scaling(decision: Decision) -> str:
    (found,) = [c.message for c in decision.conditions if c.type == "ScalingLimited"]
    return found


def shown(ready: int) -> TierReading | Missing:
    return reading(19.0) if ready else Missing(reason="NoReplicas")


def test_the_least_number_stays_asked_for_and_reserved_while_no_tier_gets_ready() -> None:
    """Both tiers are stuck in turn; the other deployment, of a higher priority, could take all eight."""
    pools = {"h100": Accelerator(name="h100", price_usd_per_hour=3.0, capacity=8)}
    paid = replace(spec(), key=Key("prod", "paid"), priority=100)
    free = replace(spec(*TIERS[:2]), key=Key("prod", "free"), priority=1)
    memory: dict[Key, PlanMemory] = {}
    asked = {"bf16": 0, "fp8": 0}
    for step in range(60):
        states = {n: TierState(starting=k, unschedulable=k) for n, k in asked.items()}
        wants = ((paid, {"bf16": TierState(ready=7, reading=reading(99))}), (free, states))
        problems = [
            Problem(spec=s, states=seen, estimates=THREE, forecast=forecast(99), memory=memory.get(s.key))
            for s, seen in wants
        ]
        outcome = choose(problems, accelerators=pools, time_s=1e9 + 15.0 * step)
        memory = {key: m for key, (m, _) in outcome.items()}
        decisions = {key: decision for key, (_, decision) in outcome.items()}
        asked = {n: t.replicas for n, t in decisions[free.key].tiers.items()}
        assert 1 <= sum(asked.values()) <= 8 - decisions[paid.key].tiers["bf16"].replicas


def test_accelerators_go_to_the_higher_priority_first() -> None:
    pools = {"h100": Accelerator(name="h100", price_usd_per_hour=3.0, capacity=6)}
    paid = replace(spec(), key=Key("prod", "paid"), priority=100)
    free = replace(spec(), key=Key("prod", "free"), priority=1)
    problems = [
        Problem(spec=s, states={"bf16": TierState()}, estimates=ONE, forecast=forecast(19)) for s in (free, paid)
    ]
    outcome = choose(problems, accelerators=pools, time_s=0.0)
    assert fleet(outcome[paid.key][1]) == {"bf16": 4}
    assert fleet(outcome[free.key][1]) == {"bf16": 2}
    assert outcome[free.key][1].binding is Constraint.CAPACITY


@pytest.mark.parametrize(("total", "low"), [(2, 0), (1, 2)], ids=["a bound of the total", "a bound of a tier"])
def test_a_higher_priority_takes_no_replica_that_a_bound_promises_to_a_lower_one(total: int, low: int) -> None:
    pools = {"h100": Accelerator(name="h100", price_usd_per_hour=3.0, capacity=6)}
    paid = replace(spec(), key=Key("prod", "paid"), priority=100)
    free = replace(spec(tier("bf16", low=low), replicas_min=total), key=Key("prod", "free"), priority=1)
    problems = [
        Problem(spec=s, states={"bf16": TierState()}, estimates=ONE, forecast=forecast(40)) for s in (free, paid)
    ]
    outcome = choose(problems, accelerators=pools, time_s=0.0)
    assert fleet(outcome[free.key][1]) == {"bf16": 2}
    assert fleet(outcome[paid.key][1]) == {"bf16": 4}


def test_when_a_node_is_lost_the_large_replica_of_the_highest_priority_is_not_stopped_for_small_ones() -> None:
    """All run their minimum of one replica each; eight of twelve accelerators are left."""
    paid = replace(spec(tier("bf16", gpus=8)), key=Key("prod", "paid"), priority=100)
    free = [replace(spec(), key=Key("dev", f"d{i}"), priority=1) for i in range(4)]
    pools = {"h100": Accelerator(name="h100", price_usd_per_hour=3.0, capacity=8)}
    problems = [
        Problem(spec=s, states={"bf16": TierState(ready=1, reading=shown(1))}, estimates=ONE, forecast=forecast(2))
        for s in (*free, paid)
    ]
    outcome = choose(problems, accelerators=pools, time_s=0.0)
    assert fleet(outcome[paid.key][1]) == {"bf16": 1}
    assert all(outcome[s.key][1].binding is Constraint.CAPACITY and not fleet(outcome[s.key][1]) for s in free)
    assert {scaling(outcome[s.key][1]) for s in free} == {"Capacity keeps the plan below its lower bounds"}
    assert scaling(outcome[paid.key][1]) == "no limit changes the plan"


def test_equal_priorities_do_not_take_accelerators_from_each_other_back_and_forth() -> None:
    pools = {"h100": Accelerator(name="h100", price_usd_per_hour=3.0, capacity=7)}
    both = [replace(spec(), key=Key("prod", name)) for name in ("a", "b")]
    memory: dict[Key, PlanMemory] = {}
    ready = {s.key: 0 for s in both}
    deals = []
    for step in range(40):
        problems = [
            Problem(
                spec=s,
                states={"bf16": TierState(ready=ready[s.key], reading=shown(ready[s.key]))},
                estimates=ONE,
                forecast=forecast(28 * (1 + 0.03 * (-1) ** (step + i))),
                memory=memory.get(s.key),
            )
            for i, s in enumerate(both)
        ]
        outcome = choose(problems, accelerators=pools, time_s=1e9 + 15.0 * step)
        memory = {key: m for key, (m, _) in outcome.items()}
        ready = {key: d.tiers["bf16"].replicas for key, (_, d) in outcome.items()}
        deals.append(tuple(ready.values()))
    assert sum(deals[-1]) == 7
    assert set(deals[1:]) == {deals[-1]}


def test_tier_bounds_that_no_pool_can_hold_together_are_held_as_far_as_it_goes() -> None:
    pools = {"h100": Accelerator(name="h100", price_usd_per_hour=3.0, capacity=5)}
    both = [replace(spec(tier("bf16", low=3)), key=Key("prod", name)) for name in ("a", "b")]
    problems = [Problem(spec=s, states={"bf16": TierState()}, estimates=ONE, forecast=forecast(4)) for s in both]
    outcome = choose(problems, accelerators=pools, time_s=0.0)
    assert sorted(fleet(decision)["bf16"] for _, decision in outcome.values()) == [2, 3]


def test_when_the_pool_grows_everybody_gets_what_they_need() -> None:
    paid = replace(spec(), key=Key("prod", "paid"), priority=100)
    free = replace(spec(), key=Key("prod", "free"), priority=1)
    memory: dict[Key, PlanMemory] = {}
    ready = {paid.key: 0, free.key: 0}
    for step, capacity in enumerate((6, 6, 8, 8)):
        pools = {"h100": Accelerator(name="h100", price_usd_per_hour=3.0, capacity=capacity)}
        problems = [
            Problem(
                spec=s,
                states={"bf16": TierState(ready=ready[s.key], reading=shown(ready[s.key]))},
                estimates=ONE,
                forecast=forecast(19),
                memory=memory.get(s.key),
            )
            for s in (free, paid)
        ]
        outcome = choose(problems, accelerators=pools, time_s=15.0 * step)
        memory = {key: m for key, (m, _) in outcome.items()}
        ready = {key: d.tiers["bf16"].replicas for key, (_, d) in outcome.items()}
        assert sum(ready.values()) <= capacity
    assert ready == {paid.key: 4, free.key: 4}


@pytest.mark.parametrize("gpus", [1, 8])
@pytest.mark.parametrize(
    ("leaving", "capacity", "failures"),
    [
        pytest.param(2, 6, 0, id="its accelerators are being freed"),
        pytest.param(0, 6, 1, id="nobody is on the way out"),
        pytest.param(2, 4, 1, id="those that serve hold all that there will be"),
    ],
)
def test_waiting_for_another_deployments_replica_to_drain_is_not_stuck(
    leaving: int, capacity: int, failures: int, gpus: int
) -> None:
    """Two replicas of another deployment drain for a minute and a half and hold the needed accelerators."""
    pools = {"h100": Accelerator(name="h100", price_usd_per_hour=3.0, capacity=capacity * gpus)}
    paid = replace(spec(tier("bf16", gpus=gpus), tier("fp8", quality=0.995, gpus=gpus)), key=Key("prod", "paid"))
    paid = replace(paid, priority=100, replicas_max=4)
    free = replace(spec(tier("bf16", gpus=gpus)), key=Key("prod", "free"), priority=1)
    states = {
        paid.key: {"bf16": TierState(), "fp8": TierState(ready=2, starting=2, unschedulable=2, reading=shown(2))},
        free.key: {"bf16": TierState(ready=2, terminating=leaving, reading=shown(2))},
    }
    memory: dict[Key, PlanMemory] = {}
    for step in range(6):
        problems = [
            Problem(spec=s, states=states[s.key], estimates=THREE, forecast=forecast(35), memory=memory.get(s.key))
            for s in (paid, free)
        ]
        outcome = choose(problems, accelerators=pools, time_s=1e9 + 15.0 * step)
        memory = {key: m for key, (m, _) in outcome.items()}
    assert memory[paid.key].progress[1].failures == failures


def test_an_allocation_does_not_follow_a_short_dip_of_the_load() -> None:
    """Both have their share; for a minute the lower priority needs less, but nobody else gets the difference."""
    pools = {"h100": Accelerator(name="h100", price_usd_per_hour=3.0, capacity=7)}
    paid = replace(spec(), key=Key("prod", "paid"), priority=100, replicas_max=4)
    free = replace(spec(), key=Key("prod", "free"), priority=1)
    memory: dict[Key, PlanMemory] = {}
    ready = {paid.key: 4, free.key: 3}
    asked = []
    for step in range(40):
        load = {paid.key: 30.0 * 1.05**step, free.key: 9.0 if step in (10, 11, 12) else 19.0}
        problems = [
            Problem(
                spec=s,
                states={"bf16": TierState(ready=ready[s.key], reading=shown(ready[s.key]))},
                estimates=ONE,
                forecast=forecast(load[s.key]),
                memory=memory.get(s.key),
            )
            for s in (free, paid)
        ]
        outcome = choose(problems, accelerators=pools, time_s=1e9 + 15.0 * step)
        memory = {key: m for key, (m, _) in outcome.items()}
        ready = {key: d.tiers["bf16"].replicas for key, (_, d) in outcome.items()}
        asked.append(ready[free.key])
    assert set(asked) == {3}


def test_accelerators_that_return_are_used_again_even_if_they_are_too_few_for_everybody() -> None:
    """Four of a cheap class, of which each of two deployments wants three."""
    both, estimates = spec(tier("od"), tier("spot", accelerator="l40s")), {"od": estimate(5), "spot": estimate(5)}
    keys = {Key("prod", "paid"): 100, Key("prod", "free"): 1}
    loops = [
        Loop(spec=replace(both, key=key, priority=n), estimates=estimates, ready={"od": 3}, startup_ticks=8)
        for key, n in keys.items()
    ]
    gone, back = [{**POOLS, "l40s": replace(POOLS["l40s"], capacity=n)} for n in (0, 4)]
    decided = [[fleet(each) for each in tick(loops, [13.0, 13.0], gone if i < 40 else back)] for i in range(140)]
    assert decided[39] == [{"od": 3}, {"od": 3}]
    assert decided[-1] == [{"spot": 3}, {"od": 2, "spot": 1}]
    changes = sum(one != other for one, other in pairwise(decided[40:]))
    assert changes <= 4, "old replicas leave when the new ones serve, and that is all"


def test_a_cheaper_mix_that_its_budget_leaves_no_way_to_keeps_no_accelerators_from_others() -> None:
    """Two of a cheap class return; the budget of one deployment pays for its two replicas, and for none beside them."""
    both = spec(tier("od"), tier("spot", accelerator="l40s"), replicas_min=2)
    free = replace(both, key=Key("prod", "free"))
    bound = replace(both, key=Key("prod", "bound"), cost=Cost(budget_usd_per_hour=6.0))
    estimates = {"od": estimate(5), "spot": estimate(5)}
    loops = [Loop(spec=each, estimates=estimates, startup_ticks=8) for each in (free, bound)]
    few, more = [{**POOLS, "l40s": replace(POOLS["l40s"], capacity=n)} for n in (2, 3)]
    decided = [[fleet(each) for each in tick(loops, [13.0, 9.0], few if i < 40 else more)] for i in range(80)]
    assert decided[39] == [{"od": 1, "spot": 2}, {"od": 2}]
    assert decided[-1] == [{"spot": 3}, {"od": 2}]
