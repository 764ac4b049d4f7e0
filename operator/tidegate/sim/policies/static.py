"""A fixed fleet: what a team runs that has no autoscaler."""

from collections.abc import Mapping

from tidegate.sim.policies.base import Choice, TierKey, View, others_at_zero


class Static:
    """Always the same replicas."""

    def __init__(self, replicas: Mapping[TierKey, int], *, name: str = "static") -> None:
        self.name, self._replicas = name, dict(replicas)

    def decide(self, view: View) -> Choice:
        """The same again; tiers it does not name go once its own are ready."""
        return Choice(replicas=others_at_zero(view, list(self._replicas), self._replicas))
