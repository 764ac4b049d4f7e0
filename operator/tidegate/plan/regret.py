"""
Shrinks that were taken back.

A smaller fleet that has to grow again minutes later was made for a lull between two swings of the noise: the
stabilisation window was shorter than the noise is long. So the demand that brought the replica back, and the fleet that
was too small for it, are remembered for longer than the window, twice as long each time it happens again. Nothing is
planned for less meanwhile, and nothing as cheap as that fleet. A load that really falls ends it at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from tidegate.domain.remembered import instant, moment, number, whole

# A shrink that lasts this long was none too many. As long as two of the longest usual windows.
REGRET_S = 600.0
# How long the load of a first regret is remembered, and of the last of many in a row.
HOLD_S, HOLD_MAX_S = 600.0, 3600.0
COUNT_MAX = 16  # regrets in a row that are counted: the last holds as long as any
# What a load has to lose to be a smaller one and not a lull: a fifth, and at least what two replicas carry. A minute of
# 2 requests/s has a spread of 9 %, and what is expected of a few such minutes swings by twice that.
FALLEN_SHARE = 0.2
FALLEN_REPLICAS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Regret:
    """
    What is remembered of it.

    Args:
        shrunk_s: When the plan last got smaller; None where it has grown since.
        load: Load at which the fleet had to grow again, as in `window.load`; 0 where nothing is regretted.
        needed: Demand that it had to grow for, the shown quantile in requests/s: nothing is planned for less. Not as
            fluid $/h: a capacity that is learned a little lower would make as much of less demand.
        fleet: What was too small. The noise may also have been in what a replica was thought to carry.
        until_s: When it is forgotten.
        count: Shrinks taken back in a row, at most `COUNT_MAX`.
    """

    shrunk_s: float | None = None
    load: float = 0.0
    needed: float = 0.0
    fleet: tuple[int, ...] = ()
    until_s: float = 0.0
    count: int = 0

    def to_json(self) -> list[object]:
        """Plain JSON values."""
        return [self.shrunk_s, self.load, self.needed, list(self.fleet), self.until_s, self.count]

    @classmethod
    def from_json(cls, value: Sequence[Any]) -> "Regret":
        """The inverse of `to_json`."""
        shrunk, load, needed, fleet, until, count = value
        return cls(
            shrunk_s=moment(shrunk),
            load=number(load),
            needed=number(needed),
            fleet=tuple([whole(n) for n in fleet]),
            until_s=instant(until),
            count=min(COUNT_MAX, whole(count)),
        )


NO_REGRET = Regret()


def shrunk(before: Regret, time_s: float) -> Regret:
    """The plan gets smaller."""
    return replace(before, shrunk_s=time_s)


def grown(before: Regret, seen: Regret, time_s: float) -> Regret:
    """The plan grows for a load that is seen: soon after a shrink, that one was a mistake."""
    raised = replace(before, load=max(seen.load, before.load), needed=max(seen.needed, before.needed), fleet=seen.fleet)
    if before.shrunk_s is None or time_s - before.shrunk_s > REGRET_S:
        return replace(raised if before.load else before, shrunk_s=None)
    again = before.count > 0 and time_s - before.until_s <= HOLD_MAX_S
    count = min(COUNT_MAX, before.count + 1) if again else 1
    hold = min(HOLD_MAX_S, HOLD_S * 2.0 ** (count - 1))
    return replace(raised, shrunk_s=None, until_s=time_s + hold, count=count)


def aged(before: Regret, highest: float, time_s: float, *, replicas: int) -> Regret:
    """
    The same a moment later.

    Args:
        highest: The highest load of the window.
        replicas: Of the plan in force.
    """
    if not before.load:
        return before
    fallen = max(FALLEN_SHARE, FALLEN_REPLICAS / max(1, replicas))
    over = time_s >= before.until_s or highest < before.load * (1 - fallen)
    return replace(before, load=0.0, needed=0.0, fleet=()) if over else before
