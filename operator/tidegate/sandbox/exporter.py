"""
An emulated NVIDIA dcgm-exporter.

Question: how busy is each accelerator, and how much power does it draw?
Enters:   readings per accelerator.
Leaves:   Prometheus text with dcgm-exporter's names and labels.
May import: prometheus_client.

Utilization is the share of the last second in which a step ran; power is a function of the running requests (see
`kubelet.hardware`). Both are derived from the emulated servers, not measured on a GPU.

Source: names, help texts and labels as in NVIDIA/dcgm-exporter, `etc/default-counters.csv`, with Kubernetes mapping
enabled (`container`, `namespace` and `pod` that hold the accelerator).
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily

LABELS = ("gpu", "UUID", "pci_bus_id", "device", "modelName", "Hostname", "container", "namespace", "pod")

FAMILIES = {
    "DCGM_FI_DEV_GPU_UTIL": "GPU utilization (in %).",
    "DCGM_FI_DEV_POWER_USAGE": "Power draw (in W).",
    "DCGM_FI_DEV_FB_USED": "Framebuffer memory used (in MiB).",
    "DCGM_FI_DEV_FB_FREE": "Framebuffer memory free (in MiB).",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuReading:
    """
    The current reading of one accelerator.

    Args:
        node: Host name.
        index: Its number on the node.
        product: Product label, e.g. `NVIDIA-H100-80GB-HBM3`.
        holder: Container, namespace and pod that hold it; empty strings if it is free.
        utilization: Busy share of the last second, in [0, 1].
        power_w: Power draw, W; None: unknown, and the series is left out.
        memory_mib: Memory used and free, MiB.
    """

    node: str
    index: int
    product: str
    holder: tuple[str, str, str]
    utilization: float
    power_w: float | None
    memory_mib: tuple[float, float]

    @property
    def labels(self) -> tuple[str, ...]:
        """Values of `LABELS`."""
        uuid = sha256(f"{self.node}/{self.index}".encode()).hexdigest()
        return (
            str(self.index),
            f"GPU-{uuid[:8]}-{uuid[8:12]}-{uuid[12:16]}-{uuid[16:20]}-{uuid[20:32]}",
            f"00000000:{0x10 + self.index:02X}:00.0",
            f"nvidia{self.index}",
            self.product.replace("-", " "),
            self.node,
            *self.holder,
        )

    def values(self) -> Iterator[tuple[str, float]]:
        """Family name and value of each series."""
        yield "DCGM_FI_DEV_GPU_UTIL", round(100 * self.utilization)
        if self.power_w is not None:
            yield "DCGM_FI_DEV_POWER_USAGE", round(self.power_w, 3)
        yield "DCGM_FI_DEV_FB_USED", self.memory_mib[0]
        yield "DCGM_FI_DEV_FB_FREE", self.memory_mib[1]


class GpuCollector:
    """A Prometheus collector that calls `readings` at each scrape."""

    def __init__(self, readings: Callable[[], Iterable[GpuReading]]) -> None:
        self._readings = readings

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The families, with one series per accelerator."""
        families = {name: GaugeMetricFamily(name, text, labels=LABELS) for name, text in FAMILIES.items()}
        for reading in self._readings():
            for name, value in reading.values():
                families[name].add_metric(reading.labels, value)
        return iter(families.values())


def exposition(readings: Callable[[], Iterable[GpuReading]]) -> bytes:
    """Prometheus text of the readings."""
    registry = CollectorRegistry()
    registry.register(GpuCollector(readings))
    return generate_latest(registry)
