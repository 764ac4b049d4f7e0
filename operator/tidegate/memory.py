"""
What the core remembers between two ticks: a value, versioned, small enough for a ConfigMap.

Each stage owns its part and the part's JSON; this file holds the parts together. Every part can be lost: a stage
starts again from `None`, slower to be sure but never wrong.

Budget: under 4 KiB of JSON per deployment (a test holds it).
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from tidegate.domain.key import Key
from tidegate.estimate.memory import EstimateMemory
from tidegate.forecast.memory import ForecastMemory
from tidegate.plan.memory import PlanMemory

# Raised whenever a part changes shape. Another version is not read: the stages start afresh.
MEMORY_VERSION = 4

Part = TypeVar("Part")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentMemory:
    """One deployment's memory, a part per stage; None: nothing yet."""

    estimate: EstimateMemory | None = None
    forecast: ForecastMemory | None = None
    plan: PlanMemory | None = None

    def forgiven(self, tiers: Collection[str]) -> "DeploymentMemory":
        """The memory without what speaks against these tiers: their pods are others now."""
        return replace(
            self,
            estimate=None if self.estimate is None else self.estimate.forgiven(tiers),
            plan=None if self.plan is None else self.plan.forgiven(tiers),
        )

    def slept(self) -> "DeploymentMemory":
        """The memory as if this plan had put the deployment to sleep; replicas that there are wake it again."""
        return self if self.plan is None else replace(self, plan=replace(self.plan, asleep=True))

    def to_json(self) -> dict[str, object]:
        """Plain JSON values; `from_json` gives back an equal memory."""
        parts = {"estimate": self.estimate, "forecast": self.forecast, "plan": self.plan}
        return {"version": MEMORY_VERSION} | {name: part.to_json() for name, part in parts.items() if part is not None}

    @classmethod
    def from_json(cls, value: Mapping[str, object]) -> "DeploymentMemory":
        """
        The memory that `to_json` wrote; an empty one where the version is another or a part cannot be read.

        A damaged part is dropped alone: what the other stages learned survives.
        """
        if value.get("version") != MEMORY_VERSION:
            return cls()
        return cls(
            estimate=_part(EstimateMemory.from_json, value.get("estimate")),
            forecast=_part(ForecastMemory.from_json, value.get("forecast")),
            plan=_part(PlanMemory.from_json, value.get("plan")),
        )


def _part(read: Callable[[Mapping[str, object]], Part], value: object) -> Part | None:
    if not isinstance(value, Mapping):
        return None
    try:
        return read(value)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError):
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetMemory:
    """Memory of the whole fleet. `FleetMemory()` knows nothing."""

    deployments: Mapping[Key, DeploymentMemory] = field(default_factory=dict)
