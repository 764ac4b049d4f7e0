"""A fixed fleet: what a team runs that has no autoscaler."""

from collections.abc import Mapping

from tidegate.sim.policies.base import Choice, TierKey, View


class Static:
    """Always the same replicas."""

    def __init__(self, replicas: Mapping[TierKey, int], *, name: str = "static") -> None:
        self.name, self._replicas = name, dict(replicas)

    def decide(self, view: View) -> Choice:
        """The same again; tiers it does not name go to zero."""
        return Choice(replicas={tier: self._replicas.get(tier, 0) for tier in view.wanted})
