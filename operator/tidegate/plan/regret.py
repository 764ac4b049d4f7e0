"""
Shrinks that had to be undone.

A fleet that grows again minutes after shrinking had been shrunk in a lull: the load fluctuates more slowly than the
stabilization window is long. So the demand that brought the replica back, and the fleet that was too small for it, are
remembered beyond the window, twice as long each time in a row. Meanwhile no fleet is planned for less demand, nor one
as cheap as that fleet. A load that stays clearly lower for a whole window ends it early.

An exchange of tiers is to pay for itself within an hour. One that is undone within that hour cost more than it saved,
so what it was for is regretted for an hour.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from tidegate.domain.remembered import instant, moment, number, whole
from tidegate.units import SECONDS_PER_HOUR

# A shrink that lasts this long was right. As long as two of the longest usual windows.
REGRET_S = 600.0
# How long the load of a first regret is remembered, and at most after many in a row.
HOLD_S, HOLD_MAX_S = 600.0, 3600.0
# A plan is expected to last this long; the cost of a move is spread over it.
PLAN_LIFE_S = SECONDS_PER_HOUR
COUNT_MAX = 16  # most regrets in a row that are counted; the hold time reaches its maximum long before
# A load has really fallen if it is lower by a fifth and by what two replicas carry; less may be a lull. In one minute
# at 2 requests/s the standard deviation is 9 %, and a forecast from a few such minutes varies by twice that.
FALLEN_SHARE = 0.2
FALLEN_REPLICAS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """
    The last exchange of tiers.

    Args:
        left, chosen: The fleet before it, and the one it was for.
        time_s: When it was decided, unix seconds.
    """

    left: tuple[int, ...]
    chosen: tuple[int, ...]
    time_s: float

    def undone_by(self, fleet: tuple[int, ...], time_s: float) -> bool:
        """Whether a fleet at a later time uses the tiers again that the exchange gave up, before it has paid."""
        return time_s - self.time_s <= PLAN_LIFE_S and [n > 0 for n in fleet] == [n > 0 for n in self.left]


@dataclass(frozen=True, slots=True, kw_only=True)
class Regret:
    """
    The memory of undone shrinks.

    Args:
        shrunk_s: When the plan last shrank, unix seconds; None if it has grown since.
        load: Load at which the fleet had to grow again, as in `window.load`; 0 if nothing is regretted.
        needed: Demand that it had to grow for, the shown quantile, requests/s: nothing is planned for less. Not in
            fluid $/h, because if a capacity is then learned to be lower, the same $/h would mean less demand.
        fleet: The fleet that was too small. The noise may also have been in the estimated capacity of a replica.
        until_s: When this is forgotten, unix seconds.
        count: Undone shrinks in a row, at most `COUNT_MAX`.
        exchange: The last exchange of tiers; None: there was none, or the tiers have changed since.
    """

    shrunk_s: float | None = None
    load: float = 0.0
    needed: float = 0.0
    fleet: tuple[int, ...] = ()
    until_s: float = 0.0
    count: int = 0
    exchange: Exchange | None = None

    def to_json(self) -> list[object]:
        """Plain JSON values."""
        last = self.exchange
        exchange = None if last is None else [list(last.left), list(last.chosen), last.time_s]
        return [self.shrunk_s, self.load, self.needed, list(self.fleet), self.until_s, self.count, exchange]

    @classmethod
    def from_json(cls, value: Sequence[Any]) -> "Regret":
        """The inverse of `to_json`."""
        shrunk, load, needed, fleet, until, count, exchange = value
        return cls(
            shrunk_s=moment(shrunk),
            load=number(load),
            needed=number(needed),
            fleet=tuple([whole(n) for n in fleet]),
            until_s=instant(until),
            count=min(COUNT_MAX, whole(count)),
            exchange=None if exchange is None else _exchange(*exchange),
        )


def _exchange(left: Sequence[Any], chosen: Sequence[Any], time_s: Any) -> Exchange:
    return Exchange(
        left=tuple([whole(n) for n in left]), chosen=tuple([whole(n) for n in chosen]), time_s=instant(time_s)
    )


NO_REGRET = Regret()


def shrunk(before: Regret, time_s: float) -> Regret:
    """The regret after the plan has shrunk."""
    return replace(before, shrunk_s=time_s)


def exchanged(before: Regret, seen: Regret, fleet: tuple[int, ...], chosen: tuple[int, ...], time_s: float) -> Regret:
    """
    The regret after the plan has exchanged tiers.

    Args:
        seen: The load now, and the demand to plan for.
        fleet, chosen: The fleet before, and the one it was exchanged for.
    """
    last = before.exchange
    after = replace(before, shrunk_s=time_s, exchange=Exchange(left=fleet, chosen=chosen, time_s=time_s))
    if last is None or not last.undone_by(chosen, time_s):
        return after
    load, needed = max(seen.load, before.load), max(seen.needed, before.needed)
    return replace(after, load=load, needed=needed, fleet=last.chosen, until_s=time_s + HOLD_MAX_S)


def grown(before: Regret, seen: Regret, time_s: float) -> Regret:
    """The regret after the plan has grown for an observed load; if that is soon after a shrink, it was a mistake."""
    raised = replace(before, load=max(seen.load, before.load), needed=max(seen.needed, before.needed), fleet=seen.fleet)
    if before.shrunk_s is None or time_s - before.shrunk_s > REGRET_S:
        return replace(raised if before.load else before, shrunk_s=None)
    again = before.count > 0 and time_s - before.until_s <= HOLD_MAX_S
    count = min(COUNT_MAX, before.count + 1) if again else 1
    hold = min(HOLD_MAX_S, HOLD_S * 2.0 ** (count - 1))
    return replace(raised, shrunk_s=None, until_s=time_s + hold, count=count)


def aged(before: Regret, highest: float, time_s: float, *, replicas: int) -> Regret:
    """
    The regret at a later time: cleared if it has expired or if the load has really fallen.

    Args:
        highest: The highest load of the window, fluid $/h.
        replicas: Number of replicas of the plan in force.
    """
    if not before.load:
        return before
    fallen = max(FALLEN_SHARE, FALLEN_REPLICAS / max(1, replicas))
    over = time_s >= before.until_s or highest < before.load * (1 - fallen)
    return replace(before, load=0.0, needed=0.0, fleet=()) if over else before
