"""
What a user asked for, with every default filled in and every unit converted.

In the CRD, money and shares are decimal strings; here they are floats in the units of `units.py`.
Only `api` builds these values from custom resources, so they are validated once.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from tidegate.domain.key import Key


class Mode(StrEnum):
    """What the operator may do with its plan."""

    AUTO = "Auto"  # carry it out
    RECOMMEND = "Recommend"  # plan and report, touch nothing
    OFF = "Off"  # neither


@dataclass(frozen=True, slots=True, kw_only=True)
class Slo:
    """
    The promise: a share of requests meets both targets.

    Args:
        ttft_s: Time to first token, s, > 0.
        itl_s: Mean inter-token latency of a request, s, > 0.
        attainment: Share of requests that must meet both, in (0, 1).
    """

    ttft_s: float
    itl_s: float
    attainment: float = 0.99


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Budget (hard; None: no ceiling) in $/h and target (soft) in $ per million output tokens."""

    budget_usd_per_hour: float | None = None
    target_usd_per_million_output_tokens: float | None = None


# Tolerance for qualities that were written as decimals.
QUALITY_DUST = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """No tier below `minimum` is used; the traffic-weighted mean stays at or above `average_minimum` if possible."""

    minimum: float = 0.0
    average_minimum: float = 0.0

    def allows(self, quality: float) -> bool:
        """Whether a tier of this quality may be used."""
        return quality >= self.minimum - QUALITY_DUST


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleToZero:
    """Zero replicas after `idle_s` without a request; woken when `activation_query` returns more than 0."""

    idle_s: float
    activation_query: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Bounds on the total for `duration_s` from each firing of a five-field cron expression; None: unchanged."""

    name: str
    cron: str
    time_zone: str
    duration_s: float
    replicas_min: int | None = None
    replicas_max: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PerformanceHint:
    """Coefficients that the user knows better than our table (units as in `PerformanceLaw`); None: not stated."""

    a_s: float | None = None
    b_s: float | None = None
    c_s: float | None = None
    p0_s: float | None = None
    p1_s: float | None = None
    kv_cache_tokens: float | None = None
    running_max: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadTemplate:
    """What the operator builds for a managed tier; the mappings are plain Kubernetes JSON."""

    image: str
    model: str | None = None
    args: tuple[str, ...] = ()
    env: tuple[Mapping[str, object], ...] = ()
    resources: Mapping[str, object] = field(default_factory=dict)
    pod_template: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetRef:
    """An existing object with /scale, in the deployment's own namespace."""

    api_version: str
    kind: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TierSpec:
    """
    One way to serve the model.

    Args:
        name: Unique in the deployment.
        quality: Score relative to the full-precision model, in (0, 1].
        accelerator: Name of an AcceleratorClass.
        accelerators_per_replica: Accelerators one replica occupies, >= 1.
        replicas_min, replicas_max: Bounds of this tier alone.
        workload, target_ref: Exactly one is set in a cluster; both may be None without one (plan, backtest).
        hint: The user's own coefficients.
        leaving: The user removed the tier from the spec: the plan gives it no replicas, but those that run stay until
            others carry the load.
    """

    name: str
    quality: float
    accelerator: str
    accelerators_per_replica: int
    replicas_min: int
    replicas_max: int
    workload: WorkloadTemplate | None = None
    target_ref: TargetRef | None = None
    hint: PerformanceHint = PerformanceHint()
    leaving: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentSpec:
    """One InferenceDeployment as the planner sees it. `replicas_pinned` fixes the total; None: the planner chooses."""

    key: Key
    model: str
    slo: Slo
    tiers: tuple[TierSpec, ...]
    mode: Mode = Mode.AUTO
    replicas_pinned: int | None = None
    replicas_min: int = 1
    replicas_max: int = 1
    priority: int = 0
    cost: Cost = Cost()
    quality: Quality = Quality()
    scale_to_zero: ScaleToZero | None = None
    scale_down_window_s: float = 300.0
    schedules: tuple[Schedule, ...] = ()
    paused: bool = False

    @property
    def acts(self) -> bool:
        """Whether decisions are carried out."""
        return self.mode is Mode.AUTO and not self.paused

    @property
    def left_alone(self) -> bool:
        """Whether nothing is planned: mode Off, or paused."""
        return self.mode is Mode.OFF or self.paused

    def acting(self) -> "DeploymentSpec":
        """The same spec in mode Auto and not paused: what questions without a cluster are about."""
        return self if self.acts else replace(self, mode=Mode.AUTO, paused=False)

    def joined(self, tiers: tuple[TierSpec, ...]) -> "DeploymentSpec":
        """The same spec with more tiers; unchanged if there are none."""
        return replace(self, tiers=(*self.tiers, *tiers)) if tiers else self

    def tier(self, name: str) -> TierSpec:
        """The tier of that name; KeyError if there is none."""
        for tier in self.tiers:
            if tier.name == name:
                return tier
        raise KeyError(name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Accelerator:
    """
    One AcceleratorClass.

    Args:
        name: Object name, e.g. `nvidia-h100`; `name` and `product` are the keys into the performance table.
        price_usd_per_hour: Per accelerator.
        capacity: Accelerators Tidegate may use in total, without those that others hold; None: unknown, unlimited.
        unprovisioned: The part of `capacity` that no node offers yet; an autoscaler may add nodes for pending pods.
        memory_gib: Memory of one accelerator; None: from the shipped table if the class is known.
        board_power_w: Board power limit of one accelerator; None likewise.
        product: Value of the node label that names the product; empty: none.
        resource_name: Kubernetes resource, e.g. `nvidia.com/gpu`.
        node_selector: Labels of the nodes that have it.
        currency: ISO 4217 code of the price. Prices are never converted; `usd` in a name stands for this currency.
    """

    name: str
    price_usd_per_hour: float
    capacity: int | None = None
    unprovisioned: int = 0
    memory_gib: float | None = None
    board_power_w: float | None = None
    product: str = ""
    resource_name: str = "nvidia.com/gpu"
    node_selector: Mapping[str, str] = field(default_factory=dict)
    currency: str = "USD"


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetPolicy:
    """Everything users asked for, at one instant."""

    deployments: Mapping[Key, DeploymentSpec]
    accelerators: Mapping[str, Accelerator]
