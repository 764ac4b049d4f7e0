"""
The error budget: allowed misses that did not occur may be spent later.

A promise of 99 % holds over time. While hardly any request misses a target, allowed misses are left over, and the plan
may count on some of them: it then keeps a smaller reserve against unlikely demand. When that demand does come, its
misses are counted, the budget shrinks, and the plan requires the whole promise again. It never requires more than that.

The budget starts full. What is left must also absorb a surprise: until a late replica is noticed, part of the requests
miss. At 99 %, half an hour allows as many misses as 18 s of all requests. In simulated days a late replica cost 7 to
43 s of all requests, an eighth of the time until it was noticed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp
from typing import Any

from tidegate.domain.goodput import attainment_of
from tidegate.domain.observation import TierReading, TierState
from tidegate.domain.remembered import moment, number
from tidegate.domain.spec import Slo

# Time constant of the budget, s: what was left over half an hour ago counts a third.
MEMORY_S = 1800.0
# Readings are means over a minute; counting more often would count the same requests twice.
PERIOD_S = 60.0
# Of the time since the last count, at most this much was observed.
GAP_S = 180.0
# Share of requests that miss in a surprise, averaged over the time until it is noticed.
SURPRISE_SHARE = 0.125
# With a full budget, this many times the allowed misses may be planned for, and the attainment required is at
# most `EXTRA_MAX` below the promise.
FACTOR_MAX = 4.0
EXTRA_MAX = 0.05
# The factor moves in steps, so that plans do not follow every miss. It changes only if it is off by 3/4 of a step.
STEP, HELD = 0.5, 0.75


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorBudget:
    """
    What is left of the misses that the promise allows.

    Args:
        allowed, missed: Requests that were allowed to miss and those that did, decaying exponentially with `MEMORY_S`.
        seen: Share of that memory in which requests were observed, in [0, 1]; starts at 1.
        time_s: Time of the last count, unix seconds; None: never.
        factor: Factor on the share of misses that a plan may count on, in [1, `FACTOR_MAX`].
    """

    allowed: float = 0.0
    missed: float = 0.0
    seen: float = 1.0
    time_s: float | None = None
    factor: float = 1.0

    def to_json(self) -> list[object]:
        """Plain JSON values."""
        return [self.allowed, self.missed, self.seen, self.time_s, self.factor]

    @classmethod
    def from_json(cls, value: Sequence[Any]) -> "ErrorBudget":
        """The inverse of `to_json`."""
        allowed, missed, seen, time_s, factor = value
        return cls(
            allowed=number(allowed),
            missed=number(missed),
            seen=number(seen, most=1.0),
            time_s=moment(time_s),
            factor=number(factor, least=1.0, most=FACTOR_MAX),
        )


FULL = ErrorBudget()


def counted(
    before: ErrorBudget, states: Mapping[str, TierState], slo: Slo, *, late_s: float, time_s: float
) -> ErrorBudget:
    """
    The budget after one more observation; unchanged if the last count is too recent or attainment is unknown.

    Args:
        states: State of each tier, with its reading.
        late_s: Time until a late replica is noticed.
    """
    if before.time_s is not None and time_s - before.time_s < PERIOD_S:
        return before
    readings = [s.reading for s in states.values() if isinstance(s.reading, TierReading)]
    attained = attainment_of(readings, slo) if readings else None
    if attained is None:
        return before
    elapsed = PERIOD_S if before.time_s is None else time_s - before.time_s
    kept, covered = exp(-elapsed / MEMORY_S), min(elapsed, GAP_S)
    requests = sum(r.arrival_rps or 0.0 for r in readings) * covered
    allowed = before.allowed * kept + requests * (1.0 - slo.attainment)
    missed = before.missed * kept + requests * (1.0 - attained.likely)
    seen = before.seen * kept + (1.0 - exp(-covered / MEMORY_S) if requests > 0 else 0.0)
    left = max(0.0, 1.0 - missed / allowed) * seen if allowed > 0 else 0.0
    bearable = (1.0 - slo.attainment) * MEMORY_S / max(SURPRISE_SHARE * late_s, 1.0)
    exact = 1.0 + (FACTOR_MAX - 1.0) * left * min(1.0, bearable)
    moved = abs(exact - before.factor) >= HELD * STEP
    return ErrorBudget(
        allowed=round(allowed, 4),
        missed=round(missed, 4),
        seen=round(seen, 4),
        time_s=time_s,
        factor=round(exact / STEP) * STEP if moved else before.factor,
    )


def asked(budget: ErrorBudget, slo: Slo) -> float:
    """The attainment that a plan must reach: at most the promised one."""
    if budget.factor <= 1.0:
        return slo.attainment
    missable = 1.0 - slo.attainment
    return round(1.0 - min(missable * budget.factor, missable + EXTRA_MAX), 6)
