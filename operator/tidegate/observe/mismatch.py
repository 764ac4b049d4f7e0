"""
Workloads of other people whose pods do not take the accelerators that their tier says.

In:    deployments, the pods of each tier, the classes, and the nodes.
Out:   a sentence about each, for whoever wrote the spec.
Rules: pure. What cannot be seen (devices that are claimed, not requested) is not judged. Pods that Tidegate makes are
       made as the tier says.

Such a tier costs other than what the plan, the budget and the pool count for it.
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
    What pods hold that their tiers do not say, by deployment where there is anything.

    Args:
        nodes: By namespace (a node has none) and name; empty where they may not be listed.
    """
    found: dict[Key, tuple[str, ...]] = {}
    for spec in specs:
        for tier in spec.tiers:
            if tier.target_ref is not None and tier.accelerator in classes:
                said = tuple(_of_tier(tier, views[spec.key, tier.name], classes[tier.accelerator], nodes))
                if said:
                    found[spec.key] = (*found.get(spec.key, ()), *said)
    return found


def _of_tier(tier: TierSpec, view: TierView, accelerator: Accelerator, nodes: Nodes) -> Iterator[str]:
    there = [pod for pod in view.all if not pod.ended and not pod.terminating]
    resource = accelerator.resource_name
    each = _each(view, there, resource)
    if each not in (None, tier.accelerators_per_replica):
        stated = f"acceleratorsPerReplica is {tier.accelerators_per_replica}"
        yield f"tier {tier.name}: a replica holds {each} {resource}, and {stated}"
    placed = [nodes["", pod.node] for pod in there if pod.requests.get(resource) and ("", pod.node) in nodes]
    astray = sum(not selects(accelerator, node) for node in placed)
    if astray:
        yield (
            f"tier {tier.name}: {astray} of {len(placed)} pods are on nodes that AcceleratorClass {accelerator.name} "
            "does not select"
        )


def _each(view: TierView, there: Collection[PodView], resource: str) -> int | None:
    """
    What one replica holds, with all pods of its group; None where replicas hold none, or differ.

    Groups are counted when all of them are ready: before, pods may be missing.
    """
    workers = {pod.uid for pod in view.workers}
    if workers and not all(pod.ready for pod in there):
        return None
    first = [pod.requests.get(resource, 0) for pod in there if pod.uid not in workers]
    more = [pod.requests.get(resource, 0) for pod in there if pod.uid in workers]
    if len(set(first)) != 1 or len(more) % len(first):
        return None
    return first[0] + sum(more) // len(first) or None
