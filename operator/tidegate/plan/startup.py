"""
Which of the starting replicas will become ready.

The cluster reports only how many replicas are starting, so the time of each request is recorded here. A replica that
becomes ready closes the oldest request, one that disappears the newest.

A replica is stuck if it takes longer than its tier's late start-up time, is unschedulable or failing for longer than
`HOPELESS_GRACE_S`, or is lost with its node. It stops counting, and unless it is lost, which is no failure of its tier,
no more of the tier are requested during a back-off that doubles with each failure. What was found late stays late until
it is ready, because the plan works around it.

A replica that is merely late stays requested, twice as long after each failure, and what is requested after a failure
is late only after twice the time: a tier that is slower than expected must become ready once for that to be learned.
"""

from dataclasses import dataclass
from functools import lru_cache

from tidegate.domain.observation import TierState
from tidegate.plan.memory import FAILURES_MAX, Since, TierProgress

# Scheduling takes a moment, and the accelerators of a drained replica are freed late: two ticks.
HOPELESS_GRACE_S = 30.0
BACKOFF_MAX_S = 3600.0
# After many failures a late replica still counts as coming for this long at most.
COUNTED_MAX_S = 3600.0
ASKS_MAX = 4  # kept apart; the oldest two are merged with the later time, so that no replica counts as stuck too early


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrivals:
    """
    The replicas of one tier now.

    Args:
        ready: Ready replicas.
        healthy: Starting replicas that are expected to become ready; rollout pods are not included.
        stuck: Starting replicas that are not expected to become ready.
        awaited: Stuck replicas that are merely late and stay requested for now.
        late: Stuck replicas that are merely late or lost: neither unschedulable nor failing.
        lost: Stuck replicas that are lost with their nodes. They hold no accelerators of the pool.
        requested: Stuck replicas that were requested; the other stuck ones are rollout pods.
        kept: Starting replicas, stuck or not, that stay requested because others would be removed in their place.
        blocked: Whether the tier may not grow now.
    """

    ready: int = 0
    healthy: int = 0
    stuck: int = 0
    awaited: int = 0
    late: int = 0
    lost: int = 0
    requested: int = 0
    kept: int = 0
    blocked: bool = False

    @property
    def counted(self) -> int:
        """Replicas that are ready or expected to become ready."""
        return self.ready + self.healthy


@dataclass(frozen=True, slots=True)
class Patience:
    """
    How long to wait for a starting replica.

    Args:
        late_s: Age at which it counts as stuck, s; doubled by each failure in a row.
        hurried_s: The same while the ready replicas do not keep the promise, s, at most `late_s`.
        hurried: Whether `hurried_s` applies now, to tiers that have not failed.
    """

    late_s: float
    hurried_s: float
    hurried: bool = False


def follow(
    before: TierProgress, state: TierState, patience: Patience, *, time_s: float
) -> tuple[TierProgress, Arrivals]:
    """The progress and the arrivals of one tier after an observation of its state."""
    late_s = patience.late_s
    if not state.starting and not before.asks and before.ready == state.ready and not before.failures:
        return before, _at_rest(state.ready)
    arrived = max(state.arrived, state.ready - before.ready, 0)
    asks = settled(before.asks, arrived=arrived, starting=state.starting, time_s=time_s)
    failures, blocked_until = before.failures, before.blocked_until_s
    if arrived:
        failures, blocked_until = 0, 0.0
    began = blocked_until - _backoff_s(late_s, failures)
    hurried = patience.hurried and not failures
    waited_s = patience.hurried_s if hurried else max(late_s, min(COUNTED_MAX_S, late_s * 2.0**failures))
    # Replicas that were overdue when the tier last failed stay overdue.
    overdue = sum([n for at, n in asks if time_s - at >= waited_s or began - at >= patience.hurried_s])
    # Replicas for which waiting does not help: no room for them, they crash or cannot be created, or they are lost.
    hopeless = (state.unschedulable or 0) + state.failing + state.lost
    stuck = min(state.starting, max(overdue, state.lost, min(hopeless, older(asks, HOPELESS_GRACE_S, time_s))))
    is_new = not failures or any(at >= began for at, _ in asks)  # else it is still the same failure
    if stuck > state.lost and time_s >= blocked_until and (is_new or not _fails_alone(state)):
        failures = min(FAILURES_MAX, failures + is_new)
        blocked_until = time_s + _backoff_s(late_s, failures)
    healthy = state.starting - max(stuck, state.unasked)
    # Of starting pods, a ReplicaSet removes the pending ones before one that crashes or is lost.
    takes_others = not state.spares_ready or (healthy > 0 and (state.lost or (stuck and _fails_alone(state))))
    progress = TierProgress(ready=state.ready, asks=asks, failures=failures, blocked_until_s=blocked_until)
    given_up = older(asks, late_s * 2.0**failures, time_s)
    return progress, Arrivals(
        ready=state.ready,
        healthy=healthy,
        stuck=stuck,
        awaited=max(0, min(stuck, overdue - given_up - hopeless)),
        late=state.lost + max(0, stuck - hopeless),
        lost=state.lost,
        requested=max(0, stuck - state.unasked),
        kept=state.starting - state.unasked if takes_others else 0,
        blocked=time_s < blocked_until,
    )


def _fails_alone(state: TierState) -> bool:
    """
    Whether replicas fail on their nodes while others of the tier are ready: then it can be tried again beside them.

    That does not help where there is no room, or a quota.
    """
    return state.ready > 0 and state.failing > state.unplaced


@lru_cache(maxsize=4096)
def _at_rest(ready: int) -> Arrivals:
    """A tier with nothing starting, by far the most common case; cached."""
    return Arrivals(ready=ready)


def settled(asks: Since, *, arrived: int, starting: int, time_s: float) -> Since:
    """The open requests: the oldest have arrived, the newest were cancelled, additional replicas were requested now."""
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
        surplus = max(0, surplus - n)
    if surplus < 0:
        left.append((time_s, -surplus))
    while len(left) > ASKS_MAX:
        (_, first), (at, second) = left[0], left[1]
        left[:2] = [(at, first + second)]
    return tuple(left)


def _backoff_s(late_s: float, failures: int) -> float:
    return min(BACKOFF_MAX_S, late_s * 2.0 ** max(0, failures - 1))


def older(asks: Since, age_s: float, time_s: float) -> int:
    """Number of replicas that were requested at least `age_s` ago."""
    return sum([n for at, n in asks if time_s - at >= age_s])
