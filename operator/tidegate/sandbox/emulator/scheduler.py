"""
vLLM V1's scheduler, step by step: how many tokens of each request are computed.

    1. There is a budget of tokens per step (max-num-batched-tokens).
    2. Running requests first, in order of admission: the next token of an answer, or the next chunk of a prompt.
    3. Then waiting requests, first come first served, as long as the budget, max-num-seqs and free blocks for their
       whole prompt allow.
    4. If no block is free, the request admitted last loses its blocks and goes back to the head of the queue; its
       prompt and its answer so far are recomputed (recompute preemption). A step that preempts admits no request.

Pure: no clock and no event loop. Times are arguments, in seconds of one clock.

Source: the order of decisions is that of vllm/v1/core/sched/scheduler.py.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from tidegate.sandbox.emulator.blocks import BlockPool
from tidegate.sandbox.emulator.steps import StepLoad


@dataclass(slots=True, kw_only=True, eq=False)
class Request:
    """
    One request in the engine, with its mutable state.

    Args:
        prompt_tokens: Tokens of the prompt, >= 1.
        output_tokens: Tokens that the answer will have, >= 1.
        contents: One number per full block of the prompt; equal numbers mean equal prompts up to the end of that block.
        arrived_s: When the server accepted it.
        emitted: Tokens of the answer so far.
        computed: Tokens whose KV is in memory.
        cached, prefill_computed: Prompt tokens found in the prefix cache, and the others.
        target: Tokens to compute before the next token is emitted.
        held, anonymous: Shared contents that it holds, and number of its other blocks.
    """

    prompt_tokens: int
    output_tokens: int
    contents: Sequence[int] = ()
    arrived_s: float
    emitted: int = 0
    computed: int = 0
    cached: int = 0
    prefill_computed: int = 0
    target: int = 0
    held: list[int] = field(default_factory=list)
    anonymous: int = 0
    preemptions: int = 0
    first_scheduled_s: float | None = None
    first_token_s: float | None = None
    last_token_s: float = 0.0

    def __post_init__(self) -> None:
        self.target = self.prompt_tokens

    @property
    def done(self) -> bool:
        """Whether the last token was emitted."""
        return self.emitted >= self.output_tokens

    @property
    def decoding(self) -> bool:
        """Whether exactly one token must be computed before the next one is emitted."""
        return self.emitted > 0 and self.target - self.computed == 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """vLLM's limits: tokens per step, concurrent requests, tokens per block."""

    batched_tokens: int = 8192
    seqs: int = 256
    block_tokens: int = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step: tokens to compute per request, its load, and the number of preemptions."""

    chunks: Sequence[tuple[Request, int]]
    load: StepLoad
    preempted: int

    @property
    def tokens(self) -> int:
        """Tokens computed in the step."""
        return self.load.decodes + self.load.prefill_tokens


class Scheduler:
    """Waiting and running requests of one replica, and the blocks they hold."""

    def __init__(self, *, limits: Limits, pool: BlockPool) -> None:
        self.limits, self.pool = limits, pool
        self.waiting: deque[Request] = deque()
        self.running: list[Request] = []

    def add(self, request: Request) -> None:
        """Queue a request."""
        self.waiting.append(request)

    def remove(self, request: Request) -> None:
        """Remove a request whose client disconnected, if it is known."""
        if request in self.waiting:
            self.waiting.remove(request)
        elif request in self.running:
            self.running.remove(request)
            self._free(request)

    def schedule(self, now_s: float) -> Step:
        """Decide the next step; without chunks if nothing can be computed."""
        chunks: list[tuple[Request, int]] = []
        budget, preempted = self._serve_running(chunks, self.limits.batched_tokens)
        if not preempted:
            self._admit(chunks, budget, now_s)
        decodes = [r for r, _ in chunks if r.decoding]
        load = StepLoad(
            decodes=len(decodes),
            context_tokens=sum(r.computed for r in decodes),
            prefill_tokens=sum(count for r, count in chunks if not r.decoding),
        )
        return Step(chunks=chunks, load=load, preempted=preempted)

    def complete(self, step: Step) -> list[Request]:
        """
        Apply what the step computed.

        Returns:
            The requests that emitted a token, in the order of the step. Finished ones have left the scheduler. Requests
            that were removed during the step are not included.
        """
        emitted = []
        for request, count in step.chunks:
            if request not in self.running:
                continue
            request.computed += count
            self._publish(request)
            if request.computed < request.target:
                continue
            request.emitted += 1
            request.target += 1
            emitted.append(request)
            if request.done:
                self.running.remove(request)
                self._free(request)
        return emitted

    def _serve_running(self, chunks: list[tuple[Request, int]], budget: int) -> tuple[int, int]:
        preempted, index = 0, 0
        while index < len(self.running) and budget > 0:
            request = self.running[index]
            count = min(request.target - request.computed, budget)
            while not self._grow(request, count):
                preempted += 1
                victim = self._preempt_last()
                if victim is request:
                    return budget, preempted
            chunks.append((request, count))
            budget -= count
            index += 1
        return budget, preempted

    def _admit(self, chunks: list[tuple[Request, int]], budget: int, now_s: float) -> None:
        while self.waiting and budget > 0 and len(self.running) < self.limits.seqs:
            request = self.waiting[0]
            hits = self._usable_prefix(request)
            cached = len(hits) * self.limits.block_tokens
            count = min(request.target - cached, budget)
            # The whole prompt must fit, not just its first chunk (vLLM's `scheduler_reserve_full_isl`).
            if self._blocks_for(request.target) - len(hits) + self.pool.idle_among(hits) > self.pool.free:
                return
            self.waiting.popleft()
            self.pool.hold_cached(hits)
            request.held, request.computed = list(hits), cached
            if request.first_scheduled_s is None:
                request.first_scheduled_s, request.cached = now_s, cached
                request.prefill_computed = request.prompt_tokens - cached
            grown = self._grow(request, count)
            assert grown, "room was checked just above"
            self.running.append(request)
            chunks.append((request, count))
            budget -= count

    def _usable_prefix(self, request: Request) -> Sequence[int]:
        """Cached blocks of the prompt; at least one token is left to compute, because its output is the next token."""
        found = self.pool.cached_prefix(request.contents)
        return request.contents[: min(found, (request.target - 1) // self.limits.block_tokens)]

    def _blocks_for(self, tokens: int) -> int:
        return -(-tokens // self.limits.block_tokens)

    def _grow(self, request: Request, count: int) -> bool:
        missing = self._blocks_for(request.computed + count) - len(request.held) - request.anonymous
        if missing <= 0:
            return True
        if not self.pool.take(missing):
            return False
        request.anonymous += missing
        return True

    def _publish(self, request: Request) -> None:
        full = min(request.computed // self.limits.block_tokens, len(request.contents))
        # Held contents are a prefix, so sharing ends at the first block that another request has published.
        while len(request.held) < full and self.pool.publish(request.contents[len(request.held)]):
            request.held.append(request.contents[len(request.held)])
            request.anonymous -= 1

    def _preempt_last(self) -> Request:
        victim = self.running.pop()
        self._free(victim)
        victim.computed = 0
        victim.preemptions += 1
        self.waiting.appendleft(victim)
        return victim

    def _free(self, request: Request) -> None:
        self.pool.release(contents=request.held, anonymous=request.anonymous)
        request.held, request.anonymous = [], 0
