"""Edits of a spec while its fleet serves a steady load."""

from dataclasses import replace

import pytest

from tests.plan.fleets import Loop, estimate, fleet, forecast, spec, tick, tier
from tidegate.domain.decision import Decision, Reason
from tidegate.domain.key import Key
from tidegate.domain.spec import Accelerator, Cost, Quality

TIERS = (tier("bf16"), tier("int4", quality=0.9, accelerator="l40s"))
ESTIMATES = {"bf16": estimate(5), "int4": estimate(6)}
LOAD = forecast(20)


def serving(**changes: object) -> Loop:
    """Four int4 replicas, the cheapest fleet for the load."""
    loop = Loop(spec=spec(*TIERS, **changes), estimates=ESTIMATES, ready={"int4": 4}, startup_ticks=8)
    assert fleet(loop.run(LOAD, 40)) == {"int4": 4}
    return loop


def reduced(decision: Decision) -> str:
    return next(c.status.value for c in decision.conditions if c.type == "QualityReduced")


@pytest.mark.parametrize(
    "edited",
    [
        pytest.param({"quality": Quality(average_minimum=0.99)}, id="a higher average minimum"),
        pytest.param(
            {"quality": Quality(average_minimum=0.89), "tiers": (TIERS[0], replace(TIERS[1], quality=0.5))},
            id="a lower score of the tier that serves",
        ),
    ],
)
def test_average_quality_that_the_fleet_no_longer_has_is_restored(edited: dict[str, object]) -> None:
    loop = serving()
    loop.spec = replace(loop.spec, **edited)  # type: ignore[arg-type]
    first = loop.tick(LOAD)
    assert (fleet(first)["int4"], first.reason) == (4, Reason.TIER_SWITCH)
    last = loop.run(LOAD, 12)
    assert last.prediction is not None
    assert (last.prediction.quality_mean or 0.0) >= loop.spec.quality.average_minimum


def test_average_quality_that_the_budget_does_not_allow_is_given_up_as_little_as_possible() -> None:
    loop = serving(cost=Cost(budget_usd_per_hour=4 * 1.2))
    loop.spec = replace(loop.spec, quality=Quality(average_minimum=0.99))
    decision = loop.run(LOAD, 20)
    assert (fleet(decision), decision.reason, reduced(decision)) == ({"int4": 4}, Reason.QUALITY_REDUCED, "True")
    loop.spec = replace(loop.spec, cost=Cost(budget_usd_per_hour=11.5))
    decision = loop.run(LOAD, 80)
    assert (fleet(decision), reduced(decision)) == ({"bf16": 3, "int4": 1}, "True")
    loop.spec = replace(loop.spec, cost=Cost())
    decision = loop.run(LOAD, 80)
    assert (fleet(decision), reduced(decision)) == ({"bf16": 4}, "False")


def test_a_changed_priority_shares_the_accelerators_out_at_once() -> None:
    pools = {"h100": Accelerator(name="h100", price_usd_per_hour=3.0, capacity=6)}
    first, second = [
        Loop(spec=spec(key=Key("prod", name), priority=level), estimates={"bf16": estimate(5)}, ready={"bf16": 1})
        for name, level in (("first", 10), ("second", 1))
    ]
    for _ in range(40):
        before = tick([first, second], [22.0, 22.0], pools)
    assert [fleet(each) for each in before] == [{"bf16": 5}, {"bf16": 1}]
    second.spec = replace(second.spec, priority=20)
    assert [fleet(each) for each in tick([first, second], [22.0, 22.0], pools)] == [{"bf16": 1}, {"bf16": 5}]
