"""
Start and stop real vLLM servers.

In:    an environment, vLLM's arguments, a law, an address.
Out:   running servers.
Rules: after the factory is closed nothing runs, and no file remains except the model in the environment's folder.
"""

import asyncio
import contextlib
import hashlib
import json
import os
import shutil
import signal
import tempfile
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp

from tidegate.domain.law import PerformanceLaw
from tidegate.errors import SourceError
from tidegate.sandbox.vllm.environment import Environment
from tidegate.sandbox.vllm.pacer import NOTHING_KEPT

WARM_TIMEOUT_S, READY_TIMEOUT_S = 300.0, 180.0
POLL_S = 0.1

# Arguments that let a server start in seconds on the CPU: no compilation, no worker process, and a small KV cache that
# is enough for the tests.
ON_CPU = (
    "--dtype=bfloat16",
    "--enforce-eager",
    "--distributed-executor-backend=uni",
    "--kv-cache-memory-bytes=67108864",
    "--disable-uvicorn-access-log",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """
    A server to start.

    Args:
        arguments: vLLM's arguments, without model, host and port.
        law: Its performance law.
        env: Additional environment variables.
        address, port: Where it listens.
    """

    arguments: Sequence[str]
    law: PerformanceLaw
    env: Mapping[str, str] = field(default_factory=dict)
    address: str = "127.0.0.1"
    port: int


class RealServer:
    """A server started by the factory; `exited` gives its exit code when it ends."""

    def __init__(self, order: Order, *, pid: int, folder: Path) -> None:
        self.order, self.pid = order, pid
        self.exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._folder = folder

    @property
    def url(self) -> str:
        """Its URL."""
        return f"http://{self.order.address}:{self.order.port}"

    async def ready(self) -> None:
        """
        Wait until a request is answered, because `/health` succeeds before the engine has worked.

        Raises:
            SourceError: It ended, or did not answer in time; with the last line of its log.
        """
        # Without a model name the server uses the one that it has. 401 (an API key is required) also counts as ready.
        body = {"prompt": [17, 18, 19], "max_tokens": 2, "ignore_eos": True}
        async with aiohttp.ClientSession() as session:
            for _ in range(round(READY_TIMEOUT_S / POLL_S)):
                if self.exited.done():
                    break
                with contextlib.suppress(aiohttp.ClientError):
                    async with session.post(f"{self.url}/v1/completions", json=body) as answer:
                        if answer.status in (200, 401):
                            return
                await asyncio.sleep(POLL_S)
        lines = (self._folder / "log").read_text(errors="replace").strip().splitlines()
        raise SourceError(source="vllm", reason="NotReady", detail=lines[-1] if lines else "its log is empty")

    def terminate(self) -> None:
        """SIGTERM to the server process only, as a kubelet does."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL to its whole process group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    async def told(self) -> dict[str, float]:
        """How late its steps ended, at most half a second old; all zero before the first step."""
        path = self._folder / "lag"
        if not path.exists():
            return dict(NOTHING_KEPT)
        return dict(json.loads(path.read_text()))


class Factory:
    """
    Starts servers through a parent process that has vLLM imported; an async context manager.

    Raises:
        SourceError: On entry, if the parent does not start.
    """

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._servers: dict[int, RealServer] = {}
        self._parent: asyncio.subprocess.Process | None = None
        self._asked: deque[tuple[Order, Path, asyncio.Future[RealServer]]] = deque()
        self._reading: asyncio.Task[None] | None = None
        self._folder = Path()
        # The model's folder is named after the source code that generates it.
        maker = hashlib.sha256(Path(__file__).with_name("tiny.py").read_bytes()).hexdigest()[:12]
        self._model = environment.folder / f"tiny-{maker}"

    async def __aenter__(self) -> Self:
        self._folder = Path(tempfile.mkdtemp(prefix="tidegate-vllm-"))
        try:
            await self._open()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def start(self, order: Order) -> RealServer:
        """Start a server; it takes some seconds until it is ready."""
        assert self._parent is not None, "entered"
        assert self._parent.stdin is not None, "a pipe"
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        listening = (f"--model={self._model}", f"--host={order.address}", f"--port={order.port}")
        line = {
            "arguments": [*listening, *ON_CPU, *order.arguments],
            "env": dict(order.env),
            "law": asdict(order.law),
            "log": str(folder / "log"),
            "lag": str(folder / "lag"),
        }
        started: asyncio.Future[RealServer] = asyncio.get_running_loop().create_future()
        self._asked.append((order, folder, started))
        self._parent.stdin.write(json.dumps(line).encode() + b"\n")
        return await started

    async def close(self) -> None:
        """End every server and the parent."""
        for server in self._servers.values():
            server.kill()
        if self._parent is not None:
            with contextlib.suppress(ProcessLookupError):
                self._parent.kill()
            await self._parent.wait()
        if self._reading is not None:
            self._reading.cancel()
        shutil.rmtree(self._folder, ignore_errors=True)

    async def _open(self) -> None:
        if not (self._model / "config.json").exists():
            await self._make_model()
        with (self._folder / "parent.log").open("wb") as log:
            self._parent = await asyncio.create_subprocess_exec(
                *self._environment.module("parent"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env=self._environment.variables(),
                cwd=self._folder,
            )
        try:
            await asyncio.wait_for(self._hear_ready(), WARM_TIMEOUT_S)
        except TimeoutError as late:
            raise SourceError(source="vllm", reason="Timeout", detail=self._last_words()) from late
        self._reading = asyncio.create_task(self._read())

    async def _make_model(self) -> None:
        aside = Path(tempfile.mkdtemp(dir=self._environment.folder))
        making = await asyncio.create_subprocess_exec(
            *self._environment.module("tiny", str(aside)),
            env=self._environment.variables(),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        _, words = await making.communicate()
        if making.returncode:
            shutil.rmtree(aside)
            raise SourceError(source="vllm", reason="NoModel", detail=words.decode().strip().splitlines()[-1])
        shutil.move(aside, self._model)

    async def _hear_ready(self) -> None:
        while (message := await self._message()) is not None:
            if message.get("ready"):
                return
        raise SourceError(source="vllm", reason="NotStarted", detail=self._last_words())

    async def _read(self) -> None:
        while (message := await self._message()) is not None:
            if "started" in message:
                order, folder, started = self._asked.popleft()
                server = RealServer(order, pid=int(message["started"]), folder=folder)
                self._servers[server.pid] = server
                started.set_result(server)
            elif "exited" in message:
                self._servers.pop(int(message["exited"])).exited.set_result(int(message["code"]))
        for _, _, started in self._asked:
            started.set_exception(SourceError(source="vllm", reason="ParentDied", detail=self._last_words()))

    async def _message(self) -> dict[str, Any] | None:
        """The parent's next message, skipping lines that vLLM's imports print; None at the end."""
        assert self._parent is not None, "started"
        assert self._parent.stdout is not None, "a pipe"
        while line := await self._parent.stdout.readline():
            if line.startswith(b"{"):
                return dict(json.loads(line))
        return None

    def _last_words(self) -> str:
        lines = (self._folder / "parent.log").read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "the parent process printed nothing"
