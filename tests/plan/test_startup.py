"""Start-ups that fail for weeks: the counters stay finite."""

from dataclasses import replace

import pytest

from tests.plan.fleets import Loop, estimate, fleet, forecast, spec, tier
from tidegate.domain.observation import TierState
from tidegate.plan import PlanMemory
from tidegate.plan.memory import FAILURES_MAX, Since, TierProgress
from tidegate.plan.startup import COUNTED_MAX_S, Patience, follow, settled


def test_a_tier_that_never_starts_is_counted_so_far_and_no_further() -> None:
    known, time_s = TierProgress(), 0.0
    state, patience = TierState(starting=1, unschedulable=1), Patience(late_s=300.0, hurried_s=180.0)
    for _ in range(40):
        time_s = max(time_s, known.blocked_until_s) + 60.0
        known, _ = follow(replace(known, asks=((time_s - 60.0, 1),)), state, patience, time_s=time_s)
    assert known.failures == FAILURES_MAX
    assert known.blocked_until_s - time_s <= 3600.0


@pytest.mark.parametrize("failures", [1_023, 1_024, 10_000])
def test_a_memory_that_counted_too_far_is_read_and_planned_with(failures: int) -> None:
    loop = Loop(spec=spec(tier("spot"), tier("bf16")), estimates={"spot": estimate(5), "bf16": estimate(5)})
    loop.run(forecast(4), 3)
    assert loop.memory is not None
    value = loop.memory.to_json() | {"progress": [[0, [], failures, 0.0], [1, [], 0, 0.0]]}
    loop.memory = PlanMemory.from_json(value)
    assert loop.memory.progress[0].failures == FAILURES_MAX
    assert sum(fleet(loop.tick(forecast(4))).values()) == 1


def test_one_that_turns_ready_ends_what_was_held_against_its_tier() -> None:
    before = TierProgress(asks=((0.0, 1),), failures=2, blocked_until_s=10_000.0)
    after, seen = follow(before, TierState(ready=1), Patience(late_s=300.0, hurried_s=180.0), time_s=400.0)
    assert (after.failures, seen.blocked) == (0, False)


def test_of_two_that_start_the_younger_one_was_taken_back() -> None:
    """The remaining one keeps its age and is found stuck in time."""
    before = TierProgress(asks=((0.0, 1), (290.0, 1)))
    after, seen = follow(before, TierState(starting=1), Patience(late_s=300.0, hurried_s=180.0), time_s=301.0)
    assert after.asks == ((0.0, 1),)
    assert (seen.healthy, seen.stuck) == (0, 1)


@pytest.mark.parametrize(
    ("asks", "arrived", "starting", "expected"),
    [
        pytest.param(((0.0, 2),), 1, 1, ((0.0, 1),), id="one of two arrives"),
        pytest.param(((0.0, 1), (60.0, 3)), 2, 2, ((60.0, 2),), id="the oldest arrive first"),
        pytest.param(((0.0, 1),), 3, 0, (), id="more arrive than were requested"),
        pytest.param(((0.0, 3),), 0, 2, ((0.0, 2),), id="one of three is cancelled"),
        pytest.param(((0.0, 2), (60.0, 1)), 0, 1, ((0.0, 1),), id="the newest are cancelled first"),
        pytest.param(((0.0, 1),), 0, 3, ((0.0, 1), (90.0, 2)), id="two more are requested"),
        pytest.param(((0.0, 2),), 1, 2, ((0.0, 1), (90.0, 1)), id="one arrives and another one is requested"),
        pytest.param(
            ((0.0, 1), (30.0, 1), (60.0, 1), (75.0, 1)),
            0,
            5,
            ((30.0, 2), (60.0, 1), (75.0, 1), (90.0, 1)),
            id="of too many times the two oldest become the later one of them",
        ),
    ],
)
def test_each_request_keeps_its_time(asks: Since, arrived: int, starting: int, expected: Since) -> None:
    assert settled(asks, arrived=arrived, starting=starting, time_s=90.0) == expected


def test_one_that_is_taken_back_is_no_new_failure_of_those_that_stay() -> None:
    before = TierProgress(asks=((0.0, 3),), failures=1, blocked_until_s=600.0)
    after, _ = follow(before, TierState(starting=2), Patience(late_s=300.0, hurried_s=180.0), time_s=615.0)
    assert (after.failures, after.blocked_until_s) == (1, 915.0)


def test_what_failed_often_is_not_counted_on_for_longer_than_an_hour() -> None:
    before = TierProgress(asks=((0.0, 1),), failures=10)
    patience = Patience(late_s=300.0, hurried_s=180.0)
    _, soon = follow(before, TierState(starting=1), patience, time_s=COUNTED_MAX_S - 1)
    _, later = follow(before, TierState(starting=1), patience, time_s=COUNTED_MAX_S)
    assert (soon.stuck, later.stuck, later.awaited) == (0, 1, 1)


def test_what_is_requested_after_a_failure_gets_twice_the_time_even_while_requests_miss_their_targets() -> None:
    """Else a tier that is slower than expected would be taken back each time before it is ready."""
    patience = Patience(late_s=300.0, hurried_s=180.0, hurried=True)
    for failures, late_s in [(0, 180.0), (1, 600.0), (2, 1200.0)]:
        before = TierProgress(asks=((0.0, 1),), failures=failures)
        _, soon = follow(before, TierState(starting=1), patience, time_s=late_s - 1)
        _, later = follow(before, TierState(starting=1), patience, time_s=late_s)
        assert (soon.stuck, later.stuck) == (0, 1)


def test_replicas_that_arrive_while_others_leave_are_not_late() -> None:
    """A rollout replaces one after the other: one is starting for half an hour, but never the same."""
    known, patience = TierProgress(ready=7, asks=((0.0, 1),)), Patience(late_s=300.0, hurried_s=180.0)
    for time_s in range(15, 1800, 15):
        state = TierState(ready=7, starting=1, arrived=int(time_s % 120 == 0))
        known, seen = follow(known, state, patience, time_s=float(time_s))
        assert (seen.healthy, seen.stuck, seen.blocked) == (1, 0, False), time_s


@pytest.mark.parametrize(("spares_ready", "kept"), [(True, 0), (False, 2)])
def test_starting_replicas_are_kept_where_ready_ones_would_go_instead(spares_ready: bool, kept: int) -> None:
    """Three are starting, one of them beyond those requested."""
    state = TierState(ready=4, starting=3, unasked=1, failing=1, spares_ready=spares_ready)
    _, seen = follow(TierProgress(ready=4), state, Patience(late_s=300.0, hurried_s=180.0), time_s=0.0)
    assert seen.kept == kept


@pytest.mark.parametrize(
    ("state", "blocked"),
    [
        pytest.param(TierState(ready=4, starting=1, failing=1), False, id="its node is broken"),
        pytest.param(TierState(starting=1, failing=1), True, id="none of the tier is ready"),
        pytest.param(TierState(ready=4, starting=1, unplaced=1, unschedulable=1), True, id="there is no room"),
        pytest.param(TierState(ready=4, starting=1, unplaced=1, failing=1), True, id="a quota forbids it"),
    ],
)
def test_after_the_back_off_a_tier_is_tried_again_beside_one_that_fails_alone(state: TierState, blocked: bool) -> None:
    known, patience = TierProgress(ready=state.ready, asks=((0.0, 1),)), Patience(late_s=300.0, hurried_s=180.0)
    for time_s in range(30, 345, 15):
        known, seen = follow(known, state, patience, time_s=float(time_s))
        assert (seen.stuck, seen.blocked) == (1, time_s < 330 or blocked), time_s
    assert known.failures == 1


def test_a_lost_replica_is_stuck_at_once_and_does_not_block_its_tier() -> None:
    known, patience = TierProgress(ready=4, asks=((0.0, 1),)), Patience(late_s=300.0, hurried_s=180.0)
    for time_s in range(15, 900, 15):
        known, seen = follow(known, TierState(ready=4, starting=1, lost=1), patience, time_s=float(time_s))
        assert (seen.stuck, seen.lost, seen.blocked) == (1, 1, False), time_s


def test_a_lost_replica_stays_requested_while_others_start() -> None:
    """Of the two new ones there is no room for one yet."""
    patience, before = Patience(late_s=300.0, hurried_s=180.0), TierProgress(asks=((0.0, 1), (60.0, 2)))
    _, seen = follow(before, TierState(starting=3, lost=1, unplaced=1, unschedulable=1), patience, time_s=75.0)
    assert (seen.healthy, seen.stuck, seen.late, seen.kept) == (2, 1, 1, 3)


def test_a_replica_that_fails_alone_stays_requested_while_others_start() -> None:
    patience, before = Patience(late_s=300.0, hurried_s=180.0), TierProgress(ready=4, asks=((0.0, 1), (60.0, 1)))
    _, seen = follow(before, TierState(ready=4, starting=2, failing=1), patience, time_s=75.0)
    assert (seen.healthy, seen.stuck, seen.kept) == (1, 1, 2)
    _, later = follow(before, TierState(ready=5, starting=1, failing=1), patience, time_s=90.0)
    assert (later.healthy, later.kept) == (0, 0)
