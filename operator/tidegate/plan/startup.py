"""
Which of the replicas still starting will come.

The cluster tells only how many are starting. We remember when each was asked for: one that turns ready takes the
oldest ask with it, one that vanishes the newest. What is older than the tier's late start-up time, or was found
unschedulable or failing for longer than a moment, is stuck: it stops counting, and no more of the tier is asked for
during a while that doubles with each failure. One that is only late stays asked for, twice as long after each failure:
a tier that is slower than anybody knew has to become ready once to be known.
"""

from dataclasses import dataclass
from functools import lru_cache

from tidegate.domain.observation import TierState
from tidegate.plan.memory import TierProgress

# A scheduler needs a moment, and a drained replica's accelerators are freed late: two ticks.
HOPELESS_GRACE_S = 30.0
BACKOFF_MAX_S = 3600.0
ASKS_MAX = 4  # remembered apart; the oldest are merged into the younger of two, so that none is called stuck too early


@dataclass(frozen=True, slots=True)
class Arrivals:
    """
    One tier now.

    Args:
        ready: Replicas that serve.
        healthy: Replicas that start and are expected to come.
        stuck: Replicas that start and are not.
        hoped: Of the stuck ones, those that stay asked for.
        blocked: Whether the tier may not grow now.
        late: Of the stuck ones, those that nothing is known to keep from coming.
    """

    ready: int
    healthy: int
    stuck: int
    hoped: int
    blocked: bool
    late: int = 0

    @property
    def counted(self) -> int:
        """Replicas that serve or will."""
        return self.ready + self.healthy


def follow(
    before: TierProgress, state: TierState, *, late_s: float, time_s: float, patience_s: float | None = None
) -> tuple[TierProgress, Arrivals]:
    """
    Take in what the cluster shows of one tier.

    Args:
        late_s: Age at which a replica still starting counts as stuck, s.
        patience_s: The same for now, where it is not waited for as long as usual; None: it is.
    """
    waited_s = late_s if patience_s is None else min(patience_s, late_s)
    if not state.starting and not before.asks and before.ready == state.ready and not before.failures:
        return before, _at_rest(state.ready)
    arrived = max(0, state.ready - before.ready)
    asks = _settled(before.asks, arrived=arrived, starting=state.starting, time_s=time_s)
    failures, blocked_until = before.failures, before.blocked_until_s
    if arrived:
        failures, blocked_until = 0, 0.0
    stuck = _stuck(asks, state, late_s=waited_s, time_s=time_s)
    if stuck and time_s >= blocked_until:
        began = blocked_until - _backoff_s(late_s, failures)
        if not failures or any(at >= began for at, _ in asks):  # else it is the same failure, still there
            failures += 1
        blocked_until = time_s + _backoff_s(late_s, failures)
    progress = TierProgress(ready=state.ready, asks=asks, failures=failures, blocked_until_s=blocked_until)
    hoped = _late(asks, waited_s, time_s) - _late(asks, late_s * 2.0**failures, time_s) - _hopeless(state)
    hoped = max(0, min(stuck, hoped))
    late = max(0, stuck - _hopeless(state))
    return progress, Arrivals(
        state.ready, state.starting - stuck, stuck, hoped, blocked=time_s < blocked_until, late=late
    )


@lru_cache(maxsize=4096)
def _at_rest(ready: int) -> Arrivals:
    """A tier of which nothing is starting: by far the most usual one."""
    return Arrivals(ready, 0, 0, 0, blocked=False)


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


def _stuck(asks: tuple[tuple[float, int], ...], state: TierState, *, late_s: float, time_s: float) -> int:
    waited = _late(asks, HOPELESS_GRACE_S, time_s)
    return min(state.starting, max(_late(asks, late_s, time_s), min(_hopeless(state), waited)))


def _hopeless(state: TierState) -> int:
    """Replicas that waiting will not help: no room for them, or they crash, or cannot even be made."""
    return (state.unschedulable or 0) + state.failing


def _backoff_s(late_s: float, failures: int) -> float:
    return min(BACKOFF_MAX_S, late_s * 2.0 ** max(0, failures - 1))


def _late(asks: tuple[tuple[float, int], ...], age_s: float, time_s: float) -> int:
    """Replicas asked for at least so long ago."""
    return sum([n for at, n in asks if time_s - at >= age_s])
