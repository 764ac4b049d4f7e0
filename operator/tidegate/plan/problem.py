"""The input of `plan` for one deployment."""

from collections.abc import Mapping
from dataclasses import dataclass
from zlib import crc32

from tidegate.domain.estimate import TierEstimate
from tidegate.domain.forecast import DemandForecast
from tidegate.domain.observation import GatewayReading, TierState
from tidegate.domain.spec import DeploymentSpec
from tidegate.plan.memory import PlanMemory

# How often an unchanged plan is reconsidered and its alternatives are recomputed, s.
SURVEY_S = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """
    One deployment at one instant.

    Args:
        states: Replicas and readings by tier name; a tier that is not listed has no replicas.
        estimates: Estimate of one replica of each tier, by tier name; a tier that is not listed is not used.
        forecast: Demand at the lead times of the tiers.
        gateway: Reading of a gateway in front of all tiers; None: there is none, or it gives no reading.
        memory: Memory of the last plan; None: this is the first.
    """

    spec: DeploymentSpec
    states: Mapping[str, TierState]
    estimates: Mapping[str, TierEstimate]
    forecast: DemandForecast
    gateway: GatewayReading | None = None
    memory: PlanMemory | None = None

    @property
    def remembered(self) -> PlanMemory | None:
        """The memory adapted to the current tiers; None if there was no plan yet."""
        memory, states = self.memory, self.states
        if memory is None or not (memory.names or memory.asleep):
            return None
        names = tuple([tier.name for tier in self.spec.tiers])
        if names == memory.names:
            return memory
        return memory.for_tiers({name: states[name].wanted if name in states else 0 for name in names})

    def survey_due(self, time_s: float) -> bool:
        """Whether the periodic look at the plan is due. Each deployment has its own offset, so that no tick has all."""
        offset = crc32(str(self.spec.key).encode()) % SURVEY_S
        return self.memory is None or (time_s + offset) // SURVEY_S != (self.memory.time_s + offset) // SURVEY_S
