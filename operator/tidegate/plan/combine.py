"""
The best combination of one option per deployment that fits the accelerator classes.

Options are compared by these criteria, in this order: replicas below a lower bound (a bound is a promise), replicas
taken from deployments without metrics (missing metrics shrink nothing), misses, quality, cost. The first three are
compared for the highest priority first, then for the next: one large replica promised to a high priority is worth more
than many small ones promised to lower priorities.

Up to `TRIED_MAX` combinations are tried one by one. More are solved as mixed-integer programs (HiGHS), one after the
other per criterion and priority. The solver has a node limit, not a time limit, so that the same input gives the same
output on every machine. If the limit is reached, priorities are served in turn.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from tidegate.plan.boxes import Flags
from tidegate.plan.fleet import Fleet, Floats

TRIED_MAX = 20_000
NODES_MAX = 2_000
LEVEL_SLACK = 1e-6
# A new allocation must reduce the sum of the misses of one priority by more than this.
MISSED_STEP = 0.05
# The same if it takes back replicas that are still starting, since their effect has not been observed yet.
MISSED_STEP_EARLY = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """
    One plan of one deployment.

    Args:
        reserved: Fleets that accelerators are reserved for: `fleet` (without metrics, with the stuck replicas that
            stay requested), and what serves until it does.
        used: Accelerators of each short class that are reserved.
        missed: Attainment below the promise plus attainment lost on the way, >= 0.
        quality_lost: 1 if the average quality was given up, else 0.
        usd_per_hour: Cost, including the moves.
        under: Replicas missing to the deployment's lower bounds.
        taken: Replicas that a deployment without metrics loses of those it has or requested; ready ones count twice.
    """

    fleet: Fleet
    reserved: tuple[Fleet, ...] = ()
    used: tuple[tuple[str, int], ...]
    missed: float
    quality_lost: float
    usd_per_hour: float
    under: int = 0
    taken: int = 0


def combine(
    options: Sequence[Sequence[Option]], priorities: Sequence[int], capacity: Mapping[str, int]
) -> list[Option]:
    """
    The best choice of one option per deployment.

    Args:
        options: Of each deployment, highest priority first; the first option is the ideal plan.
        priorities: Of each deployment.
        capacity: Accelerators of each short class.
    """
    turn = in_turn(options, capacity)
    if prod([len(of) for of in options]) <= TRIED_MAX:
        return _by_enumeration(options, priorities, capacity) or turn
    solved = _by_programs(options, priorities, capacity, turn)
    return solved if solved is not None and _rank(solved, priorities) <= _rank(turn, priorities) else turn


def hardly_better(
    new: Sequence[Option], old: Sequence[Option], priorities: Sequence[int], *, early: bool = False
) -> bool:
    """
    Whether a new allocation is not worth the moves: it keeps the same promises and has nearly the same misses.

    A lower cost is not enough: it is computed at the current load, and a fleet shrinks only by its own plan, after a
    whole stabilization window.

    Args:
        early: Whether the new allocation takes back replicas that are still starting.
    """
    step = MISSED_STEP_EARLY if early else MISSED_STEP
    broken, broken_old = _broken(new, priorities), _broken(old, priorities)
    if broken != broken_old:
        return broken > broken_old
    missed, missed_old = (_by_level([o.missed for o in chosen], priorities) for chosen in (new, old))
    nearly = all(a >= b - step for a, b in zip(missed, missed_old, strict=True))
    return nearly and _lost(new) >= _lost(old)


def in_turn(options: Sequence[Sequence[Option]], capacity: Mapping[str, int]) -> list[Option]:
    """
    A greedy choice, highest priority first.

    Three rounds: everybody's lower bounds, then what deployments without metrics hold, then the best that is left.
    """
    chosen = [min(of, key=_size) for of in options]
    rounds: tuple[Callable[[Option], tuple[float, ...]], ...] = (
        lambda o: (o.under, _size(o), o.missed),
        lambda o: (o.under, o.taken, _size(o), o.missed),
        lambda o: (o.under, o.taken, o.missed, o.quality_lost, o.usd_per_hour),
    )
    left = _left(chosen, capacity)
    for key in rounds:
        for i, of in enumerate(options):
            room = {name: left[name] + n for name, n in chosen[i].used}
            fitting = [o for o in of if all(n <= room[name] for name, n in o.used)]
            chosen[i] = min(fitting, key=key, default=chosen[i])
            left |= {name: room[name] - n for name, n in chosen[i].used}
    return chosen


def _size(option: Option) -> int:
    return sum([n for _, n in option.used])


def _left(chosen: Sequence[Option], capacity: Mapping[str, int]) -> dict[str, int]:
    """Accelerators of each short class that a choice leaves; below 0 if it takes too many."""
    left = dict(capacity)
    for option in chosen:
        for name, n in option.used:
            left[name] -= n
    return left


def _rank(chosen: Sequence[Option], priorities: Sequence[int]) -> tuple[float, ...]:
    """Criteria in order: broken promises, misses by falling priority, quality, cost."""
    missed = _by_level([o.missed for o in chosen], priorities)
    return (*_broken(chosen, priorities), *missed, _lost(chosen), round(sum([o.usd_per_hour for o in chosen]), 6))


def _broken(chosen: Sequence[Option], priorities: Sequence[int]) -> tuple[float, ...]:
    """Replicas below lower bounds, then those taken from deployments without metrics; both by falling priority."""
    return (*_by_level([o.under for o in chosen], priorities), *_by_level([o.taken for o in chosen], priorities))


def _by_level(values: Sequence[float], priorities: Sequence[int]) -> list[float]:
    """Sum per priority, highest first."""
    sums = dict.fromkeys(priorities, 0.0)
    for value, priority in zip(values, priorities, strict=True):
        sums[priority] += value
    return [round(value, 6) for value in sums.values()]


def _lost(chosen: Sequence[Option]) -> float:
    return sum([o.quality_lost for o in chosen])


def _by_enumeration(
    options: Sequence[Sequence[Option]], priorities: Sequence[int], capacity: Mapping[str, int]
) -> list[Option] | None:
    """The best of all combinations that fit, by depth-first search; None if none fits."""
    best: tuple[tuple[float, ...], list[Option]] | None = None

    def descend(chosen: list[Option], left: dict[str, int]) -> None:
        nonlocal best
        if len(chosen) == len(options):
            rank = _rank(chosen, priorities)
            if best is None or rank < best[0]:
                best = rank, list(chosen)
            return
        for option in options[len(chosen)]:
            rest = {name: left[name] - n for name, n in option.used}
            if min(rest.values()) >= 0:
                descend([*chosen, option], rest)

    descend([], dict(capacity))
    return best[1] if best else None


def _by_programs(
    options: Sequence[Sequence[Option]], priorities: Sequence[int], capacity: Mapping[str, int], first: Sequence[Option]
) -> list[Option] | None:
    """
    The best combination by integer programs, one per level of the order; None if one of them finds no answer.

    A level is skipped if the last answer already reaches its lower bound, the sum of the best of each deployment.

    Args:
        first: A choice that fits: the first answer.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp  # noqa: PLC0415 - a second to import, rarely needed
    from scipy.sparse import csr_array  # noqa: PLC0415

    flat = [option for of in options for option in of]
    sizes = [len(of) for of in options]
    owner = np.repeat(np.arange(len(options)), sizes)
    starts = np.cumsum([0, *sizes[:-1]])
    used = np.array([[n for _, n in o.used] for o in flat], dtype=float).T
    constraints = [
        LinearConstraint(csr_array((np.ones(len(flat)), (owner, np.arange(len(flat))))), 1.0, 1.0),
        LinearConstraint(used, -np.inf, np.array([capacity[name] for name, _ in flat[0].used], dtype=float)),
    ]
    allowed = np.concatenate([_undominated(of) for of in options]).astype(float)
    answer = np.zeros(len(flat))
    answer[starts + [of.index(one) for of, one in zip(options, first, strict=True)]] = 1.0
    for level in _levels(flat, owner, priorities):
        least = np.minimum.reduceat(np.where(allowed > 0, level, np.inf), starts).sum()
        if level @ answer > least + LEVEL_SLACK:
            found = milp(
                level,
                integrality=np.ones(len(flat)),
                bounds=Bounds(0.0, allowed),
                constraints=constraints,
                options={"node_limit": NODES_MAX, "disp": False},
            )
            if found.x is None:
                return None
            answer = np.round(found.x)
        reached = float(level @ answer) + LEVEL_SLACK
        allowed[level > reached] = 0.0
        constraints.append(LinearConstraint(level[None, :], -np.inf, reached))
    picked = [flat[i] for i in np.flatnonzero(answer)]
    return picked if len(picked) == len(options) and min(_left(picked, capacity).values()) >= 0 else None


def _undominated(of: Sequence[Option]) -> Flags:
    """Options of a deployment that no other dominates in criteria and room; of equal ones the first; (options,)."""
    ranks = np.array([(o.under, o.taken, o.missed, o.quality_lost, o.usd_per_hour) for o in of])
    rooms = np.array([[n for _, n in o.used] for o in of])
    no_worse = (ranks[:, None] <= ranks).all(axis=2) & (rooms[:, None] <= rooms).all(axis=2)
    earlier = np.less.outer(np.arange(len(of)), np.arange(len(of)))
    beaten = (no_worse & (earlier | (ranks[:, None] < ranks).any(axis=2))).any(axis=0)
    return np.logical_not(beaten)


def _levels(flat: Sequence[Option], owner: np.ndarray, priorities: Sequence[int]) -> list[Floats]:
    """Objectives in the order of `_rank`, without those that are 0 for every option."""
    rank = np.array(priorities)[owner]
    kinds = np.array([(o.under, o.taken, o.missed) for o in flat], dtype=float).T
    levels = [np.where(rank == p, kind, 0.0) for kind in kinds for p in dict.fromkeys(priorities)]
    levels.append(np.array([o.quality_lost for o in flat]))
    return [*[level for level in levels if level.any()], np.array([o.usd_per_hour for o in flat])]
