"""What `plan` remembers of one deployment between two ticks."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanMemory:
    """The plan in force: replicas by tier."""

    target: Mapping[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        """Plain JSON values; `from_json` gives back an equal memory."""
        return {"target": dict(self.target)}

    @classmethod
    def from_json(cls, value: Mapping[str, object]) -> "PlanMemory":
        """The memory that `to_json` wrote. Raises KeyError, TypeError or ValueError where it is damaged."""
        target = value["target"]
        if not isinstance(target, Mapping):
            raise TypeError("target is not a mapping")
        return cls(target={str(name): int(count) for name, count in target.items()})
