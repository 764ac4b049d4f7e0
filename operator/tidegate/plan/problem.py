"""What `plan` has to solve for one deployment."""

from collections.abc import Mapping
from dataclasses import dataclass

from tidegate.domain.estimate import TierEstimate
from tidegate.domain.forecast import DemandForecast
from tidegate.domain.observation import GatewayReading, TierState
from tidegate.domain.spec import DeploymentSpec
from tidegate.plan.memory import PlanMemory


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """
    One deployment at one instant.

    Args:
        states: Replicas and readings by tier name; a tier that is not in it has no replica.
        estimates: What a replica of each tier does, by tier name; a tier that is not in it is not used.
        forecast: Demand at the lead times of the tiers.
        gateway: What a gateway in front of all tiers saw; None: there is none, or it is silent.
        memory: What the last plan left; None: this is the first.
    """

    spec: DeploymentSpec
    states: Mapping[str, TierState]
    estimates: Mapping[str, TierEstimate]
    forecast: DemandForecast
    gateway: GatewayReading | None = None
    memory: PlanMemory | None = None
