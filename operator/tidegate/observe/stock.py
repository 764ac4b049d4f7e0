"""
Accelerators: what the nodes offer, and who holds how many.

In:    nodes, pods, which pods are Tidegate's, and the classes.
Out:   `AcceleratorUse` by class.
Rules: pure.
"""

from collections.abc import Collection, Iterable, Mapping

from tidegate.domain.spec import Accelerator
from tidegate.observe.objects import NodeView, PodView
from tidegate.ports import AcceleratorUse


def accelerator_use(
    classes: Iterable[Accelerator], nodes: Iterable[NodeView], pods: Iterable[PodView], own_uids: Collection[str]
) -> dict[str, AcceleratorUse]:
    """
    Use of each class.

    A cordoned or broken node offers nothing new, but what runs there stays: its accelerators count as far as they
    are held. A pod holds accelerators from the moment it is bound to a node until it is gone.
    """
    held = _held(pods, own_uids)
    all_nodes = list(nodes)
    return {accelerator.name: _use(accelerator, all_nodes, held) for accelerator in classes}


_Held = Mapping[tuple[str, str], tuple[int, int]]


def _held(pods: Iterable[PodView], own_uids: Collection[str]) -> _Held:
    """(own, others') accelerators by node and resource."""
    held: dict[tuple[str, str], tuple[int, int]] = {}
    for pod in pods:
        if not pod.node or pod.ended:
            continue
        for resource, amount in pod.requests.items():
            own, others = held.get((pod.node, resource), (0, 0))
            is_own = pod.uid in own_uids
            held[pod.node, resource] = (own + amount, others) if is_own else (own, others + amount)
    return held


def _use(accelerator: Accelerator, nodes: Iterable[NodeView], held: _Held) -> AcceleratorUse:
    allocatable = by_tidegate = by_others = 0
    for node in nodes:
        if any(node.labels.get(key) != value for key, value in accelerator.node_selector.items()):
            continue
        own, others = held.get((node.name, accelerator.resource_name), (0, 0))
        allocatable += node.allocatable.get(accelerator.resource_name, 0) if node.usable else own + others
        by_tidegate += own
        by_others += others
    return AcceleratorUse(allocatable=allocatable, by_tidegate=by_tidegate, by_others=by_others)


def usable_capacity(accelerator: Accelerator, use: AcceleratorUse | None) -> int | None:
    """
    Accelerators Tidegate may use in all: the stated ceiling, else what the nodes offer without others' share.

    None: unknown, because no node has been seen yet that could tell.
    """
    if accelerator.capacity is not None:
        return accelerator.capacity
    return None if use is None else max(use.allocatable - use.by_others, 0)
