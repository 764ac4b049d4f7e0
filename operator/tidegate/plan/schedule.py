"""
Scheduled bounds on the number of replicas.

A schedule is active from each firing of its cron expression, in its own time zone, for its duration. The firing is in
wall-clock time and the duration in elapsed time, so it works past midnight and across daylight saving changes.
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
    Lower and upper bound of the total at a time, and whether an active schedule asks for replicas.

    An active schedule replaces the bounds that it sets; of several active ones the strictest applies. If the bounds
    conflict, the upper one wins, so a scheduled lower bound never raises the maximum of the spec.
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
    Unix times of the last firing before an hour, and of all firings within it.

    Hours are counted from the epoch, so that deployments with the same schedule share one cached result per hour.
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
