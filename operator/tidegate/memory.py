"""
What the core remembers between two ticks: a versioned value, small enough for a ConfigMap.

Each stage owns its part and the JSON of that part; this file combines them. Every part can be lost: a stage then starts
from `None`, and needs time to become certain again, but does nothing wrong.

Size: under 4 KiB of JSON per deployment (a test checks it).
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from tidegate.domain.key import Key
from tidegate.estimate.memory import EstimateMemory
from tidegate.forecast.memory import ForecastMemory
from tidegate.plan.memory import PlanMemory

# Incremented whenever a part changes shape. Memory of another version is not read: the stages start afresh.
MEMORY_VERSION = 5

Part = TypeVar("Part")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentMemory:
    """One deployment's memory, one part per stage; None: nothing yet."""

    estimate: EstimateMemory | None = None
    forecast: ForecastMemory | None = None
    plan: PlanMemory | None = None

    def forgiven(self, tiers: Collection[str]) -> "DeploymentMemory":
        """The memory without what counts against these tiers, because their pods have changed."""
        return replace(
            self,
            estimate=None if self.estimate is None else self.estimate.forgiven(tiers),
            plan=None if self.plan is None else self.plan.forgiven(tiers),
        )

    def slept(self) -> "DeploymentMemory":
        """The memory as if the plan had scaled an idle deployment to zero; existing replicas end that again."""
        return replace(self, plan=replace(self.plan or PlanMemory(), asleep=True))

    def to_json(self) -> dict[str, object]:
        """Plain JSON values; `from_json` returns an equal memory."""
        parts = {"estimate": self.estimate, "forecast": self.forecast, "plan": self.plan}
        return {"version": MEMORY_VERSION} | {name: part.to_json() for name, part in parts.items() if part is not None}

    @classmethod
    def from_json(cls, value: Mapping[str, object]) -> "DeploymentMemory":
        """
        The memory that `to_json` wrote; an empty one if the version differs.

        Only a damaged part is dropped: what the other stages learned is kept.
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
    """Memory of the whole fleet; `FleetMemory()` is empty."""

    deployments: Mapping[Key, DeploymentMemory] = field(default_factory=dict)
