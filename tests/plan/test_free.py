"""Accelerators without a price: they cost nothing, but are not all used because of that."""

import pytest

from tests.plan.fleets import Loop, estimate, fleet, forecast, spec, tier
from tidegate.domain.decision import Decision
from tidegate.domain.spec import Accelerator, Cost, Quality

BOTH = {"bf16": estimate(5), "int4": estimate(2)}
TIERS = (tier("bf16"), tier("int4", accelerator="l40s"))


def pools(h100: float, l40s: float, capacity: int | None = None) -> dict[str, Accelerator]:
    return {
        "h100": Accelerator(name="h100", price_usd_per_hour=h100, capacity=capacity),
        "l40s": Accelerator(name="l40s", price_usd_per_hour=l40s, capacity=capacity),
    }


def usd(decision: Decision) -> float | None:
    return decision.prediction.usd_per_hour if decision.prediction else None


def test_where_nothing_has_a_price_the_fewest_accelerators_win_up_and_down() -> None:
    loop = Loop(spec=spec(*TIERS), estimates=BOTH, pools=pools(0.0, 0.0))
    for rate, expected in ((3, 1), (14, 3), (3, 1)):
        decision = loop.run(forecast(rate), 40)
        assert fleet(decision) == {"bf16": expected}
        assert usd(decision) == 0.0


@pytest.mark.parametrize(
    ("rate", "expected"),
    [(3, {"bf16": 1}), (14, {"bf16": 3}), (18, {"bf16": 3, "int4": 2})],
    ids=["one is enough", "all that there are", "what is paid for comes last"],
)
def test_what_has_no_price_is_used_before_what_has_one(rate: float, expected: dict[str, int]) -> None:
    loop = Loop(spec=spec(*TIERS), estimates=BOTH, pools=pools(0.0, 1.2, capacity=3))
    decision = loop.tick(forecast(rate))
    assert fleet(decision) == expected
    assert usd(decision) == pytest.approx(1.2 * expected.get("int4", 0))


def test_beside_a_paid_one_no_more_of_the_others_run_than_are_needed() -> None:
    """A mean quality of 0.93 needs the paid tier; ten more free replicas would cost the same."""
    wanted = spec(
        tier("bf16"),
        tier("int4", quality=0.9, accelerator="l40s"),
        quality=Quality(average_minimum=0.93),
        cost=Cost(budget_usd_per_hour=6.0),
    )
    loop = Loop(spec=wanted, estimates=BOTH, pools=pools(3.0, 0.0))
    for rate, expected in (
        (9, {"bf16": 1, "int4": 2}),
        (14, {"bf16": 1, "int4": 5}),
        (18, {"bf16": 2, "int4": 4}),
        (9, {"bf16": 1, "int4": 2}),
    ):
        decision = loop.run(forecast(rate), 60)
        assert fleet(decision) == expected
        assert usd(decision) == 3.0 * expected["bf16"]


def test_a_budget_of_nothing_buys_what_costs_nothing() -> None:
    loop = Loop(spec=spec(*TIERS, cost=Cost(budget_usd_per_hour=0.0)), estimates=BOTH, pools=pools(3.0, 0.0))
    assert fleet(loop.tick(forecast(9))) == {"int4": 5}
