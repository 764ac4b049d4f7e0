"""What a decision says about itself is true: the limit, the numbers, the sentence, and why other plans lost."""

from dataclasses import replace

import pytest

from tests.plan.fleets import POOLS, Loop, estimate, fleet, forecast, reading, spec, tick, tier
from tidegate.domain.decision import Alternative, Constraint, Decision, Reason, Status
from tidegate.domain.key import Key
from tidegate.domain.observation import Histogram, TierState
from tidegate.domain.spec import Accelerator, Cost, DeploymentSpec
from tidegate.plan import Problem, choose

ONE = {"bf16": estimate(5)}
TWO = {"bf16": estimate(6), "fp8": estimate(9)}


def small(capacity: int) -> dict[str, Accelerator]:
    return {"h100": replace(POOLS["h100"], capacity=capacity)}


def status(decision: Decision, type_: str) -> tuple[Status, str]:
    return next((c.status, c.reason) for c in decision.conditions if c.type == type_)


def other(decision: Decision, replicas: dict[str, int]) -> Alternative:
    return next(a for a in decision.alternatives if a.replicas == replicas)


@pytest.mark.parametrize(
    ("wanted", "capacity", "binding"),
    [
        pytest.param(
            spec(cost=Cost(budget_usd_per_hour=20.0)), 3, Constraint.CAPACITY, id="the pool is smaller than the budget"
        ),
        pytest.param(
            spec(cost=Cost(budget_usd_per_hour=10.0)), 5, Constraint.BUDGET, id="the budget is smaller than the pool"
        ),
        pytest.param(spec(replicas_max=3), 5, Constraint.MAX_REPLICAS, id="the bound is smaller than the pool"),
        pytest.param(spec(tier(high=2, name="bf16")), 5, Constraint.MAX_REPLICAS, id="so is that of the tier"),
        pytest.param(
            spec(replicas_max=3, cost=Cost(budget_usd_per_hour=9.0)), 3, Constraint.BUDGET, id="all are equally small"
        ),
    ],
)
def test_of_several_limits_one_is_named_that_keeps_the_plan_from_growing(
    wanted: DeploymentSpec, capacity: int, binding: Constraint
) -> None:
    decision = Loop(spec=wanted, estimates=ONE, pools=small(capacity)).tick(forecast(40))
    assert decision.uncapped == {"bf16": 8}
    assert decision.binding is binding


def test_a_replica_that_a_lower_bound_asks_for_takes_the_place_of_one_that_is_needed() -> None:
    wanted = spec(tier("bf16"), tier("fp8", low=1), replicas_max=4)
    decision = Loop(spec=wanted, estimates={"bf16": estimate(6), "fp8": estimate(2)}).tick(forecast(22))
    assert fleet(decision) == {"bf16": 3, "fp8": 1}
    assert decision.binding is Constraint.MAX_REPLICAS
    assert decision.reason is Reason.REPLICAS_LIMITED


BOUND, OTHER = tier("bf16", low=3), tier("fp8", accelerator="l40s")


@pytest.mark.parametrize(
    ("subject", "binding", "capacity"),
    [
        pytest.param(
            Loop(spec=spec(BOUND, OTHER), estimates=TWO, pools=POOLS | small(2)),
            Constraint.CAPACITY, "AcceleratorsShort", id="its class is too small",
        ),
        pytest.param(
            Loop(spec=spec(BOUND, OTHER), estimates=TWO, placeable={"bf16": 1}),
            Constraint.CAPACITY, "AcceleratorsScattered", id="no node holds more of them",
        ),
        pytest.param(
            Loop(spec=spec(BOUND, OTHER), estimates=TWO, startup_ticks=4, stuck=frozenset({"bf16"})),
            Constraint.CAPACITY, "ReplicasStuck", id="they do not start",
        ),
        pytest.param(
            Loop(spec=spec(BOUND, replace(OTHER, replicas_min=2), replicas_max=4), estimates=TWO),
            Constraint.MAX_REPLICAS, "Enough", id="the bounds of the tiers are above that of the total",
        ),
        pytest.param(
            Loop(spec=spec(BOUND, OTHER, replicas_max=2, cost=Cost(budget_usd_per_hour=4.5)), estimates=TWO),
            Constraint.BUDGET, "Enough", id="they are above the budget, while the load takes all that the total allows",
        ),
        pytest.param(
            Loop(spec=spec(replicas_min=4, cost=Cost(budget_usd_per_hour=9.0)), estimates=TWO),
            Constraint.BUDGET, "Enough", id="the total is above the budget",
        ),
        pytest.param(
            Loop(
                spec=spec(OTHER, tier("bf16"), replicas_min=4, cost=Cost(budget_usd_per_hour=4.0)),
                estimates=TWO, pools=POOLS | small(0),
            ),
            Constraint.BUDGET, "Enough", id="the total is above the budget, and another class has nothing",
        ),
    ],
)  # fmt: skip
def test_what_keeps_a_lower_bound_from_being_met_is_named(subject: Loop, binding: Constraint, capacity: str) -> None:
    """Two replicas of the cheaper tier carry the load, so nothing else is lacking."""
    decision = subject.run(forecast(10), 45)
    assert decision.binding is binding
    assert status(decision, "ScalingLimited") == (Status.TRUE, binding.value)
    assert status(decision, "CapacityAvailable")[1] == capacity


def test_every_burst_within_the_window_is_limited_like_the_first() -> None:
    """Also if the last survey was in a lull, when no limit mattered."""
    loop = Loop(spec=spec(), estimates=ONE, pools=small(3))
    loop.run(forecast(40), 60)
    for _ in range(8):
        loop.run(forecast(4), 12)
        burst = loop.tick(forecast(40))
        assert fleet(burst) == {"bf16": 3}
        assert (burst.binding, burst.reason) == (Constraint.CAPACITY, Reason.CAPACITY_LIMITED)
        assert burst.uncapped == {"bf16": 8}


def test_replicas_that_do_not_start_are_not_expected_to_serve() -> None:
    loop = Loop(spec=spec(), estimates=ONE, startup_ticks=4)
    loop.run(forecast(4), 12)
    loop.stuck = frozenset({"bf16"})
    loop.run(forecast(19), 30)
    decision = loop.history[-1]
    assert decision.reason is Reason.REPLICAS_STUCK
    assert fleet(decision) == {"bf16": 4}
    assert decision.message == "3 x bf16 did not start in time; requested now: 4 x bf16: $12.00/h"
    assert decision.prediction is not None
    assert decision.prediction.attainment is not None
    assert decision.prediction.attainment < 0.05
    assert status(decision, "SLOMet") == (Status.FALSE, "CapacityLimited")


def test_a_target_that_only_a_stuck_tier_meets_is_not_infeasible() -> None:
    estimates = {"bf16": estimate(6), "int4": estimate(5, idle=0.7)}
    loop = Loop(spec=spec(tier("bf16"), tier("int4")), estimates=estimates, startup_ticks=4, stuck=frozenset({"bf16"}))
    decision = loop.run(forecast(10), 30)
    assert fleet(decision)["int4"] > 0
    assert decision.binding is Constraint.CAPACITY
    assert status(decision, "SLOMet") == (Status.FALSE, "CapacityLimited")
    assert status(decision, "CapacityAvailable") == (Status.FALSE, "ReplicasStuck")


def test_a_tier_that_is_switched_off_is_not_the_one_that_comes_closest() -> None:
    wanted = spec(tier("bf16", high=0), tier("int4"))
    decision = Loop(spec=wanted, estimates={"bf16": estimate(6), "int4": estimate(5, idle=0.7)}).tick(forecast(10))
    assert decision.reason is Reason.TARGET_INFEASIBLE
    said = "attainment 0.99 cannot be met (at most 0.700), even by an idle int4 replica; best effort: "
    assert decision.message.startswith(said)


def test_tokens_that_nobody_can_serve_make_nothing_cheaper() -> None:
    prices = []
    for rate in (6.7, 40, 400):
        prediction = Loop(spec=spec(replicas_max=1), estimates=ONE).tick(forecast(rate)).prediction
        assert prediction is not None
        assert prediction.usd_per_million_output_tokens is not None
        assert prediction.usd_per_million_good_tokens is not None
        assert prediction.usd_per_million_good_tokens >= prediction.usd_per_million_output_tokens
        prices.append(prediction.usd_per_million_output_tokens)
    assert prices == pytest.approx([3 / 3600 / (n * 250) * 1e6 for n in (6.7, 6.75, 6.75)])


def test_a_limit_that_no_longer_costs_attainment_is_not_said_to_miss_the_promise() -> None:
    loop = Loop(spec=spec(replicas_max=4), estimates=ONE)
    loop.run(forecast(24), 3)
    assert "needs more than MaxReplicas allows: 4 x bf16: $12.00/h, attainment 0.7" in loop.history[-1].message
    said = (
        "forecast 15.0 req/s (p90, 135 s ahead) gets all that MaxReplicas allows: 4 x bf16: $12.00/h, attainment 0.999"
    )
    assert loop.tick(forecast(15)).message == f"{said} of 0.99"


@pytest.mark.parametrize(
    ("wanted", "rate", "said"),
    [
        (spec(replicas_min=3), 4, "needs less than the lower bounds ask for: 3 x bf16: $9.00/h"),
        (spec(tier("bf16", low=3)), 4, "needs less than the lower bounds ask for: 3 x bf16: $9.00/h"),
        (spec(replicas_min=3), 14, "needs 3 x bf16: $9.00/h"),
        (spec(replicas_pinned=3), 4, "needs less than spec.replicas asks for: 3 x bf16: $9.00/h"),
    ],
    ids=["a total", "that of a tier", "a total that is needed", "a pin"],
)
def test_what_only_a_bound_asks_for_is_not_said_to_be_needed(wanted: DeploymentSpec, rate: float, said: str) -> None:
    decision = Loop(spec=wanted, estimates=ONE).run(forecast(rate), 3)
    assert decision.message == f"forecast {rate}.0 req/s (p90, 135 s ahead) {said}"


def test_a_new_pin_is_said_to_be_one() -> None:
    loop = Loop(spec=spec(), estimates=ONE)
    loop.run(forecast(40), 3)
    loop.spec = spec(replicas_pinned=1)
    assert loop.tick(forecast(40)).message == "spec.replicas fixes the total at 1: 1 x bf16: $3.00/h"


def test_a_pin_that_is_too_low_is_named_as_the_limit() -> None:
    decision = Loop(spec=spec(replicas_pinned=3), estimates=ONE).run(forecast(40), 3)
    assert "needs more than spec.replicas allows: 3 x bf16" in decision.message
    (said,) = [c.message for c in decision.conditions if c.type == "ScalingLimited"]
    assert said.startswith("spec.replicas limits the plan")


def test_other_plans_are_held_to_what_the_error_budget_asks_for() -> None:
    """Of the promised 0.99, only 0.96 is asked for: what meets that lost for its price."""
    kept = Histogram((0.5, float("inf")), (600.0, 600.0))
    ticks = Histogram((0.04, float("inf")), (600.0, 600.0))
    state = TierState(ready=2, reading=reading(10.0, completion_rps=10.0, ttft=kept, request_itl=ticks))
    wanted = spec(tier("bf16"), tier("fp8"))
    estimates = {"bf16": estimate(6, startup_s=15), "fp8": estimate(5.5, startup_s=15)}
    states = {"bf16": state, "fp8": TierState()}
    problem = Problem(spec=wanted, states=states, estimates=estimates, forecast=forecast(12.4))
    decision = choose([problem], accelerators=POOLS, time_s=1e9)[wanted.key][1]
    assert status(decision, "SLOMet") == (Status.TRUE, "ErrorBudgetLeft")
    assert fleet(decision) == {"bf16": 2}
    assert other(decision, {"fp8": 3}).why_not == "costs $3.00/h more"
    fewer = other(decision, {"bf16": 1})
    assert fewer.why_not.endswith("is below 0.96")


def test_a_plan_without_room_in_the_pool_did_not_lose_for_its_price() -> None:
    loops = [
        Loop(spec=replace(spec(), key=Key("prod", name), priority=priority), estimates=ONE)
        for name, priority in (("paid", 100), ("free", 1))
    ]
    _, free = tick(loops, (19, 19), small(6))
    assert fleet(free) == {"bf16": 2}
    assert other(free, {"bf16": 4}).why_not == "needs accelerators that are left to other deployments"


def test_a_plan_that_costs_just_the_budget_is_not_above_it() -> None:
    """3 x 2.1 is a little more than 6.3 in binary."""
    pools = {
        "h100": Accelerator(name="h100", price_usd_per_hour=6.0),
        "l40s": Accelerator(name="l40s", price_usd_per_hour=2.1),
    }
    wanted = spec(tier("bf16"), tier("int4", accelerator="l40s"), cost=Cost(budget_usd_per_hour=6.3))
    decision = Loop(spec=wanted, estimates={"bf16": estimate(14), "int4": estimate(5)}, pools=pools).tick(
        forecast(13.9)
    )
    assert fleet(decision) == {"bf16": 1}
    assert other(decision, {"int4": 3}).why_not == "costs $0.30/h more"


def test_a_plan_that_carries_more_for_the_same_money_lost_by_the_move_to_it() -> None:
    estimates = {"bf16": estimate(5), "fp8": estimate(6)}
    loop = Loop(spec=spec(tier("bf16"), tier("fp8")), estimates=estimates, ready={"bf16": 1})
    decision = loop.tick(forecast(16.5))
    assert fleet(decision) == {"bf16": 1, "fp8": 2}
    assert other(decision, {"fp8": 3}).why_not == "costs the same, and the move to it would come on top"


def test_a_load_that_fell_right_after_a_growth_is_said_to_wait_for_the_window() -> None:
    loop = Loop(spec=spec(), estimates=ONE)
    loop.run(forecast(38), 3)
    decision = loop.tick(forecast(8))
    assert decision.reason is Reason.STABILIZING
    assert decision.message.endswith("needs less than 8 x bf16: $24.00/h; waiting for the stabilization window")


def test_a_plan_that_gets_all_it_wants_in_the_end_is_not_limited() -> None:
    """The first class is short; of the second, which is then short too, one deployment gets all that it wants."""
    pools = {"h100": replace(POOLS["h100"], capacity=2), "l40s": replace(POOLS["l40s"], capacity=6)}
    tiers = (tier("bf16", accelerator="l40s"), tier("fp8")), (tier("bf16"), tier("fp8", accelerator="l40s"))
    estimates = {"bf16": estimate(3), "fp8": estimate(7)}, {"bf16": estimate(4), "fp8": estimate(6)}
    loops = [
        Loop(spec=replace(spec(*tiers[i]), key=Key("prod", name)), estimates=estimates[i])
        for i, name in enumerate(("short", "served"))
    ]
    short, served = tick(loops, (34, 31), pools)
    assert (short.reason, short.binding) == (Reason.CAPACITY_LIMITED, Constraint.CAPACITY)
    assert (served.reason, served.binding) == (Reason.INITIAL, Constraint.NONE)
    assert served.message == "forecast 31.0 req/s (p90, 135 s ahead) needs 6 x fp8: $7.20/h"


def test_a_plan_that_is_left_another_mix_names_both_and_the_step_between() -> None:
    tiers = (tier("bf16"),), (tier("fp8"), tier("int4"))
    loops = [
        Loop(
            spec=replace(spec(*tiers[i]), key=Key("prod", name)),
            estimates={"bf16": estimate(6), "fp8": estimate(3), "int4": estimate(6)},
            startup_ticks=2,
            ready=ready,
        )
        for i, (name, ready) in enumerate((("large", {"bf16": 1}), ("small", {"fp8": 1})))
    ]
    _, small_one = tick(loops, (28, 11.5), small(4))
    wish, left = (
        "1 x fp8 + 2 x int4, for which Capacity leaves no room",
        "2 x int4, next step 1 x fp8 + 2 x int4: $9.00/h",
    )
    assert f"calls for {wish}; instead {left}, attainment" in small_one.message


def test_since_when_metrics_are_missing_is_told_as_a_moment() -> None:
    """The condition is written once, and read at any time after."""
    loop = Loop(spec=spec(), estimates=ONE)
    loop.run(forecast(4), 3)
    decision = loop.run(forecast(4), 9, silent=("bf16",))
    said = next(c.message for c in decision.conditions if c.type == "MetricsAvailable")
    assert said == "tier bf16: prometheus did not answer; missing since 2023-11-14 22:13:50 UTC"
