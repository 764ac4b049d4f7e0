"""
Tidegate's own policy: `cycle.step`, the code that the operator runs.

`tidegate` plans with all tiers; `tidegate@TIER` is given deployments with that tier only.
Simplifications: none. Memory is kept between ticks as in the operator, and at the start the demand before the run is
read back, as the operator does from Prometheus.
"""

from dataclasses import replace

from tidegate import cycle, forecast
from tidegate.domain.decision import FleetDecision
from tidegate.domain.observation import DeploymentObservation, FleetObservation
from tidegate.domain.spec import DeploymentSpec, FleetPolicy
from tidegate.memory import DeploymentMemory, FleetMemory
from tidegate.sim.policies.base import Choice, View


class Tidegate:
    """
    The product's own policy.

    Args:
        tier: The only tier it may use; None: all of them.
    """

    def __init__(self, tier: str | None = None) -> None:
        self.name = "tidegate" if tier is None else f"tidegate@{tier}"
        self.memory: FleetMemory | None = None
        self.last: FleetDecision | None = None
        self._tier = tier

    def decide(self, view: View) -> Choice:
        """Run one step of the core."""
        policy, observation = view.policy, view.observation
        if self._tier is not None:
            policy, observation = only(policy, observation, self._tier)
        self.memory, self.last = cycle.step(self.memory or remembered(view), observation, policy)
        replicas = {
            (key, name): tier.replicas
            for key, decision in self.last.deployments.items()
            for name, tier in decision.tiers.items()
        }
        reasons = {key: f"{d.reason}: {d.message}" for key, d in self.last.deployments.items()}
        return Choice(replicas=replicas, reasons=reasons)


def remembered(view: View) -> FleetMemory:
    """The memory of an operator that has just started and read back the demand history."""
    return FleetMemory(
        deployments={
            key: DeploymentMemory(forecast=forecast.backfill(None, history=curve))
            for key, curve in view.history.items()
            if curve
        }
    )


def only(policy: FleetPolicy, observation: FleetObservation, tier: str) -> tuple[FleetPolicy, FleetObservation]:
    """The fleet reduced to one tier per deployment; a deployment without that tier keeps its first."""
    specs: dict[object, DeploymentSpec] = {}
    seen: dict[object, DeploymentObservation] = {}
    for key, spec in policy.deployments.items():
        names = [t.name for t in spec.tiers]
        name = tier if tier in names else names[0]
        specs[key] = replace(spec, tiers=(spec.tier(name),))
        whole = observation.deployments[key]
        seen[key] = replace(whole, tiers={name: whole.tiers[name]})
    return (
        replace(policy, deployments=specs),  # type: ignore[arg-type]
        replace(observation, deployments=seen),  # type: ignore[arg-type]
    )
