"""Bounds in force, and wanted replicas moved within them."""

from dataclasses import replace

import pytest

from tests.sim.builders import poisson, scenario, tier
from tidegate.domain.spec import DeploymentSpec, Quality, ScaleToZero, Schedule
from tidegate.sim.limits import Limits, in_force, inside, strictest

TWO = (replace(tier("bf16"), replicas_min=2), replace(tier("int4", quality=0.9), replicas_max=5))
BASE = replace(scenario(poisson(1.0, 10.0), tiers=TWO).services[0].spec, replicas_min=3, replicas_max=8)
NIGHT = Schedule(name="night", cron="0 0 * * *", time_zone="UTC", duration_s=3600.0, replicas_max=1)
RUSH = Schedule(name="rush", cron="0 2 * * *", time_zone="UTC", duration_s=3600.0, replicas_min=6, replicas_max=20)
HOURS = {"midnight": 1800.0, "one o'clock": 5400.0, "two o'clock": 7200.0}


def spec(**changes: object) -> DeploymentSpec:
    return replace(BASE, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("of", "hour", "total", "bf16", "int4"),
    [
        (spec(), "one o'clock", (3, 3, 8), (2, 8), (0, 5)),
        (spec(schedules=(NIGHT, RUSH)), "midnight", (1, 1, 1), (1, 1), (0, 1)),
        (spec(schedules=(NIGHT, RUSH)), "one o'clock", (3, 3, 8), (2, 8), (0, 5)),
        (spec(schedules=(NIGHT, RUSH)), "two o'clock", (6, 6, 20), (2, 16), (0, 5)),
        (spec(replicas_pinned=4), "one o'clock", (4, 4, 4), (2, 4), (0, 4)),
        (spec(scale_to_zero=ScaleToZero(idle_s=60.0)), "one o'clock", (3, 0, 8), (2, 8), (0, 5)),
        (spec(scale_to_zero=ScaleToZero(idle_s=60.0), schedules=(RUSH,)), "two o'clock", (6, 6, 20), (2, 16), (0, 5)),
        (spec(tiers=TWO[1:], replicas_min=7), "one o'clock", (5, 5, 8), None, (0, 5)),
        (spec(tiers=(TWO[0], replace(TWO[1], replicas_min=1)), quality=Quality(minimum=0.95)), "one o'clock",
         (3, 3, 8), (2, 8), (0, 5)),
    ],
    ids=[
        "those of the spec",
        "a schedule's ceiling wins over the deployment's and the tiers' minimum",
        "a schedule that is over changes nothing",
        "a schedule replaces both bounds",
        "a pin is both bounds",
        "after a long silence nothing has to run",
        "unless a schedule asks",
        "no more is asked for than the tiers allow",
        "a tier that is not good enough has no minimum",
    ],
)  # fmt: skip
def test_bounds_in_force(
    of: DeploymentSpec, hour: str, total: tuple[int, int, int], bf16: tuple[int, int] | None, int4: tuple[int, int]
) -> None:
    found = in_force(of, HOURS[hour])
    assert (found.low, found.idle, found.high) == total
    assert (found.tiers.get("bf16"), found.tiers["int4"]) == (bf16, int4)


def test_the_strictest_of_several_keeps_them_all_and_the_upper_bound_wins() -> None:
    of = spec(schedules=(NIGHT, RUSH))
    found = strictest([in_force(of, HOURS["midnight"]), in_force(of, HOURS["two o'clock"])])
    assert (found.low, found.high) == (1, 1)
    assert found.tiers == {"bf16": (1, 1), "int4": (0, 1)}
    assert strictest([in_force(BASE, 0.0)]) == in_force(BASE, 0.0)


@pytest.mark.parametrize(
    ("wish", "order", "least", "kept"),
    [
        ({"bf16": 3, "int4": 2}, ("bf16", "int4"), 3, {"bf16": 3, "int4": 2}),
        ({"bf16": 6, "int4": 5}, ("bf16", "int4"), 3, {"bf16": 6, "int4": 2}),
        ({"bf16": 6, "int4": 5}, ("int4", "bf16"), 3, {"bf16": 3, "int4": 5}),
        ({"bf16": 0, "int4": 1}, ("int4", "bf16"), 5, {"bf16": 2, "int4": 3}),
        ({"int4": 0}, ("int4", "bf16"), 8, {"bf16": 3, "int4": 5}),
        ({"int4": 0}, ("int4",), 4, {"int4": 2}),
        ({"int4": 9}, ("int4",), 3, {"int4": 5}),
    ],
    ids=[
        "what fits stays",
        "the last tier gives way",
        "down to its minimum, here it has room",
        "the first fills up",
        "and then the next",
        "a tier that is not moved counts with its minimum",
        "a tier's own ceiling holds",
    ],
)
def test_wanted_replicas_are_moved_within_the_bounds(
    wish: dict[str, int], order: tuple[str, ...], least: int, kept: dict[str, int]
) -> None:
    assert inside(in_force(BASE, 0.0), wish, order=order, least=least) == kept


def test_minimums_that_do_not_fit_under_the_maximum_give_way_last() -> None:
    tight = Limits(low=3, idle=3, high=3, tiers={"bf16": (2, 3), "int4": (2, 3)})
    assert inside(tight, {}, order=("int4", "bf16"), least=3) == {"int4": 2, "bf16": 1}
