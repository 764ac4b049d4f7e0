"""The error budget: allowed misses that did not occur may be used later, and no more than that."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.domain.observation import Histogram, Missing, TierReading, TierState
from tidegate.domain.spec import Slo
from tidegate.plan.error_budget import EXTRA_MAX, FACTOR_MAX, FULL, MEMORY_S, PERIOD_S, ErrorBudget, asked, counted

SLO = Slo(ttft_s=1.0, itl_s=0.05, attainment=0.99)
# A late replica is noticed early enough for the budget of 99 %.
LATE_S = 30.0


def states(missed: float, *, rate: float = 10.0) -> dict[str, TierState]:
    """One tier in which this share of first tokens comes late."""
    total = rate * 60.0
    return {
        "bf16": TierState(
            ready=2,
            reading=TierReading(
                window_s=60.0,
                age_s=5.0,
                arrival_rps=rate,
                completion_rps=rate,
                ttft=Histogram((1.0, float("inf")), (total * (1 - missed), total)),
                request_itl=Histogram((0.05, float("inf")), (total, total)),
            ),
        )
    }


def after(budget: ErrorBudget, missed: float, seconds: float, *, start_s: float = 1e6) -> ErrorBudget:
    """The budget after so long, looked at every tick."""
    begin = budget.time_s if budget.time_s is not None else start_s
    for tick in range(1, int(seconds / 15) + 1):
        budget = counted(budget, states(missed), SLO, late_s=LATE_S, time_s=begin + 15.0 * tick)
    return budget


def test_before_anything_is_seen_the_whole_promise_is_asked_for() -> None:
    assert asked(FULL, SLO) == SLO.attainment


def test_it_begins_full_and_the_first_misses_draw_on_it() -> None:
    assert after(FULL, 0.0, 60).factor == FACTOR_MAX
    assert asked(after(FULL, 0.05, 120), SLO) == SLO.attainment


def test_a_long_time_without_misses_leaves_all_of_the_budget() -> None:
    rested = after(FULL, 0.0, 4 * MEMORY_S)
    assert rested.factor == FACTOR_MAX
    assert asked(rested, SLO) == pytest.approx(1 - FACTOR_MAX * 0.01)


@pytest.mark.parametrize(
    ("target", "late_s", "most", "least"),
    [(0.99, 120.0, 4.0, 4.0), (0.99, 240.0, 3.0, 2.5), (0.99, 3600.0, 1.0, 1.0), (0.95, 600.0, 4.0, 4.0)],
    ids=[
        "a short surprise is bearable",
        "of a longer one only a part",
        "of one of an hour nothing",
        "a lower promise bears more",
    ],
)
def test_what_is_left_has_to_bear_a_surprise(target: float, late_s: float, most: float, least: float) -> None:
    budget, slo = FULL, replace(SLO, attainment=target)
    for minute in range(int(4 * MEMORY_S / 60)):
        budget = counted(budget, states(0.0), slo, late_s=late_s, time_s=1e6 + 60.0 * minute)
    assert least <= budget.factor <= most


def test_misses_use_it_up_and_the_promise_is_never_exceeded() -> None:
    spent = after(after(FULL, 0.0, 4 * MEMORY_S), 0.3, 600)
    assert spent.factor == 1.0
    assert asked(spent, SLO) == SLO.attainment


def test_just_what_was_promised_leaves_nothing() -> None:
    assert after(FULL, 0.01, 4 * MEMORY_S).factor == 1.0


def test_silence_and_idleness_change_nothing() -> None:
    rested = after(FULL, 0.0, 3 * MEMORY_S)
    later = (rested.time_s or 0.0) + 600.0
    silent = {"bf16": TierState(ready=1, reading=Missing(reason="Stale"))}
    assert counted(rested, silent, SLO, late_s=LATE_S, time_s=later) is rested
    assert counted(rested, {}, SLO, late_s=LATE_S, time_s=later) is rested


def test_it_is_counted_once_a_window() -> None:
    first = counted(FULL, states(0.0), SLO, late_s=LATE_S, time_s=1000.0)
    assert counted(first, states(0.5), SLO, late_s=LATE_S, time_s=1000.0 + PERIOD_S - 1) is first


def test_a_hole_in_the_metrics_is_not_taken_for_good_service() -> None:
    once = counted(FULL, states(0.0), SLO, late_s=LATE_S, time_s=1000.0)
    much_later = counted(once, states(0.0), SLO, late_s=LATE_S, time_s=1000.0 + 10 * MEMORY_S)
    assert once.factor == FACTOR_MAX
    assert much_later.factor < FACTOR_MAX / 2


@given(
    st.floats(0.5, 0.999),
    st.floats(1.0, FACTOR_MAX),
)
def test_never_more_than_so_many_times_the_misses_nor_so_much_of_all_requests(target: float, factor: float) -> None:
    slo = replace(SLO, attainment=target)
    found = asked(replace(FULL, factor=factor), slo)
    assert found <= target + 1e-6
    assert 1 - found <= min((1 - target) * FACTOR_MAX, 1 - target + EXTRA_MAX) + 1e-6


def test_it_survives_a_restart() -> None:
    kept = after(FULL, 0.004, 2000)
    assert ErrorBudget.from_json(kept.to_json()) == kept
