"""
The interface of the compiled engine: add and remove replicas, advance the time.

In:    traffic, one `Server` per tier, calls in time order.
Out:   times per request and counters per replica.
Rules: deterministic; `check` verifies conservation of requests and Little's law after a run.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import numpy as np

from tidegate.domain.law import PerformanceLaw
from tidegate.sim.engine import route
from tidegate.sim.engine.state import (
    AHEAD,
    AT_GATEWAY,
    BLOCK_TOKENS,
    BLOCKS,
    COUNTERS,
    DRAINING,
    DROPPED,
    FINISHED,
    FREE,
    LAW,
    PRESENT_S,
    READY,
    RUNNING,
    STAYED_S,
    TABLE,
    WAITING,
    Floats,
    Front,
    Ints,
    Requests,
    Slots,
    State,
    Tiers,
)
from tidegate.sim.traces import Trace

# Largest relative difference between the two sides of Little's law that rounding errors may cause.
DUST = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTable:
    """
    Measured parts of a step, s.

    Args:
        linear_tokens, linear_s: Linear layers by tokens in the step; shape (nodes,) each, tokens ascending.
        decode_batch, decode_context, decode_s: Decode attention by batch and mean context; decode_s has shape
            (batches, contexts).
        attention_s: Prompt attention per token of the chunk and token of its prefix, s.
    """

    linear_tokens: tuple[float, ...]
    linear_s: tuple[float, ...]
    decode_batch: tuple[float, ...]
    decode_context: tuple[float, ...]
    decode_s: tuple[tuple[float, ...], ...]
    attention_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """
    The true performance of one replica of a tier.

    Args:
        law: Step times, and the two limits on the batch. With `table`, only the limits are used.
        table: Measured step times, instead of the law's.
        token_budget: vLLM's max-num-batched-tokens.
        overhead_s: HTTP, tokenizer and engine loop, s: added to the time of the first token and to the finish time.
        watts_idle, watts_full: Lower and upper end of the replica's power draw, W.
        watts_knee: log2 of the batch at which the draw is halfway between them.
        context_max: vLLM's max-model-len: prompt and answer together, tokens; infinite if not stated.
    """

    law: PerformanceLaw
    table: StepTable | None = None
    token_budget: int = 2048
    overhead_s: float = 0.010
    watts_idle: float = 300.0
    watts_full: float = 600.0
    watts_knee: float = 4.2
    context_max: float = inf


class Fleet:
    """
    The replicas of all tiers of all deployments, and their traffic.

    Args:
        traffic: One trace per deployment, all on the same clock.
        servers: One per tier; a replica refers to its tier by index.
        ttft_edges, gap_edges: Upper bounds of the histogram buckets, s, without infinity.
        slots: Initial number of replica slots; doubled when more replicas exist at once.
        random_router: Route at random instead of to the replica with the fewest outstanding requests.
    """

    def __init__(
        self,
        traffic: Sequence[Trace],
        servers: Sequence[Server],
        *,
        ttft_edges: Sequence[float],
        gap_edges: Sequence[float],
        slots: int = 256,
        random_router: bool = False,
        seed: int = 0,
    ) -> None:
        sequences = max(int(s.law.running_max) for s in servers)
        self.state = State(
            requests=_requests(traffic),
            slots=_slots(slots, sequences, len(ttft_edges), len(gap_edges)),
            tiers=_tiers(servers),
            front=_front(len(traffic), slots, sequences, ttft_edges, gap_edges),
        )
        self.state.front.cursor[:] = (0, int(random_router), seed % 2**31)
        self.time_s = 0.0

    def advance(self, until_s: float) -> None:
        """Simulate up to `until_s`."""
        route.advance(self.state, until_s)
        self.time_s = until_s

    def open(self, *, deployment: int, tier: int) -> int:
        """A replica becomes ready now, and the gateway's queue is routed. Returns its slot."""
        if not (self.state.slots.life == FREE).any():
            self.state = _grown(self.state)
        slots = self.state.slots
        slot = int(np.argmax(slots.life == FREE))
        slots.life[slot], slots.tier[slot], slots.deployment[slot] = READY, tier, deployment
        slots.clock_s[slot] = slots.quiet_s[slot] = self.time_s
        slots.running_count[slot] = slots.waiting_count[slot] = 0
        slots.blocks_free[slot] = self.state.tiers.scalars[tier, BLOCKS]
        for part in (slots.counters, slots.ttft, slots.gap, slots.request_gap):
            part[slot] = 0.0
        self._refresh(deployment)
        route.flush(self.state, deployment, self.time_s)
        return slot

    def drain(self, slot: int) -> None:
        """Route no new requests to this replica; it goes on serving those that it has."""
        self.state.slots.life[slot] = DRAINING
        self._refresh(int(self.state.slots.deployment[slot]))

    def close(self, slot: int) -> None:
        """Remove the replica now; the requests it still has are lost."""
        slots = self.state.slots
        slots.life[slot] = FREE
        self._refresh(int(slots.deployment[slot]))
        route.evict(self.state, slot, self.time_s)

    def load(self, slot: int) -> int:
        """Running and waiting requests of a replica."""
        return int(self.state.slots.running_count[slot] + self.state.slots.waiting_count[slot])

    def tally(self) -> dict[str, int]:
        """Number of requests by state."""
        life = self.state.requests.life
        names = {
            "ahead": AHEAD, "at_gateway": AT_GATEWAY, "waiting": WAITING,
            "running": RUNNING, "finished": FINISHED, "dropped": DROPPED,
        }  # fmt: skip
        return {name: int((life == code).sum()) for name, code in names.items()}

    def check(self) -> None:
        """
        Check conservation of requests and Little's law; an AssertionError means that the engine is wrong.

        Every request that arrived is finished, in flight or dropped. For each live replica, the time integral of the
        requests present equals the time stayed by those that left plus the time stayed so far by the others.
        """
        state, slots = self.state, self.state.slots
        count = self.tally()
        arrived = int(state.front.arrived.sum())
        seen = sum(count[n] for n in ("at_gateway", "waiting", "running", "finished", "dropped"))
        assert arrived == seen, f"{arrived} arrived, {seen} accounted for"
        alive = [int(s) for s in np.flatnonzero(slots.life != FREE)]
        held = sum(self.load(s) for s in alive) + int(state.front.waiting_count.sum())
        assert held == count["at_gateway"] + count["waiting"] + count["running"], "queues and lives disagree"
        for slot in alive:
            present, stayed = slots.counters[slot, PRESENT_S], slots.counters[slot, STAYED_S]
            so_far = sum(slots.clock_s[slot] - state.requests.entered_s[row] for row in self.held(slot))
            assert abs(present - stayed - so_far) <= DUST * max(1.0, present), f"Little's law fails on slot {slot}"

    def held(self, slot: int) -> list[int]:
        """Rows of a replica's requests, running ones first."""
        slots, requests = self.state.slots, self.state.requests
        rows = [int(r) for r in slots.running[slot, : slots.running_count[slot]]]
        row = int(slots.head[slot])
        for _ in range(int(slots.waiting_count[slot])):
            rows.append(row)
            row = int(requests.after[row])
        return rows

    def _refresh(self, deployment: int) -> None:
        slots, front = self.state.slots, self.state.front
        ready = np.flatnonzero((slots.life == READY) & (slots.deployment == deployment))
        front.candidates[deployment, : len(ready)] = ready
        front.candidate_count[deployment] = len(ready)


def _requests(traffic: Sequence[Trace]) -> Requests:
    arrival = np.concatenate([t.arrival_s for t in traffic]).astype(np.float64)
    order = np.argsort(arrival, kind="stable")
    owner = np.concatenate([np.full(len(t.arrival_s), i) for i, t in enumerate(traffic)])

    def column(name: str) -> Ints:
        joined = np.concatenate([getattr(t, name) for t in traffic])
        return np.ascontiguousarray(joined[order].astype(np.int64))

    count = len(arrival)
    whole = [np.zeros(count, dtype=np.int64) for _ in range(5)]
    times = [np.full(count, np.nan) for _ in range(4)]
    return Requests(
        arrival_s=arrival[order], prompt=np.maximum(column("prompt_tokens"), 1),
        output=np.maximum(column("output_tokens"), 1), hit=column("hit_tokens"),
        deployment=owner[order].astype(np.int64), first_s=times[0], finish_s=times[1], tier=whole[0] - 1,
        life=whole[1], done=whole[2], computed=whole[3], after=whole[4] - 1, token_s=times[2], entered_s=times[3],
    )  # fmt: skip


def _slots(count: int, sequences: int, ttft: int, gap: int) -> Slots:
    def ints() -> Ints:
        return np.zeros(count, dtype=np.int64)

    return Slots(
        life=ints(), tier=ints(), deployment=ints(), clock_s=np.zeros(count), quiet_s=np.zeros(count),
        running=np.zeros((count, sequences), dtype=np.int64), running_count=ints(), head=ints(), tail=ints(),
        waiting_count=ints(), blocks_free=ints(), counters=np.zeros((count, COUNTERS)),
        ttft=np.zeros((count, ttft + 1)), gap=np.zeros((count, gap + 1)), request_gap=np.zeros((count, gap + 1)),
    )  # fmt: skip


def _grown(state: State) -> State:
    """The state with twice as many slots; existing ones keep their index."""
    count = len(state.slots.life)
    slots = Slots(*(np.concatenate([part, np.zeros_like(part)]) for part in state.slots))
    candidates = np.pad(state.front.candidates, ((0, 0), (0, count)))
    return state._replace(slots=slots, front=state.front._replace(candidates=candidates))


def _tiers(servers: Sequence[Server]) -> Tiers:
    rows = [_scalars(s) for s in servers]
    tables = [s.table for s in servers if s.table is not None]
    assert len({(t.linear_tokens, t.decode_batch, t.decode_context) for t in tables}) <= 1, "tables on different axes"
    axes = tables[0] if tables else StepTable(
        linear_tokens=(0.0, 1.0), linear_s=(0.0, 0.0), decode_batch=(0.0, 1.0), decode_context=(0.0, 1.0),
        decode_s=((0.0, 0.0), (0.0, 0.0)), attention_s=0.0,
    )  # fmt: skip
    each = [s.table or axes for s in servers]
    return Tiers(
        scalars=np.array(rows), linear_tokens=np.array(axes.linear_tokens, dtype=float),
        linear_s=np.array([t.linear_s for t in each]), decode_batch=np.array(axes.decode_batch, dtype=float),
        decode_context=np.array(axes.decode_context, dtype=float), decode_s=np.array([t.decode_s for t in each]),
    )  # fmt: skip


def _scalars(server: Server) -> list[float]:
    law, table = server.law, server.table
    return [
        LAW if table is None else TABLE, law.a_s, law.b_s, law.c_s, law.p0_s, law.p1_s, server.overhead_s,
        0.0 if table is None else table.attention_s, float(server.token_budget), float(int(law.running_max)),
        float(int(law.kv_cache_tokens) // BLOCK_TOKENS), server.watts_idle, server.watts_full, server.watts_knee,
        server.context_max,
    ]  # fmt: skip


def _front(deployments: int, slots: int, sequences: int, ttft: Sequence[float], gap: Sequence[float]) -> Front:
    def ints(size: int) -> Ints:
        return np.zeros(size, dtype=np.int64)

    def edges(values: Sequence[float]) -> Floats:
        return np.array(values, dtype=np.float64)

    return Front(
        head=ints(deployments), tail=ints(deployments), waiting_count=ints(deployments), arrived=ints(deployments),
        candidates=np.zeros((deployments, slots), dtype=np.int64), candidate_count=ints(deployments),
        cursor=ints(3), ttft_edges=edges(ttft), gap_edges=edges(gap), scratch=ints(sequences),
    )  # fmt: skip
