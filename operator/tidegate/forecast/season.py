"""
The usual load by half hour of the day and hour of the week, learned one half hour at a time.

    usual(t) = daily[half hour of the day] * weekly[hour of the week]      requests/s

The mean of each finished half hour moves both tables part of the way. The usual load is interpolated linearly between
the middles of half hours. Times are UTC; a change to daylight saving time is learned like any other change.
"""

import math
from dataclasses import dataclass, replace

from tidegate.forecast import codes

SLOT_S = 1_800.0
DAILY = 48
WEEKLY = 168
# One day moves the daily table by a quarter of the difference, so that it averages over about four days and a holiday
# has little effect.
DAILY_GAIN = 0.25
# An hour of the week occurs only once a week, so the weekly table moves faster.
WEEKLY_GAIN = 0.35
# A half hour counts if at least a quarter of it was observed.
COVER_MIN = 0.25
# Weekly factors are bytes: 3 % steps around 1 (code 128), 0 where unknown.
WEEKLY_STEP = 0.03
WEEKLY_ONE = 128
UNKNOWN = -1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Season:
    """
    Both tables and the half hour in progress.

    Args:
        daily: Codes of requests/s, 0 if not known; shape (48,).
        weekly: Codes of the factor, 0 if not known; shape (168,).
        slot: Number of the half hour in progress, counted from the epoch.
        requests, seen_s: Sum of rate times seconds in the half hour in progress, and the seconds.
        around: Usual load in the middle of the slots at -1, 0, +1 and +2 from `slot`, or `UNKNOWN`. Derived from the
            other fields.
    """

    daily: tuple[int, ...] = (0,) * DAILY
    weekly: tuple[int, ...] = (0,) * WEEKLY
    slot: int = 0
    requests: float = 0.0
    seen_s: float = 0.0
    around: tuple[float, float, float, float] = (UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN)

    def observed(self, *, rate_rps: float, since_s: float, time_s: float) -> "Season":
        """
        The season after a period of load.

        Args:
            rate_rps: Mean load of the period, requests/s.
            since_s, time_s: Its ends, unix seconds; only the last half hour of a longer period counts.
        """
        slot = int(time_s // SLOT_S)
        span = min(time_s - since_s, SLOT_S)
        if slot == self.slot:
            return Season(
                daily=self.daily,
                weekly=self.weekly,
                slot=slot,
                requests=self.requests + rate_rps * span,
                seen_s=self.seen_s + span,
                around=self.around,
            )
        return self._finished(rate_rps=rate_rps, span_s=span, time_s=time_s)

    def _finished(self, *, rate_rps: float, span_s: float, time_s: float) -> "Season":
        """Split the period at the end of the half hour, learn from the finished one, start the next."""
        slot = int(time_s // SLOT_S)
        after = min(time_s - slot * SLOT_S, span_s)
        before = span_s - after if slot == self.slot + 1 else 0.0
        done = replace(self, requests=self.requests + rate_rps * before, seen_s=self.seen_s + before)
        daily, weekly = done._folded()
        return Season(
            daily=daily,
            weekly=weekly,
            slot=slot,
            requests=rate_rps * after,
            seen_s=after,
            around=neighbours(daily, weekly, slot),
        )

    def _folded(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        if self.seen_s < COVER_MIN * SLOT_S:
            return self.daily, self.weekly
        mean = max(self.requests / self.seen_s, codes.SMALLEST * 2)
        day, hour = self.slot % DAILY, (self.slot // 2) % WEEKLY
        usual = codes.decode(self.daily[day])
        moved = mean if usual == 0 else usual + DAILY_GAIN * (mean - usual)
        ratio = math.log(mean / usual) if usual else 0.0
        factor = self.weekly[hour]
        known = (factor - WEEKLY_ONE) * WEEKLY_STEP
        learned = known + WEEKLY_GAIN * (ratio - known) if factor else WEEKLY_GAIN * ratio
        code = min(max(round(learned / WEEKLY_STEP) + WEEKLY_ONE, 1), 255)
        return _with(self.daily, day, codes.encode(moved)), _with(self.weekly, hour, code)

    def usual_rps(self, time_s: float) -> float:
        """Usual load at a time, requests/s, constant before the middle of slot -1 and after slot +2; < 0: unknown."""
        place = time_s / SLOT_S - self.slot + 0.5
        if place < 0.0:
            return self.around[0]
        if place >= 3.0:
            return self.around[3]
        index = int(place)
        left, right = self.around[index], self.around[index + 1]
        if left < 0.0 or right < 0.0:
            return UNKNOWN
        return left + (right - left) * (place - index)

    def expected_rps(self, time_s: float) -> float | None:
        """Usual load at any time, requests/s: the higher one of that half hour and the next; None: unknown."""
        usual = max(neighbours(self.daily, self.weekly, int(time_s // SLOT_S))[1:3])
        return usual if usual >= 0.0 else None


def neighbours(daily: tuple[int, ...], weekly: tuple[int, ...], slot: int) -> tuple[float, float, float, float]:
    """Usual load in the middle of the four slots from `slot - 1`."""

    def value(number: int) -> float:
        code, factor = daily[number % DAILY], weekly[(number // 2) % WEEKLY]
        if code == 0:
            return UNKNOWN
        return codes.decode(code) * math.exp((factor - WEEKLY_ONE) * WEEKLY_STEP if factor else 0.0)

    return value(slot - 1), value(slot), value(slot + 1), value(slot + 2)


def _with(values: tuple[int, ...], index: int, value: int) -> tuple[int, ...]:
    return (*values[:index], value, *values[index + 1 :])
