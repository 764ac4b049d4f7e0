"""Tiers that are added, removed or reordered: what is known about the others is kept."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.plan.fleets import Loop, estimate, fleet, forecast, spec, tier
from tidegate.domain.decision import Reason
from tidegate.plan import PlanMemory

ESTIMATES = {"bf16": estimate(5), "fp8": estimate(0.5), "int4": estimate(0.4)}
BF16, FP8, INT4 = tier("bf16"), tier("fp8"), tier("int4", accelerator="l40s")
HIGH, LOW = 40.0, 15.0  # 8 x bf16 and 3


def added(loop: Loop) -> None:
    loop.spec = replace(loop.spec, tiers=(INT4, *loop.spec.tiers))


def removed(loop: Loop) -> None:
    loop.spec = replace(loop.spec, tiers=(BF16,))


def reordered(loop: Loop) -> None:
    loop.spec = replace(loop.spec, tiers=loop.spec.tiers[::-1])


edits = pytest.mark.parametrize("edit", [added, removed, reordered])
Edit = Callable[[Loop], None]


def running(*, ready: int = 8) -> Loop:
    loop = Loop(spec=spec(BF16, FP8), estimates=ESTIMATES, ready={"bf16": ready})
    loop.run(forecast(HIGH), 40)
    return loop


def memory(loop: Loop) -> PlanMemory:
    assert loop.memory is not None
    return loop.memory


@edits
def test_the_window_goes_on(edit: Edit) -> None:
    loop = running()
    loop.run(forecast(LOW), 10)
    edit(loop)
    for _ in range(9):
        assert fleet(loop.tick(forecast(LOW))) == {"bf16": 8}
    assert fleet(loop.run(forecast(LOW), 4)) == {"bf16": 3}


@edits
def test_one_lost_scrape_is_no_reason_to_fall_back(edit: Edit) -> None:
    loop = running()
    edit(loop)
    held = loop.tick(forecast(HIGH), silent=("bf16",))
    assert (held.reason, fleet(held)) == (Reason.METRICS_MISSING, {"bf16": 8})


@edits
def test_starting_replicas_keep_their_age_and_failed_tiers_stay_blocked(edit: Edit) -> None:
    loop = Loop(spec=spec(BF16, FP8), estimates=ESTIMATES, startup_ticks=4, stuck=frozenset({"bf16"}))
    loop.run(forecast(HIGH), 24)
    before = dict(zip(memory(loop).names, memory(loop).progress, strict=True))
    assert before["bf16"].failures == 1
    edit(loop)
    loop.tick(forecast(HIGH))
    after = dict(zip(memory(loop).names, memory(loop).progress, strict=True))
    assert after["bf16"] == before["bf16"]


@edits
def test_the_error_budget_and_what_was_regretted_stay(edit: Edit) -> None:
    loop = running()
    loop.run(forecast(LOW), 22)
    loop.run(forecast(HIGH), 2)
    before = memory(loop)
    assert before.regret.count == 1
    edit(loop)
    loop.tick(forecast(HIGH))
    assert memory(loop).regret.count == 1
    assert memory(loop).error_budget.time_s == before.error_budget.time_s


def test_a_cheaper_tier_makes_no_larger_load_of_what_was_seen() -> None:
    """$3 for 5 req/s are 0.6 of a dollar for one; then $1.2 for 20 req/s are 0.06."""
    loop = running()
    before = max(load for _, load in memory(loop).peaks)
    loop.estimates = ESTIMATES | {"int4": estimate(20)}
    added(loop)
    loop.tick(forecast(LOW))
    assert max(load for _, load in memory(loop).peaks) == pytest.approx(before / 10)


def test_a_tier_that_is_gone_takes_its_replicas_with_it() -> None:
    loop = Loop(spec=spec(BF16, FP8), estimates={"bf16": estimate(5), "fp8": estimate(9)}, ready={"fp8": 4})
    loop.run(forecast(34), 10)
    loop.spec = spec(BF16)
    loop.ready = {"bf16": 0}
    grown = loop.tick(forecast(34))
    assert fleet(grown) == {"bf16": 7}


def test_what_serves_already_of_a_new_tier_counts() -> None:
    """2 x fp8 carry 8 req/s; without them two more bf16 would be requested."""
    loop = Loop(spec=spec(BF16), estimates=ESTIMATES | {"fp8": estimate(4)}, ready={"bf16": 8})
    loop.run(forecast(HIGH), 40)
    loop.spec, loop.ready["fp8"] = spec(FP8, BF16), 2
    assert fleet(loop.tick(forecast(HIGH + 8))) == {"fp8": 2, "bf16": 8}
