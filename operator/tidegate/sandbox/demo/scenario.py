"""
What is shown: whose manifests, on which nodes, under which traffic, how fast.

Two clocks run here. Traffic passes `speed` times faster than life: a day in five minutes is 288. Latencies and the
operator are in real time. Start-ups, image pulls, probes and preStop sleeps pass `pace` times faster, at most 12: a
replica that takes two minutes takes ten seconds. So in the demo's day a replica comes, measured against the load,
up to 24 times later than in life: what the demo shows is harder than what it stands for.
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
# Accelerators of a class that does not say how many there are.
GPUS_WITHOUT_CAPACITY = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """
    What the user asked for on the command line.

    Args:
        trace: CSV to replay; None: the generated day.
        duration_s: Length of the replay, > 0.
        speed: Seconds of traffic per second; None: a generated day fills the duration, a trace runs as it was.
        control_plane: `auto`, `kubernetes` or `embedded`.
        runtime: `emulated` or `vllm`: what runs a pod's vLLM container.
        policy: How the front balances.
        keep: Leave everything up at the end.
        seed: Of everything that is drawn.
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
    What is shown, worked out.

    Args:
        options: As asked for.
        documents: The user's manifests, as they are applied.
        definitions: The CRDs.
        deployment: The deployment that gets the traffic: the first of the manifests.
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
        """How much faster than life start-ups pass; see the module."""
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
        """What one replica of a tier costs."""
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
    Work out what is shown.

    Raises:
        SpecError: There is no deployment, a tier names a class that the manifests lack, or the trace is none.
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
    # A part of a day that passes at another speed: from midnight on, as far as the duration reaches.
    arrivals = day(Shape(), duration_s=SECONDS_PER_DAY / options.speed, seed=options.seed)
    return [arrival for arrival in arrivals if arrival.time_s < options.duration_s], options.speed


def machines_for(accelerators: Mapping[str, Accelerator], *, first: int = 1) -> list[Machine]:
    """Nodes that offer what the classes say there is, eight accelerators each at most, numbered from `first`."""
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
