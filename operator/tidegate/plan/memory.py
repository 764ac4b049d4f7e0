"""What `plan` remembers of one deployment between two ticks: under 1 KiB of JSON with three tiers."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from tidegate.domain.decision import Constraint
from tidegate.domain.remembered import instant, moment, number, optional, whole
from tidegate.plan.error_budget import FULL, ErrorBudget
from tidegate.plan.regret import NO_REGRET, Regret
from tidegate.plan.solve import Given

# Most failures that are counted: waits double with each one, and after this many they are months.
FAILURES_MAX = 16
T = TypeVar("T")
# (time, replicas) of what began when, oldest first; unix seconds.
Since = tuple[tuple[float, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TierProgress:
    """
    Progress of the requested replicas of one tier. The cluster reports only counts; the times are recorded here.

    Args:
        ready: Ready replicas at the last tick.
        asks: Since when replicas that are not ready yet are requested.
        failures: Failed or late start-ups in a row, at most `FAILURES_MAX`.
        blocked_until_s: No more replicas of this tier are requested before this time, unix seconds; 0: not blocked.
        stranded: Since when unscheduled ones have had no room in sight. A restart forgets it.
    """

    ready: int = 0
    asks: Since = ()
    failures: int = 0
    blocked_until_s: float = 0.0
    stranded: Since = ()

    def to_json(self) -> list[object]:
        """Plain JSON values."""
        return [self.ready, [list(ask) for ask in self.asks], self.failures, self.blocked_until_s]

    @classmethod
    def from_json(cls, value: Sequence[Any]) -> "TierProgress":
        """The inverse of `to_json`."""
        ready, asks, failures, blocked = value
        return cls(
            ready=whole(ready),
            asks=tuple([(instant(at), whole(n)) for at, n in asks]),
            failures=min(FAILURES_MAX, whole(failures)),
            blocked_until_s=instant(blocked),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanMemory:
    """
    The plan in force and its basis. Fleets are replicas per tier in the order of `names`. Times are unix seconds.

    Args:
        time_s: When this memory was written.
        names: Tiers of the spec that the plan was made for.
        ideal: The fleet this deployment would have without the others.
        target: The planned fleet: `ideal`, or a smaller or different one if shared accelerators are short.
        given: What the ideal plan had to give up.
        binding: The constraint that separates the plan from the uncapped one, or keeps it below a lower bound.
        basis: Digest of the limits, prices and promises that the plan was made under.
        capacities: Capacity of one replica of each tier when the plan was made, requests/s.
        load_ref: Load that the plan was made for, fluid $/h (see `window.load`); 0: reconsider it.
        shown_ref: Demand quantile that was shown with the plan, requests/s.
        peaks: (slot, highest load) of the stabilization window, oldest first.
        window_s: Length of the window that the peaks belong to, s; None: not known.
        prices: $/h of one replica of each tier in which the loads are expressed; -1 if the tier was not usable yet.
            Empty: not known.
        watched_since_s: Start of gap-free observation of the load; None: it is not being observed.
        fresh_s: When metrics were last complete, or no replica was ready that could report; None: never.
        moved_s: Time of the last plan that grew, changed the mix or followed changed limits.
        regret: Shrinks that had to be undone.
        error_budget: Rest of the misses that the promise allows.
        progress: Start-up progress of each tier.
        grant: Accelerators by class that the shared pool grants this deployment, and the size of the pool then; empty
            if the pool is large enough.
        asleep: Whether it is scaled to zero because it is idle, and waits for a request.
        memo: Cached results (`memo.Memo`). Not part of the value, never persisted.
    """

    names: tuple[str, ...] = ()
    ideal: tuple[int, ...] = ()
    target: tuple[int, ...] = ()
    given: Given = Given.NOTHING
    binding: Constraint = Constraint.NONE
    basis: int = 0
    capacities: tuple[float, ...] = ()
    load_ref: float = 0.0
    shown_ref: float = 0.0
    time_s: float = 0.0
    peaks: tuple[tuple[int, float], ...] = ()
    window_s: float | None = None
    prices: tuple[float, ...] = ()
    watched_since_s: float | None = None
    fresh_s: float | None = None
    moved_s: float = 0.0
    regret: Regret = NO_REGRET
    error_budget: ErrorBudget = FULL
    progress: tuple[TierProgress, ...] = ()
    grant: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    asleep: bool = False
    memo: object = field(default=None, compare=False, repr=False)

    def to_json(self) -> dict[str, object]:
        """Plain JSON values; `from_json` gives back an equal memory."""
        return {
            "names": list(self.names),
            "ideal": list(self.ideal),
            "target": list(self.target),
            "given": int(self.given),
            "binding": self.binding.value,
            "basis": self.basis,
            "capacities": list(self.capacities),
            "load": self.load_ref,
            "shown": self.shown_ref,
            "time": self.time_s,
            "peaks": [self.peaks[0][0], *[[slot - self.peaks[0][0], v] for slot, v in self.peaks]]
            if self.peaks
            else [],
            "window": self.window_s,
            "prices": list(self.prices),
            "watched": self.watched_since_s,
            "fresh": self.fresh_s,
            "moved": self.moved_s,
            "regret": self.regret.to_json(),
            "misses": self.error_budget.to_json(),
            "progress": [tier.to_json() for tier in self.progress],
            "grant": {name: list(pair) for name, pair in self.grant.items()},
            "asleep": self.asleep,
        }

    def forgiven(self, tiers: Collection[str]) -> "PlanMemory":
        """The memory without the failures and waits of these tiers, because their pods have changed."""
        progress = [
            TierProgress(ready=old.ready) if name in tiers else old
            for name, old in zip(self.names, self.progress, strict=True)
        ]
        return replace(self, progress=tuple(progress))

    def for_tiers(self, there: Mapping[str, int]) -> "PlanMemory":
        """
        The memory adapted to the current tiers: a tier that was in the old plan, by name, keeps its state.

        Args:
            there: The current tiers in order, and the replicas of each; a new tier starts with those as its plan.
        """
        fleet = self.regret.fleet
        return replace(
            self,
            names=tuple(there),
            ideal=self._placed(self.ideal, there),
            target=self._placed(self.target, there),
            capacities=self._placed(self.capacities, dict.fromkeys(there, 0.0)),
            prices=self._placed(self.prices, dict.fromkeys(there, -1.0)) if self.prices else (),
            progress=self._placed(self.progress, {name: TierProgress(ready=n) for name, n in there.items()}),
            regret=replace(
                self.regret, fleet=self._placed(fleet, dict.fromkeys(there, 0)) if fleet else (), exchange=None
            ),
            memo=None,
        )

    def _placed(self, values: Sequence[T], new: Mapping[str, T]) -> tuple[T, ...]:
        """Values for the current tiers: the old value of that name, else the one given for a new tier."""
        known = dict(zip(self.names, values, strict=True))
        return tuple([known.get(name, value) for name, value in new.items()])

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "PlanMemory":
        """The memory that `to_json` wrote. Raises KeyError, TypeError or ValueError if it is damaged."""
        names = tuple([str(name) for name in value["names"]])
        fleets = [tuple([whole(n) for n in value[which]]) for which in ("ideal", "target")]
        progress = tuple([TierProgress.from_json(tier) for tier in value["progress"]])
        capacities = tuple([number(c) for c in value["capacities"]])
        prices = tuple([number(p, least=-1.0) for p in value["prices"]])
        regret = Regret.from_json(value["regret"])
        first = int(instant(value["peaks"][0])) if value["peaks"] else 0
        last = regret.exchange
        parts = (*fleets, progress, capacities, prices or names, regret.fleet or names)
        parts += () if last is None else (last.left, last.chosen)
        if any(len(part) != len(names) for part in parts):
            raise ValueError("a fleet does not fit the tiers")
        return cls(
            names=names,
            ideal=fleets[0],
            target=fleets[1],
            given=Given(whole(value["given"])),
            binding=Constraint(value["binding"]),
            basis=whole(value["basis"]),
            capacities=capacities,
            load_ref=number(value["load"]),
            shown_ref=number(value["shown"]),
            time_s=instant(value["time"]),
            peaks=tuple([(first + whole(slot), number(load)) for slot, load in value["peaks"][1:]]),
            window_s=optional(value["window"]),
            prices=prices,
            watched_since_s=moment(value["watched"]),
            fresh_s=moment(value["fresh"]),
            moved_s=instant(value["moved"]),
            regret=regret,
            error_budget=ErrorBudget.from_json(value["misses"]),
            progress=progress,
            grant={str(name): (whole(pair[0]), whole(pair[1])) for name, pair in value["grant"].items()},
            asleep=bool(value["asleep"]),
        )
