"""
Bounds by time of day.

A schedule holds from each firing of its cron expression, in its own time zone, for its duration: past midnight
and over a change of daylight saving time alike, because the duration is elapsed time and the firing is wall time.
"""

from bisect import bisect_right
from datetime import datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

from croniter import croniter

from tidegate.domain.spec import DeploymentSpec, Schedule
from tidegate.units import SECONDS_PER_HOUR

MINUTES_PER_HOUR = 60


def scheduled(spec: DeploymentSpec, time_s: float) -> tuple[int, int, bool]:
    """
    Bounds on the total at an instant, and whether a schedule asks for replicas now.

    An active schedule replaces the bound that it names; of several the strictest holds. An upper bound wins over a
    lower one, and a lower bound never lifts the spec's own maximum.
    """
    low, high, asked = spec.replicas_min, spec.replicas_max, False
    if spec.schedules:
        active = [s for s in spec.schedules if _active(s, time_s)]
        lows = [s.replicas_min for s in active if s.replicas_min is not None]
        highs = [s.replicas_max for s in active if s.replicas_max is not None]
        low = max(lows) if lows else low
        high = min(highs) if highs else high
        asked = bool(lows) and low > 0
    return min(low, high), high, asked


def _active(schedule: Schedule, time_s: float) -> bool:
    firings = _firings(schedule.cron, schedule.time_zone, int(time_s // SECONDS_PER_HOUR))
    index = bisect_right(firings, time_s) - 1
    return index >= 0 and time_s < firings[index] + schedule.duration_s


@lru_cache(maxsize=4096)
def _firings(cron: str, time_zone: str, hour: int) -> tuple[float, ...]:
    """
    Unix times of the last firing before an hour and of all inside it.

    Hours are counted from the epoch, so that deployments with the same schedule share one look-up an hour.
    """
    zone = ZoneInfo(time_zone)
    start_s = hour * SECONDS_PER_HOUR
    start, before = [datetime.fromtimestamp(at, tz=zone) for at in (start_s, start_s - 1)]  # instants, not wall times
    found = [croniter(cron, start, day_or=True).get_prev(datetime).timestamp()]
    ahead = croniter(cron, before, day_or=True)
    for _ in range(MINUTES_PER_HOUR):
        at = ahead.get_next(datetime).timestamp()
        if at >= (hour + 1) * SECONDS_PER_HOUR:
            break
        found.append(at)
    return tuple(sorted(set(found)))
