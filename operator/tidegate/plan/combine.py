"""
One option per deployment, inside what the accelerator classes hold: the best combination.

Few combinations are tried one by one. Many go to a mixed-integer program (HiGHS), level by level: first replicas below
anybody's bounds, for a bound is a promise and no wish; then replicas taken from those of whom nothing is seen, for
silence shrinks nothing; then misses. Each of the three counts for the highest priority first, then for the next: one
large replica that is promised to it is worth more than many small ones promised to others. Then come quality and money.
The program runs under a limit of nodes, not of seconds, so that the same input gives the same output on every machine.
Where the limit hits, priorities are served in turn.
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
# Below this, of the misses of all deployments of a priority together, a new deal is only another one.
MISSED_STEP = 0.05
# The same where it takes back replicas that are still to come: what they will do is not seen yet.
MISSED_STEP_EARLY = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """
    One plan of one deployment.

    Args:
        reserved: What its accelerators are kept for: `fleet`, with what is stuck and stays asked for, and what serves
            until it does.
        used: Accelerators of each short class that are kept.
        missed: How far attainment stays below the promise, in [0, 1], and what is lost on the way.
        quality_lost: 1 where the average quality was given up, else 0.
        usd_per_hour: What it costs, moves included.
        under: Replicas by which it stays below the deployment's least.
        taken: Replicas that a silent deployment has or was asked for and that it takes away, ready ones counted twice.
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
    The best choice of one option each.

    Args:
        options: Of each deployment; the first one is its ideal plan. Highest priority first.
        priorities: Of each deployment.
        capacity: Accelerators of each short class.
    """
    turn = in_turn(options, capacity)
    if prod([len(of) for of in options]) <= TRIED_MAX:
        return _tried(options, priorities, capacity) or turn
    solved = _solved(options, priorities, capacity, turn)
    return solved if solved is not None and _rank(solved, priorities) <= _rank(turn, priorities) else turn


def hardly_better(
    new: Sequence[Option], old: Sequence[Option], priorities: Sequence[int], *, early: bool = False
) -> bool:
    """
    Whether a new deal is not worth the moves: the same promises kept, and nearly the same misses.

    That it is cheaper is no reason: it is judged at the load of now, and a fleet gets smaller by its own plan only,
    once the whole window has been seen.

    Args:
        early: Whether it takes back replicas that are still to come.
    """
    step = MISSED_STEP_EARLY if early else MISSED_STEP
    broken, broken_old = _broken(new, priorities), _broken(old, priorities)
    if broken != broken_old:
        return broken > broken_old
    missed, missed_old = (_by_level([o.missed for o in chosen], priorities) for chosen in (new, old))
    nearly = all(a >= b - step for a, b in zip(missed, missed_old, strict=True))
    return nearly and _lost(new) >= _lost(old)


def in_turn(options: Sequence[Sequence[Option]], capacity: Mapping[str, int]) -> list[Option]:
    """Highest priority first: everybody's bounds, then what silence holds, then each the best that is left."""
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
    """Accelerators of each short class that a choice leaves; below 0 where it takes too many."""
    left = dict(capacity)
    for option in chosen:
        for name, n in option.used:
            left[name] -= n
    return left


def _rank(chosen: Sequence[Option], priorities: Sequence[int]) -> tuple[float, ...]:
    """What is compared: promises that are broken, misses by falling priority, quality, money."""
    missed = _by_level([o.missed for o in chosen], priorities)
    return (*_broken(chosen, priorities), *missed, _lost(chosen), round(sum([o.usd_per_hour for o in chosen]), 6))


def _broken(chosen: Sequence[Option], priorities: Sequence[int]) -> tuple[float, ...]:
    """Replicas below anybody's bounds, then those taken from the silent; both by falling priority."""
    return (*_by_level([o.under for o in chosen], priorities), *_by_level([o.taken for o in chosen], priorities))


def _by_level(values: Sequence[float], priorities: Sequence[int]) -> list[float]:
    """Sum of each priority, in their order: the highest one first."""
    sums = dict.fromkeys(priorities, 0.0)
    for value, priority in zip(values, priorities, strict=True):
        sums[priority] += value
    return [round(value, 6) for value in sums.values()]


def _lost(chosen: Sequence[Option]) -> float:
    return sum([o.quality_lost for o in chosen])


def _tried(
    options: Sequence[Sequence[Option]], priorities: Sequence[int], capacity: Mapping[str, int]
) -> list[Option] | None:
    """Every combination that fits, depth first."""
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


def _solved(
    options: Sequence[Sequence[Option]], priorities: Sequence[int], capacity: Mapping[str, int], first: Sequence[Option]
) -> list[Option] | None:
    """
    The same by integer programs, one per level of the order; None where one of them finds no answer.

    Args:
        first: A choice that fits; a level in which it or the last answer is as good as each alone could be needs none.
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
    """Which options of a deployment no other one beats or equals in everything, room included; shape (options,)."""
    ranks = np.array([(o.under, o.taken, o.missed, o.quality_lost, o.usd_per_hour) for o in of])
    rooms = np.array([[n for _, n in o.used] for o in of])
    no_worse = (ranks[:, None] <= ranks).all(axis=2) & (rooms[:, None] <= rooms).all(axis=2)
    earlier = np.less.outer(np.arange(len(of)), np.arange(len(of)))
    beaten = (no_worse & (earlier | (ranks[:, None] < ranks).any(axis=2))).any(axis=0)
    return np.logical_not(beaten)


def _levels(flat: Sequence[Option], owner: np.ndarray, priorities: Sequence[int]) -> list[Floats]:
    """Objectives in order: as in `_rank`, without those that every choice is equal in."""
    rank = np.array(priorities)[owner]
    kinds = np.array([(o.under, o.taken, o.missed) for o in flat], dtype=float).T
    levels = [np.where(rank == p, kind, 0.0) for kind in kinds for p in dict.fromkeys(priorities)]
    levels.append(np.array([o.quality_lost for o in flat]))
    return [*[level for level in levels if level.any()], np.array([o.usd_per_hour for o in flat])]
