"""
Advance one replica: vLLM V1's scheduler, step by step.

A step schedules running requests first, in order of admission (one decode token each, or the next chunk of the
prompt), as long as the token budget lasts. Then it admits waiting requests, first come first served, as long as batch
size and token budget allow and there are free KV blocks for the whole prompt (as vLLM does since pull request 37307).
A request that gets no block preempts the last running one, whose KV is discarded and recomputed later. A step that
preempts admits no request.

Stretches in which every running request decodes and none can be admitted are computed in one closed-form jump: their
step times are an arithmetic progression.

Source: vLLM V1 `vllm/v1/core/sched/scheduler.py` (behavior); LLMServingSim and Vidur for which effects matter.
"""

from math import ceil, sqrt

from tidegate.sim.engine import steptime
from tidegate.sim.engine.jit import compiled
from tidegate.sim.engine.state import (
    BLOCK_TOKENS,
    BLOCKS,
    BUSY_JOULES,
    BUSY_S,
    COMPLETED,
    FINISHED,
    GAP_SUM,
    HIT_TOKENS,
    OUTPUT_DONE,
    OUTPUT_TOKENS,
    OVERHEAD,
    PREEMPTIONS,
    PRESENT_S,
    PROMPT_DONE,
    PROMPT_TOKENS,
    RUNNING,
    SEQUENCES_MAX,
    STAYED_S,
    TOKEN_BUDGET,
    TTFT_SUM,
    WAITING,
    Floats,
    State,
)


@compiled
def blocks_of(tokens: int) -> int:
    """Number of KV blocks that `tokens` need."""
    return (tokens + BLOCK_TOKENS - 1) // BLOCK_TOKENS


@compiled
def bucket(edges: Floats, value: float) -> int:
    """Index of the first edge >= value; len(edges) if there is none."""
    low, high = 0, len(edges)
    while low < high:
        middle = (low + high) // 2
        if edges[middle] < value:
            low = middle + 1
        else:
            high = middle
    return low


@compiled
def advance_replica(state: State, slot: int, until_s: float) -> None:
    """Run every step that begins before `until_s`; the last one may end after it."""
    slots = state.slots
    while slots.clock_s[slot] < until_s and slots.running_count[slot] + slots.waiting_count[slot] > 0:
        if not jump(state, slot, until_s):
            step(state, slot)
    slots.quiet_s[slot] = quiet_until(state, slot)


@compiled
def quiet_until(state: State, slot: int) -> float:
    """
    Time before which no step begins in which a request can finish; until then the router need not advance the replica.

    Every step yields at most one token per request and takes at least `steptime.least_s`.
    """
    slots, requests = state.slots, state.requests
    count = slots.running_count[slot]
    if count == 0:
        return float(slots.clock_s[slot] if slots.waiting_count[slot] > 0 else 1e300)
    steps = 1 << 40
    for i in range(count):
        row = slots.running[slot, i]
        steps = min(steps, requests.output[row] - requests.done[row])
    least = steptime.least_s(state.tiers, slots.tier[slot])
    # A step takes effect as a whole when it begins, so what counts is when the last one can begin.
    return float(slots.clock_s[slot] + least * (steps - 1) * (1.0 - 1e-9))


@compiled
def jump(state: State, slot: int, until_s: float) -> bool:
    """Run a stretch of decode-only steps at once; False if the next step is not one."""
    slots, requests = state.slots, state.requests
    count = slots.running_count[slot]
    if count == 0 or can_admit(state, slot):
        return False
    steps, context = 1 << 40, 0
    for i in range(count):
        row = slots.running[slot, i]
        if requests.prompt[row] + requests.done[row] - requests.computed[row] != 1 or requests.done[row] == 0:
            return False
        steps = min(steps, requests.output[row] - requests.done[row])
        context += requests.computed[row] + 1
    tier = slots.tier[slot]
    first, slope, limit = steptime.step_line(state.tiers, tier, count, float(context))
    growth = slope * count
    steps = min(steps, steps_until(first, growth, until_s - slots.clock_s[slot]))
    steps = min(steps, max(1, int((limit - context) / count)))
    if not reserve(state, slot, steps):
        return False
    total = steps * first + growth * steps * (steps - 1) / 2
    decode(state, slot, steps, total)
    return True


@compiled
def steps_until(first: float, growth: float, span_s: float) -> int:
    """Smallest number of steps that cover the span, if each takes `growth` longer than the previous one; at least 1."""
    if growth <= 1e-15:
        return max(1, ceil(span_s / first))
    lead = first / growth - 0.5
    return max(1, ceil(sqrt(lead * lead + 2.0 * span_s / growth) - lead))


@compiled
def reserve(state: State, slot: int, steps: int) -> bool:
    """Allocate the blocks for `steps` decode steps of all running requests; False if too few are free, then none."""
    slots, requests = state.slots, state.requests
    need = 0
    for i in range(slots.running_count[slot]):
        computed = requests.computed[slots.running[slot, i]]
        need += blocks_of(computed + steps) - blocks_of(computed)
    if need > slots.blocks_free[slot]:
        return False
    slots.blocks_free[slot] -= need
    return True


@compiled
def decode(state: State, slot: int, steps: int, total_s: float) -> None:
    """Apply `steps` decode steps of every running request, which take `total_s` in total."""
    slots, requests = state.slots, state.requests
    count = slots.running_count[slot]
    spend(state, slot, total_s)
    end = slots.clock_s[slot]
    each = total_s / steps
    counters = slots.counters[slot]
    counters[OUTPUT_TOKENS] += steps * count
    edge = bucket(state.front.gap_edges, each)
    late = 0.0
    for i in range(count):
        row = slots.running[slot, i]
        late += end - total_s - requests.token_s[row]
        requests.computed[row] += steps
        requests.done[row] += steps
        requests.token_s[row] = end
    counters[GAP_SUM] += total_s * count + late
    slots.gap[slot, edge] += steps * count
    retire(state, slot)


@compiled
def spend(state: State, slot: int, seconds: float) -> None:
    """Advance the replica's clock, and count busy time, energy and the presence of requests."""
    slots = state.slots
    counters = slots.counters[slot]
    counters[BUSY_S] += seconds
    counters[BUSY_JOULES] += seconds * steptime.watts(state.tiers, slots.tier[slot], slots.running_count[slot])
    counters[PRESENT_S] += seconds * (slots.running_count[slot] + slots.waiting_count[slot])
    slots.clock_s[slot] += seconds


@compiled
def can_admit(state: State, slot: int) -> bool:
    """Whether the head of the queue would be admitted in the next step if all running requests decode."""
    slots, requests = state.slots, state.requests
    if slots.waiting_count[slot] == 0:
        return False
    row = state.tiers.scalars[slots.tier[slot]]
    count = slots.running_count[slot]
    if count >= row[SEQUENCES_MAX] or count >= row[TOKEN_BUDGET]:
        return False
    head = slots.head[slot]
    return bool(blocks_of(requests.prompt[head] + requests.done[head]) <= slots.blocks_free[slot])


@compiled
def step(state: State, slot: int) -> None:
    """One step of any kind."""
    slots = state.slots
    tier = slots.tier[slot]
    budget = int(state.tiers.scalars[tier, TOKEN_BUDGET])
    budget, preempted = schedule_running(state, slot, budget)
    if not preempted:
        admit(state, slot, budget)
    decodes, context, prompt_tokens, attention = 0, 0, 0, 0.0
    requests, scratch = state.requests, state.front.scratch
    for i in range(slots.running_count[slot]):
        row, chunk = slots.running[slot, i], scratch[i]
        if chunk == 1 and requests.done[row] > 0 and left(state, row) == 1:
            decodes += 1
            context += requests.computed[row] + 1
        elif chunk > 0:
            prompt_tokens += chunk
            attention += chunk * (requests.computed[row] + 0.5 * chunk)
    spend(state, slot, steptime.step_s(state.tiers, tier, decodes, float(context), prompt_tokens, attention))
    for i in range(slots.running_count[slot]):
        if scratch[i] > 0:
            emit(state, slot, slots.running[slot, i], scratch[i])
    retire(state, slot)


@compiled
def left(state: State, row: int) -> int:
    """Tokens of a request, prompt and answer so far, whose KV is not computed yet."""
    requests = state.requests
    return int(requests.prompt[row] + requests.done[row] - requests.computed[row])


@compiled
def schedule_running(state: State, slot: int, budget: int) -> tuple[int, bool]:
    """Schedule the running requests within the budget, preempting the last one while blocks are short."""
    slots, requests, scratch = state.slots, state.requests, state.front.scratch
    i, preempted = 0, False
    while i < slots.running_count[slot]:
        row = slots.running[slot, i]
        chunk = min(left(state, row), budget)
        need = blocks_of(requests.computed[row] + chunk) - blocks_of(requests.computed[row])
        while need > slots.blocks_free[slot] and slots.running_count[slot] > i:
            preempt_last(state, slot)
            preempted = True
        if slots.running_count[slot] <= i:
            break
        slots.blocks_free[slot] -= need
        scratch[i] = chunk
        budget -= chunk
        i += 1
    return budget, preempted


@compiled
def preempt_last(state: State, slot: int) -> None:
    """Move the last running request back to the head of the queue and discard its KV."""
    slots, requests = state.slots, state.requests
    slots.running_count[slot] -= 1
    row = slots.running[slot, slots.running_count[slot]]
    slots.blocks_free[slot] += blocks_of(requests.computed[row])
    requests.computed[row] = 0
    requests.life[row] = WAITING
    requests.after[row] = slots.head[slot]
    slots.head[slot] = row
    if slots.waiting_count[slot] == 0:
        slots.tail[slot] = row
    slots.waiting_count[slot] += 1
    slots.counters[slot, PREEMPTIONS] += 1


@compiled
def admit(state: State, slot: int, budget: int) -> None:
    """Admit waiting requests, first come first served, until batch size, token budget or blocks are exhausted."""
    slots, requests, scratch = state.slots, state.requests, state.front.scratch
    most = int(state.tiers.scalars[slots.tier[slot], SEQUENCES_MAX])
    while slots.waiting_count[slot] > 0 and budget > 0 and slots.running_count[slot] < most:
        row = slots.head[slot]
        whole = requests.prompt[row] + requests.done[row]
        # It allocates only the blocks of its first chunk, but is admitted only if the whole prompt would fit.
        if blocks_of(whole) > slots.blocks_free[slot]:
            break
        start = min(requests.hit[row], whole - 1)
        chunk = min(whole - start, budget)
        slots.blocks_free[slot] -= blocks_of(start + chunk)
        requests.computed[row] = start
        requests.life[row] = RUNNING
        slots.counters[slot, HIT_TOKENS] += start
        slots.head[slot] = requests.after[row]
        slots.waiting_count[slot] -= 1
        slots.running[slot, slots.running_count[slot]] = row
        scratch[slots.running_count[slot]] = chunk
        slots.running_count[slot] += 1
        budget -= chunk


@compiled
def emit(state: State, slot: int, row: int, chunk: int) -> None:
    """Apply the chunk that a request computed, and emit a token if nothing is left to compute."""
    requests, slots = state.requests, state.slots
    was_prompt = requests.done[row] == 0
    requests.computed[row] += chunk
    counters = slots.counters[slot]
    if was_prompt:
        counters[PROMPT_TOKENS] += chunk
    if left(state, row) > 0:
        return
    now = slots.clock_s[slot]
    requests.done[row] += 1
    counters[OUTPUT_TOKENS] += 1
    if requests.done[row] == 1:
        requests.first_s[row] = now + state.tiers.scalars[slots.tier[slot], OVERHEAD]
        ttft = requests.first_s[row] - requests.arrival_s[row]
        counters[TTFT_SUM] += ttft
        slots.ttft[slot, bucket(state.front.ttft_edges, ttft)] += 1
    else:
        gap = now - requests.token_s[row]
        counters[GAP_SUM] += gap
        slots.gap[slot, bucket(state.front.gap_edges, gap)] += 1
    requests.token_s[row] = now


@compiled
def retire(state: State, slot: int) -> None:
    """Remove finished requests from the batch, keep the order of the others, and free their blocks."""
    slots, requests = state.slots, state.requests
    kept = 0
    for i in range(slots.running_count[slot]):
        row = slots.running[slot, i]
        if requests.done[row] < requests.output[row]:
            slots.running[slot, kept] = row
            kept += 1
            continue
        requests.life[row] = FINISHED
        overhead = state.tiers.scalars[slots.tier[slot], OVERHEAD]
        requests.finish_s[row] = slots.clock_s[slot] + overhead
        slots.blocks_free[slot] += blocks_of(requests.computed[row])
        counters = slots.counters[slot]
        counters[COMPLETED] += 1
        counters[PROMPT_DONE] += requests.prompt[row]
        counters[OUTPUT_DONE] += requests.output[row]
        counters[STAYED_S] += slots.clock_s[slot] - requests.entered_s[row]
        if requests.output[row] > 1:
            mean = (requests.finish_s[row] - requests.first_s[row]) / (requests.output[row] - 1)
            slots.request_gap[slot, bucket(state.front.gap_edges, mean)] += 1
    slots.running_count[slot] = kept


@compiled
def blocks_total(state: State, slot: int) -> int:
    """Total number of KV blocks of a replica."""
    return int(state.tiers.scalars[state.slots.tier[slot], BLOCKS])
