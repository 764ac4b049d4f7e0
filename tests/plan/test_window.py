"""The stabilization window: what it keeps across gaps, pauses, edits and price changes."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.plan.fleets import POOLS, Loop, estimate, fleet, forecast, spec, tier
from tidegate.domain.decision import Reason
from tidegate.domain.spec import Accelerator, Cost

HIGH, LOW = 40.0, 15.0  # 8 replicas and 3


def away(loop: Loop) -> None:
    loop.time_s += 900


def late(loop: Loop) -> None:
    loop.time_s += 45


def longer(loop: Loop) -> None:
    loop.spec = replace(loop.spec, scale_down_window_s=600.0)


def shorter(loop: Loop) -> None:
    loop.spec = replace(loop.spec, scale_down_window_s=120.0)


def paused(loop: Loop) -> None:
    loop.spec = replace(loop.spec, paused=True)
    for _ in range(90):
        loop.tick(forecast(HIGH))
    loop.spec = replace(loop.spec, paused=False)


def dearer(loop: Loop) -> None:
    loop.pools = {name: replace(pool, price_usd_per_hour=pool.price_usd_per_hour * 4) for name, pool in POOLS.items()}


def cheaper(loop: Loop) -> None:
    loop.pools = {name: replace(pool, price_usd_per_hour=pool.price_usd_per_hour / 4) for name, pool in POOLS.items()}


def dearer_while_paused(loop: Loop) -> None:
    loop.spec = replace(loop.spec, paused=True)
    dearer(loop)
    loop.tick(forecast(HIGH))
    loop.spec = replace(loop.spec, paused=False)


@pytest.mark.parametrize(
    ("happens", "ticks"),
    [
        (away, 20),
        (late, 17),
        (longer, 40),
        (shorter, 8),
        (paused, 20),
        (dearer, 20),
        (cheaper, 20),
        (dearer_while_paused, 20),
    ],
    ids=[
        "the operator was away",
        "a tick came late, which is no gap",
        "the window was made longer",
        "the window was made shorter",
        "it was paused and went on",
        "accelerators got dearer",
        "accelerators got cheaper",
        "they did so during a pause",
    ],
)
def test_nothing_shrinks_before_a_whole_window_was_seen(happens: Callable[[Loop], None], ticks: int) -> None:
    loop = Loop(spec=spec(), estimates={"bf16": estimate(5)}, ready={"bf16": 1})
    loop.run(forecast(HIGH), 60)
    happens(loop)
    for _ in range(ticks - 1):
        assert fleet(loop.tick(forecast(LOW))) == {"bf16": 8}
    assert fleet(loop.run(forecast(LOW), 12)) == {"bf16": 3}


@pytest.mark.parametrize(
    ("replicas_max", "kept"),
    [
        pytest.param(24, 8, id="all of them"),
        pytest.param(6, 6, id="as many as are allowed by now"),
    ],
)
def test_replicas_that_the_memory_does_not_know_of_stay_for_a_whole_window(replicas_max: int, kept: int) -> None:
    """The last growth was not saved before a crash, or people scaled by hand while no operator ran."""
    loop = Loop(spec=spec(), estimates={"bf16": estimate(5)}, ready={"bf16": 1})
    loop.run(forecast(LOW), 60)
    saved = loop.memory
    loop.run(forecast(HIGH), 8)
    loop.memory = saved
    loop.spec = replace(loop.spec, replicas_max=replicas_max)
    for _ in range(20):
        assert fleet(loop.tick(forecast(LOW))) == {"bf16": kept}
    assert fleet(loop.run(forecast(LOW), 12)) == {"bf16": 3}


def test_an_exchange_that_a_gap_interrupts_goes_on_for_the_load_of_the_window() -> None:
    """The budget does not hold what is planned and what runs; the plan does not shrink because of that."""
    tiers = (tier("bf16"), tier("int4", quality=0.9, accelerator="l40s", high=0))
    loop = Loop(
        spec=spec(*tiers, cost=Cost(budget_usd_per_hour=26.0)),
        estimates={"bf16": estimate(5), "int4": estimate(5)},
        ready={"bf16": 8},
        startup_ticks=8,
    )
    loop.run(forecast(HIGH), 60)
    loop.spec = replace(loop.spec, tiers=(tiers[0], replace(tiers[1], replicas_max=24)))
    assert fleet(loop.run(forecast(HIGH), 10)) == {"bf16": 7, "int4": 4}
    away(loop)
    for _ in range(20):
        assert fleet(loop.tick(forecast(LOW)))["int4"] == 8


def test_new_prices_keep_what_the_window_has_seen_of_the_load() -> None:
    """In a lull of two minutes a class gets more expensive and another tier is the cheapest; the peak is unchanged."""
    loop = Loop(
        spec=spec(tier("bf16"), tier("int4", accelerator="l40s")),
        estimates={"bf16": estimate(5), "int4": estimate(1)},
        ready={"bf16": 1},
    )
    loop.run(forecast(HIGH), 60)
    loop.run(forecast(LOW), 8)
    before = loop.memory
    assert before is not None
    loop.pools = POOLS | {"h100": Accelerator(name="h100", price_usd_per_hour=7.0)}
    loop.tick(forecast(LOW))
    assert loop.memory is not None
    # $3 for 5 req/s are 0.6 of a dollar for one; then int4 at $1.2 for one is cheaper than bf16 at $1.4.
    highest = max(load for _, load in loop.memory.peaks)
    assert highest == pytest.approx(2.0 * max(load for _, load in before.peaks))


def test_where_no_replica_may_go_nothing_is_said_to_wait_for_the_window() -> None:
    loop = Loop(spec=spec(replicas_min=2), estimates={"bf16": estimate(5)}, ready={"bf16": 2})
    loop.run(forecast(9.0), 60)
    assert loop.tick(forecast(1.0)).reason is Reason.STEADY


def test_a_tier_that_never_was_of_use_has_no_part_in_what_the_window_has_seen() -> None:
    """It carries nothing; a third one is added in a lull, and the peak is the same load."""
    tiers = (tier("bf16"), tier("int4"))
    loop = Loop(spec=spec(*tiers), estimates={"bf16": estimate(5), "int4": estimate(0)}, ready={"bf16": 1})
    loop.run(forecast(HIGH), 60)
    loop.run(forecast(LOW), 8)
    loop.estimates = {**loop.estimates, "fp8": estimate(4)}
    loop.spec = spec(*tiers, tier("fp8"))
    assert fleet(loop.tick(forecast(LOW))) == {"bf16": 8}


def test_a_class_that_is_missing_for_a_moment_changes_no_price() -> None:
    loop = Loop(spec=spec(), estimates={"bf16": estimate(5)}, ready={"bf16": 8})
    loop.run(forecast(HIGH), 4)
    loop.pools = {}
    loop.tick(forecast(HIGH))
    loop.pools = dict(POOLS)
    loop.tick(forecast(HIGH))
    assert loop.memory is not None
    assert loop.memory.prices == (3.0,)
