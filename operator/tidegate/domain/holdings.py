"""
Accelerators that a plan cannot have, because deployments hold them that are not planned: their spec
is not valid, or the core fails on them.

In:    the classes, and of each such deployment its last valid spec and what was last seen of it.
Out:   the classes with what is left for the others.
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
    held: Counter[str] = Counter()
    for spec, seen in unplanned:
        for tier in spec.tiers:
            state = seen.tiers.get(tier.name)
            if state is not None:
                held[tier.accelerator] += (state.ready + state.on_the_way) * tier.accelerators_per_replica
    return {
        name: replace(class_, capacity=max(0, class_.capacity - held[name]))
        if held[name] and class_.capacity is not None
        else class_
        for name, class_ in accelerators.items()
    }
