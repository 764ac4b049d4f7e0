"""
Pods that are lost with their nodes.

In:    all pods, and the nodes.
Out:   the pods, the lost ones marked.
Rules: pure. A pod that is ready is not lost, whatever its node is said to be.
"""

from collections.abc import Iterable
from dataclasses import replace

from tidegate.observe.objects import NodeView, PodView

# Kubernetes calls a node not ready after some 45 s of silence. If it still is two ticks later, it is not expected back
# soon, but its pods are replaced only after five minutes.
LOST_S = 30.0


def with_lost(pods: Iterable[PodView], nodes: Iterable[NodeView], *, time_s: float) -> Iterable[PodView]:
    """The pods, with `lost` set on those that are; `time_s` is now, unix seconds."""
    down = {node.name for node in nodes if node.down_s is not None and time_s - node.down_s >= LOST_S}
    if not down:
        return pods
    return [replace(pod, lost=pod.node) if pod.node in down and not pod.ready else pod for pod in pods]
