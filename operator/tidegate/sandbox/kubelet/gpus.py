"""
The accelerators of one node: which container holds which, and how busy they are.

In:    pods as they start and end.
Out:   readings for the exporter.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field

from tidegate.sandbox.exporter import GpuReading
from tidegate.sandbox.kubelet.container import Container
from tidegate.sandbox.kubelet.machines import Machine
from tidegate.sandbox.kubelet.pod import Pod
from tidegate.sandbox.kubelet.runtime import VllmProcess, gpus_of

SAMPLE_S = 1.0
NOBODY = ("", "", "")
# vLLM allocates this share of the memory at start, whether it needs it or not.
MEMORY_SHARE = 0.92


@dataclass(slots=True)
class Holding:
    """A container and its accelerators."""

    pod: Pod
    container: Container
    gpus: tuple[int, ...]
    busy_s: float = 0.0
    utilization: float = 0.0

    @property
    def process(self) -> VllmProcess | None:
        """Its vLLM server; None if none is running."""
        run = self.container.run_now
        return run.process if run is not None and isinstance(run.process, VllmProcess) else None


@dataclass(slots=True)
class Gpus:
    """Accelerators of one machine."""

    machine: Machine
    _free: list[int] = field(init=False)
    _held: list[Holding] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._free = list(range(self.machine.gpus))

    def take(self, pod: Pod) -> None:
        """Assign accelerators to a pod's containers, as many as the scheduler counted."""
        for container in pod.containers:
            count = gpus_of(container.spec)
            given, self._free = tuple(self._free[:count]), self._free[count:]
            if count:
                self._held.append(Holding(pod, container, given))

    def give_back(self, pod: Pod) -> None:
        """Free a pod's accelerators."""
        for holding in [h for h in self._held if h.pod is pod]:
            self._held.remove(holding)
            self._free = sorted([*self._free, *holding.gpus])

    async def sample(self) -> None:
        """Update the utilization once per second, endlessly."""
        clock = asyncio.get_running_loop().time
        before_s = clock()
        while True:
            await asyncio.sleep(SAMPLE_S)
            now_s = clock()
            for holding in self._held:
                busy_s = holding.process.server.describe()["busy_s"] if holding.process is not None else 0.0
                grown_s = max(0.0, busy_s - holding.busy_s)
                holding.utilization = min(1.0, grown_s / (now_s - before_s))
                holding.busy_s = busy_s
            before_s = now_s

    def readings(self) -> Iterator[GpuReading]:
        """Readings of all accelerators of the node, held or free."""
        for holding in self._held:
            yield from self._of(holding)
        for index in self._free:
            yield self._reading(index, NOBODY, 0.0, None, 0.0)

    def _of(self, holding: Holding) -> Iterator[GpuReading]:
        metadata = holding.pod.object["metadata"]
        holder = (holding.container.name, str(metadata["namespace"]), str(metadata["name"]))
        power_w, used = None, 0.0
        if holding.process is not None:
            draw_w = holding.process.hardware.power_w(holding.process.server.describe()["running"])
            power_w = draw_w / len(holding.gpus) if draw_w is not None and holding.gpus else None
            used = MEMORY_SHARE
        for index in holding.gpus:
            yield self._reading(index, holder, holding.utilization, power_w, used)

    def _reading(
        self, index: int, holder: tuple[str, str, str], utilization: float, power_w: float | None, used: float
    ) -> GpuReading:
        memory_mib = self.machine.gpu_memory_gib * 1024
        return GpuReading(
            node=self.machine.name,
            index=index,
            product=self.machine.product,
            holder=holder,
            utilization=utilization,
            power_w=power_w,
            memory_mib=(round(memory_mib * used), round(memory_mib * (1 - used))),
        )
