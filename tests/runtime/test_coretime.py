"""
The core's time never goes back, never stands still, and after a clock change returns to the wall clock.
"""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kube_fakes import Clock
from tests.runtime.test_edges import CHAT
from tidegate.forecast.memory import ForecastMemory
from tidegate.memory import DeploymentMemory, FleetMemory
from tidegate.plan.memory import PlanMemory
from tidegate.runtime.coretime import CoreTime

NOTHING = FleetMemory()
START_S = 1_000_000.0


class Clocks:
    def __init__(self) -> None:
        self.wall, self.clock = Clock(START_S), Clock(50.0)
        self.core = CoreTime(self.wall, self.clock)

    def next_s(self, *, after_s: float = 15.0, step_s: float = 0.0, memory: FleetMemory = NOTHING) -> float:
        """Time of a tick that much later; the wall clock is also set by `step_s`."""
        self.wall.now_s += after_s + step_s
        self.clock.now_s += after_s
        return self.core.next_s(memory)


def test_it_equals_the_wall_clock_while_that_advances() -> None:
    clocks = Clocks()
    assert [clocks.next_s(), clocks.next_s(), clocks.next_s(step_s=3600.0)] == [
        START_S + 15.0,
        START_S + 30.0,
        START_S + 45.0 + 3600.0,
    ]


def test_after_a_step_back_it_runs_slower_until_the_wall_clock_has_caught_up() -> None:
    clocks = Clocks()
    first = clocks.next_s()
    assert clocks.next_s(step_s=-3600.0) == pytest.approx(first + 13.5)
    assert clocks.next_s(after_s=3600.0) == pytest.approx(first + 13.5 + 3240.0)
    assert clocks.next_s(after_s=40_000.0) == clocks.wall.now_s


@pytest.mark.parametrize(
    "part",
    [
        pytest.param(DeploymentMemory(plan=PlanMemory(time_s=START_S + 3600.0)), id="a plan"),
        pytest.param(DeploymentMemory(forecast=ForecastMemory(time_s=START_S + 3600.0)), id="demand"),
    ],
)
def test_it_continues_from_a_memory_that_is_ahead_of_the_clock(part: DeploymentMemory) -> None:
    clocks = Clocks()
    memory = FleetMemory(deployments={CHAT: part})
    first = clocks.next_s(memory=memory)
    assert first > START_S + 3600.0
    assert clocks.next_s(memory=memory) == pytest.approx(first + 13.5)


@given(st.lists(st.tuples(st.floats(0.0, 100.0), st.floats(-5000.0, 5000.0)), max_size=30))
def test_it_never_stands_and_never_goes_back(ticks: list[tuple[float, float]]) -> None:
    clocks = Clocks()
    times = [clocks.next_s(after_s=after_s, step_s=step_s) for after_s, step_s in ticks]
    for (after_s, _), (before, now) in zip(ticks[1:], pairwise(times), strict=False):
        assert now - before >= 0.9 * after_s - 1e-6
        assert now > before
