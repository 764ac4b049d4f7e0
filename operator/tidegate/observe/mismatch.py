"""
Target workloads whose pods do not use the accelerators that their tier states.

Such a tier costs something else than the plan, the budget and the capacity count for it.

In:    deployments, the pods of each tier, the classes, and the nodes.
Out:   a sentence about each, for the author of the spec.
Rules: pure. What cannot be seen (devices that are claimed, not requested) is not judged. Pods of managed tiers match by
       construction.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping

from tidegate.domain.key import Key
from tidegate.domain.spec import Accelerator, DeploymentSpec, TierSpec
from tidegate.observe.objects import NodeView, PodView
from tidegate.observe.replicas import TierKey, TierView
from tidegate.observe.stock import selects

Nodes = Mapping[tuple[str, str], NodeView]


def mismatches(
    specs: Iterable[DeploymentSpec],
    views: Mapping[TierKey, TierView],
    classes: Mapping[str, Accelerator],
    nodes: Nodes,
) -> dict[Key, tuple[str, ...]]:
    """
    Sentences about pods that hold something else than their tiers state; only deployments that have any.

    Args:
        nodes: By namespace (a node has none) and name; empty if they may not be listed.
    """
    found: dict[Key, tuple[str, ...]] = {}
    for spec in specs:
        for tier in spec.tiers:
            if tier.target_ref is not None and tier.accelerator in classes:
                sentences = tuple(_of_tier(tier, views[spec.key, tier.name], classes[tier.accelerator], nodes))
                if sentences:
                    found[spec.key] = (*found.get(spec.key, ()), *sentences)
    return found


def _of_tier(tier: TierSpec, view: TierView, accelerator: Accelerator, nodes: Nodes) -> Iterator[str]:
    alive = [pod for pod in view.all if _is_alive(pod)]
    resource = accelerator.resource_name
    each = _each(view, resource)
    if each not in (None, tier.accelerators_per_replica):
        stated = f"acceleratorsPerReplica is {tier.accelerators_per_replica}"
        yield f"tier {tier.name}: a replica holds {each} {resource}, but {stated}"
    placed = [nodes["", pod.node] for pod in alive if pod.requests.get(resource) and ("", pod.node) in nodes]
    wrong = sum(not selects(accelerator, node) for node in placed)
    if wrong:
        yield (
            f"tier {tier.name}: {wrong} of {len(placed)} pods are on nodes that AcceleratorClass {accelerator.name} "
            "does not select"
        )


def _each(view: TierView, resource: str) -> int | None:
    """Accelerators per replica, over all pods of its group; None if replicas hold none, or different numbers."""
    held = {sum(pod.requests.get(resource, 0) for pod in replica) for replica in _replicas(view)}
    return (held.pop() or None) if len(held) == 1 else None


def _replicas(view: TierView) -> Iterable[Collection[PodView]]:
    """
    The pods of each replica.

    A group counts only while all its pods are ready: before that some may be missing, and when it ends, its workers
    stay until its leader is gone.
    """
    if not view.workers:
        return [(pod,) for pod in view.pods if _is_alive(pod)]
    groups = [(leader, *(pod for pod in view.workers if pod.group == leader.group)) for leader in view.pods]
    return [group for group in groups if all(pod.ready for pod in group)]


def _is_alive(pod: PodView) -> bool:
    return not pod.ended and not pod.terminating
