"""
Random scenarios with faults: the core keeps its promises in all of them.

A failure prints the seed; `python -c "from tidegate.sim.chaos import trial; print(trial(SEED))"` repeats it.
"""

from dataclasses import replace

import pytest

from tests.sim.builders import KEY, poisson, scenario, tier
from tidegate.domain.observation import (
    DeploymentObservation,
    FleetObservation,
    GatewayReading,
    Missing,
    TierReading,
    TierState,
)
from tidegate.domain.spec import Accelerator, Cost, FleetPolicy, Quality
from tidegate.sim import chaos
from tidegate.sim.metrics import NO_ANSWER
from tidegate.sim.policies.base import View

FAST, ALL = range(24), range(24, 1000)
BLOCK = 50


@pytest.mark.parametrize("seed", FAST)
def test_no_promise_is_broken(seed: int) -> None:
    assert chaos.trial(seed) == [], f"seed {seed}"


@pytest.mark.slow
@pytest.mark.parametrize("start", ALL[::BLOCK], ids=lambda s: f"seeds from {s}")
def test_no_promise_is_broken_in_a_thousand_scenarios(start: int) -> None:
    broken = {seed: found for seed in ALL[start - FAST.stop :][:BLOCK] if (found := chaos.trial(seed))}
    assert broken == {}


def test_a_scenario_is_the_same_for_the_same_seed_and_another_for_another() -> None:
    first, again, other = chaos.scenario(7), chaos.scenario(7), chaos.scenario(8)
    assert first.faults == again.faults
    assert [s.spec for s in first.services] == [s.spec for s in again.services]
    assert [s.spec for s in first.services] != [s.spec for s in other.services]


def test_every_kind_of_fault_occurs() -> None:
    seen = {fault.trouble for seed in range(60) for fault in chaos.scenario(seed).faults}
    assert len(seen) == 6


READING = TierReading(window_s=60.0, age_s=5.0, arrival_rps=1.0)
SILENT = Missing(reason=NO_ANSWER)


def view(*, reading: TierReading | Missing, wanted: int, gateway: bool = False) -> View:
    """A view of one deployment with two tiers, `wanted` replicas of the better one."""
    tiers = (tier("bf16"), tier("int4", quality=0.9))
    spec = replace(
        scenario(poisson(1.0, 10.0), tiers=tiers).services[0].spec,
        cost=Cost(budget_usd_per_hour=8.0),
        quality=Quality(minimum=0.95),
        replicas_min=1,
        replicas_max=6,
    )
    state = TierState(ready=wanted, reading=reading)
    seen = DeploymentObservation(
        tiers={"bf16": state, "int4": TierState()},
        gateway=GatewayReading(arrival_rps=1.0, queued=0) if gateway else None,
    )
    return View(
        time_s=100.0,
        observation=FleetObservation(time_s=100.0, deployments={KEY: seen}),
        policy=FleetPolicy(
            deployments={KEY: spec}, accelerators={"gpu": Accelerator(name="gpu", price_usd_per_hour=2.0, capacity=4)}
        ),
        wanted={(KEY, "bf16"): wanted, (KEY, "int4"): 0},
        gauges=lambda _: [],
    )


@pytest.mark.parametrize(
    ("reading", "before", "bf16", "int4", "broken"),
    [
        (READING, 2, 2, 0, ""),
        (READING, 2, 1, 0, ""),
        (READING, 2, 0, 0, "bounds"),
        (READING, 2, 7, 0, "bounds"),
        (READING, 2, 5, 0, "budget"),
        (READING, 2, 5, 0, "capacity"),
        (READING, 2, 1, 1, "quality"),
        (SILENT, 3, 2, 0, "silence"),
        (SILENT, 3, 3, 0, ""),
        (SILENT, 5, 4, 0, ""),
    ],
    ids=[
        "a kept fleet breaks nothing",
        "shrinking on metrics breaks nothing",
        "nothing at all is below the bounds",
        "seven are above the bounds",
        "five cost more than the budget",
        "five are more than there are",
        "int4 is below the quality floor",
        "shrinking on silence is found",
        "holding on silence is right",
        "the budget may force a smaller fleet even in silence",
    ],
)
def test_the_checks_find_violations(
    reading: TierReading | Missing, before: int, bf16: int, int4: int, broken: str
) -> None:
    wish = {(KEY, "bf16"): bf16, (KEY, "int4"): int4}
    found = list(chaos.broken_promises(view(reading=reading, wanted=before), wish))
    assert (found == []) if not broken else any(broken in sentence for sentence in found)


@pytest.mark.parametrize(
    ("counts", "settled"),
    [
        ([2] * 30, True),
        ([4, 3, 2, 2] + [2] * 26, True),
        ([2, 3] * 15, False),
        ([2, 3, 2] + [2] * 27, True),
        ([3, 5, 5, 4, 4, 3, 2] + [2] * 23, True),
        ([2, 3, 2, 2, 3] + [3] * 25, False),
        ([3, 2, 2, 4, 4, 2] + [2] * 24, False),
    ],
    ids=[
        "still",
        "down in steps",
        "up and down all the time",
        "one change of mind",
        "up, and down in steps",
        "up, down, up",
        "down, up, down",
    ],
)
def test_settling_is_not_oscillation(counts: list[int], settled: bool) -> None:
    start = chaos.DURATION_S - 15.0 * len(counts)
    history = [(start + 15.0 * (i + 1), {(KEY, "bf16"): n}) for i, n in enumerate(counts)]
    assert (list(chaos.swings(history)) == []) is settled
