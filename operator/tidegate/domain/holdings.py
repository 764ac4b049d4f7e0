"""
Accelerators that a plan cannot have, because deployments hold them that are not planned: their spec
is not valid, or the core fails on them. And those that it would count twice.

In:    the classes, and of each such deployment its last valid spec and what was last seen of it.
Out:   the classes with what there is for the plan.
Rules: pure. Of a deployment that never had a valid spec nobody knows what it holds: nothing is taken off for it.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace

from tidegate.domain.observation import DeploymentObservation
from tidegate.domain.spec import Accelerator, DeploymentSpec


def left_by(
    unplanned: Iterable[tuple[DeploymentSpec, DeploymentObservation]], accelerators: Mapping[str, Accelerator]
) -> dict[str, Accelerator]:
    """
    The classes without the accelerators of deployments that are left alone.

    capacity = max(0, capacity - sum of (ready + on the way) * accelerators per replica)

    Args:
        unplanned: Spec and observation of each.
        accelerators: Classes by name; one without a capacity has no limit, and stays so.
    """
    held = _held(unplanned)
    return {
        name: replace(class_, capacity=max(0, class_.capacity - held[name]))
        if held[name] and class_.capacity is not None
        else class_
        for name, class_ in accelerators.items()
    }


def shared_by(
    rivals: Iterable[tuple[DeploymentSpec, DeploymentObservation]], accelerators: Mapping[str, Accelerator]
) -> dict[str, Accelerator]:
    """
    The classes with what rivals hold once more: the plan takes it off for them and for those whose workloads they are.

    Args:
        rivals: The tiers that point at a workload which another deployment has, as a spec, and what was seen of them.
        accelerators: As in `left_by`.
    """
    held = _held(rivals)
    return {
        name: class_ if class_.capacity is None else replace(class_, capacity=class_.capacity + held[name])
        for name, class_ in accelerators.items()
    }


def _held(deployments: Iterable[tuple[DeploymentSpec, DeploymentObservation]]) -> Counter[str]:
    """Accelerators by class that deployments hold."""
    held: Counter[str] = Counter()
    for spec, seen in deployments:
        for tier in spec.tiers:
            state = seen.tiers.get(tier.name)
            if state is not None:
                held[tier.accelerator] += (state.ready + state.on_the_way) * tier.accelerators_per_replica
    return held
