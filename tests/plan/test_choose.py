"""Edge cases of `choose`, one by one: the decision and its message."""

import json
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import pytest

from tests.plan.fleets import POOLS, Loop, estimate, fleet, forecast, reading, spec, tier, total
from tidegate.domain.decision import Constraint, Decision, Reason, Status
from tidegate.domain.estimate import Relaxed, TierEstimate
from tidegate.domain.key import Key
from tidegate.domain.observation import GatewayReading, Histogram, Missing, TierReading, TierState
from tidegate.domain.spec import Accelerator, Cost, DeploymentSpec, Mode, Quality, ScaleToZero, Schedule
from tidegate.plan import PlanMemory, Problem, choose
from tidegate.plan.sentence import three_digits
from tidegate.plan.sight import Sight, sight
from tidegate.units import TICK_S

ONE = {"bf16": estimate(5)}
THREE = {"bf16": estimate(6), "fp8": estimate(9), "int4": estimate(5)}
TIERS = (tier("bf16"), tier("fp8", quality=0.995), tier("int4", quality=0.95))


def condition(decision: Decision, type_: str) -> Status:
    return next(c.status for c in decision.conditions if c.type == type_)


def test_a_rise_is_met_at_once_and_in_one_step() -> None:
    loop = Loop(spec=spec(), estimates=ONE)
    loop.run(forecast(4), 3)
    decision = loop.tick(forecast(40))
    assert fleet(decision) == {"bf16": 8}
    assert decision.reason is Reason.DEMAND_RISING
    assert "forecast 40.0 req/s (p90, 135 s ahead) needs 8 x bf16: $24.00/h" in decision.message


def test_a_fall_waits_for_the_whole_window_and_says_so() -> None:
    loop = Loop(spec=spec(), estimates=ONE)
    loop.run(forecast(38), 25)
    waiting = [loop.tick(forecast(8)) for _ in range(19)]
    assert all(fleet(d) == {"bf16": 8} for d in waiting)
    assert waiting[-1].reason is Reason.STABILIZING
    after = [loop.tick(forecast(8)) for _ in range(6)]
    assert fleet(after[-1]) == {"bf16": 2}
    assert Reason.DEMAND_FALLING in {d.reason for d in after}


def test_a_peak_inside_the_window_keeps_what_it_needed() -> None:
    loop = Loop(spec=spec(), estimates=ONE)
    loop.run(forecast(19), 30)
    for _ in range(12):
        loop.run(forecast(8), 10)
        assert fleet(loop.tick(forecast(19))) == {"bf16": 4}


def test_noise_of_a_few_percent_moves_nothing() -> None:
    loop = Loop(spec=spec(*TIERS), estimates=THREE)
    loop.run(forecast(30), 60)
    before = fleet(loop.history[-1])
    for i in range(120):
        loop.tick(forecast(30 * (1 + 0.02 * (-1) ** i)))
    assert {tuple(sorted(fleet(d).items())) for d in loop.history[-120:]} == {tuple(sorted(before.items()))}


def test_starting_replicas_count_and_are_not_requested_twice() -> None:
    loop = Loop(spec=spec(), estimates=ONE, startup_ticks=8)
    loop.run(forecast(4), 12)
    asked = [fleet(loop.tick(forecast(20))) for _ in range(8)]
    assert all(plan == asked[0] for plan in asked)


def test_a_tier_that_never_becomes_ready_is_planned_around() -> None:
    loop = Loop(spec=spec(*TIERS), estimates=THREE, startup_ticks=4, stuck=frozenset({"fp8"}))
    first = loop.tick(forecast(14))
    assert "fp8" in fleet(first)
    loop.run(forecast(14), 48)
    assert "fp8" not in fleet(loop.history[-1])
    assert Reason.REPLICAS_STUCK in {d.reason for d in loop.history}
    stuck = next(d for d in loop.history if d.reason is Reason.REPLICAS_STUCK)
    assert condition(stuck, "CapacityAvailable") is Status.FALSE
    assert loop.ready["bf16"] >= 3


def test_while_targets_are_missed_a_late_replica_is_not_waited_for_as_long() -> None:
    """Usual start-up 120 s, late after 300 s: if nothing serves, it is planned around after 180 s."""
    loop = Loop(spec=spec(*TIERS), estimates=THREE, startup_ticks=4, stuck=frozenset({"fp8"}))
    loop.run(forecast(14), 14)
    stuck = [tick for tick, d in enumerate(loop.history) if d.reason is Reason.REPLICAS_STUCK]
    assert stuck
    assert 180 / TICK_S <= stuck[0] <= 210 / TICK_S


def test_a_replica_found_late_is_not_taken_back_when_the_targets_are_met_for_a_moment() -> None:
    """The plan no longer counts on it: if it counted as on time again, there would be one too many."""
    loop = Loop(spec=spec(*TIERS), estimates=THREE, startup_ticks=30, ready={"bf16": 2})
    while Reason.REPLICAS_STUCK not in {d.reason for d in loop.history}:
        loop.run(forecast(14), 1)
        assert len(loop.history) < 40
    late = fleet(loop.history[-1])["fp8"]
    lull = loop.run(forecast(9), 2)
    assert fleet(lull)["fp8"] == late
    loop.run(forecast(14), 2)
    assert fleet(loop.history[-1])["fp8"] >= late


def test_a_late_replica_is_not_taken_back_while_younger_ones_of_its_tier_are_coming() -> None:
    """Those would be removed in its place. The bound leaves no room for all, so less is requested of the other tier."""
    loop = Loop(spec=spec(*TIERS[:2], replicas_max=6), estimates=THREE, startup_ticks=30)
    loop.run(forecast(14), 4)
    asked = [fleet(loop.tick(forecast(42))) for _ in range(26)]
    assert {plan["fp8"] for plan in asked} == {5}
    assert asked[-1] == {"fp8": 5, "bf16": 1}


def test_a_tier_that_is_slower_than_anybody_knew_is_waited_for_and_learned() -> None:
    """Ready after 450 s, late after 300 s: it is planned around, but its replicas still become ready."""
    loop = Loop(spec=spec(*TIERS), estimates=THREE, startup_ticks=30)
    loop.run(forecast(14), 60)
    assert Reason.REPLICAS_STUCK in {d.reason for d in loop.history}
    assert loop.ready["fp8"] == 2


def test_where_there_is_room_for_one_a_slow_start_is_waited_for_longer_the_next_time() -> None:
    """Each replica is ready after 375 s, late after 300 s: if it were replaced each time, none would ever serve."""
    pools = POOLS | {"h100": replace(POOLS["h100"], capacity=1)}
    loop = Loop(spec=spec(*TIERS), estimates=THREE, pools=pools, startup_ticks=25)
    loop.run(forecast(14), 80)
    assert sum(loop.ready.values()) == 1
    assert sum(d.reason is Reason.REPLICAS_STUCK for d in loop.history) == 2


def test_a_tier_whose_new_replicas_are_stuck_still_shrinks_with_the_load_and_with_its_bound() -> None:
    loop = Loop(spec=spec(scale_down_window_s=60.0), estimates=ONE, startup_ticks=4)
    loop.run(forecast(18), 12)
    loop.stuck = frozenset({"bf16"})
    assert loop.run(forecast(30), 16).reason is Reason.REPLICAS_STUCK
    assert loop.ready == {"bf16": 4}
    bounded = replace(loop, ready=dict(loop.ready), spec=spec(tier("bf16", high=2)))
    assert fleet(bounded.tick(forecast(30))) == {"bf16": 2}
    assert fleet(loop.run(forecast(4), 6)) == {"bf16": 1}


def test_the_only_tier_stays_asked_for_while_it_is_stuck() -> None:
    loop = Loop(spec=spec(), estimates=ONE, startup_ticks=4, stuck=frozenset({"bf16"}))
    decision = loop.run(forecast(9), 60)
    assert fleet(decision) == {"bf16": 2}


@pytest.mark.parametrize("behind", [0, 6, 20], ids=["ready at once", "ready before the next", "ready much later"])
def test_replicas_for_which_room_comes_one_after_the_other_are_not_called_off(behind: int) -> None:
    """Nodes are added one by one; replicas with room start, the others are stuck."""
    memory, asked = None, 1
    for i in range(100):
        placed = min(5, 1 + max(0, i - 10) // 8)
        ready = min(placed, 1 + max(0, i - 10 - behind) // 8, asked)
        waiting = max(0, asked - placed)
        state = TierState(ready=ready, starting=asked - ready, unschedulable=waiting, reading=reading(24))
        problem = Problem(spec=spec(), states={"bf16": state}, estimates=ONE, forecast=forecast(24), memory=memory)
        memory, decision = choose([problem], accelerators=POOLS, time_s=1e9 + 15.0 * i)[spec().key]
        assert fleet(decision) == {"bf16": 5}, i
        asked = 5


@pytest.mark.parametrize(
    "lost",
    [
        pytest.param(TierState(starting=2, unschedulable=2), id="no room"),
        pytest.param(TierState(starting=2, failing=2), id="they crash"),
        pytest.param(TierState(starting=2, unschedulable=1, failing=1), id="one of each"),
    ],
)
def test_replicas_that_will_not_come_stop_counting_after_a_moment(lost: TierState) -> None:
    wanted = spec(*TIERS)
    memory, times = None, 1_700_000_000.0
    states = {"bf16": TierState(), "fp8": lost, "int4": TierState()}
    for i in range(5):
        problem = Problem(spec=wanted, states=states, estimates=THREE, forecast=forecast(14), memory=memory)
        memory, decision = choose([problem], accelerators=POOLS, time_s=times + 15 * i)[wanted.key]
    assert fleet(decision).get("fp8", 0) == 0
    assert fleet(decision)


@pytest.mark.parametrize(("serving", "kept"), [(2, True), (9, False)], ids=["too few serve", "enough serve"])
def test_a_late_replica_stays_asked_for_until_those_that_serve_carry_the_load(serving: int, kept: bool) -> None:
    """Its replacement may be as late; if it were cancelled, it would be requested again minutes later."""
    wanted = spec(*TIERS)
    memory, times = None, 1_700_000_000.0
    ready = TierState(ready=serving, reading=reading(14))
    states = {"bf16": ready, "fp8": TierState(starting=1), "int4": TierState()}
    late_s = THREE["fp8"].startup_s_late
    for i in range(int(12 * late_s / 15)):
        problem = Problem(spec=wanted, states=states, estimates=THREE, forecast=forecast(14), memory=memory)
        memory, decision = choose([problem], accelerators=POOLS, time_s=times + 15 * i)[wanted.key]
    assert (fleet(decision).get("fp8", 0) >= 1) is kept


def test_a_tier_switch_makes_before_it_breaks() -> None:
    loop = Loop(spec=spec(*TIERS), estimates=THREE, startup_ticks=8, ready={"bf16": 5})
    loop.run(forecast(26), 3)
    loop.run(forecast(26), 60)
    assert "fp8" in fleet(loop.history[-1])
    assert Reason.TIER_SWITCH in {d.reason for d in loop.history}
    assert loop.ready["bf16"] < 5
    served = [sum(THREE[n].capacity_rps * t.replicas for n, t in d.tiers.items()) for d in loop.history]
    assert min(served) >= 26


def test_a_switch_that_the_budget_cannot_hold_twice_goes_step_by_step_or_not_at_all() -> None:
    wanted = spec(*TIERS[:2], cost=Cost(budget_usd_per_hour=15.0))
    loop = Loop(spec=wanted, estimates={"bf16": estimate(6), "fp8": estimate(9)}, startup_ticks=4, ready={"bf16": 5})
    for _ in range(120):
        decision = loop.tick(forecast(25))
        assert 3.0 * sum(fleet(decision).values()) <= 15.0
        assert 6 * loop.ready.get("bf16", 0) + 9 * loop.ready.get("fp8", 0) >= 24


@pytest.mark.parametrize(
    ("changes", "capacity"),
    [({"cost": Cost(budget_usd_per_hour=9.0)}, 8), ({"replicas_max": 3}, 8), ({}, 3)],
    ids=["a budget", "maxReplicas", "accelerators"],
)
def test_limits_that_fall_below_what_runs_leave_as_much_of_it_as_they_hold(
    changes: dict[str, Any], capacity: int
) -> None:
    """Five replicas run, three are allowed, another tier carries more: three stay and are replaced one by one."""
    loop = Loop(spec=spec(tier("bf16"), tier("fp8", high=0)), estimates=THREE, startup_ticks=8, ready={"bf16": 5})
    loop.run(forecast(29), 30)
    assert fleet(loop.history[-1]) == {"bf16": 5}
    loop.spec = spec(tier("bf16"), tier("fp8"), **changes)
    loop.pools = POOLS | {"h100": replace(POOLS["h100"], capacity=capacity)}
    for _ in range(60):
        assert sum(fleet(loop.tick(forecast(29))).values()) <= 3
        assert sum(loop.ready.values()) >= 2
    assert fleet(loop.history[-1]) == {"fp8": 3}


def test_a_tier_that_falls_below_the_minimum_quality_takes_nothing_else_with_it() -> None:
    """bf16 is also being replaced by fp8, but may serve until fp8 is ready; int4 may not."""
    loop = Loop(spec=spec(*TIERS), estimates=THREE, startup_ticks=8, ready={"bf16": 3, "int4": 2})
    loop.run(forecast(26), 1)
    loop.spec = spec(*TIERS, quality=Quality(minimum=0.99), replicas_max=3)
    loop.tick(forecast(26))
    assert loop.ready == {"bf16": 3, "fp8": 0, "int4": 0}


def test_missing_metrics_hold_and_then_fall_back_to_the_last_good_plan() -> None:
    loop = Loop(spec=spec(), estimates=ONE)
    loop.run(forecast(19), 25)
    held = loop.run(forecast(0), 5, silent=["bf16"])
    assert held.reason is Reason.METRICS_MISSING
    assert condition(held, "MetricsAvailable") is Status.FALSE
    loop.ready["bf16"] = 2
    loop.tick(forecast(0), silent=["bf16"])
    back = loop.run(forecast(0), 40, silent=["bf16"])
    assert back.reason is Reason.FALLBACK
    assert fleet(back) == {"bf16": 4}
    assert "last good plan" in back.message


@pytest.mark.parametrize(
    ("age_s", "window_s", "seen"),
    [
        pytest.param(75.0, 60.0, Sight.ALL, id="a scrape a minute, and one that is late"),
        pytest.param(95.0, 60.0, Sight.NONE, id="of another time"),
        pytest.param(115.0, 300.0, Sight.ALL, id="a scrape every two minutes"),
        pytest.param(305.0, 300.0, Sight.NONE, id="none for a whole window"),
    ],
)
def test_how_old_a_sample_may_be(age_s: float, window_s: float, seen: Sight) -> None:
    shown = replace(reading(3.0, age_s=age_s), window_s=window_s)
    assert sight({"bf16": TierState(ready=1, reading=shown)})[0] is seen


def test_of_lower_bounds_that_the_budget_cannot_carry_the_dearest_gives_way() -> None:
    wanted = spec(tier("bf16", low=2), tier("int4", accelerator="l40s", low=2), cost=Cost(budget_usd_per_hour=6.0))
    loop = Loop(spec=wanted, estimates={"bf16": estimate(5), "int4": estimate(5)})
    assert fleet(loop.tick(forecast(1))) == {"bf16": 1, "int4": 2}


def test_after_a_silence_the_whole_window_has_to_be_seen_again() -> None:
    loop = Loop(spec=spec(), estimates=ONE)
    loop.run(forecast(19), 40)
    loop.run(forecast(2), 10)
    loop.run(forecast(2), 4, silent=["bf16"])
    assert fleet(loop.run(forecast(2), 15)) == {"bf16": 4}
    assert fleet(loop.run(forecast(2), 10)) == {"bf16": 1}


def test_an_overload_that_no_fleet_carries_keeps_every_replica_there_may_be() -> None:
    """At 30 times what 5 replicas carry a fleet of 4 is 0.0015 worse: nothing as a share of all, a fifth of what is."""
    loop = Loop(spec=spec(tier("bf16", high=5)), estimates=ONE, ready={"bf16": 5})
    assert {tuple(fleet(d).items()) for d in [loop.tick(forecast(750)) for _ in range(40)]} == {(("bf16", 5),)}


def test_silence_exchanges_nothing_where_the_lower_bound_is_out_of_reach_anyway() -> None:
    """$8/h never pay for two replicas: the one that serves stays, although the other tier would carry more."""
    wanted = spec(tier("bf16", high=1), tier("fp8", gpus=2, high=1), replicas_min=2, cost=Cost(budget_usd_per_hour=8.0))
    loop = Loop(spec=wanted, estimates={"bf16": estimate(2), "fp8": estimate(9)}, ready={"bf16": 1})
    loop.run(forecast(1), 10)
    assert loop.ready == {"bf16": 1, "fp8": 0}
    assert fleet(loop.tick(forecast(8), silent=["bf16"])) == {"bf16": 1}


@pytest.mark.parametrize("rate", [20.0, 1.0], ids=["where two of another tier would do better", "where one would do"])
def test_accelerators_that_are_gone_take_no_more_of_a_silent_fleet_than_they_have_to(rate: float) -> None:
    loop = Loop(spec=spec(*TIERS[:2]), estimates=THREE, startup_ticks=8, ready={"bf16": 2, "fp8": 1})
    loop.run(forecast(20), 10)
    assert loop.ready == {"bf16": 2, "fp8": 1}
    loop.pools = POOLS | {"h100": replace(POOLS["h100"], capacity=2)}
    loop.run(forecast(rate), 10, silent=("bf16", "fp8"))
    assert loop.ready == {"bf16": 1, "fp8": 1}


@pytest.mark.parametrize("trouble", ["failing", "unschedulable"])
@pytest.mark.parametrize(
    ("idle", "shown"),
    [
        pytest.param(1.0, Missing(reason="NoSeries"), id="while nothing is seen"),
        pytest.param(0.9, reading(9), id="while the target is out of reach"),
    ],
)
def test_a_roll_out_that_cannot_go_on_calls_for_no_more_replicas(
    idle: float, shown: TierReading | Missing, trouble: str
) -> None:
    """Its pod stands beside the replicas that are asked for; one more of those would not replace it."""
    memory, ready, estimates = None, 2, {"bf16": estimate(5, idle=idle)}
    for i in range(60):
        pod = {"starting": 1, "unasked": 1, trouble: 1} if i >= 20 else {}
        state = TierState(ready=ready, reading=shown if i >= 20 else reading(9), **pod)  # type: ignore[arg-type]
        problem = Problem(spec=spec(), states={"bf16": state}, estimates=estimates, forecast=forecast(9), memory=memory)
        memory, decision = choose([problem], accelerators=POOLS, time_s=1e9 + 15.0 * i)[spec().key]
        ready = total(decision)
        assert ready == 2, i


def test_a_fleet_that_is_too_small_grows_beside_a_roll_out_that_cannot_go_on() -> None:
    """Kubernetes creates most of the new replicas from the old template."""
    memory, ready = None, 2
    for i in range(80):
        rate = 19 if i >= 20 else 9
        state = TierState(ready=ready, starting=1, unasked=1, failing=1, reading=reading(rate))
        problem = Problem(spec=spec(), states={"bf16": state}, estimates=ONE, forecast=forecast(rate), memory=memory)
        memory, decision = choose([problem], accelerators=POOLS, time_s=1e9 + 15.0 * i)[spec().key]
        ready = total(decision)
    assert ready == 4


@dataclass
class RollOut:
    """A Deployment whose new template never starts, with maxUnavailable 25 % and maxSurge 25 %."""

    requested: int
    memory: PlanMemory | None = None

    @property
    def ready(self) -> int:
        """Kubernetes keeps no more than these, and in the test no fewer."""
        return self.requested - self.requested // 4

    def tick(self, rate: float, i: int, **changes: Any) -> Decision:
        missing, surge = self.requested - self.ready, -(-self.requested // 4)
        state = TierState(
            ready=self.ready,
            starting=missing + surge,
            unasked=surge,
            failing=missing + surge,
            spares_ready=False,
            reading=reading(rate),
        )
        problem = Problem(
            spec=spec(**changes), states={"bf16": state}, estimates=ONE, forecast=forecast(rate), memory=self.memory
        )
        self.memory, decision = choose([problem], accelerators=POOLS, time_s=1e9 + 15.0 * i)[spec().key]
        self.requested = total(decision)
        return decision


@pytest.mark.parametrize("rate", [9.0, 19.0, 29.0, 39.0])
def test_a_roll_out_that_cannot_go_on_keeps_the_replicas_that_serve(rate: float) -> None:
    """Kubernetes would remove ready replicas together with those that are stuck, and more of them with each plan."""
    scene = RollOut(requested=8)
    for i in range(120):
        before, ready = scene.requested, scene.ready
        scene.tick(rate, i)
        assert scene.requested <= before + 1, "nearly all of them start from the old template"
        if i > 60:
            assert scene.ready == ready, "and it comes to rest"
    assert rate / 5 <= scene.ready <= rate / 5 + 2


def test_a_limit_leaves_a_roll_out_that_cannot_go_on_what_it_has() -> None:
    scene = RollOut(requested=8)
    for i in range(60):
        decision = scene.tick(60.0, i, replicas_max=8)
        assert scene.requested == 8, i
    assert decision.reason is Reason.REPLICAS_STUCK


def test_a_roll_out_is_completed_before_its_tier_shrinks_to_what_is_ready() -> None:
    memory, wanted = None, []
    for i in range(60):
        more: dict[str, Any] = {"ready": 6, "starting": 2, "arrived": i % 2} if i < 50 else {"ready": 8}
        state = TierState(**more, spares_ready=i >= 50, reading=reading(29))
        problem = Problem(spec=spec(), states={"bf16": state}, estimates=ONE, forecast=forecast(29), memory=memory)
        memory, decision = choose([problem], accelerators=POOLS, time_s=1e9 + 15.0 * i)[spec().key]
        wanted.append(total(decision))
        assert decision.reason is not Reason.TIER_SWITCH
    assert wanted == [8] * 50 + [6] * 10


def test_a_tier_grows_beside_a_replica_that_fails_on_a_broken_node() -> None:
    """The only tier of the deployment, and the load doubles."""
    memory, requested, ready = None, 3, 2
    for i in range(120):
        rate = 19.0 if i >= 60 else 9.0
        state = TierState(ready=ready, starting=requested - ready, failing=1, reading=reading(rate))
        problem = Problem(spec=spec(), states={"bf16": state}, estimates=ONE, forecast=forecast(rate), memory=memory)
        memory, decision = choose([problem], accelerators=POOLS, time_s=1e9 + 15.0 * i)[spec().key]
        # The one that fails is the last to be removed.
        requested = max(ready + 1, total(decision))
        ready = requested - 1
    assert ready == 4


def test_one_silent_tier_of_two_is_no_reason_to_shrink() -> None:
    loop = Loop(spec=spec(*TIERS[:2]), estimates=THREE, ready={"bf16": 2, "fp8": 2})
    loop.run(forecast(25), 30)
    before = sum(fleet(loop.history[-1]).values())
    after = loop.run(forecast(1), 60, silent=["fp8"])
    assert sum(fleet(after).values()) >= before


@pytest.mark.parametrize("rate", [30.0, 40.0, 200.0])
def test_growth_inside_a_budget_exchanges_nothing_that_is_not_seen(rate: float) -> None:
    """$15 pay for 2 x bf16 and 7 x int4, or for 12 x int4, which would carry more; but bf16 has no metrics."""
    wanted = spec(tier("bf16"), tier("int4", accelerator="l40s"), cost=Cost(budget_usd_per_hour=15.0))
    loop = Loop(spec=wanted, estimates={"bf16": estimate(5), "int4": estimate(4)}, ready={"bf16": 2, "int4": 2})
    loop.run(forecast(18), 3)
    for _ in range(8):
        decision = loop.tick(forecast(rate), silent=("bf16",))
        assert decision.tiers["bf16"].replicas == 2
    assert decision.tiers["int4"].replicas > 2


def test_a_budget_that_is_lowered_wins_over_what_is_not_seen() -> None:
    wanted = spec(tier("bf16"), tier("int4", accelerator="l40s"))
    loop = Loop(spec=wanted, estimates={"bf16": estimate(5), "int4": estimate(4)}, ready={"bf16": 2, "int4": 2})
    loop.run(forecast(18), 3)
    loop.spec = replace(wanted, cost=Cost(budget_usd_per_hour=5.0))
    assert fleet(loop.tick(forecast(18), silent=("bf16",))) == {"bf16": 1, "int4": 1}


def test_load_that_falls_to_nothing_is_believed_where_metrics_speak() -> None:
    loop = Loop(spec=spec(), estimates=ONE)
    loop.run(forecast(19), 25)
    assert fleet(loop.run(forecast(0), 40)) == {"bf16": 1}


def test_sleep_needs_idleness_and_a_queue_wakes() -> None:
    loop = Loop(spec=spec(scale_to_zero=ScaleToZero(idle_s=300)), estimates=ONE)
    loop.run(forecast(4), 5)
    assert fleet(loop.tick(forecast(0, idle_s=200))) == {"bf16": 1}
    asleep = loop.tick(forecast(0, idle_s=301))
    assert fleet(asleep) == {}
    assert asleep.reason is Reason.SCALED_TO_ZERO
    assert fleet(loop.tick(forecast(0, idle_s=400), gateway=GatewayReading(arrival_rps=0, queued=0))) == {}
    awake = loop.tick(forecast(0, idle_s=400), gateway=GatewayReading(arrival_rps=0.2, queued=1))
    assert fleet(awake) == {"bf16": 1}
    assert awake.reason is Reason.ACTIVATED


def test_a_schedule_keeps_replicas_up_while_it_is_active() -> None:
    schedule = Schedule(name="office", cron="0 7 * * 1-5", time_zone="Europe/Berlin", duration_s=43_200, replicas_min=4)
    loop = Loop(spec=spec(schedules=(schedule,)), estimates=ONE, time_s=1_767_679_200.0)  # Tue 6 Jan 2026, 07:00 there
    assert fleet(loop.tick(forecast(1))) == {"bf16": 4}
    loop.time_s = 1_767_679_200.0 + 43_200
    assert fleet(loop.run(forecast(1), 30)) == {"bf16": 1}


@pytest.mark.parametrize(
    ("changes", "rate", "expected", "reason", "binding"),
    [
        pytest.param(
            {"replicas_pinned": 3}, 40, 3, Reason.PINNED, Constraint.MAX_REPLICAS, id="a pin fixes the total"
        ),
        pytest.param(
            {"cost": Cost(budget_usd_per_hour=10.0)}, 40, 3, Reason.BUDGET_LIMITED, Constraint.BUDGET,
            id="the budget is never planned above",
        ),
        pytest.param(
            {"replicas_max": 4}, 40, 4, Reason.REPLICAS_LIMITED, Constraint.MAX_REPLICAS,
            id="nor is the largest number of replicas",
        ),
        pytest.param({"replicas_min": 3}, 1, 3, Reason.INITIAL, Constraint.NONE, id="the smallest number is kept"),
        pytest.param(
            {"replicas_min": 6, "cost": Cost(budget_usd_per_hour=15.0)}, 1, 5, Reason.BUDGET_LIMITED, Constraint.BUDGET,
            id="as far as the budget goes, which is said",
        ),
        pytest.param(
            {"tiers": (tier("bf16", low=6),), "cost": Cost(budget_usd_per_hour=15.0)}, 1, 5, Reason.BUDGET_LIMITED,
            Constraint.BUDGET, id="and so is that of a tier",
        ),
    ],
)  # fmt: skip
def test_limits_are_kept_and_named(
    changes: dict[str, object], rate: float, expected: int, reason: Reason, binding: Constraint
) -> None:
    loop = Loop(spec=spec(**changes), estimates=ONE)
    decision = loop.tick(forecast(rate))
    if reason is Reason.PINNED:
        loop = Loop(spec=spec(), estimates=ONE)
        loop.tick(forecast(rate))
        loop.spec = spec(**changes)
        decision = loop.tick(forecast(rate))
    assert sum(fleet(decision).values()) == expected
    assert decision.reason is reason
    assert decision.binding is binding


def test_capacity_of_a_class_is_never_planned_past() -> None:
    pools = {"h100": Accelerator(name="h100", price_usd_per_hour=3.0, capacity=5)}
    loop = Loop(spec=spec(tier("bf16", gpus=2)), estimates=ONE, pools=pools)
    decision = loop.tick(forecast(40))
    assert fleet(decision) == {"bf16": 2}
    assert decision.binding is Constraint.CAPACITY
    assert condition(decision, "CapacityAvailable") is Status.FALSE
    assert decision.uncapped == {"bf16": 8}


def test_average_quality_is_given_up_before_attainment() -> None:
    """4 accelerators: 4 bf16 carry 20 req/s at quality 1; 30 req/s need int4 in the mix."""
    pools = {"h100": Accelerator(name="h100", price_usd_per_hour=3.0, capacity=4)}
    wanted = spec(tier("bf16"), tier("int4", quality=0.95), quality=Quality(average_minimum=0.99))
    loop = Loop(spec=wanted, estimates={"bf16": estimate(5), "int4": estimate(10)}, pools=pools)
    kept, reduced = loop.tick(forecast(18)), loop.run(forecast(28), 8)
    assert kept.prediction is not None
    assert kept.prediction.quality_mean is not None
    assert kept.prediction.quality_mean >= 0.99
    assert reduced.reason is Reason.QUALITY_REDUCED
    assert condition(reduced, "QualityReduced") is Status.TRUE
    assert condition(reduced, "SLOMet") is Status.TRUE


@pytest.mark.parametrize(
    ("capacity", "reduced"),
    [(5.0, Status.TRUE), (1.0, Status.FALSE)],
    ids=["where the mean is below", "not where the better tier carries more anyway"],
)
def test_quality_that_is_given_up_beside_attainment_is_told(capacity: float, reduced: Status) -> None:
    pools = {"h100": Accelerator(name="h100", price_usd_per_hour=3.0, capacity=4)}
    wanted = spec(tier("bf16"), tier("int4", quality=0.95), quality=Quality(average_minimum=0.99))
    loop = Loop(spec=wanted, estimates={"bf16": estimate(2), "int4": estimate(capacity)}, pools=pools)
    decision = loop.run(forecast(40), 8)
    assert condition(decision, "SLOMet") is Status.FALSE
    assert condition(decision, "QualityReduced") is reduced


def test_a_tier_below_the_minimum_quality_is_never_used() -> None:
    wanted = spec(tier("bf16", high=2), tier("int4", quality=0.9), quality=Quality(minimum=0.95))
    loop = Loop(spec=wanted, estimates={"bf16": estimate(5), "int4": estimate(10)}, ready={"int4": 1})
    assert fleet(loop.tick(forecast(40))) == {"bf16": 2}


def test_targets_that_no_tier_meets_do_not_buy_the_largest_fleet() -> None:
    loop = Loop(spec=spec(), estimates={"bf16": estimate(5, idle=0.7)})
    decision = loop.tick(forecast(9))
    assert decision.reason is Reason.TARGET_INFEASIBLE
    assert sum(fleet(decision).values()) <= 4
    assert "at most 0.700" in decision.message
    assert condition(decision, "SLOMet") is Status.FALSE


@pytest.mark.parametrize(
    ("share", "promised", "text"),
    [
        pytest.param(0.9988, 0.999, "0.998", id="rounded up it would keep the promise"),
        pytest.param(0.9996, 0.99951, "1.000", id="it keeps it"),
        pytest.param(0.9858, 0.99, "0.986", id="it misses it either way"),
    ],
)
def test_a_share_that_misses_the_promise_does_not_read_as_if_it_kept_it(
    share: float, promised: float, text: str
) -> None:
    assert three_digits(share, promised=promised) == text


def test_targets_far_out_of_reach_are_said_and_others_planned_for() -> None:
    instead = Relaxed(ttft_s=1.0, itl_s=0.06, idle_ttft_s=0.1, idle_itl_s=0.045, attainment=0.2)
    loop = Loop(spec=spec(), estimates={"bf16": replace(estimate(5), relaxed=instead)})
    decision = loop.run(forecast(9), 3)
    assert decision.reason is Reason.TARGET_INFEASIBLE
    assert fleet(decision) == {"bf16": 2}
    assert "ITL 40 ms cannot be met (at least 45 ms); planned for TTFT 1000 ms and ITL 60 ms" in decision.message
    assert condition(decision, "SLOMet") is Status.FALSE
    assert decision.prediction is not None
    assert decision.prediction.attainment == pytest.approx(0.2, abs=0.01)


@pytest.mark.parametrize(("rate", "is_known"), [(9.0, True), (60.0, False)], ids=["busy", "a queue without end"])
def test_where_more_comes_than_is_served_the_first_token_has_no_percentile(rate: float, is_known: bool) -> None:
    prediction = Loop(spec=spec(replicas_max=2), estimates=ONE).tick(forecast(rate)).prediction
    assert prediction is not None
    assert (prediction.ttft_s_p95 is not None) is is_known
    assert prediction.itl_s_p95 is not None


def test_the_smallest_feasible_target_is_not_rounded_down_to_one_that_cannot_be_met() -> None:
    instead = Relaxed(ttft_s=1.0, itl_s=0.06, idle_ttft_s=0.1, idle_itl_s=0.0402, attainment=0.2)
    decision = Loop(spec=spec(), estimates={"bf16": replace(estimate(5), relaxed=instead)}).tick(forecast(9))
    assert "ITL 40 ms cannot be met (at least 41 ms)" in decision.message


def test_bad_latency_on_idle_gpus_is_said_and_not_bought_off() -> None:
    slow = Histogram((0.5, 1.0, float("inf")), (50.0, 80.0, 100.0))
    shown: TierReading = reading(4.0, gpu_utilization=0.1, running=3.0, ttft=slow)
    loop = Loop(spec=spec(), estimates=ONE)
    loop.run(forecast(4), 3)
    states = {"bf16": TierState(ready=1, reading=shown)}
    worse = Problem(
        spec=loop.spec, states=states, estimates={"bf16": estimate(2)}, forecast=forecast(4), memory=loop.memory
    )
    _, decision = choose([worse], accelerators=POOLS, time_s=loop.time_s)[loop.spec.key]
    assert decision.reason is Reason.NOT_GPU_BOUND
    assert fleet(decision) == {"bf16": 1}
    assert "0.10" in decision.message


@pytest.mark.parametrize(
    ("changes", "reason"), [({"paused": True}, Reason.PAUSED), ({"mode": Mode.OFF}, Reason.MODE_OFF)]
)
def test_what_is_switched_off_is_left_alone(changes: dict[str, object], reason: Reason) -> None:
    loop = Loop(spec=spec(**changes), estimates=ONE, ready={"bf16": 3})
    decision = loop.tick(forecast(40))
    assert fleet(decision) == {"bf16": 3}
    assert decision.reason is reason


def test_a_broken_deployment_is_left_alone_and_the_others_are_planned() -> None:
    """It keeps its accelerators; the others get what is left."""
    bad = replace(
        spec(schedules=(Schedule(name="x", cron="not a cron", time_zone="UTC", duration_s=1.0),)), key=Key("a", "bad")
    )
    problems = [
        Problem(spec=s, states={"bf16": TierState(ready=n)}, estimates=ONE, forecast=forecast(400))
        for s, n in ((bad, 3), (spec(), 0))
    ]
    outcome = choose(problems, accelerators={"h100": replace(POOLS["h100"], capacity=5)}, time_s=0.0)
    assert outcome[bad.key][1].error
    assert outcome[bad.key][1].reason is Reason.PLANNER_FAULT
    assert fleet(outcome[spec().key][1]) == {"bf16": 2}


def test_the_decision_explains_itself() -> None:
    loop = Loop(spec=spec(*TIERS), estimates=THREE)
    decision = loop.tick(forecast(14))
    assert decision.prediction is not None
    assert decision.prediction.attainment is not None
    assert decision.prediction.attainment >= 0.99
    assert decision.prediction.usd_per_million_output_tokens == pytest.approx(6 / 3600 / (14 * 250) * 1e6)
    assert decision.prediction.joules_per_output_token == pytest.approx(2 * 500 / (14 * 250))
    assert decision.uncapped == {"fp8": 2}
    assert 1 <= len(decision.alternatives) <= 3
    assert all(a.why_not for a in decision.alternatives)
    assert {c.type for c in decision.conditions} == {
        "SLOMet",
        "WithinBudget",
        "MetricsAvailable",
        "CapacityAvailable",
        "QualityReduced",
        "ScalingLimited",
    }


def test_what_else_could_run_is_told_anew_every_ten_minutes_and_at_another_moment_for_each() -> None:
    def moments(name: str) -> list[int]:
        loop = Loop(spec=replace(spec(*TIERS), key=Key("prod", name)), estimates=THREE)
        loop.run(forecast(14), 30)
        loop.history.clear()
        for i in range(81):
            loop.tick(forecast(14 * (1 + 0.01 * (-1) ** i)))
        pairs = enumerate(pairwise(loop.history))
        return [i for i, (before, now) in pairs if now.alternatives is not before.alternatives]

    found = [moments(name) for name in ("a", "b", "c")]
    assert [len(ticks) for ticks in found] == [2, 2, 2]
    assert all(later - earlier == 40 for earlier, later in found)
    assert len({ticks[0] for ticks in found}) > 1


def test_a_load_that_stays_while_the_doubt_about_it_gets_less_frees_replicas_within_ten_minutes() -> None:
    loop = Loop(spec=spec(), estimates=ONE)
    doubted = loop.run(forecast(18, spread=1.0), 60)
    sure = [fleet(loop.tick(forecast(18, spread=0.02))) for _ in range(120)]
    assert fleet(doubted) == {"bf16": 7}
    assert sure[40:] == [{"bf16": 4}] * 80


@pytest.mark.parametrize("part", ["ideal", "target", "capacities", "prices", "progress"])
def test_a_memory_of_which_one_part_fits_other_tiers_is_refused(part: str) -> None:
    loop = Loop(spec=spec(*TIERS), estimates=THREE)
    loop.run(forecast(5), 2)
    assert loop.memory is not None
    value = loop.memory.to_json()
    with pytest.raises(ValueError, match="does not fit"):
        PlanMemory.from_json(value | {part: value[part][:-1]})  # type: ignore[index]


def test_a_memory_stays_small() -> None:
    loop = Loop(spec=spec(*TIERS), estimates=THREE, startup_ticks=8)
    sizes = []
    for rate in (5, 30, 12, 40, 3):
        loop.run(forecast(rate, spread=0.3), 20)
        assert loop.memory is not None
        sizes.append(len(json.dumps(loop.memory.to_json())))
        assert PlanMemory.from_json(json.loads(json.dumps(loop.memory.to_json()))) == loop.memory
    assert max(sizes) < 1024


@pytest.mark.parametrize(
    ("wanted", "estimates", "binding"),
    [
        pytest.param(spec(tier("bf16", accelerator="gone")), ONE, Constraint.CAPACITY, id="its class is missing"),
        pytest.param(spec(), {}, Constraint.CAPACITY, id="nothing is known of it"),
        pytest.param(
            spec(tier("bf16", quality=0.9), quality=Quality(minimum=0.95)), ONE, Constraint.QUALITY,
            id="its quality is too low",
        ),
    ],
)  # fmt: skip
def test_where_the_only_tier_cannot_be_used_the_decision_says_why_and_promises_nothing(
    wanted: DeploymentSpec, estimates: dict[str, TierEstimate], binding: Constraint
) -> None:
    decision = Loop(spec=wanted, estimates=estimates).tick(forecast(4))
    assert fleet(decision) == {}
    assert decision.binding is binding
    assert decision.reason is not Reason.TARGET_INFEASIBLE
    assert condition(decision, "SLOMet") is Status.FALSE
    assert condition(decision, "ScalingLimited") is Status.TRUE


@pytest.mark.parametrize(
    "changes",
    [{"paused": True}, {"mode": Mode.OFF}, {"replicas_pinned": 0}],
    ids=["paused", "mode Off", "pinned to zero"],
)
def test_nothing_that_serves_keeps_no_promise_while_somebody_asks(changes: dict[str, Any]) -> None:
    loop = Loop(spec=spec(**changes), estimates=ONE)
    decision = loop.tick(forecast(4), gateway=GatewayReading(arrival_rps=4, queued=0))
    assert fleet(decision) == {}
    assert condition(decision, "SLOMet") is Status.FALSE


def test_zero_replicas_by_right_break_no_promise() -> None:
    loop = Loop(spec=spec(scale_to_zero=ScaleToZero(idle_s=300)), estimates=ONE)
    decision = loop.tick(forecast(0, idle_s=400), gateway=GatewayReading(arrival_rps=0, queued=0))
    assert decision.reason is Reason.SCALED_TO_ZERO
    assert condition(decision, "SLOMet") is Status.TRUE


def test_a_start_at_zero_is_limited_by_nothing() -> None:
    wanted = spec(*TIERS, scale_to_zero=ScaleToZero(idle_s=300), quality=Quality(average_minimum=0.98))
    quiet, called = GatewayReading(arrival_rps=0, queued=0), GatewayReading(arrival_rps=0.5, queued=3)
    loop = Loop(spec=wanted, estimates=THREE, startup_ticks=4)
    decisions = [loop.tick(forecast(0), gateway=quiet), *[loop.tick(forecast(0.5), gateway=called) for _ in range(9)]]
    assert {d.binding for d in decisions} == {Constraint.NONE}
    assert {condition(d, "ScalingLimited") for d in decisions} == {Status.FALSE}


def test_a_class_that_is_missing_for_a_moment_stops_nobody() -> None:
    wanted = spec(tier("bf16"), tier("fp8", accelerator="l40s"))
    loop = Loop(spec=wanted, estimates={"bf16": estimate(5), "fp8": estimate(5)}, ready={"bf16": 2, "fp8": 3})
    loop.run(forecast(20), 3)
    before = dict(loop.ready)
    loop.pools = {"h100": POOLS["h100"]}
    decision = loop.run(forecast(20), 60)
    assert decision.tiers["fp8"].replicas == before["fp8"]
    assert decision.tiers["bf16"].replicas >= 1
