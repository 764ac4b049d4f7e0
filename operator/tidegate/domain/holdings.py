"""
Corrections to accelerator capacity before planning.

Some deployments hold accelerators but are not planned, because their spec is invalid or the core fails on them: the
plan cannot have what they hold. And replicas that two deployments claim would be counted twice.

In:    the classes, and of each such deployment its last valid spec and last observation.
Out:   the classes with the capacity that is left for the plan.
Rules: pure. If a deployment never had a valid spec, what it holds is unknown and nothing is subtracted.
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

    capacity = max(0, capacity - sum of (ready + on the way - lost) * accelerators per replica)

    Args:
        unplanned: Spec and observation of each such deployment.
        accelerators: Classes by name; one without a capacity has no limit and keeps none.
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
    The classes with the accelerators of doubly claimed workloads added once.

    The plan subtracts them twice: for the deployment that has the workload and for the rival that also points at it.

    Args:
        rivals: Spec and observation of the tiers that point at a workload of another deployment.
        accelerators: As in `left_by`.
    """
    held = _held(rivals)
    return {
        name: class_ if class_.capacity is None else replace(class_, capacity=class_.capacity + held[name])
        for name, class_ in accelerators.items()
    }


def _held(deployments: Iterable[tuple[DeploymentSpec, DeploymentObservation]]) -> Counter[str]:
    """Accelerators that deployments hold, by class."""
    held: Counter[str] = Counter()
    for spec, seen in deployments:
        for tier in spec.tiers:
            state = seen.tiers.get(tier.name)
            if state is not None:
                held[tier.accelerator] += (state.ready + state.on_the_way - state.lost) * tier.accelerators_per_replica
    return held
