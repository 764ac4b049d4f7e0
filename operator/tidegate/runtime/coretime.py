"""
The core's time: the wall clock, except that it never goes back.

In:    the wall clock, a monotonic clock, what the core remembers.
Out:   unix seconds for `cycle.step`, each later than the one before.
Rules: only the core uses this time. Times from outside (Prometheus, the API server, a status) are compared with the
       wall clock.

If the wall clock is set back, the core's time is ahead of it. It then runs at nine tenths of normal speed until the
wall clock has caught up: ten hours after a step of one hour. Standing still would be worse, because windows, cool-downs
and forecasts would not move for an hour.
"""

from collections.abc import Callable

from tidegate.memory import FleetMemory

SPEED_AHEAD = 0.9
# Minimum between two ticks, even if the clock does not advance.
STEP_S = 1e-3


class CoreTime:
    """
    The core's clock.

    Args:
        wall: Unix seconds.
        clock: Monotonic seconds.
    """

    def __init__(self, wall: Callable[[], float], clock: Callable[[], float]) -> None:
        self._wall, self._clock = wall, clock
        self._last_s: float | None = None
        self._last_clock_s = 0.0

    def next_s(self, memory: FleetMemory) -> float:
        """
        Time of the next tick, unix seconds.

        Args:
            memory: Before the tick. If it was saved before the clock was set back, its times may be in the future; at
                the first tick the time continues from there.
        """
        at_s = self._clock()
        last_s = _newest_s(memory) if self._last_s is None else self._last_s
        passed_s = 0.0 if self._last_s is None else at_s - self._last_clock_s
        self._last_s, self._last_clock_s = max(self._wall(), last_s + max(STEP_S, SPEED_AHEAD * passed_s)), at_s
        return self._last_s


def _newest_s(memory: FleetMemory) -> float:
    """The latest time in the memory; 0 if there is none."""
    parts = memory.deployments.values()
    plans = [part.plan.time_s for part in parts if part.plan is not None]
    forecasts = [part.forecast.time_s or 0.0 for part in parts if part.forecast is not None]
    return max([*plans, *forecasts], default=0.0)
