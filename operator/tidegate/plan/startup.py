"""
Which of the replicas still starting will come.

The cluster tells only how many are starting. We remember when each was asked for: one that turns ready takes the
oldest ask with it, one that vanishes the newest. What is older than the tier's late start-up time, or was found
unschedulable or failing for longer than a moment, is stuck: it stops counting, and no more of the tier is asked for
during a while that doubles with each failure. What was found late stays so until it comes: the plan went around it.
One that is only late stays asked for, twice as long after each failure, and what is asked for after a failure is late
twice as late: a tier that is slower than anybody knew has to become ready once to be known.
"""

from dataclasses import dataclass
from functools import lru_cache

from tidegate.domain.observation import TierState
from tidegate.plan.memory import FAILURES_MAX, TierProgress

# A scheduler needs a moment, and a drained replica's accelerators are freed late: two ticks.
HOPELESS_GRACE_S = 30.0
BACKOFF_MAX_S = 3600.0
# What failed often is waited for ever longer, but not counted on for longer than this.
COUNTED_MAX_S = 3600.0
ASKS_MAX = 4  # remembered apart; the oldest are merged into the younger of two, so that none is called stuck too early


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrivals:
    """
    One tier now.

    Args:
        ready: Replicas that serve.
        healthy: Replicas that start and are expected to come, of those that were asked for.
        stuck: Replicas that start and are not.
        hoped: Of the stuck ones, those that stay asked for.
        late: Of the stuck ones, those that nothing is known to keep from coming.
        due: Of the stuck ones, those that were asked for; the others are pods of a roll-out.
        blocked: Whether the tier may not grow now.
    """

    ready: int = 0
    healthy: int = 0
    stuck: int = 0
    hoped: int = 0
    late: int = 0
    due: int = 0
    blocked: bool = False

    @property
    def counted(self) -> int:
        """Replicas that serve or will."""
        return self.ready + self.healthy


@dataclass(frozen=True, slots=True)
class Patience:
    """
    How long a replica that starts is waited for.

    Args:
        late_s: Age at which it counts as stuck, s; doubled by each failure before it was asked for.
        hurried_s: The same while targets are missed for want of it, s, at most `late_s`.
        hurried: Whether that is so now.
    """

    late_s: float
    hurried_s: float
    hurried: bool = False


def follow(
    before: TierProgress, state: TierState, patience: Patience, *, time_s: float
) -> tuple[TierProgress, Arrivals]:
    """Take in what the cluster shows of one tier."""
    late_s = patience.late_s
    if not state.starting and not before.asks and before.ready == state.ready and not before.failures:
        return before, _at_rest(state.ready)
    arrived = max(0, state.ready - before.ready)
    asks = _settled(before.asks, arrived=arrived, starting=state.starting, time_s=time_s)
    failures, blocked_until = before.failures, before.blocked_until_s
    if arrived:
        failures, blocked_until = 0, 0.0
    began = blocked_until - _backoff_s(late_s, failures)
    waited_s = patience.hurried_s if patience.hurried else max(late_s, min(COUNTED_MAX_S, late_s * 2.0**failures))
    # What was overdue when the tier last failed stays so.
    overdue = sum([n for at, n in asks if time_s - at >= waited_s or began - at >= patience.hurried_s])
    # Replicas that waiting will not help: no room for them, or they crash, or cannot even be made.
    hopeless = (state.unschedulable or 0) + state.failing
    stuck = min(state.starting, max(overdue, min(hopeless, _older(asks, HOPELESS_GRACE_S, time_s))))
    if stuck and time_s >= blocked_until:
        if not failures or any(at >= began for at, _ in asks):  # else it is the same failure, still there
            failures = min(FAILURES_MAX, failures + 1)
        blocked_until = time_s + _backoff_s(late_s, failures)
    progress = TierProgress(ready=state.ready, asks=asks, failures=failures, blocked_until_s=blocked_until)
    given_up = _older(asks, late_s * 2.0**failures, time_s)
    return progress, Arrivals(
        ready=state.ready,
        healthy=state.starting - max(stuck, state.unasked),
        stuck=stuck,
        hoped=max(0, min(stuck, overdue - given_up - hopeless)),
        late=max(0, stuck - hopeless),
        due=max(0, stuck - state.unasked),
        blocked=time_s < blocked_until,
    )


@lru_cache(maxsize=4096)
def _at_rest(ready: int) -> Arrivals:
    """A tier of which nothing is starting: by far the most usual one."""
    return Arrivals(ready=ready)


def _settled(
    asks: tuple[tuple[float, int], ...], *, arrived: int, starting: int, time_s: float
) -> tuple[tuple[float, int], ...]:
    """The asks still open: the oldest arrived, the newest were cancelled, what is more was asked just now."""
    left = list(asks)
    while arrived and left:
        at, n = left.pop(0)
        if n > arrived:
            left.insert(0, (at, n - arrived))
        arrived = max(0, arrived - n)
    surplus = sum([n for _, n in left]) - starting
    while surplus > 0:
        at, n = left.pop()
        if n > surplus:
            left.append((at, n - surplus))
        surplus -= n
    if surplus < 0:
        left.append((time_s, -surplus))
    while len(left) > ASKS_MAX:
        (_, first), (at, second) = left[0], left[1]
        left[:2] = [(at, first + second)]
    return tuple(left)


def _backoff_s(late_s: float, failures: int) -> float:
    return min(BACKOFF_MAX_S, late_s * 2.0 ** max(0, failures - 1))


def _older(asks: tuple[tuple[float, int], ...], age_s: float, time_s: float) -> int:
    """Replicas asked for at least so long ago."""
    return sum([n for at, n in asks if time_s - at >= age_s])
