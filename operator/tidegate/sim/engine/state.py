"""
The fleet as arrays: one row per request, per replica slot, per tier.

Tuples of arrays instead of classes, because compiled code reads them; `fleet.Fleet` is the interface to use.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

BLOCK_TOKENS = 16  # vLLM's default block_size

# Life of a request.
AHEAD, AT_GATEWAY, WAITING, RUNNING, FINISHED, DROPPED = range(6)

# Life of a replica slot.
FREE, READY, DRAINING = range(3)

# Counters of a replica, all cumulative like Prometheus counters.
ARRIVED, COMPLETED, PROMPT_TOKENS, OUTPUT_TOKENS, PREEMPTIONS, HIT_TOKENS = range(6)
TTFT_SUM, GAP_SUM, BUSY_S, BUSY_JOULES, PROMPT_DONE, OUTPUT_DONE = range(6, 12)
# The two sides of Little's law: integral of the requests present over time, and total time stayed by finished requests.
PRESENT_S, STAYED_S = 12, 13
COUNTERS = 14

# Columns of a tier's row in `Tiers.scalars`.
KIND, STEP_BASE, PER_DECODE, PER_CONTEXT, PROMPT_BASE, PER_PROMPT_TOKEN, OVERHEAD, ATTENTION = range(8)
TOKEN_BUDGET, SEQUENCES_MAX, BLOCKS, WATTS_IDLE, WATTS_FULL, WATTS_KNEE, CONTEXT_MAX = range(8, 15)
LAW, TABLE = 0.0, 1.0


class Requests(NamedTuple):
    """
    Traffic, sorted by arrival; shape (requests,) each.

    `done` = answer tokens emitted; `computed` = tokens whose KV is in memory; `after` = row of the next request in the
    same queue; `token_s` = time of the last token; `entered_s` = time it came to its replica.
    """

    arrival_s: Floats
    prompt: Ints
    output: Ints
    hit: Ints
    deployment: Ints
    first_s: Floats
    finish_s: Floats
    tier: Ints
    life: Ints
    done: Ints
    computed: Ints
    after: Ints
    token_s: Floats
    entered_s: Floats


class Slots(NamedTuple):
    """
    Replica slots; shape (slots,) unless stated.

    `clock_s` = end of the last step, which may be later than the simulated time; `quiet_s` = time before which no step
    begins in which a request can finish; `running` (slots, sequences) holds request rows in order of admission;
    `head` and `tail` are the ends of the waiting queue; the three histograms (slots, edges + 1) hold counts per bucket,
    not cumulative.
    """

    life: Ints
    tier: Ints
    deployment: Ints
    clock_s: Floats
    quiet_s: Floats
    running: Ints
    running_count: Ints
    head: Ints
    tail: Ints
    waiting_count: Ints
    blocks_free: Ints
    counters: Floats
    ttft: Floats
    gap: Floats
    request_gap: Floats


class Tiers(NamedTuple):
    """
    Step times per tier: `scalars` (tiers, columns), and the tables of tiers of kind TABLE.

    `linear_s` (tiers, nodes) over `linear_tokens`; `decode_s` (tiers, batches, contexts) over its two axes.
    """

    scalars: Floats
    linear_tokens: Floats
    linear_s: Floats
    decode_batch: Floats
    decode_context: Floats
    decode_s: Floats


class Front(NamedTuple):
    """
    What stands in front of the replicas: the gateway's queue per deployment, and the router's state.

    `candidates` (deployments, slots) lists the ready slots, `candidate_count` (deployments,) says how many there are.
    """

    head: Ints
    tail: Ints
    waiting_count: Ints
    arrived: Ints
    candidates: Ints
    candidate_count: Ints
    cursor: Ints  # [row of the next arrival; router: 0 least outstanding, 1 random; state of the router's generator]
    ttft_edges: Floats
    gap_edges: Floats
    scratch: Ints


class State(NamedTuple):
    """Everything the compiled engine reads and writes."""

    requests: Requests
    slots: Slots
    tiers: Tiers
    front: Front
