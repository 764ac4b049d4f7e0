"""
A real server in place of an emulated one: same arguments, same law, same interface.

In:    a `ServerSpec` and a factory.
Out:   a paced vLLM server on the pod's address.

Arguments that a CPU does not support are dropped (parallelism, quantization, KV cache type): the law already accounts
for their effect on speed and memory.
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
# On the CPU, block sizes are multiples of this, in tokens; the total size of the cache does not change.
BLOCK_UNIT = 32
KILLED = 137
# Faults that can be imposed on a real engine from outside; the others would have to happen inside it.
FAULTS = (FaultKind.NONE, FaultKind.NEVER_READY, FaultKind.SLOW)


class PacedServer:
    """
    A paced vLLM server.

    `start` returns when it answers, `terminate` is SIGTERM, `kill` is SIGKILL, `exited` gives the exit code.

    Raises:
        SpecError: The fault is not supported with a real engine.
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
        """Requests in its last step, and total time of its steps, s; at most a second and a half old."""
        return dict(self._figures)

    async def _watch(self, server: RealServer) -> None:
        before = await server.told()
        while not server.exited.done():
            await asyncio.wait([server.exited], timeout=SAMPLE_S)
            now = await server.told()
            # An idle engine writes nothing, so its last figure for running requests is outdated.
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
    """vLLM's arguments for a server with these options and the law's limits on batch and KV cache."""
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
        "max-num-seqs": options.seqs_within(law.running_max),
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
