"""
Tiers that a spec no longer has, or that now point elsewhere, while pods made for them still serve.

In:    the specs, the workloads made for them, their pods, nodes and classes.
Out:   for each such tier a spec that allows no replica. What its pods carry, hold and cost counts until others have
       taken over.
Rules: pure. A tier whose accelerator class cannot be determined is left out; the plan then treats its pods as foreign.
"""

from collections.abc import Iterable, Iterator, Mapping

from tidegate.domain.spec import Accelerator, DeploymentSpec, TierSpec
from tidegate.observe.objects import NodeView, PodView
from tidegate.observe.replicas import TierKey
from tidegate.observe.stock import selects
from tidegate.ports import WorkloadView, leaving_name, workload_ref


def leaving(
    specs: Iterable[DeploymentSpec], managed: Mapping[TierKey, WorkloadView]
) -> Iterator[tuple[TierKey, str, WorkloadView]]:
    """
    For each such tier: deployment and the name the plan uses for it, the name on its labels, and its workload.

    Args:
        managed: The workloads made for these deployments, by the tier on their labels.
    """
    by_key = {spec.key: spec for spec in specs}
    for (key, name), workload in managed.items():
        tiers = by_key[key].tiers
        has = (t.name == name if t.target_ref is None else workload_ref(key, t) == workload.ref for t in tiers)
        if not any(has):
            yield (key, leaving_name(name, [tier.name for tier in tiers])), name, workload


def tier_of(
    name: str, pods: Iterable[PodView], nodes: Mapping[tuple[str, str], NodeView], classes: Iterable[Accelerator]
) -> TierSpec | None:
    """
    The tier these pods belong to; None if no pod reveals its accelerator class. `nodes` is keyed like all objects; a
    node's namespace is empty.
    """
    for pod in pods:
        node = nodes.get(("", pod.node))
        if node is None or pod.ended:
            continue
        for class_ in classes:
            held = pod.requests.get(class_.resource_name, 0)
            if held and selects(class_, node):
                return TierSpec(
                    name=name,
                    quality=1.0,
                    accelerator=class_.name,
                    accelerators_per_replica=held,
                    replicas_min=0,
                    replicas_max=0,
                    leaving=True,
                )
    return None
