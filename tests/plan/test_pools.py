"""Pools of any size, several short classes, and deployments that do not act."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.plan.fleets import Loop, estimate, fleet, spec, tick, tier, total
from tidegate.domain.decision import Constraint, Decision, Reason
from tidegate.domain.key import Key
from tidegate.domain.spec import Accelerator, Mode

ONE = {"bf16": estimate(5), "int4": estimate(2)}
TIERS = {"bf16": tier("bf16", high=200), "int4": tier("int4", accelerator="l40s", high=200)}


def pool(h100: int, l40s: int | None = None) -> dict[str, Accelerator]:
    return {
        "h100": Accelerator(name="h100", price_usd_per_hour=3.0, capacity=h100),
        "l40s": Accelerator(name="l40s", price_usd_per_hour=1.5, capacity=l40s),
    }


def loop(name: str, *tiers: str, priority: int = 1, ready: int = 1, least: int = 1, **more: object) -> Loop:
    """A deployment on some of the tiers, with so many replicas of the first one."""
    wanted = spec(*[TIERS[t] for t in tiers], replicas_min=least, replicas_max=200)
    wanted = replace(wanted, key=Key("prod", name), priority=priority, **more)  # type: ignore[arg-type]
    return Loop(spec=wanted, estimates=ONE, ready={tiers[0]: ready})


@st.composite
def crowds(draw: st.DrawFn) -> tuple[list[Loop], list[float], int]:
    """Two or three deployments alike but for priority, lower bound and load, and a pool that does not hold them all."""
    capacity = draw(st.sampled_from((5, 9, 47, 64, 100, 173)))
    priorities = draw(st.permutations((100, 50, 1)))[: draw(st.integers(2, 3))]
    loops = [loop(f"d{i}", "bf16", priority=p, least=draw(st.integers(1, 3))) for i, p in enumerate(priorities)]
    rates = [draw(st.floats(0.3, 1.5)) * 5 * capacity for _ in loops]
    return loops, rates, capacity


@settings(max_examples=25, deadline=None)
@given(crowds())
def test_priorities_and_lower_bounds_hold_and_nothing_idles_however_large_the_pool(
    case: tuple[list[Loop], list[float], int],
) -> None:
    loops, rates, capacity = case
    decisions = tick(loops, rates, pool(capacity))
    got = [total(decision) for decision in decisions]
    least = [one.spec.replicas_min for one in loops]
    assert sum(got) <= capacity
    if sum(least) <= capacity:
        assert all(n >= low for n, low in zip(got, least, strict=True))
    # Misses are compared to three digits.
    short = [d.prediction is not None and (d.prediction.attainment or 0.0) < 0.99 - 0.0005 for d in decisions]
    assert not any(short) or sum(got) == capacity
    for i, one in enumerate(loops):
        for j, other in enumerate(loops):
            if short[i] and one.spec.priority > other.spec.priority:
                assert got[j] <= least[j]


@pytest.mark.parametrize(
    ("priorities", "got"), [((100, 1), [60, 40]), ((1, 1), [60, 40])], ids=["the first one counts more", "equals"]
)
def test_sixty_accelerators_are_dealt_as_six_are(priorities: tuple[int, int], got: list[int]) -> None:
    """300 and 490 req/s on 100 accelerators of 5 req/s each: the first can be served well, the second cannot."""
    loops = [loop(name, "bf16", priority=p, ready=5) for name, p in zip("ab", priorities, strict=True)]
    assert [total(d) for d in tick(loops, [300.0, 490.0], pool(100))] == got


def test_what_is_left_over_goes_to_a_deal_that_stands_too() -> None:
    """Deep in overload a larger pool gains less than 0.05 of attainment, but must still be used."""
    loops = [loop("a", "bf16", priority=50), loop("b", "bf16")]
    tick(loops, [10.0, 900.0], pool(6))
    assert [total(d) for d in tick(loops, [10.0, 900.0], pool(30))] == [2, 28]


@pytest.mark.parametrize(
    ("rates", "got"),
    [
        ((80.0, 1000.0, 16.0), [{"bf16": 16}, {"bf16": 4, "int4": 12}, {"int4": 8}]),
        ((100.0, 1000.0, 30.0), [{"bf16": 20}, {"int4": 5}, {"int4": 15}]),
    ],
    ids=["a little of both is left", "one of them is used up"],
)
def test_who_wants_two_short_classes_gets_what_is_left_of_both(
    rates: tuple[float, ...], got: list[dict[str, int]]
) -> None:
    """The middle one takes what the others, of higher priority and on one class each, leave."""
    loops = [
        loop("a", "bf16", priority=100),
        loop("b", "bf16", "int4"),
        loop("c", "int4", priority=50),
    ]
    for _ in range(6):
        decisions = tick(loops, rates, pool(20, 20))
    assert [fleet(d) for d in decisions] == got


def test_who_gets_less_of_one_class_overdraws_no_other() -> None:
    """Only h100 is short of what both want; with less of it the first turns to l40s, which the second has in full."""
    loops = [loop("a", "bf16", "int4", priority=100), loop("b", "bf16", "int4")]
    for _ in range(6):
        decisions = tick(loops, [60.0, 1000.0], pool(20, 20))
        assert sum(d.tiers["int4"].replicas for d in decisions) <= 20
        assert sum(d.tiers["bf16"].replicas for d in decisions) <= 20
    assert fleet(decisions[0]) == {"bf16": 12}


@pytest.mark.parametrize(
    "changes",
    [{"paused": True}, {"mode": Mode.OFF}, {"mode": Mode.RECOMMEND}],
    ids=["paused", "switched off", "only recommended for"],
)
def test_nobody_is_dealt_what_one_that_does_not_act_keeps(changes: dict[str, object]) -> None:
    first, second = loop("a", "bf16", priority=100, ready=2), loop("b", "bf16", ready=4, **changes)
    tick([first, second], [9.0, 18.0], pool(6))
    for _ in range(3):
        decisions = tick([first, second], [28.0, 18.0], pool(6))
        assert [total(d) for d in decisions] == [2, 4]
    assert decisions[0].binding is Constraint.CAPACITY


def test_a_recommendation_takes_nothing_from_those_that_act_and_names_what_they_leave() -> None:
    trial, serving = loop("trial", "bf16", priority=100, mode=Mode.RECOMMEND), loop("prod", "bf16", ready=4)
    tick([trial, serving], [4.0, 18.0], pool(6))
    decisions = tick([trial, serving], [28.0, 18.0], pool(6))
    assert [total(d) for d in decisions] == [2, 4]
    assert [d.reason for d in decisions] == [Reason.CAPACITY_LIMITED, Reason.STEADY]


def test_two_recommendations_take_nothing_from_each_other() -> None:
    trials = [loop(name, "bf16", mode=Mode.RECOMMEND) for name in ("a", "b")]
    assert [total(d) for d in tick(trials, [24.0, 24.0], pool(6))] == [5, 5]


def test_a_recommendation_on_the_way_is_for_no_more_than_there_is() -> None:
    """Four replicas run and lose three accelerators: others are recommended in their place, not in addition."""
    trial = loop("trial", "int4", "bf16", ready=4, mode=Mode.RECOMMEND)
    assert fleet(tick([trial], [7.0], pool(8, 4))[0]) == {"int4": 4}
    assert fleet(tick([trial], [7.0], pool(8, 1))[0])["int4"] <= 1


def switching(*, other: int, ready: int, rates: list[tuple[float, float]]) -> list[list[Decision]]:
    """
    Two wide replicas carry 9 req/s and could be exchanged for narrow ones, which is found after a minute.

    The pool has seven accelerators, four of them in use by the first.

    Args:
        other, ready: Priority of the other deployment, the first has 50; and the accelerators that it has in use.
        rates: Load of both, tick by tick.
    """
    tiers = tier("fp8", gpus=2), tier("int4", quality=0.95)
    wide = replace(spec(*tiers), key=Key("prod", "wide"), priority=50, scale_down_window_s=60.0)
    first = Loop(spec=wide, estimates={"fp8": estimate(5), "int4": estimate(5)}, startup_ticks=8, ready={"fp8": 2})
    second = loop("other", "bf16", priority=other, ready=ready)
    return [tick([first, second], pair, pool(7)) for pair in rates]


def test_an_exchange_that_has_begun_is_done_before_a_lower_priority_grows() -> None:
    """What it leaves of the pool then goes to the other, not a tick later."""
    ticks = switching(other=1, ready=1, rates=[*[(9.0, 4.5)] * 5, *[(9.0, 24.0)] * 20])
    both, done = {"fp8": 2, "int4": 2}, {"int4": 2}
    assert [fleet(wide) for wide, _ in ticks] == [*[{"fp8": 2}] * 4, *[both] * 9, *[done] * 12]
    assert [total(other) for _, other in ticks] == [*[1] * 13, *[5] * 12]


def test_an_exchange_for_money_that_others_leave_no_room_for_is_not_made() -> None:
    ticks = switching(other=1, ready=3, rates=[*[(9.0, 13.5)] * 10, *[(9.0, 24.0)] * 20])
    assert all([fleet(wide), fleet(other)] == [{"fp8": 2}, {"bf16": 3}] for wide, other in ticks)
    assert {wide.reason for wide, _ in ticks} == {Reason.INITIAL, Reason.STEADY}


def test_what_serves_is_not_taken_apart_for_want_of_room_that_a_lower_priority_has() -> None:
    ticks = switching(other=1, ready=3, rates=[*[(9.0, 13.5)] * 10, *[(14.0, 13.5)] * 20])
    assert all([fleet(wide), fleet(other)] == [{"fp8": 2, "int4": 1}, {"bf16": 2}] for wide, other in ticks[10:])


def test_a_higher_priority_does_not_wait_for_the_exchange_of_a_lower_one() -> None:
    ticks = switching(other=100, ready=1, rates=[*[(9.0, 4.5)] * 5, (9.0, 24.0)])
    assert fleet(ticks[-1][1]) == {"bf16": 5}
