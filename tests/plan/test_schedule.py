"""Schedules: across midnight, across daylight saving changes, and several at once."""

from dataclasses import replace
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from tests.plan.fleets import spec
from tidegate.domain.spec import Schedule
from tidegate.plan.schedule import scheduled

BERLIN = "Europe/Berlin"
OFFICE = Schedule(name="office", cron="0 7 * * 1-5", time_zone=BERLIN, duration_s=12 * 3600, replicas_min=4)
NIGHT = Schedule(name="night", cron="0 22 * * *", time_zone=BERLIN, duration_s=8 * 3600, replicas_max=3)
SUNDAY = Schedule(name="sunday", cron="15 3 * * 0", time_zone=BERLIN, duration_s=5 * 3600, replicas_min=4)
EARLY = Schedule(name="early", cron="30 1 * * *", time_zone=BERLIN, duration_s=2 * 3600, replicas_min=6)
LAUNCH = Schedule(name="launch", cron="0 11 * * *", time_zone=BERLIN, duration_s=2 * 3600, replicas_min=6)
FREEZE = Schedule(name="freeze", cron="0 2 * * *", time_zone=BERLIN, duration_s=2 * 3600, replicas_max=2)


def at(text: str, zone: str = BERLIN) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


@pytest.mark.parametrize(
    ("schedules", "moment", "expected"),
    [
        pytest.param((OFFICE,), "2026-01-06T06:59:59", (1, 24), id="a second before it fires nothing holds"),
        pytest.param((OFFICE,), "2026-01-06T07:00:00", (4, 24), id="it holds from the second it fires"),
        pytest.param((OFFICE,), "2026-01-06T18:59:59", (4, 24), id="until its duration has passed"),
        pytest.param((OFFICE,), "2026-01-06T19:00:00", (1, 24), id="and no longer"),
        pytest.param((OFFICE,), "2026-01-10T12:00:00", (1, 24), id="on Saturday it does not fire"),
        pytest.param((NIGHT,), "2026-01-07T03:00:00", (1, 3), id="one that began yesterday still holds after midnight"),
        pytest.param((NIGHT,), "2026-01-07T06:30:00", (1, 24), id="and ends in the morning"),
        pytest.param((OFFICE, NIGHT), "2026-01-06T12:00:00", (4, 24), id="only the active one counts"),
        pytest.param((OFFICE, LAUNCH), "2026-01-06T12:00:00", (6, 24), id="of two lower bounds the higher one holds"),
        pytest.param((NIGHT, FREEZE), "2026-01-07T03:00:00", (1, 2), id="of two upper bounds the lower one holds"),
        pytest.param((EARLY, NIGHT), "2026-01-06T02:00:00", (3, 3), id="an upper bound wins over a lower one"),
        pytest.param((OFFICE,), "2026-07-07T07:00:00", (4, 24), id="seven o'clock is seven o'clock in summer, too"),
        pytest.param(
            (NIGHT,), "2026-03-29T06:30:00", (1, 3), id="a short night of the year lasts as long by the clock"
        ),
        pytest.param((NIGHT,), "2026-03-29T07:00:00", (1, 24), id="eight hours after it began, not by the wall"),
        pytest.param((SUNDAY,), "2026-03-29T03:14:59", (1, 24), id="in the hour after the clock jumped it waits, too"),
        pytest.param((SUNDAY,), "2026-03-29T03:15:00", (4, 24), id="and fires in it"),
        pytest.param((SUNDAY,), "2026-03-29T03:59:59", (4, 24), id="and holds to its end"),
    ],
)
def test_bounds_follow_the_clock(schedules: tuple[Schedule, ...], moment: str, expected: tuple[int, int]) -> None:
    assert scheduled(spec(schedules=schedules), at(moment))[:2] == expected


def test_a_lower_bound_never_lifts_the_maximum_of_the_spec() -> None:
    greedy = Schedule(name="x", cron="* * * * *", time_zone="UTC", duration_s=60, replicas_min=100)
    assert scheduled(spec(schedules=(greedy,)), at("2026-01-06T12:00:30"))[:2] == (24, 24)


def test_a_schedule_that_asks_for_replicas_says_so() -> None:
    assert scheduled(spec(schedules=(OFFICE,)), at("2026-01-06T12:00:00"))[2]
    assert not scheduled(spec(schedules=(OFFICE,)), at("2026-01-06T22:00:00"))[2]


def test_a_schedule_whose_lower_bound_is_zero_asks_for_nothing() -> None:
    sleepy = replace(OFFICE, replicas_min=0)
    assert scheduled(spec(schedules=(sleepy,)), at("2026-01-06T12:00:00")) == (0, 24, False)
