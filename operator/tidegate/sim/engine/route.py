"""
Advance the fleet: arrivals in order, each routed to one replica.

Replicas interact only through the router, so each advances on its own between two arrivals.
A request that is longer than a replica's `max-model-len`, or than its whole KV memory, is rejected.
"""

from tidegate.sim.engine.jit import compiled
from tidegate.sim.engine.replica import advance_replica, blocks_of, blocks_total
from tidegate.sim.engine.state import (
    ARRIVED,
    AT_GATEWAY,
    CONTEXT_MAX,
    DROPPED,
    FREE,
    PRESENT_S,
    WAITING,
    State,
)

NEXT, ROUTER, RNG = 0, 1, 2
LEAST_OUTSTANDING, RANDOM = 0, 1


@compiled
def advance(state: State, until_s: float) -> None:
    """Route every arrival before `until_s`, then advance every replica to that time."""
    requests, front, slots = state.requests, state.front, state.slots
    row = front.cursor[NEXT]
    while row < len(requests.arrival_s) and requests.arrival_s[row] < until_s:
        front.arrived[requests.deployment[row]] += 1
        route(state, row, requests.arrival_s[row])
        row += 1
    front.cursor[NEXT] = row
    for slot in range(len(slots.life)):
        if slots.life[slot] != FREE:
            advance_replica(state, slot, until_s)


@compiled
def route(state: State, row: int, now_s: float) -> None:
    """Send one request to a ready replica of its deployment, or queue it at the gateway if there is none."""
    requests, front = state.requests, state.front
    deployment = requests.deployment[row]
    count = front.candidate_count[deployment]
    if count == 0:
        hold(state, row, deployment)
        return
    for i in range(count):
        if state.slots.quiet_s[front.candidates[deployment, i]] < now_s:
            advance_replica(state, front.candidates[deployment, i], now_s)
    offset = roll(state) % count
    best = front.candidates[deployment, offset]
    if front.cursor[ROUTER] == LEAST_OUTSTANDING:
        for i in range(1, count):
            other = front.candidates[deployment, (offset + i) % count]
            if outstanding(state, other) < outstanding(state, best):
                best = other
    advance_replica(state, best, now_s)
    enqueue(state, row, best, now_s)


@compiled
def roll(state: State) -> int:
    """Next number of the router's own pseudo-random generator (linear congruential, 31 bits)."""
    cursor = state.front.cursor
    cursor[RNG] = (cursor[RNG] * 1103515245 + 12345) % 2147483648
    return int(cursor[RNG] >> 8)


@compiled
def outstanding(state: State, slot: int) -> int:
    """Running and waiting requests of a replica."""
    return int(state.slots.running_count[slot] + state.slots.waiting_count[slot])


@compiled
def hold(state: State, row: int, deployment: int) -> None:
    """Queue a request at the gateway."""
    requests, front = state.requests, state.front
    requests.life[row] = AT_GATEWAY
    requests.after[row] = -1
    if front.waiting_count[deployment] == 0:
        front.head[deployment] = row
    else:
        requests.after[front.tail[deployment]] = row
    front.tail[deployment] = row
    front.waiting_count[deployment] += 1


@compiled
def enqueue(state: State, row: int, slot: int, now_s: float) -> None:
    """Put a request at the end of a replica's queue."""
    requests, slots = state.requests, state.slots
    slots.counters[slot, ARRIVED] += 1
    requests.tier[row] = slots.tier[slot]
    context = requests.prompt[row] + requests.output[row]
    if context > state.tiers.scalars[slots.tier[slot], CONTEXT_MAX] or blocks_of(context) > blocks_total(state, slot):
        requests.life[row] = DROPPED
        return
    requests.life[row] = WAITING
    requests.after[row] = -1
    requests.entered_s[row] = now_s
    if slots.waiting_count[slot] == 0:
        slots.head[slot] = row
    else:
        requests.after[slots.tail[slot]] = row
    slots.tail[slot] = row
    # An idle replica starts now. In a busy one the request waits until the current step ends.
    slots.clock_s[slot] = max(slots.clock_s[slot], now_s)
    slots.counters[slot, PRESENT_S] += slots.clock_s[slot] - now_s
    slots.waiting_count[slot] += 1
    slots.quiet_s[slot] = now_s


@compiled
def flush(state: State, deployment: int, now_s: float) -> None:
    """Route the gateway's queue to the replicas that are ready now."""
    requests, front = state.requests, state.front
    row, count = front.head[deployment], front.waiting_count[deployment]
    front.waiting_count[deployment] = 0
    for _ in range(count):
        after = requests.after[row]
        route(state, row, now_s)
        row = after


@compiled
def evict(state: State, slot: int, now_s: float) -> None:
    """Drop every request of a replica that dies."""
    slots, requests = state.slots, state.requests
    for i in range(slots.running_count[slot]):
        requests.life[slots.running[slot, i]] = DROPPED
    row = slots.head[slot]
    for _ in range(slots.waiting_count[slot]):
        requests.life[row] = DROPPED
        row = requests.after[row]
    slots.running_count[slot] = 0
    slots.waiting_count[slot] = 0
    slots.clock_s[slot] = max(slots.clock_s[slot], now_s)
