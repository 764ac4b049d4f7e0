"""
The error budget: what was served better than promised may be served worse later.

A promise of 99 % is one over time. While hardly anybody misses a target, the misses that were allowed and did not occur
are left over, and a plan may count on some of them: it then goes with a smaller reserve against what probably does
not come. When it does come, the misses are counted, the rest of the budget shrinks, and the plan asks for the whole
promise again. It never asks for more than that.

It begins full: nobody has drawn on it. What is left has to bear a surprise: until a replica that does not come is
noticed, part of the requests miss. At 99 % half an hour allows misses of 18 s of all requests; a replica that came late
cost 7 to 43 s in simulated days, an eighth of the time it took to be noticed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp
from typing import Any

from tidegate.domain.goodput import attainment_of
from tidegate.domain.observation import TierReading, TierState
from tidegate.domain.remembered import moment, number
from tidegate.domain.spec import Slo

# Memory of the budget, s: what was left over half an hour ago counts a third.
MEMORY_S = 1800.0
# Readings are means over a minute: a closer look sees the same requests again.
PERIOD_S = 60.0
# A gap longer than this was not seen.
GAP_S = 180.0
# Share of requests that miss in a surprise, on average over the time that it goes unnoticed.
SURPRISE_SHARE = 0.125
# With nothing spent, so many times the usual misses may be planned for, but so much more of all requests at most.
FACTOR_MAX = 4.0
EXTRA_MAX = 0.05
# The factor moves in steps, so that plans do not follow every miss; a step is left from three quarters of one on.
STEP, HELD = 0.5, 0.75


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorBudget:
    """
    What is left of the misses that the promise allows.

    Args:
        allowed, missed: Requests that were allowed to miss and those that did, each fading with `MEMORY_S`.
        seen: Share of that memory in which requests were seen, in [0, 1]; at first taken to be all of it.
        time_s: When last counted; None: never.
        factor: On the share of misses that a plan may count on, in [1, `FACTOR_MAX`].
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
    The budget after what was seen now; the same where it is too early, or nobody tells.

    Args:
        states: Of each tier, with readings.
        late_s: Time until a replica that does not come is noticed.
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
    """The attainment that a plan has to expect now, at most the one promised."""
    if budget.factor <= 1.0:
        return slo.attainment
    missable = 1.0 - slo.attainment
    return round(1.0 - min(missable * budget.factor, missable + EXTRA_MAX), 6)
