"""
Containers as processes: a vLLM server, emulated or (opt-in) real and paced, or one that only waits.

In:    a container of a pod spec, and where it runs.
Out:   a process that can be terminated or killed and ends with an exit code.
"""

import asyncio
import logging
from dataclasses import dataclass

from tidegate.sandbox.emulator.args import parse
from tidegate.sandbox.emulator.faults import FAULT_VARIABLE, Fault
from tidegate.sandbox.emulator.lag import Lag
from tidegate.sandbox.emulator.server import EmulatedServer, ServerSpec
from tidegate.sandbox.kube import Object
from tidegate.sandbox.kubelet.addresses import listening
from tidegate.sandbox.kubelet.hardware import Hardware, drawn, hardware_of
from tidegate.sandbox.vllm.factory import Factory
from tidegate.sandbox.vllm.process import PacedServer

log = logging.getLogger(__name__)

TERMINATED, KILLED = 143, 137


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """
    Where a container runs.

    Args:
        address: The pod's reported address.
        pod: Name of the pod, from which start-up times are derived.
        product: Product label of the node.
        pace: How many times faster than real time start-ups are.
        seed: Seed of the sandbox.
        lag: Where the lag of its servers is counted.
        factory: Starts real vLLM servers; None: they are emulated.
    """

    address: str
    pod: str
    product: str
    pace: float
    seed: int
    lag: Lag
    factory: Factory | None = None


def is_vllm(container: Object) -> bool:
    """Whether a container is a vLLM server, judged by its image or its first words."""
    named = "vllm" in str(container.get("image", "")).lower()
    return named or any("vllm" in word for word in _words(container)[:4])


def _words(container: Object) -> list[str]:
    """Command and arguments of a container."""
    return [*(container.get("command") or []), *(container.get("args") or [])]


def environment(container: Object) -> dict[str, str]:
    """Environment of a container, without references to other objects."""
    return {entry["name"]: str(entry["value"]) for entry in container.get("env") or [] if "value" in entry}


def gpus_of(container: Object) -> int:
    """Accelerators that a container requests; all extended resources count (`nvidia.com/gpu`, `amd.com/gpu`)."""
    resources = container.get("resources") or {}
    limits = {**(resources.get("requests") or {}), **(resources.get("limits") or {})}
    return sum(int(count) for name, count in limits.items() if "/" in name)


class WaitingProcess:
    """A container that is not vLLM: it runs until it is stopped."""

    def __init__(self) -> None:
        self.exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def terminate(self) -> None:
        """Ends at once."""
        self._end(TERMINATED)

    async def kill(self) -> None:
        """Ends at once."""
        self._end(KILLED)

    def _end(self, code: int) -> None:
        if not self.exited.done():
            self.exited.set_result(code)


class VllmProcess:
    """
    A vLLM container: waits for its start-up time, then serves.

    Raises:
        SpecError: vLLM would reject the arguments, or the context does not fit into memory.
    """

    def __init__(self, container: Object, place: Place) -> None:
        env = environment(container)
        self.hardware = _hardware(container, place)
        spec = ServerSpec(
            options=parse(_words(container), env),
            law=self.hardware.law,
            address=listening(place.address),
            fault=Fault.parse(env.get(FAULT_VARIABLE)),
            lag=place.lag,
        )
        self.server = EmulatedServer(spec) if place.factory is None else PacedServer(spec, place.factory)
        self.exited = self.server.exited
        self._serving = False
        self._loading = asyncio.create_task(self._load(place))

    async def terminate(self) -> None:
        """SIGTERM: ends at once during start-up, afterwards drains."""
        if self._serving:
            await self.server.terminate()
        else:
            await self.kill()

    async def kill(self) -> None:
        """SIGKILL."""
        self._loading.cancel()
        await self.server.kill()

    async def _load(self, place: Place) -> None:
        await asyncio.sleep(drawn(self.hardware.startup_s, seed=place.seed, name=place.pod) / place.pace)
        try:
            await self.server.start()
        except OSError:
            log.exception("%s cannot listen", place.pod)
            await self.server.kill()
        else:
            self._serving = True


def _hardware(container: Object, place: Place) -> Hardware:
    words, env = _words(container), environment(container)
    gpus = gpus_of(container)
    return hardware_of(parse(words, env), arguments=words, env=env, product=place.product, gpus=gpus, seed=place.seed)


def start(container: Object, place: Place) -> VllmProcess | WaitingProcess:
    """Start a container of a pod."""
    return VllmProcess(container, place) if is_vllm(container) else WaitingProcess()


def pull_s(container: Object, place: Place) -> float:
    """Time of its image pull, s, at the sandbox's pace; 0 for containers that are not vLLM."""
    if not is_vllm(container):
        return 0.0
    return drawn(_hardware(container, place).pull_s, seed=place.seed, name=f"{place.pod}/pull") / place.pace
