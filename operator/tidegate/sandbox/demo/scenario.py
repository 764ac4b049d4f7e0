"""
The inputs of a demo: manifests, nodes, traffic, time scales.

There are three time scales. Traffic is `speed` times faster than real time: 288 for a day in five minutes. Start-ups,
image pulls, probes and preStop sleeps are `pace` times faster, at most 12: two minutes take ten seconds. Latencies and
the operator run in real time. So relative to the load, a replica starts up to 24 times later than in reality: the demo
is harder than reality.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tidegate.domain.key import Key
from tidegate.domain.spec import Accelerator, DeploymentSpec
from tidegate.errors import SpecError
from tidegate.report.currency import currency_of
from tidegate.sandbox.front import Policy
from tidegate.sandbox.kube import Object
from tidegate.sandbox.kubelet.machines import PRODUCT_LABEL, Machine
from tidegate.sandbox.traffic.arrivals import Arrival, Shape, day, day_speed, read_csv
from tidegate.units import SECONDS_PER_DAY

DURATION_S = 300.0
PACE_MOST = 12.0
GPUS_PER_NODE = 8
# Accelerators of a class without `capacity`.
GPUS_WITHOUT_CAPACITY = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """
    Options of the command line.

    Args:
        trace: CSV to replay; None: a generated day.
        duration_s: Length of the replay, > 0.
        speed: Seconds of traffic per second; None: a generated day fills the duration, a trace runs in real time.
        control_plane: `auto`, `kubernetes` or `embedded`.
        runtime: `emulated` or `vllm`: what runs a pod's vLLM container.
        policy: How the front end balances.
        keep: Keep everything running at the end.
        seed: Seed of everything random.
    """

    trace: Path | None = None
    duration_s: float = DURATION_S
    speed: float | None = None
    control_plane: str = "auto"
    runtime: str = "emulated"
    policy: Policy = Policy.LEAST
    keep: bool = False
    seed: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """
    All inputs of a demo.

    Args:
        options: Options of the command line.
        documents: The user's manifests.
        definitions: The CRDs.
        deployment: The deployment that gets the traffic: the first one in the manifests.
        accelerators: By name.
        arrivals: The traffic.
        speed: Seconds of traffic per second.
    """

    options: Options
    documents: Sequence[Object]
    definitions: Sequence[Object]
    deployment: DeploymentSpec
    accelerators: Mapping[str, Accelerator]
    arrivals: Sequence[Arrival]
    speed: float

    @property
    def pace(self) -> float:
        """How many times faster than real time start-ups are; see the module."""
        return min(PACE_MOST, max(1.0, self.speed))

    @property
    def duration_s(self) -> float:
        """Length of the replay."""
        return self.options.duration_s

    @property
    def currency(self) -> str:
        """ISO 4217 code of the prices."""
        return currency_of(self.deployment, self.accelerators)

    def price_usd_per_hour(self, tier: str) -> float:
        """Price of one replica of a tier."""
        spec = self.deployment.tier(tier)
        return self.accelerators[spec.accelerator].price_usd_per_hour * spec.accelerators_per_replica

    def gpus(self, tier: str) -> int:
        """Accelerators of one replica of a tier."""
        return self.deployment.tier(tier).accelerators_per_replica


def scenario(
    options: Options,
    *,
    documents: Sequence[Object],
    definitions: Sequence[Object],
    deployments: Mapping[Key, DeploymentSpec],
    accelerators: Mapping[str, Accelerator],
) -> Scenario:
    """
    The scenario of a demo.

    Raises:
        SpecError: There is no deployment, a tier's class is not in the manifests, or the trace is invalid.
    """
    if not deployments:
        raise SpecError(field="--manifest", value=None, allowed="must contain an InferenceDeployment")
    deployment = next(iter(deployments.values()))
    for tier in deployment.tiers:
        if tier.accelerator not in accelerators:
            allowed = "must be an AcceleratorClass in the same manifests: the demo takes prices and nodes from it"
            raise SpecError(field=f"tier {tier.name}: accelerator", value=tier.accelerator, allowed=allowed)
    arrivals, speed = _traffic(options)
    return Scenario(
        options=options,
        documents=documents,
        definitions=definitions,
        deployment=deployment,
        accelerators=accelerators,
        arrivals=arrivals,
        speed=speed,
    )


def _traffic(options: Options) -> tuple[Sequence[Arrival], float]:
    if options.trace is not None:
        speed = options.speed or 1.0
        return read_csv(options.trace, speed=speed, duration_s=options.duration_s, seed=options.seed), speed
    if options.speed is None:
        speed = day_speed(options.duration_s)
        return day(Shape(), duration_s=options.duration_s, seed=options.seed), speed
    # At another speed only a part of the day fits into the duration, or the day ends before it.
    arrivals = day(Shape(), duration_s=SECONDS_PER_DAY / options.speed, seed=options.seed)
    return [arrival for arrival in arrivals if arrival.time_s < options.duration_s], options.speed


def machines_for(accelerators: Mapping[str, Accelerator], *, first: int = 1) -> list[Machine]:
    """Nodes with the accelerators of all classes, at most eight per node, numbered from `first`."""
    machines: list[Machine] = []
    for name, accelerator in sorted(accelerators.items()):
        left = accelerator.capacity if accelerator.capacity is not None else GPUS_WITHOUT_CAPACITY
        index = 0
        while left > 0:
            machines.append(
                Machine(
                    name=f"{name}-{index}",
                    number=first + len(machines),
                    product=accelerator.product or accelerator.node_selector.get(PRODUCT_LABEL, name),
                    gpus=min(GPUS_PER_NODE, left),
                    gpu_memory_gib=round(accelerator.memory_gib or 80),
                    resource=accelerator.resource_name,
                    labels=dict(accelerator.node_selector),
                )
            )
            left -= GPUS_PER_NODE
            index += 1
    return machines
