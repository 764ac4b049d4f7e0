"""
One emulated vLLM server: HTTP on a loopback address, an engine, and its shutdown.

Behavior that causes trouble for operators is emulated as well: a rejected stream is HTTP 200 with an error event; a
draining server reports healthy but answers new requests with 500; SIGTERM without a shutdown timeout leaves open
streams hanging; a sleeping server accepts requests but its metrics do not show them.
"""

import asyncio
import logging
from dataclasses import dataclass, field

from aiohttp import web

from tidegate.domain.law import PerformanceLaw
from tidegate.errors import SpecError
from tidegate.sandbox.emulator.args import Options
from tidegate.sandbox.emulator.blocks import BlockPool
from tidegate.sandbox.emulator.cache_info import cache_info
from tidegate.sandbox.emulator.engine import Engine
from tidegate.sandbox.emulator.faults import Fault, FaultKind
from tidegate.sandbox.emulator.http_metrics import HttpMetrics
from tidegate.sandbox.emulator.lag import Lag
from tidegate.sandbox.emulator.metrics import EngineMetrics
from tidegate.sandbox.emulator.routes import Routes
from tidegate.sandbox.emulator.scheduler import Limits

log = logging.getLogger(__name__)

# Environment variable that sets a server's law: the fields of a `PerformanceLaw` as JSON.
LAW_VARIABLE = "TIDEGATE_LAW"
# Default of the longest request, tokens, if memory allows it.
MODEL_LEN = 32768
# An idle vLLM process exits about this long after SIGTERM.
IDLE_EXIT_S = 1.5
# How long a server whose engine died continues to answer /health with 503.
DEAD_LINGER_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSpec:
    """
    A server to run.

    Args:
        options: vLLM's options.
        law: The law of its hardware.
        address: Where it listens.
        fault: How it fails.
        lag: Where its lag is counted.
    """

    options: Options
    law: PerformanceLaw
    address: str
    fault: Fault = field(default_factory=Fault)
    lag: Lag = field(default_factory=Lag)


class EmulatedServer:
    """
    A vLLM server.

    `start` opens the port, `terminate` is SIGTERM, `kill` is SIGKILL, `exited` gives the exit code when it ends.

    Raises:
        SpecError: The longest request does not fit into the KV cache, in which case vLLM does not start.
    """

    def __init__(self, spec: ServerSpec) -> None:
        options = spec.options
        self.spec = spec
        blocks = options.blocks_override or max(2, int(spec.law.kv_cache_tokens) // options.block_tokens)
        room = (blocks - 1) * options.block_tokens
        if options.model_len is not None and options.model_len > room:
            raise SpecError(
                field="--max-model-len",
                value=options.model_len,
                allowed=f"must be at most {room}, the size of the KV cache",
            )
        self.model_len = options.model_len or min(MODEL_LEN, room)
        self.metrics = EngineMetrics(
            model_name=options.served_names[0],
            model_len=self.model_len,
            buckets=options.buckets,
            cache_info=cache_info(options, blocks=blocks, model_len=self.model_len),
        )
        self.http_metrics = HttpMetrics(self.metrics.registry)
        self.engine = Engine(
            law=spec.law,
            limits=Limits(
                batched_tokens=options.batched_tokens,
                seqs=options.seqs_within(spec.law.running_max),
                block_tokens=options.block_tokens,
            ),
            pool=BlockPool(blocks=blocks, caching=options.prefix_caching),
            metrics=self.metrics,
            fault=spec.fault,
            lag=spec.lag,
            died=self._engine_died,
        )
        self.draining = self.dead = False
        self.sleep_level: int | None = None
        self.exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._runner: web.AppRunner | None = None
        self._goodbyes: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Open the port; with `never-ready` it stays closed."""
        for argument in self.spec.options.ignored:
            log.warning("%s: %s has no effect on an emulated server", self.spec.address, argument)
        self.engine.start()
        if self.spec.fault.kind is FaultKind.NEVER_READY:
            return
        self._runner = web.AppRunner(
            Routes(self).app(), access_log=None, shutdown_timeout=0.1, handler_cancellation=True
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, self.spec.address, self.spec.options.port, reuse_address=True).start()

    async def terminate(self) -> None:
        """
        SIGTERM. Returns at once; `exited` resolves when the process would end.

        With a shutdown timeout, running requests finish and new ones get 500. Without one, the engine stops at once,
        the port closes, and open streams hang until SIGKILL.
        """
        if self.draining or self.exited.done():
            return
        self.draining = True
        self._spawn(self._drain())

    async def kill(self) -> None:
        """SIGKILL: ends at once and cuts all connections."""
        await self._leave(137)

    def describe(self) -> dict[str, float]:
        """Its requests, total time of its steps, and its lag; see `Lag`."""
        return {
            "unfinished": self.engine.unfinished,
            "running": len(self.engine.scheduler.running),
            "busy_s": self.engine.busy_s,
            **self.engine.lag.figures(),
        }

    def _engine_died(self, code: int) -> None:
        if not self.dead:
            self.dead = True
            self.engine.kill()
            self._spawn(self._linger(code))

    async def _linger(self, code: int) -> None:
        await asyncio.sleep(DEAD_LINGER_S)
        await self._leave(code)

    async def _drain(self) -> None:
        timeout_s = self.spec.options.shutdown_timeout_s
        if timeout_s > 0:
            try:
                await asyncio.wait_for(self.engine.drained(), timeout_s)
            except TimeoutError:
                log.warning("%s: requests cut off after %.0f s of draining", self.spec.address, timeout_s)
                self.engine.kill()
        elif self.engine.unfinished:
            self.engine.stop()
            await self._close_port()
            return  # the process hangs with its open streams until it is killed
        await asyncio.sleep(IDLE_EXIT_S)
        await self._leave(0)

    async def _close_port(self) -> None:
        if self._runner is not None:
            for site in list(self._runner.sites):
                await site.stop()

    async def _leave(self, code: int) -> None:
        self.dead = True
        self.engine.kill()
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()
        if not self.exited.done():
            self.exited.set_result(code)

    def _spawn(self, work: object) -> None:
        assert asyncio.iscoroutine(work)
        task = asyncio.get_running_loop().create_task(work)
        self._goodbyes.add(task)
        task.add_done_callback(self._goodbyes.discard)
