"""A shrink that had to be reverted is not repeated at once; a load that really falls is followed."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from tests.plan.fleets import Loop, estimate, fleet, forecast, spec, tier
from tidegate.domain.decision import Decision
from tidegate.plan import PlanMemory, regret
from tidegate.plan.regret import COUNT_MAX, HOLD_MAX_S, HOLD_S, NO_REGRET, REGRET_S, Exchange, Regret

LOW, HIGH = 9.0, 10.6  # two replicas carry the one and not the other


def loop() -> Loop:
    return Loop(spec=spec(tier("bf16"), scale_down_window_s=60.0), estimates={"bf16": estimate(5)})


def moves(decisions: list[Decision]) -> int:
    counts = [fleet(d)["bf16"] for d in decisions]
    return sum(a != b for a, b in pairwise(counts))


def test_a_load_that_swings_about_the_edge_of_a_replica_does_not_move_the_fleet_each_time() -> None:
    swinging = loop()
    for _ in range(30):  # two hours, up and down each four minutes
        swinging.run(forecast(LOW), 8)
        swinging.run(forecast(HIGH), 8)
    assert {fleet(d)["bf16"] for d in swinging.history} == {2, 3}
    assert moves(swinging.history) <= 10
    assert fleet(swinging.history[-1]) == {"bf16": 3}


def test_a_capacity_that_swings_does_not_move_the_fleet_each_time_either() -> None:
    swinging = loop()
    for _ in range(30):
        for capacity in (5.4, 4.6):
            swinging.estimates = {"bf16": estimate(capacity)}
            swinging.run(forecast(10.0), 8)
    assert {fleet(d)["bf16"] for d in swinging.history} == {2, 3}
    assert moves(swinging.history) <= 10


def test_a_load_that_really_falls_ends_the_regret_at_once() -> None:
    swinging = loop()
    for _ in range(4):
        swinging.run(forecast(LOW), 8)
        swinging.run(forecast(HIGH), 8)
    assert swinging.memory is not None
    assert swinging.memory.regret.load > 0
    assert fleet(swinging.run(forecast(2.0), 8)) == {"bf16": 1}
    assert swinging.memory.regret.load == 0


def test_a_regret_is_forgotten_and_the_smaller_fleet_tried_again() -> None:
    swinging = loop()
    for _ in range(2):
        swinging.run(forecast(LOW), 8)
        swinging.run(forecast(HIGH), 8)
    assert fleet(swinging.run(forecast(LOW), 20)) == {"bf16": 3}
    assert fleet(swinging.run(forecast(LOW), 80)) == {"bf16": 2}


def test_a_regret_survives_a_restart() -> None:
    swinging = loop()
    for _ in range(2):
        swinging.run(forecast(LOW), 8)
        swinging.run(forecast(HIGH), 8)
    assert swinging.memory is not None
    written = swinging.memory.to_json()
    assert PlanMemory.from_json(written).regret == swinging.memory.regret != NO_REGRET


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (NO_REGRET, NO_REGRET),
        (Regret(shrunk_s=1e4 - REGRET_S - 1), NO_REGRET),
        (Regret(shrunk_s=1e4 - 60), Regret(load=5.0, needed=6.0, fleet=(2,), until_s=1e4 + HOLD_S, count=1)),
        (
            Regret(shrunk_s=1e4 - 60, until_s=1e4 - 300, count=1),
            Regret(load=5.0, needed=6.0, fleet=(2,), until_s=1e4 + 2 * HOLD_S, count=2),
        ),
        (
            Regret(shrunk_s=1e4 - 60, until_s=1e4 - 300, count=9),
            Regret(load=5.0, needed=6.0, fleet=(2,), until_s=1e4 + HOLD_MAX_S, count=10),
        ),
        (
            Regret(shrunk_s=1e4 - 60, until_s=1e4 - 2 * HOLD_MAX_S, count=9),
            Regret(load=5.0, needed=6.0, fleet=(2,), until_s=1e4 + HOLD_S, count=1),
        ),
        (
            Regret(load=4.0, needed=7.0, fleet=(1,), until_s=1e4 + 60, count=1),
            Regret(load=5.0, needed=7.0, fleet=(2,), until_s=1e4 + 60, count=1),
        ),
    ],
    ids=[
        "growth alone is no regret",
        "a shrink that lasted is none",
        "a shrink taken back is one",
        "the second in a row is remembered for twice as long",
        "and never longer than an hour",
        "long after the last one it is the first again",
        "growing further raises what is remembered, not how long",
    ],
)
def test_growth_for_a_load_of_five(before: Regret, after: Regret) -> None:
    seen = Regret(load=5.0, needed=6.0, fleet=(2,))
    assert regret.grown(before, seen, 1e4) == after


SWAPPED = Exchange(left=(0, 1), chosen=(2, 0), time_s=1e4 - 600)
UNDONE = {"load": 5.0, "needed": 6.0, "fleet": (2, 0), "until_s": 1e4 + HOLD_MAX_S}


@pytest.mark.parametrize(
    ("before", "regretted"),
    [
        pytest.param(NO_REGRET, {}, id="the first exchange is none"),
        pytest.param(Regret(exchange=SWAPPED), UNDONE, id="one that brings the tiers back is one"),
        pytest.param(Regret(exchange=replace(SWAPPED, left=(0, 3))), UNDONE, id="however many replicas"),
        pytest.param(Regret(exchange=replace(SWAPPED, left=(1, 1))), {}, id="other tiers are none"),
        pytest.param(Regret(exchange=replace(SWAPPED, time_s=1e4 - 3601)), {}, id="after an hour it has paid"),
    ],
)
def test_an_exchange_for_a_load_of_five(before: Regret, regretted: dict[str, Any]) -> None:
    seen = Regret(load=5.0, needed=6.0)
    after = regret.exchanged(before, seen, (3, 0), (0, 1), 1e4)
    assert after == Regret(shrunk_s=1e4, exchange=Exchange(left=(3, 0), chosen=(0, 1), time_s=1e4), **regretted)
    assert Regret.from_json(after.to_json()) == after


def test_two_mixes_of_nearly_the_same_cost_do_not_alternate() -> None:
    """Two small replicas carry the lulls and one large replica everything, so a third small one is dearer."""
    small, large = tier("l40s", accelerator="l40s"), tier("h100")
    wanted = spec(small, large, scale_down_window_s=60.0)
    swinging = Loop(spec=wanted, estimates={"l40s": estimate(2.2), "h100": estimate(9.0)}, startup_ticks=8)
    for _ in range(12):  # six hours, up and down each quarter of an hour
        swinging.run(forecast(3.4), 60)
        swinging.run(forecast(4.6), 60)
    kinds = ["".join(name for name, n in fleet(d).items() if n) for d in swinging.history]
    assert {"l40s", "h100"} <= set(kinds)
    assert sum(a != b for a, b in pairwise(kinds)) <= 20


@pytest.mark.parametrize(
    ("highest", "replicas", "time_s", "load"),
    [(9.0, 3, 0.0, 10.0), (5.0, 3, 0.0, 10.0), (3.0, 3, 0.0, 0.0), (7.9, 20, 0.0, 0.0), (9.9, 3, 100.0, 0.0)],
    ids=[
        "a little less is a lull",
        "of three replicas one and a half are a lull",
        "of three replicas more than two are a fall",
        "of twenty replicas a fifth is a fall",
        "its time is over",
    ],
)
def test_what_ends_a_regret(highest: float, replicas: int, time_s: float, load: float) -> None:
    held = Regret(load=10.0, until_s=100.0, count=1)
    assert regret.aged(held, highest, time_s, replicas=replicas).load == load


def test_regrets_in_a_row_are_counted_so_far_and_no_further() -> None:
    known, seen = Regret(count=10_000, until_s=0.0), Regret(load=1.0, needed=1.0, fleet=(1,))
    known = Regret.from_json(known.to_json())
    for at in range(3):
        known = regret.grown(regret.shrunk(known, at * 60.0), seen, at * 60.0)
    assert known.count == COUNT_MAX
