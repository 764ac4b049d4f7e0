"""
What the core is asked to plan.

In:    the specs, one look at the cluster, and who else has the workloads of which tiers.
Out:   `FleetPolicy`: specs of what can be carried out, and the accelerators that are available for it.
Rules: pure.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace

from tidegate.domain.holdings import left_by, shared_by
from tidegate.domain.key import Key
from tidegate.domain.spec import DeploymentSpec, FleetPolicy, Mode, TierSpec
from tidegate.observe.cluster import Sight


def policy_of(
    specs: Mapping[Key, DeploymentSpec],
    seen: Collection[Key],
    sight: Sight,
    others: Mapping[Key, tuple[TierSpec, ...]],
) -> FleetPolicy:
    """
    What the core has to plan, with the accelerators available for it.

    Args:
        seen: Deployments that are planned now; what the others hold is not available to them.
        others: By deployment, the tiers whose workload belongs to another deployment.
    """
    deployments: dict[Key, DeploymentSpec] = {}
    for key, spec in specs.items():
        if all(tier.accelerator in sight.accelerators for tier in spec.tiers):
            possible = without(spec, sight.absent.get(key, ()))
            deployments[key] = _recommend_only(possible) if key in others else possible
    unplanned = [(specs[key], there) for key, there in sight.deployments.items() if key not in seen]
    claimed_twice = [
        (replace(specs[key], tiers=tiers), sight.deployments[key])
        for key, tiers in others.items()
        if key in sight.deployments
    ]
    return FleetPolicy(
        deployments=deployments, accelerators=left_by(unplanned, shared_by(claimed_twice, sight.accelerators))
    )


def without(spec: DeploymentSpec, absent: Collection[str]) -> DeploymentSpec:
    """
    The spec with no replicas on tiers without a workload: the other tiers carry the demand until it exists.

    If no tier has one, nothing can be scaled, and no accelerators are taken from others for it.
    """
    if not absent:
        return spec
    if all(t.name in absent or t.leaving for t in spec.tiers):
        return _recommend_only(spec)
    tiers = [replace(t, replicas_min=0, replicas_max=0) if t.name in absent else t for t in spec.tiers]
    return replace(spec, tiers=tuple(tiers))


def _recommend_only(spec: DeploymentSpec) -> DeploymentSpec:
    """The spec of a deployment that must not scale anything: in mode Recommend, so that nothing is reserved for it."""
    return replace(spec, mode=Mode.RECOMMEND) if spec.acts else spec
