"""
The core's time: the wall clock, except that it never goes back.

In:    the wall clock, a monotonic clock, what the core remembers.
Out:   unix seconds for `cycle.step`, each later than the one before.
Rules: only the core lives in this time. What others said at some instant (Prometheus, the API server, a status) is
       compared with the wall clock.

A wall clock that is set back leaves the core's time ahead of it. That time then goes on at nine tenths of the speed
until the wall clock has caught up: ten hours after a step of one hour. Standing still would be worse, because windows,
cool-downs and forecasts would not move for an hour.
"""

from collections.abc import Callable

from tidegate.memory import FleetMemory

SPEED_AHEAD = 0.9
# Two ticks are never at the same instant, even for a clock that stands.
STEP_S = 1e-3


class CoreTime:
    """
    Tells the core's time.

    Args:
        wall: Unix seconds.
        clock: Monotonic seconds.
    """

    def __init__(self, wall: Callable[[], float], clock: Callable[[], float]) -> None:
        self._wall, self._clock = wall, clock
        self._told_s: float | None = None
        self._told_at_s = 0.0

    def next_s(self, memory: FleetMemory) -> float:
        """
        Time of the next tick, unix seconds.

        Args:
            memory: Before the tick. What was saved before the clock was set back may be of later than now: at the
                first tick the time goes on from there.
        """
        at_s = self._clock()
        last_s = _newest_s(memory) if self._told_s is None else self._told_s
        passed_s = 0.0 if self._told_s is None else at_s - self._told_at_s
        self._told_s, self._told_at_s = max(self._wall(), last_s + max(STEP_S, SPEED_AHEAD * passed_s)), at_s
        return self._told_s


def _newest_s(memory: FleetMemory) -> float:
    """When the memory was written at the latest; 0 where there is none."""
    parts = memory.deployments.values()
    plans = [part.plan.time_s for part in parts if part.plan is not None]
    forecasts = [part.forecast.time_s or 0.0 for part in parts if part.forecast is not None]
    return max([*plans, *forecasts], default=0.0)
