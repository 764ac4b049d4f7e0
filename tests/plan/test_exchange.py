"""A fleet that cannot meet everything: it follows the load without reacting to each fluctuation."""

from dataclasses import replace
from itertools import pairwise

import pytest

from tests.plan.fleets import POOLS, Loop, estimate, fleet, forecast, spec, tier
from tidegate.domain.estimate import TierEstimate
from tidegate.domain.spec import Cost

TIERS = (tier("bf16"), tier("fp8", quality=0.99), tier("int4", quality=0.95))
# No tier promises 0.99 alone: the first never reaches it, the second is too small for the load.
POOR = {"bf16": estimate(5, idle=0.97), "fp8": estimate(1, running=90), "int4": estimate(0.3, idle=0.97, running=90)}
SMALL = {"bf16": estimate(3, idle=0.96, running=90), "fp8": estimate(5, idle=0.97, running=90)}


def loop(estimates: dict[str, TierEstimate], *, startup_ticks: int) -> Loop:
    wanted = spec(*TIERS[: len(estimates)], replicas_max=3, scale_down_window_s=60.0)
    return Loop(spec=wanted, estimates=estimates, startup_ticks=startup_ticks, ready={"bf16": 1})


@pytest.mark.parametrize(
    ("estimates", "startup_ticks", "low", "high", "ticks"),
    [(POOR, 6, 5.2, 12.1, 10), (SMALL, 0, 7.8, 18.1, 6)],
    ids=["replicas start slowly", "replicas start at once"],
)
def test_a_swing_of_the_load_does_not_exchange_replicas_each_time(
    estimates: dict[str, TierEstimate], startup_ticks: int, low: float, high: float, ticks: int
) -> None:
    swinging = loop(estimates, startup_ticks=startup_ticks)
    for _ in range(12):
        swinging.run(forecast(low), ticks)
        swinging.run(forecast(high), ticks)
    plans = [fleet(d) for d in swinging.history[20:]]
    assert sum(a != b for a, b in pairwise(plans)) <= 8


def test_a_load_that_stays_low_makes_it_smaller_after_the_window() -> None:
    falling = loop(SMALL, startup_ticks=0)
    assert sum(fleet(falling.run(forecast(18.1), 20)).values()) == 3
    assert sum(fleet(falling.run(forecast(2.0), 3)).values()) == 3
    assert sum(fleet(falling.run(forecast(2.0), 20)).values()) == 1


def test_replicas_on_their_way_are_not_called_off_before_five_minutes_however_short_the_window() -> None:
    early = Loop(spec=spec(tier("bf16"), scale_down_window_s=60.0), estimates={"bf16": estimate(5)}, startup_ticks=40)
    early.run(forecast(4.0), 60)
    assert fleet(early.tick(forecast(18.0))) == {"bf16": 4}
    assert {fleet(early.tick(forecast(4.0)))["bf16"] for _ in range(18)} == {4}
    assert fleet(early.run(forecast(4.0), 6)) == {"bf16": 1}


@pytest.mark.parametrize(
    ("load", "ticks", "before", "then"),
    [
        pytest.param(5.0, 60, {"bf16": 3}, {"bf16": 3, "fp8": 3}, id="all are ready"),
        pytest.param(7.0, 2, {"bf16": 4}, {"bf16": 2, "fp8": 4}, id="two are still starting"),
    ],
)
def test_replicas_that_miss_the_targets_at_any_load_are_exchanged_and_not_outnumbered(
    load: float, ticks: int, before: dict[str, int], then: dict[str, int]
) -> None:
    wanted, good = spec(*TIERS[:2], replicas_max=60), estimate(1.8)
    rising = Loop(spec=wanted, estimates={"bf16": estimate(2), "fp8": good}, startup_ticks=8)
    rising.run(forecast(3.5), 60)
    assert fleet(rising.run(forecast(load), ticks)) == before
    rising.estimates = {"bf16": estimate(2, idle=0.97), "fp8": good}
    assert fleet(rising.tick(forecast(load))) == then
    assert fleet(rising.run(forecast(load), 20)) == {"fp8": then["fp8"]}
    assert max(sum(fleet(d).values()) for d in rising.history) == sum(then.values()), "old and new together"


# A tier that the user took out of the spec

LEFT = replace(tier("bf16", high=0), leaving=True)
BOTH = {"bf16": estimate(5, startup_s=90), "fp8": estimate(8, startup_s=90)}


def renamed(capacity: int | None, **changes: object) -> Loop:
    """Six replicas of bf16 carry 25 requests/s; the spec has fp8 in its place now."""
    pools = {"h100": replace(POOLS["h100"], capacity=capacity)}
    wanted = spec(tier("fp8"), LEFT, **changes)
    return Loop(spec=wanted, estimates=BOTH, pools=pools, startup_ticks=6, ready={"bf16": 6})


@pytest.mark.parametrize(
    ("capacity", "changes"),
    [
        pytest.param(None, {}, id="room for all"),
        pytest.param(8, {}, id="room for two more"),
        pytest.param(6, {}, id="room for none"),
        pytest.param(None, {"replicas_max": 6}, id="no more replicas are allowed"),
        pytest.param(None, {"cost": Cost(budget_usd_per_hour=18.0)}, id="the budget is used up"),
    ],
)
def test_a_tier_that_left_serves_until_others_carry_the_load(capacity: int | None, changes: dict[str, object]) -> None:
    loop = renamed(capacity, **changes)
    carried = []
    for _ in range(80):
        carried.append(5 * loop.ready.get("bf16", 0) + 8 * loop.ready.get("fp8", 0))
        loop.tick(forecast(25.0))
        existing = sum(loop.ready.values()) + len(loop.starting)
        assert capacity is None or existing <= capacity
        assert existing <= loop.spec.replicas_max
        assert loop.spec.cost.budget_usd_per_hour is None or 3.0 * existing <= loop.spec.cost.budget_usd_per_hour
    assert min(carried) >= 25, "one at a time is spared of thirty"
    assert {name: n for name, n in loop.ready.items() if n} == {"fp8": 4}
