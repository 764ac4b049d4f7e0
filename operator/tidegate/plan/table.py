"""
All fleets of a deployment, evaluated once.

When shared accelerators are short, a deployment is planned for many different amounts of room. Each plan then needs
only a look at the rows that fit, not a search.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tidegate.plan.boxes import Flags, all_inside, used
from tidegate.plan.cuts import Goal
from tidegate.plan.fleet import FleetModel, Ints
from tidegate.plan.limits import Limits
from tidegate.plan.search import Found, Judged, best_of, best_quality_of, cheapest_of, judged


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """
    A `solve.Finder` for one goal, whose attainment and quality may be lowered but whose demand and moves are fixed.

    Args:
        limits: Every fleet within their upper bounds is in the table.
        rows: The fleets with their predictions, by rising cost.
        totals: Replicas of each row; shape (rows,).
        used: Accelerators that each row uses, by class; each of shape (rows,).
        looks: The rows within the limits of the last look.
    """

    model: FleetModel
    limits: Limits
    rows: Judged
    totals: Ints
    used: Mapping[str, Ints]
    looks: dict[tuple[object, ...], Judged] = field(default_factory=dict)

    def covers(self, limits: Limits) -> bool:
        """Whether the table has every fleet within these limits, which may differ only in room and tier bounds."""
        rooms = [limits.room.get(name, most + 1) <= most for name, most in self.limits.room.items()]
        tiers = zip(limits.tiers, self.limits.tiers, strict=True)
        return all(rooms) and all(high <= most for (_, high), (_, most) in tiers)

    def cheapest(self, limits: Limits, goal: Goal) -> Found | None:
        """See `search.cheapest`."""
        among = self._inside(limits)
        return cheapest_of(self.model, [among] if len(among.fleets) else [], goal)

    def best_quality(self, limits: Limits, goal: Goal) -> Found | None:
        """See `search.best_quality`."""
        return best_quality_of(self._inside(limits), goal)

    def best_effort(self, limits: Limits, goal: Goal) -> Found | None:
        """See `search.best_effort`."""
        among = self._inside(limits)
        return best_of(among) if len(among.fleets) else None

    def _inside(self, limits: Limits) -> Judged:
        """The rows within the limits; those of the last limits are cached."""
        key = (limits.total[0], limits.tiers, *limits.room.items())
        if key not in self.looks:
            self.looks.clear()
            self.looks[key] = self.rows.only(self._fits(limits))
        return self.looks[key]

    def _fits(self, limits: Limits) -> Flags:
        fits = self.totals >= limits.total[0]
        for name, most in limits.room.items():
            fits &= self.used[name] <= most
        for i, (low, high) in enumerate(limits.tiers):
            if low > 0:
                fits &= self.rows.fleets[:, i] >= low
            if high < self.limits.tiers[i][1]:
                fits &= self.rows.fleets[:, i] <= high
        return fits


def table(model: FleetModel, limits: Limits, goal: Goal, *, most: int) -> Table | None:
    """The table of all fleets within the upper limits; None if there are more than `most`, or too many tiers."""
    fleets = all_inside(model, limits, goal, most=most)
    if fleets is None:
        return None
    rows = judged(model, fleets, goal)
    by_class = {name: used(model, rows.fleets, name) for name in model.classes}
    return Table(model=model, limits=limits, rows=rows, totals=rows.fleets.sum(axis=1), used=by_class)
