"""
The engine of one emulated server: runs the scheduler's steps at the pace of the law, and counts how late they end.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from tidegate.domain.law import PerformanceLaw
from tidegate.sandbox.emulator.blocks import BlockPool
from tidegate.sandbox.emulator.faults import Fault, FaultKind
from tidegate.sandbox.emulator.lag import CATCH_UP_S, Lag
from tidegate.sandbox.emulator.metrics import EngineMetrics
from tidegate.sandbox.emulator.scheduler import Limits, Request, Scheduler
from tidegate.sandbox.emulator.steps import step_s


class EngineDead(Exception):
    """The engine is dead and emits no more tokens."""


@dataclass(slots=True, eq=False)
class Ticket:
    """A request in the engine; `bell` is set when it emits a token or the engine dies."""

    request: Request
    max_tokens: int
    finish_reason: str
    bell: asyncio.Event
    dead: bool = False

    async def news(self) -> int:
        """
        Wait for the next token.

        Returns:
            Tokens emitted so far; several new ones if the caller was slow.

        Raises:
            EngineDead: The engine died or was killed.
        """
        await self.bell.wait()
        self.bell.clear()
        if self.dead:
            raise EngineDead
        return self.request.emitted


class Engine:
    """
    One replica's engine.

    Args:
        law: Its performance law.
        limits: vLLM's limits.
        pool: Its KV cache.
        metrics: Its metrics.
        fault: How it fails.
        lag: Where its lag is counted; servers of one node may share it.
        died: Called with an exit code when a fault kills it.
    """

    def __init__(
        self,
        *,
        law: PerformanceLaw,
        limits: Limits,
        pool: BlockPool,
        metrics: EngineMetrics,
        fault: Fault,
        lag: Lag,
        died: Callable[[int], None],
    ) -> None:
        self._law, self.metrics, self.lag = fault.applied_to(law), metrics, lag
        self.scheduler = Scheduler(limits=limits, pool=pool)
        self._busy_s = 0.0
        self._step_since_s: float | None = None
        self._fault, self._died = fault, died
        self._tickets: dict[Request, Ticket] = {}
        self._work = asyncio.Event()
        self._left = asyncio.Event()
        self.paused = False
        self._task: asyncio.Task[None] | None = None

    @property
    def busy_s(self) -> float:
        """Total time of steps so far, s, including the running one."""
        if self._step_since_s is None:
            return self._busy_s
        return self._busy_s + max(0.0, asyncio.get_running_loop().time() - self._step_since_s)

    @property
    def unfinished(self) -> int:
        """Waiting and running requests."""
        return len(self._tickets)

    @property
    def queued_tokens(self) -> int:
        """Prompt tokens of requests without a first token."""
        return sum(r.prompt_tokens for r in self._tickets if r.emitted == 0)

    def start(self) -> None:
        """Run until `kill`."""
        self._task = asyncio.create_task(self._run())

    def submit(self, request: Request, *, max_tokens: int, finish_reason: str) -> Ticket:
        """Accept a request."""
        ticket = Ticket(request=request, max_tokens=max_tokens, finish_reason=finish_reason, bell=asyncio.Event())
        self._tickets[request] = ticket
        self.scheduler.add(request)
        self._work.set()
        if self._fault.kind is FaultKind.DEAD_AT_FIRST_REQUEST:
            self._died(132)
        return ticket

    def abort(self, request: Request) -> None:
        """Remove a request whose client disconnected. As in vLLM, no metric counts it."""
        if self._tickets.pop(request, None) is not None:
            self.scheduler.remove(request)
            self._left.set()
            self._book_state()

    def abort_all(self) -> None:
        """Abort all requests; their clients' connections are cut."""
        for ticket in list(self._tickets.values()):
            ticket.dead = True
            ticket.bell.set()
            self.abort(ticket.request)

    def pause(self) -> None:
        """Run no steps; requests are still accepted and wait."""
        self.paused = True
        self._book_state()

    def resume(self) -> None:
        """Run steps again."""
        self.paused = False
        self._work.set()

    async def drained(self) -> None:
        """Wait until no request is left."""
        while self._tickets:
            self._left.clear()
            await self._left.wait()

    def kill(self) -> None:
        """Stop at once; waiting clients get `EngineDead`."""
        if self._task is not None:
            self._task.cancel()
        for ticket in self._tickets.values():
            ticket.dead = True
            ticket.bell.set()
        self._tickets.clear()
        self._left.set()

    def stop(self) -> None:
        """Stop at once without notice to clients, as vLLM does at SIGTERM without a shutdown timeout."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        clock = asyncio.get_running_loop().time
        start_s = clock()
        while True:
            step = None if self.paused else self.scheduler.schedule(start_s)
            if step is None or not step.chunks:
                await self._idle(preempted=step.preempted if step else 0)
                start_s = clock()
                continue
            length_s = step_s(self._law, step.load)
            end_s, self._step_since_s = start_s + length_s, start_s
            await asyncio.sleep(max(0.0, end_s - clock()))
            now_s = clock()
            self._busy_s += length_s
            self._step_since_s = None
            self.lag.add(lag_s=max(0.0, now_s - end_s), step_s=length_s)
            self._deliver(self.scheduler.complete(step), now_s)
            self.metrics.stepped(
                step,
                running=len(self.scheduler.running),
                waiting=len(self.scheduler.waiting),
                kv_usage=self.scheduler.pool.usage,
            )
            if self._overloaded():
                self._died(137)
            start_s = max(end_s, now_s - CATCH_UP_S)

    async def _idle(self, *, preempted: int) -> None:
        # A single request that preempted itself is admitted again in the next step. Otherwise nothing fits or nothing
        # waits, and only a new request, an abort or a resume can change that.
        self.metrics.preemptions.inc(preempted)
        if not preempted:
            self._work.clear()
        await self._work.wait()

    def _deliver(self, emitted: list[Request], now_s: float) -> None:
        self.metrics.generation_tokens.inc(len(emitted))
        for request in emitted:
            ticket = self._tickets.get(request)
            if ticket is None:
                continue
            if request.emitted == 1:
                request.first_token_s = now_s
                self.metrics.first_token(request, now_s)
            else:
                self.metrics.itl.observe(now_s - request.last_token_s)
            request.last_token_s = now_s
            if request.done:
                del self._tickets[request]
                self._left.set()
                self.metrics.finished(request, max_tokens=ticket.max_tokens, reason=ticket.finish_reason, now_s=now_s)
            ticket.bell.set()

    def _overloaded(self) -> bool:
        crash = self._fault.kind is FaultKind.CRASH_UNDER_LOAD
        return crash and len(self.scheduler.running) > self._fault.number

    def _book_state(self) -> None:
        self.metrics.state(
            running=0 if self.paused else len(self.scheduler.running),
            waiting=0 if self.paused else len(self.scheduler.waiting),
            kv_usage=self.scheduler.pool.usage,
        )
        self._work.set()
