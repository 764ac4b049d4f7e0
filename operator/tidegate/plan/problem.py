"""What `plan` has to solve for one deployment."""

from collections.abc import Mapping
from dataclasses import dataclass
from zlib import crc32

from tidegate.domain.estimate import TierEstimate
from tidegate.domain.forecast import DemandForecast
from tidegate.domain.observation import GatewayReading, TierState
from tidegate.domain.spec import DeploymentSpec
from tidegate.plan.memory import PlanMemory

# How often a plan that stays is looked at anew, and told what else could run and why it does not.
SURVEY_S = 600


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

    @property
    def remembered(self) -> PlanMemory | None:
        """The memory for the tiers of now; None where there was no plan yet."""
        memory, states = self.memory, self.states
        if memory is None or not memory.names:
            return None
        names = tuple([tier.name for tier in self.spec.tiers])
        if names == memory.names:
            return memory
        return memory.for_tiers({name: states[name].wanted if name in states else 0 for name in names})

    def survey_due(self, time_s: float) -> bool:
        """Whether the plan is looked at whatever happened. Each deployment has its own moment, no tick has all."""
        offset = crc32(str(self.spec.key).encode()) % SURVEY_S
        return self.memory is None or (time_s + offset) // SURVEY_S != (self.memory.time_s + offset) // SURVEY_S
