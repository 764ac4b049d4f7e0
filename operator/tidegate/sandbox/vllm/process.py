"""
A real server in the place of an emulated one: same arguments, same law, same way to start and stop it.

In:    what an emulated server is made of (`ServerSpec`) and a factory.
Out:   a paced vLLM server on the pod's address.

What cannot be had on a CPU is left out of the arguments: parallelism, quantization, the type of the KV cache. The law
says already what they do to speed and memory.
"""

import asyncio
import contextlib
import json
import logging

from tidegate.domain.law import PerformanceLaw
from tidegate.errors import SpecError, TidegateError
from tidegate.sandbox.emulator.args import Options
from tidegate.sandbox.emulator.faults import FaultKind
from tidegate.sandbox.emulator.server import MODEL_LEN, ServerSpec
from tidegate.sandbox.vllm.factory import Factory, Order, RealServer

log = logging.getLogger(__name__)

SAMPLE_S = 1.0
# On the CPU blocks are multiples of this; a cache of so many tokens stays as large.
BLOCK_UNIT = 32
KILLED = 137
# What a real engine can be made to do from outside; the others are deaths of its own.
FAULTS = (FaultKind.NONE, FaultKind.NEVER_READY, FaultKind.SLOW)


class PacedServer:
    """
    A vLLM server.

    `start` returns when it answers, `terminate` is SIGTERM, `kill` is SIGKILL, `exited` gives the exit code.

    Raises:
        SpecError: It is to fail in a way that a real engine does not fail on request.
    """

    def __init__(self, spec: ServerSpec, factory: Factory) -> None:
        if spec.fault.kind not in FAULTS:
            allowed = f"with real vLLM, must be one of {', '.join(FAULTS)}"
            raise SpecError(field="SANDBOX_FAULT", value=spec.fault.kind.value, allowed=allowed)
        self.spec, self._factory = spec, factory
        self.exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._order = Order(
            arguments=arguments_of(spec.options, spec.law),
            env={"VLLM_SERVER_DEV_MODE": "1"} if spec.options.dev_mode else {},
            law=spec.fault.applied_to(spec.law),
            address=spec.address,
            port=spec.options.port,
        )
        self._server: RealServer | None = None
        self._watching: asyncio.Task[None] | None = None
        self._figures = {"running": 0.0, "busy_s": 0.0}

    async def start(self) -> None:
        """Start it and wait for its first answer; with `never-ready` the port stays closed."""
        if self.spec.fault.kind is FaultKind.NEVER_READY:
            return
        self._server = await self._factory.start(self._order)
        self._watching = asyncio.create_task(self._watch(self._server))
        try:
            await self._server.ready()
        except TidegateError:
            log.exception("%s", self.spec.address)
            await self.kill()

    async def terminate(self) -> None:
        """SIGTERM; returns at once."""
        if self._server is None:
            await self.kill()
        else:
            self._server.terminate()

    async def kill(self) -> None:
        """SIGKILL."""
        if self._server is not None:
            self._server.kill()
        elif not self.exited.done():
            self.exited.set_result(KILLED)

    def describe(self) -> dict[str, float]:
        """Requests in its last step, and the seconds its steps have run; at most a second and a half old."""
        return dict(self._figures)

    async def _watch(self, server: RealServer) -> None:
        before = await server.told()
        while not server.exited.done():
            await asyncio.wait([server.exited], timeout=SAMPLE_S)
            now = await server.told()
            # An engine without work writes nothing: what it said last is no news.
            worked = now["busy_s"] > before["busy_s"]
            self._figures = {"running": now["running"] if worked else 0.0, "busy_s": now["busy_s"]}
            lag = self.spec.lag
            lag.steps += int(now["steps"] - before["steps"])
            lag.late += int(now["steps_late"] - before["steps_late"])
            lag.total_s += now["lag_total_s"] - before["lag_total_s"]
            lag.worst_s = max(lag.worst_s, now["lag_worst_s"])
            before = now
        with contextlib.suppress(asyncio.InvalidStateError):
            self.exited.set_result(server.exited.result())


def arguments_of(options: Options, law: PerformanceLaw) -> list[str]:
    """vLLM's arguments for a server with those options that is as large as the law says."""
    block_tokens = -(-options.block_tokens // BLOCK_UNIT) * BLOCK_UNIT
    held = options.blocks_override * options.block_tokens if options.blocks_override else int(law.kv_cache_tokens)
    blocks = max(2, held // block_tokens)
    room = (blocks - 1) * block_tokens
    flags = {
        "enable-prefix-caching": options.prefix_caching,
        "enable-per-request-metrics": options.per_request_metrics,
        "enable-server-load-tracking": options.load_tracking,
    }
    values = {
        "max-num-seqs": min(options.seqs, int(law.running_max)),
        "max-num-batched-tokens": options.batched_tokens,
        "block-size": block_tokens,
        "num-gpu-blocks-override": blocks,
        "max-model-len": options.model_len or min(MODEL_LEN, room),
        "max-num-queued-reqs": options.queued_reqs,
        "max-num-queued-tokens": options.queued_tokens,
        "shutdown-timeout": round(options.shutdown_timeout_s),
        "custom-histogram-buckets": json.dumps({k: list(v) for k, v in options.buckets.items()} or None),
    }
    return [
        *("--served-model-name", *options.served_names),
        *(f"--{name}={value}" for name, value in values.items() if value not in (None, "null")),
        *(f"--{'' if on else 'no-'}{name}" for name, on in flags.items()),
        *(("--api-key", *options.api_keys) if options.api_keys else ()),
    ]
