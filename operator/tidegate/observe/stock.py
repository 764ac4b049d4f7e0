"""
Accelerators: what the nodes offer, and who holds how many.

In:    nodes, pods, which pods are Tidegate's and of which class, and the classes.
Out:   `AcceleratorUse` by class, and from that the capacity and the replicas that the nodes can hold.
Rules: pure.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace

from tidegate.domain.observation import TierState
from tidegate.domain.spec import Accelerator, DeploymentSpec, TierSpec
from tidegate.observe.kinds import BUILT_IN
from tidegate.observe.objects import NodeView, PodView
from tidegate.observe.replicas import TierKey, TierView
from tidegate.ports import AcceleratorUse

# After the grace period the kubelet kills a pod and unmounts its volumes within seconds. A pod that still exists this
# much later hangs, usually in the driver of its accelerators.
HUNG_S = 120.0


def accelerator_use(
    classes: Iterable[Accelerator],
    nodes: Iterable[NodeView],
    pods: Iterable[PodView],
    own: Mapping[str, str],
    *,
    time_s: float,
) -> dict[str, AcceleratorUse]:
    """
    Use of each class.

    - A pod holds accelerators from the moment it is bound to a node until it is gone.
    - A node that is cordoned, broken or without its device plugin offers nothing new, but what runs there keeps its
      accelerators, and they count.
    - So do accelerators of our pods on nodes that their class does not (or no longer) select, or under another resource
      name than the class's `resourceName`.
    - Accelerators of our terminating pods will soon be free for others, so they count. They do not if the node takes no
      new pods. If the pod hangs, they count as somebody else's.
    - Accelerators of pods that are lost with their nodes do not count.
    - If two classes select a node, what our pods of one class hold there is not available to the other.

    Args:
        own: Class of each of our pods, by uid.
        time_s: Now, unix seconds.
    """
    classes, all_nodes = list(classes), list(nodes)
    closed = {node.name for node in all_nodes if not node.usable}
    counted = [pod for pod in pods if not (pod.lost or (pod.terminating and pod.node in closed))]
    hung = {pod.uid for pod in counted if pod.gone_s is not None and time_s - pod.gone_s >= HUNG_S}
    ours = {uid: name for uid, name in own.items() if uid not in hung}
    held = _held(counted, ours, {accelerator.name: accelerator.resource_name for accelerator in classes})
    return {accelerator.name: _use(accelerator, all_nodes, held) for accelerator in classes}


# Accelerators by node and resource, then by class; under the empty name those of other people's pods.
_Held = Mapping[tuple[str, str], Mapping[str, int]]


def _held(pods: Iterable[PodView], own: Mapping[str, str], resources: Mapping[str, str]) -> _Held:
    held: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for pod in pods:
        if not pod.node or pod.ended:
            continue
        of_class = own.get(pod.uid, "")
        for resource, amount in pod.requests.items():
            held[pod.node, resource][of_class] += amount
        asked = resources.get(of_class)
        if asked is not None and asked not in pod.requests:
            held[pod.node, asked][of_class] += max(pod.requests.values(), default=0)
    return held


def _use(accelerator: Accelerator, nodes: Iterable[NodeView], held: _Held) -> AcceleratorUse:
    allocatable = by_tidegate = by_others = 0
    blocks: Counter[int] = Counter()
    for node in nodes:
        holders = held.get((node.name, accelerator.resource_name), {})
        ours, all_ = holders.get(accelerator.name, 0), sum(holders.values())
        by_tidegate += ours
        if not selects(accelerator, node):
            blocks[ours] += 1
            continue
        offered = node.allocatable.get(accelerator.resource_name, 0) if node.usable else 0
        allocatable += max(offered, all_)
        by_others += all_ - ours
        blocks[max(offered, all_) - (all_ - ours)] += 1
    del blocks[0]
    return AcceleratorUse(allocatable=allocatable, by_tidegate=by_tidegate, by_others=by_others, blocks=blocks)


def selects(accelerator: Accelerator, node: NodeView) -> bool:
    """Whether a class selects a node."""
    return all(node.labels.get(key) == value for key, value in accelerator.node_selector.items())


def usable_capacity(accelerator: Accelerator, use: AcceleratorUse | None) -> int | None:
    """
    Accelerators Tidegate may use in total: the stated capacity, else what the nodes offer less what others hold, plus
    what our pods hold on other nodes.

    None: unknown, because nodes cannot be read.
    """
    if accelerator.capacity is not None:
        return accelerator.capacity
    return None if use is None else _offered(use)


def unprovisioned(accelerator: Accelerator, use: AcceleratorUse | None) -> int:
    """The part of the stated capacity that no node offers; 0 if none is stated, or nodes cannot be read."""
    if accelerator.capacity is None or use is None:
        return 0
    return max(accelerator.capacity - _offered(use), 0)


def _offered(use: AcceleratorUse) -> int:
    return sum(size * nodes for size, nodes in use.blocks.items())


def with_placeable(
    states: Mapping[TierKey, TierState],
    specs: Iterable[DeploymentSpec],
    views: Mapping[TierKey, TierView],
    classes: Mapping[str, Accelerator],
    use: Mapping[str, AcceleratorUse],
) -> dict[TierKey, TierState]:
    """The states with `placeable` filled in."""
    found = dict(states)
    for spec in specs:
        for tier in spec.tiers:
            name, class_ = (spec.key, tier.name), tier.accelerator
            most = placeable(tier, views[name], classes.get(class_), use.get(class_))
            if most is not None:
                found[name] = replace(found[name], placeable=most)
    return found


def placeable(
    tier: TierSpec, view: TierView, accelerator: Accelerator | None, use: AcceleratorUse | None
) -> int | None:
    """
    Replicas that the nodes can hold if Tidegate's other replicas leave; None: as many as the capacity allows, or
    unknown.

    Three accelerators that others left free on each of four nodes are twelve, but hold no replica of four. Replicas
    that are groups of pods may span nodes, and nodes that an autoscaler may add can have any size: these are not
    judged.
    """
    target, each = tier.target_ref, tier.accelerators_per_replica
    single = target is None or (target.api_version, target.kind) in BUILT_IN
    if accelerator is None or use is None or not single or unprovisioned(accelerator, use):
        return None
    fits = sum(size // each * nodes for size, nodes in use.blocks.items())
    if fits >= (usable_capacity(accelerator, use) or 0) // each:
        return None
    return max(fits, sum(1 for pod in view.pods if pod.node and not (pod.ended or pod.terminating or pod.lost)))
